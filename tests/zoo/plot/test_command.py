"""The command: what it writes, what it says, and what it refuses."""

import csv
import functools
import json
import subprocess
import sys
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread

from rlspo.zoo.plot.command import KINDS, main


@pytest.fixture
def plot(call):
    """Run ``rlspo plot``; gives exit code, output and errors."""
    return functools.partial(call, main)


@pytest.fixture
def grid(results, table):
    """Two agents in two environments, with curves and an attack."""
    scores = {
        agent: {env: {"natural": [level, level + 2.0], "mad": [1.0, level]} for env in ("A-v0", "B-v0")}
        for agent, level in (("ppo", 5.0), ("barpo", 8.0))
    }
    file = results(scores)
    rows = [
        {"agent": agent, "env": env, "seed": seed, "step": step, "seconds": step / 10, "mean": step / 7 + seed, "std": 1.0}
        for agent in scores
        for env in scores[agent]
        for seed in (0, 1)
        for step in (100, 200, 300)
    ]
    table("grid/curves.csv", rows)
    return file.parent


def test_without_options_curves_are_drawn(plot, grid):
    code, out, err = plot(grid)
    assert (code, err) == (0, "")
    assert imread(grid / "plots" / "curves.png").ndim == 3
    assert str(grid / "plots" / "curves.png") in out


