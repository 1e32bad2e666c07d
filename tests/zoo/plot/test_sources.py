"""Runs are found wherever they lie, and named for what they are."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rlspo.zoo.benchmark.curves import Curve as GridCurve
from rlspo.zoo.benchmark.grid_runs import GridRun, GridRunFolder
from rlspo.zoo.benchmark.results import Result, write_results
from rlspo.zoo.errors import UserError
from rlspo.zoo.plot.runs import LAST
from rlspo.zoo.plot.selection import choose, labelled, mixtures
from rlspo.zoo.plot.sources import find


def names(found):
    return [(run.agent, run.env, run.name) for run in found.runs]


def test_run_folders_of_rlspo(run_folder, config, tmp_path):
    run_folder("logs/ppo/Hopper-v5_1", {10: [1.0]}, config=config("ppo", "Hopper-v5"))
    run_folder("logs/x/ALE-Pong-v5_1", {10: [1.0]}, config=config("stable_baselines3.PPO", "ale_py:ALE/Pong-v5"))
    run_folder("logs/ppo/Hopper-v5_1/tensorboard", {10: [1.0]})  # nothing below a run is one
    found = find([tmp_path / "logs"], {})
    assert names(found) == [("ppo", "Hopper-v5", "Hopper-v5_1"), ("SB3 PPO", "ALE/Pong-v5", "ALE-Pong-v5_1")]


def test_a_run_and_the_folder_above_it_are_not_drawn_twice(run_folder, config, tmp_path):
    folder = run_folder("logs/ppo/Hopper-v5_1", {10: [1.0]}, config=config("ppo", "Hopper-v5"))
    assert len(find([folder, tmp_path / "logs", tmp_path / "logs" / "ppo"], {}).runs) == 1


def test_run_folders_of_rl_zoo3_run_no_code(run_folder, tmp_path):
    trap = f"!!python/object/apply:os.mkdir ['{tmp_path / 'sprung'}']\n"
    for number in (10, 9):
        folder = run_folder(f"logs/sac/ALE-Pong-v5_{number}", {100: [1.0, 3.0]}, [[(4.0, 50, 0.5), (6.0, 50, 1.0)]])
        (folder / "ALE-Pong-v5").mkdir()
        for name in ("args.yml", "config.yml"):
            (folder / "ALE-Pong-v5" / name).write_text(trap)
    (folder / "config.yml").write_text(trap)  # not where it belongs, but it must do no harm either
    found = find([tmp_path / "logs"], {})
    assert names(found) == [("sac", "ALE/Pong-v5", "ALE-Pong-v5_9"), ("sac", "ALE/Pong-v5", "ALE-Pong-v5_10")]
    run = found.runs[0]
    assert run.evaluations.values.tolist() == [2.0]
    assert run.evaluations.spread.tolist() == [1.0]
    assert run.evaluations.seconds.tolist() == [1.0]
    assert run.training.values.tolist() == [4.0, 6.0]
    assert run.scores == {LAST: 2.0}
    assert not (tmp_path / "sprung").exists()


def test_no_pickle_is_loaded(run_folder, tmp_path):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "sprung"),))

    folder = run_folder("logs/ppo/E_1")
    np.savez(folder / "evaluations.npz", timesteps=[1], results=np.array([[Trap()]], dtype=object))
    with pytest.raises(UserError, match="not a record of evaluations"):
        _ = find([folder], {}).runs[0].evaluations
    assert not (tmp_path / "sprung").exists()


def test_folders_of_sb3_callbacks(tmp_path, monitor):
    (tmp_path / "mine").mkdir()
    monitor(tmp_path / "mine" / "monitor.csv", [(1.0, 10, 0.1)], env_id="Maze-v0")
    found = find([tmp_path / "mine"], {})
    assert [run.env for run in found.runs] == ["Maze-v0"]
    assert found.runs[0].evaluations is None
    assert found.runs[0].scores == {}


def test_runs_without_evaluations_yet(run_folder):
    folder = run_folder("logs/ppo/E-v0_1", episodes=[[]])
    run = find([folder], {}).runs[0]
    assert (run.evaluations, run.training, run.scores) == (None, None, {})


def test_returns_that_are_no_numbers(run_folder):
    run = find([run_folder("logs/ppo/E-v0_1", {1: [1.0, 3.0], 2: [float("inf"), 1.0]})], {}).runs[0]
    assert np.isnan(run.evaluations.values).tolist() == [False, True]


def test_scores_of_the_report_and_the_worst_attack(run_folder):
    folder = run_folder("logs/ppo/E-v0_1", {10: [5.0]})
    returns = {"natural": [10.0, 12.0], "random": [8.0], "mad": [3.0, 5.0]}
    (folder / "report.json").write_text(json.dumps({"returns": returns}))
    run = find([folder], {}).runs[0]
    assert run.scores == {"natural": 11.0, "random": 8.0, "mad": 4.0, "worst": 4.0, LAST: 5.0}
    assert run.attacks == {"random", "mad"}


def test_tables_of_a_grid(table, results):
    scores = {"ppo": {"Hopper-v5": {"natural": [10.0, 20.0], "mad": [1.0, 2.0]}}, "barpo": {"Hopper-v5": {"natural": [5.0]}}}
    file = results(scores)
    rows = [
        {"agent": "ppo", "env": "Hopper-v5", "seed": seed, "step": step, "seconds": seconds, "mean": step + seed, "std": 1.0}
        for seed in (0, 1)
        for step, seconds in ((200, 2.0), (100, ""))
    ]
    table("grid/curves.csv", rows)
    found = find([file.parent], {})
    expected = [("ppo", "Hopper-v5", "seed 0"), ("ppo", "Hopper-v5", "seed 1"), ("barpo", "Hopper-v5", "seed 0")]
    assert names(found) == expected
    first, second, third = found.runs
    assert second.scores == {"natural": 20.0, "mad": 2.0, LAST: 201.0}
    assert second.attacks == {"mad"}
    assert first.evaluations.steps.tolist() == [100, 200]  # in order, whatever that of the lines
    assert np.isnan(first.evaluations.seconds).tolist() == [True, False]
    assert third.evaluations is None
    # A single table is enough too.
    assert find([file], {}).runs[0].scores == {"natural": 10.0, "mad": 1.0}
    assert find([file.parent / "curves.csv"], {}).runs[0].scores == {LAST: 200.0}


def test_tables_as_benchmark_writes_them(tmp_path):
    run = GridRun("ppo", "ALE/Pong-v5", 3, GridRunFolder(tmp_path), (), {}, {}, 100, {})
    record = {
        "versions": {"python": "3", "packages": {"torch": "2"}, "git": None},
        "n_timesteps": 100,
        "seconds": 1.0,
        "finished": "",
        "fingerprint": "",
        "command": "",
    }
    returns = np.array([1.0, 2.0])
    attacked = {"settings": {"attack": "mad", "epsilon": 0.1}, "seed": 0}
    result = Result(run, "under fire", returns, returns, None, record, attacked)
    curve = GridCurve(run, np.array([[50, 0.5, 2, 1, 2], [100, np.nan, 6, 2, 2]]))
    write_results([result], [curve], tmp_path)
    (run,) = find([tmp_path], {}).runs
    assert (run.agent, run.env, run.name) == ("ppo", "ALE/Pong-v5", "seed 3")
    assert run.scores == {"under fire": 1.5, LAST: 6.0}
    assert run.attacks == {"under fire"}
    assert run.evaluations.values.tolist() == [2.0, 6.0]
    assert run.evaluations.spread.tolist() == [1.0, 2.0]


def test_an_unfinished_grid_is_read_from_its_run_folders(run_folder, config, tmp_path):
    (tmp_path / "grid").mkdir()
    text = "normalize: {Pendulum-v1: [-1600, -150]}\nbaseline: sb3\n"
    (tmp_path / "grid" / "grid.yml").write_text(text)
    folder = run_folder("grid/mine/Pendulum-v1/seed_4/run", {10: [1.0]}, config=config("ppo", "Pendulum-v1"))
    evaluation = {"episodes": [{"return": 2.0}, {"return": 4.0}], "attack": {"name": "mad"}}
    (folder.parent / "evaluation_mad.json").write_text(json.dumps(evaluation))
    found = find([tmp_path / "grid"], {})
    assert names(found) == [("mine", "Pendulum-v1", "seed 4")]
    assert found.runs[0].scores == {"mad": 3.0, LAST: 1.0}
    assert found.runs[0].attacks == {"mad"}
    assert (found.normalize, found.baseline) == ({"Pendulum-v1": (-1600, -150)}, "sb3")


def test_runs_newer_than_the_tables_are_reported(results, tmp_path):
    file = results({"ppo": {"E": {"natural": [1.0]}}})
    record = file.parent / "ppo" / "E" / "seed_1" / "cell.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    os.utime(record, (2e9, 2e9))
    assert "newer than the tables" in find([file.parent], {}).notes[0]


def test_grids_below_other_runs_are_left_out_and_reported(run_folder, results, tmp_path):
    run_folder("logs/ppo/E-v0_1", {10: [1.0]})
    results({"ppo": {"E-v0": {"natural": [1.0]}}}, "logs/benchmark/mine/results.csv")
    found = find([tmp_path / "logs"], {})
    assert len(found.runs) == 1
    assert "logs/benchmark/mine" in found.notes[0]
    with pytest.raises(UserError, match="Name one to draw it"):
        find([tmp_path / "logs" / "benchmark"], {})


def test_a_mixture_of_experts_is_an_agent_of_its_own(run_folder, tmp_path):
    for number, policy in enumerate(("MlpPolicy", "MoeMlpPolicy"), start=1):
        config = json.dumps({"algo": "sac", "env": "E-v0", "settings": {"policy": policy}})
        run_folder(f"sac/E-v0_{number}", {10: [1.0]}, config=config)
    assert [run.agent for run in find([tmp_path], {}).runs] == ["sac", "moe-sac"]


def test_labels_name_agents(run_folder, results, tmp_path):
    run_folder("narrow/ppo/E-v0_1", {10: [1.0]})
    run_folder("wide/ppo/E-v0_1", {10: [1.0]})
    grid = results({agent: {"E-v0": {"natural": [1.0]}} for agent in ("a", "b")})
    found = find([], {"narrow": tmp_path / "narrow", "wide": tmp_path / "wide", "old": grid})
    assert [run.agent for run in found.runs] == ["narrow", "wide", "old a", "old b"]
    everything = find([tmp_path], {"wide": tmp_path / "wide"})
    assert [run.agent for run in everything.runs] == ["wide", "ppo"]  # not drawn a second time without the label


@pytest.mark.parametrize(
    ("path", "match"),
    [
        ("nowhere", "does not exist"),
        ("empty", "holds nothing to draw"),
        ("notes.txt", "not a table"),
        ("other.csv", "columns a, b"),
    ],
)
def test_paths_without_runs_are_reported(path, match, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=match):
        find([tmp_path / path], {})


def test_a_table_with_text_for_a_number_is_reported(results):
    file = results({"ppo": {"E": {"natural": ["high"]}}})
    with pytest.raises(UserError, match=r"'high' in the column 'mean'"):
        find([file], {})


# What is drawn of it.


@pytest.fixture
def several(results):
    scores = {agent: {env: {"natural": [1.0, 2.0]} for env in ("A-v0", "B-v0")} for agent in ("ppo", "arpo")}
    return find([results(scores)], {}).runs


def test_choosing_orders_too(several):
    chosen = choose(several, ["B-v0", "A-v0"], ["arpo", "ppo"], by_run=False)
    assert list(dict.fromkeys(run.agent for run in chosen)) == ["arpo", "ppo"]
    assert [run.env for run in chosen if run.agent == "arpo"] == ["B-v0", "B-v0", "A-v0", "A-v0"]
    assert {run.agent for run in choose(several, ["A-v0"], ["ppo"], by_run=True)} == {"ppo seed 0", "ppo seed 1"}


def test_runs_that_share_a_name_are_told_apart_by_their_place(results):
    scores = {"ppo": {"A-v0": {"natural": [1.0]}}}
    twice = [replace(run, source=Path(place)) for place in ("here", "there") for run in find([results(scores)], {}).runs]
    assert {run.agent for run in choose(twice, [], [], by_run=True)} == {"ppo here", "ppo there"}


def test_choosing_a_missing_agent_is_reported(several):
    with pytest.raises(UserError, match=r"--env: there is no run of 'A-v1'. Did you mean 'A-v0'"):
        choose(several, ["A-v1"], [], by_run=False)
    with pytest.raises(UserError, match=r"--agents: there is no run of 'sac'"):
        choose(several, [], ["sac"], by_run=False)


def test_labels_are_read_as_name_and_path():
    assert labelled(["a=x", "b=y=z"]) == {"a": Path("x"), "b": Path("y=z")}
    for words, match in ((["a"], "NAME=PATH"), (["=x"], "NAME=PATH"), (["a=x", "a=y"], "given twice")):
        with pytest.raises(UserError, match=match):
            labelled(words)


def test_runs_that_differ_in_more_than_their_seeds_are_reported(run_folder, config, tmp_path):
    for number, gamma in enumerate((0.99, 0.99, 0.9)):
        run_folder(f"logs/ppo/E-v0_{number}", {10: [1.0]}, config=config("ppo", "E-v0", gamma=gamma, n_steps=8))
    runs = find([tmp_path / "logs"], {}).runs
    assert mixtures(runs[:2]) == []
    (note,) = mixtures(runs)
    assert "3 runs of ppo on E-v0" in note and "agent.gamma" in note and "n_steps" not in note
    assert mixtures(choose(runs, [], [], by_run=True)) == []


def test_runs_of_two_grids_are_not_aggregated_silently(results):
    scores = {"ppo": {"E-v0": {"natural": [1.0, 2.0]}}}
    one, other = results(scores, "one/results.csv"), results({"ppo": {"E-v0": {"natural": [3.0]}}}, "other/results.csv")
    (note,) = mixtures(find([one, other], {}).runs)
    assert f"3 runs of ppo on E-v0 are aggregated, but come from {one.parent}, {other.parent}" in note
    assert mixtures(find([one], {}).runs) == mixtures(find([], {"a": one, "b": other}).runs) == []


def test_a_copy_of_a_grid_is_counted_once(results):
    """By value: a table of another grid may share names and seeds."""
    scores = {"ppo": {"E-v0": {"natural": [1.0, 2.0]}}}
    one, copy = results(scores, "one/results.csv"), results(scores, "copy/results.csv")
    found = find([one.parent, copy.parent], {})
    assert [(run.name, run.source) for run in found.runs] == [("seed 0", one.parent), ("seed 1", one.parent)]
    assert f"{copy.parent} repeats 2 runs of {one.parent}; each is counted once." in found.notes
    assert len(find([], {"a": one, "b": copy}).runs) == 4  # as asked for


def test_the_worst_attack_is_over_the_same_attacks(run_folder, config, tmp_path):
    """A run with fewer of them would look better than it is."""
    for name, attacks in (("a", {"random": [8.0], "critic": [6.0], "mad": [1.0]}), ("b", {"random": [9.0], "critic": [8.0]})):
        folder = run_folder(f"logs/{name}/E-v0_1", {10: [5.0]})
        (folder / "report.json").write_text(json.dumps({"returns": {"natural": [9.0], **attacks}}))
    found = find([tmp_path / "logs"], {})
    assert [run.scores.get("worst") for run in found.runs] == [1.0, None]
    assert any("b without a worst attack, since not all of critic, mad, random" in note for note in found.notes)


@pytest.mark.parametrize("radius", [0.05, 0.075])
def test_attacks_of_different_radius_are_not_compared_silently(run_folder, tmp_path, radius):
    for name, epsilon in (("a", radius), ("b", 0.075)):
        folder = run_folder(f"logs/{name}/E-v0_1", {10: [5.0]})
        attack = {"epsilon": epsilon, "units": "raw"}
        (folder / "report.json").write_text(json.dumps({"attack": attack, "returns": {"natural": [9.0], "mad": [1.0]}}))
    notes = [note for note in find([tmp_path / "logs"], {}).notes if "its radii differ: 0.05 raw, 0.075 raw" in note]
    assert len(notes) == (radius == 0.05)


def test_environments_of_a_grid_without_tables_keep_their_names(run_folder, config, tmp_path):
    for noise in ("noise-0.1", "noise-0.3"):
        run_folder(f"grid/ppo/{noise}/seed_0/run", {10: [1.0]}, config=config("ppo", "STORI/Breakout-v0"))
    assert names(find([tmp_path / "grid"], {})) == [("ppo", "noise-0.1", "seed 0"), ("ppo", "noise-0.3", "seed 0")]


def test_both_tables_of_a_folder_tell_of_the_same_runs(table, tmp_path):
    results = table("results.csv", [{"agent": "ppo", "env": "E-v0", "seed": 0, "evaluation": "natural", "mean": 3}])
    curves = table("curves.csv", [{"agent": "ppo", "env": "E-v0", "seed": 0, "step": 5, "seconds": 1, "mean": 2, "std": 0}])
    for paths in ([results, curves], [curves, results]):
        (run,) = find(paths, {}).runs
        assert run.scores == {"natural": 3.0, LAST: 2.0}
        assert run.evaluations.steps.tolist() == [5.0]