def test_a_table_of_scores_alone_gives_bars(plot, grid):
    (grid / "curves.csv").unlink()
    assert plot(grid / "results.csv")[0] == 0
    assert [file.name for file in (grid / "plots").iterdir()] == ["bars.png"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_valid_files_and_the_same_ones_again(kind, plot, grid, tmp_path):
    assert plot(grid, "--kind", kind, "-o", "picture.png", "--svg", "--csv", "numbers.csv")[0] == 0
    height, width, _ = imread(tmp_path / "picture.png").shape
    assert height > 150 and width > 500
    root = ElementTree.parse(tmp_path / "picture.svg").getroot()
    assert root.tag.endswith("svg")
    assert list(csv.DictReader((tmp_path / "numbers.csv").open()))
    first = {name: (tmp_path / name).read_bytes() for name in ("picture.png", "picture.svg", "numbers.csv")}
    assert plot(grid, "--kind", kind, "-o", "picture.png", "--svg", "--csv", "numbers.csv")[0] == 0
    assert first == {name: (tmp_path / name).read_bytes() for name in first}
    assert not list(tmp_path.glob("partial_*"))


def test_numbers_come_back_from_csv_as_they_were(plot, grid, tmp_path):
    assert plot(grid, "-x", "time", "--csv", "numbers.csv")[0] == 0
    rows = list(csv.DictReader((tmp_path / "numbers.csv").open()))
    assert len(rows) == 2 * 2 * 3
    first = rows[0]
    assert (first["env"], first["agent"], float(first["seconds"]), int(first["runs"])) == ("A-v0", "ppo", 10.0, 2)
    assert float(first["value"]) == (100 / 7 + (100 / 7 + 1)) / 2  # to the last digit


def test_json_says_what_was_drawn(plot, grid):
    code, out, err = plot(grid, "--kind", "improvement", "--json", "--env", "B-v0", "-o", "a.svg")
    said = json.loads(out)
    assert (code, err) == (0, "")
    assert (said["kind"], said["files"], said["csv"]) == ("improvement", ["a.svg"], None)
    assert (said["envs"], said["agents"], said["notes"]) == (["B-v0"], ["ppo", "barpo"], [])
    assert len(said["runs"]) == 4


def test_the_grid_file_says_how_scores_are_compared(plot, grid, tmp_path):
    (grid / "grid.yml").write_text("normalize: {A-v0: [0, 10], B-v0: [0, 20]}\nbaseline: barpo\n")
    assert plot(grid, "--kind", "improvement", "--csv", "numbers.csv")[0] == 0
    assert {row["over"] for row in csv.DictReader((tmp_path / "numbers.csv").open())} == {"barpo"}
    assert plot(grid, "--kind", "profiles", "--normalize", "B-v0:[0, 10]", "--csv", "numbers.csv")[0] == 0
    scores = [float(row["score"]) for row in csv.DictReader((tmp_path / "numbers.csv").open())]
    assert max(scores) == pytest.approx(1.0 + 0.03 * 0.9)  # 10 of 10 is the highest, 1 of 10 the lowest


def test_a_run_that_went_on_from_another_is_not_counted_silently_as_one_more(plot, run_folder, config):
    first = config("ppo", "E-v0", gamma=0.9)
    run_folder("logs/ppo/E-v0_1", {10: [1.0]}, config=first)
    run_folder("logs/ppo/E-v0_2", {10: [1.0]}, config=first[:-1] + ', "trained_agent": "logs/ppo/E-v0_1/last_model.zip"}')
    assert "differ in trained_agent" in plot("logs")[2]


def test_notes_are_printed_on_standard_error(plot, run_folder, config):
    for number, gamma in enumerate((0.9, 0.99)):
        run_folder(f"logs/ppo/E-v0_{number}", {10: [1.0]}, config=config("ppo", "E-v0", gamma=gamma))
    code, out, err = plot("logs")
    assert code == 0
    assert "differ in agent.gamma" in err and "agent.gamma" not in out
    assert "differ" not in plot("logs", "--by", "run")[2]


def test_a_broken_file_hides_no_other_run(plot, run_folder):
    run_folder("logs/ppo/E-v0_1", {10: [1.0]})
    for name, file, content in (("2", "evaluations.npz", "PK broken"), ("3", "report.json", "{")):
        (run_folder(f"logs/ppo/E-v0_{name}", episodes=[[]]) / file).write_text(content)
    code, out, err = plot("logs", "--json")
    said = json.loads(out)
    assert code == 0
    assert [run["name"] for run in said["runs"]] == ["E-v0_1"]
    assert "E-v0_2/evaluations.npz is not a record" in err and "E-v0_3/report.json cannot be read" in err
    assert plot("logs/ppo/E-v0_2")[0] == 2


def test_the_title_can_be_set(plot, grid, tmp_path):
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        assert plot(grid, "--title", "What came of it", "-o", "a.svg")[0] == 0
    assert "What came of it" in (tmp_path / "a.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "rlspo plot logs"),
        (["--json"], "give a folder of runs"),
        (["nowhere"], "nowhere does not exist"),
        (["GRID", "--kind", "pie"], "invalid choice: 'pie'"),
        (["GRID", "--knd", "bars"], "Did you mean --kind?"),
        (["GRID", "--env", "A-v1"], "Did you mean 'A-v0'?"),
        (["GRID", "--metric", "train"], "None of the 8 runs has training episodes"),
        (["GRID", "--kind", "bars", "-x", "time"], "-x is for --kind curves"),
        (["GRID", "--evaluations", "mad"], "--evaluations is for --kind bars and profiles and improvement"),
        (["GRID", "--kind", "profiles", "--normalize", "A-v0:[1, 0]"], "ENV:[LOW,HIGH]"),
        (["GRID", "--kind", "profiles", "--normalize", "A-v0:5"], "ENV:[LOW,HIGH]"),
        (["GRID", "--kind", "improvement", "--agents", "ppo"], "there is only ppo"),
        (["GRID", "-o", "picture.jpg"], "must end in .png, .svg or .pdf"),
        (["GRID", "-o", "nowhere/picture.png"], "no folder nowhere"),
        (["GRID", "--csv", "GRID"], "is a folder"),
        (["GRID", "--smooth", "0"], "at least 1"),
        (["GRID", "--returns", "3", "3"], "--returns: 3 and 3 must be a low and a higher return"),
        (["--labels", "GRID"], "NAME=PATH"),
    ],
)
def test_mistakes_are_reported_and_nothing_is_made(arguments, message, plot, grid, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    code, out, err = plot(*[argument.replace("GRID", str(grid)) for argument in arguments])
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())
    assert sorted(tmp_path.rglob("*")) == before


def test_settings_of_matplotlib_are_left_as_they_were(plot, grid):
    before = dict(matplotlib.rcParams)
    assert plot(grid)[0] == 0
    assert dict(matplotlib.rcParams) == before


def test_a_run_of_rlspo(train, plot, workplace):
    assert train("--eval-freq", "32", "--eval-episodes", "2", "--no-report")[0] == 0
    code, out, _ = plot("logs", "--csv", "numbers.csv", "--json")
    assert code == 0
    assert json.loads(out)["runs"][0]["agent"] == "ppo"
    rows = list(csv.DictReader((workplace / "numbers.csv").open()))
    assert [(float(row["step"]), float(row["value"])) for row in rows] == [(32.0, 10.0), (64.0, 10.0)]
    # Ten steps of 1 each: six episodes have ended when 64 steps are made.
    assert plot("logs", "--metric", "train", "--smooth", "1", "--csv", "numbers.csv")[0] == 0
    rows = list(csv.DictReader((workplace / "numbers.csv").open()))
    assert [float(row["step"]) for row in rows] == [10.0, 20.0, 30.0, 40.0, 50.0, 60.0]


def test_it_runs_as_a_module(grid):
    done = subprocess.run([sys.executable, "-m", "rlspo.zoo.plot", "--help"], capture_output=True, text=True, check=True)
    assert "rlspo plot logs" in done.stdout


# What rl-baselines3-zoo's plots show, too.


@pytest.fixture
def goals(run_folder):
    """A run whose environment tells of success, in evaluations and in training."""
    folder = run_folder("logs/ppo/Goal-v0_1")
    kept = {
        "results": [[1.0, 3.0], [5.0, 5.0]],
        "ep_lengths": [[40, 20], [10, 10]],
        "successes": [[True, False], [True, True]],
    }
    np.savez(folder / "evaluations.npz", timesteps=[100, 200], **kept)
    (folder / "0.monitor.csv").write_text("r,l,t,is_success\n1.0,60,0.1,False\n2.0,50,0.2,True\n3.0,40,0.3,True\n")
    return folder


def values(tmp_path):
    """What the picture is made of: steps and values."""
    return [(float(row["step"]), float(row["value"])) for row in csv.DictReader((tmp_path / "n.csv").open())]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("-y reward", [(100, 2.0), (200, 5.0)]),
        ("-y length", [(100, 30.0), (200, 10.0)]),
        ("--y-axis success", [(100, 0.5), (200, 1.0)]),
        ("-y success -max 150", [(100, 0.5)]),
        ("--metric train -y length -w 1", [(60, 60.0), (110, 50.0), (150, 40.0)]),
        ("--metric train -y success --episode-window 2", [(110, 0.5), (150, 1.0)]),
        ("--metric train -y success -w 1 --max-timesteps 110 -min 150", [(60, 0.0), (110, 1.0)]),
    ],
)
def test_lengths_and_successes_are_drawn(plot, goals, tmp_path, flags, expected):
    assert plot(goals, "-o", "p.png", "--csv", "n.csv", *flags.split())[0] == 0
    assert values(tmp_path) == expected


def test_runs_that_are_too_short_are_left_out_and_named(plot, goals, run_folder, tmp_path):
    run_folder("logs/ppo/Goal-v0_2", {100: [1.0], 5000: [2.0]})
    code, _, err = plot("logs", "--min-timesteps", "1e3", "-o", "p.png", "--csv", "n.csv")
    assert code == 0 and values(tmp_path) == [(100, 1.0), (5000, 2.0)]
    assert "Left out, without evaluations during training until 1,000 steps" in err and "Goal-v0_1" in err


def test_success_that_was_not_recorded_is_explained(plot, run_folder):
    run = run_folder("logs/ppo/E-v0_1", {100: [1.0]}, [[(1.0, 10, 0.1)]])
    code, _, err = plot(run, "-y", "success")
    text = " ".join(err.split())
    assert code == 2 and "training episodes that report success" in text and "info_keywords: [is_success]" in text
    assert "for --kind curves" in plot(run, "--kind", "bars", "-max", "100")[2]


def test_a_continued_run_is_drawn_from_where_it_began(plot, run_folder, config, tmp_path):
    text = config("ppo", "E-v0")[:-1] + ', "trained_agent": "old.zip", "steps_before": 4096}'
    run = run_folder("logs/ppo/E-v0_2", {4196: [1.0]}, [[(1.0, 50, 0.5), (2.0, 60, 1.0)]], text)
    assert plot(run, "--metric", "train", "-w", "1", "-o", "p.png", "--csv", "n.csv")[0] == 0
    assert values(tmp_path) == [(4146, 1.0), (4206, 2.0)]
    assert plot(run, "-x", "time", "-o", "p.png", "--csv", "n.csv")[0] == 0
    (row,) = csv.DictReader((tmp_path / "n.csv").open())
    assert 0.5 < float(row["seconds"]) < 1.0
