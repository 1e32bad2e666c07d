"""The numbers of a grid, against numbers worked out by hand."""

import csv
import json

import numpy as np
import pytest

from rlspo.zoo.benchmark import report
from rlspo.zoo.benchmark.grid import read_grid
from rlspo.zoo.benchmark.results import FILES
from rlspo.zoo.benchmark.scores import COVERAGE
from rlspo.zoo.benchmark.tables import TextTable, tables_of
from rlspo.zoo.evaluate import statistics
from rlspo.zoo.runs.folder import environment_record
from tests.zoo.benchmark import tiny_grids
from tests.zoo.benchmark.tiny_grids import TINY, fake, read, runs_of, write_grid

AGENTS = {"ppo": {"params": TINY}, "twin": {"algo": "ppo", "params": TINY}}
ATTACKS = {
    "natural": {},
    "random": {"attack": "random", "epsilon": 0.1},
    "mad": {"attack": "mad", "epsilon": 0.1},
}


def rows(file):
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def summed_up(folder, returns, curves=None, **changes):
    """A grid whose runs hold these returns: run key and evaluation to those of its episodes."""
    file = write_grid(folder, agents=AGENTS, evaluations=ATTACKS, **changes)
    grid, runs = read_grid(file), runs_of(file, folder / "out")
    there = [run for run in runs if run.key in returns]
    for run in there:
        fake(run, returns[run.key], (curves or {}).get(run.key))
    return report.write(grid, there, len(runs), folder / "out")


def same(values):
    """These returns in every evaluation."""
    return dict.fromkeys(ATTACKS, values)


def test_the_score_of_a_training_is_the_mean_of_its_episodes(workplace):
    returns = {f"{agent}/Ledger-v0/{seed}": same([seed, seed + 2.0]) for agent in AGENTS for seed in range(4)}
    returns["twin/Ledger-v0/0"] = same([9.0, 11.0])
    summary = summed_up(workplace, returns, seeds=4)
    natural = summary["envs"]["Ledger-v0"]["natural"]
    ppo, twin = natural["agents"]["ppo"], natural["agents"]["twin"]
    assert ppo["scores"] == {"0": 1, "1": 2, "2": 3, "3": 4}
    assert (ppo["mean"]["value"], ppo["median"]["value"], ppo["iqm"]["value"]) == (2.5, 2.5, 2.5)
    # Of 10, 2, 3 and 4: the middle two are 3 and 4.
    assert (twin["mean"]["value"], twin["median"]["value"], twin["iqm"]["value"]) == (4.75, 3.5, 3.5)
    # Of 16 pairs ppo wins (2 > nothing of 2, ...): 3 > 2, 4 > 2, 4 > 3, and ties in 2, 3 and 4.
    assert natural["improvement"]["ppo"]["twin"]["value"] == (3 + 3 / 2) / 16
    assert natural["improvement"]["twin"]["ppo"]["value"] == 1 - (3 + 3 / 2) / 16
    expected = statistics.interval([10.0, 2.0, 3.0, 4.0], statistics.iqm, 0.95, 2000)
    assert (twin["iqm"]["low"], twin["iqm"]["high"]) == (expected.low, expected.high)
    assert json.loads((workplace / "out/summary.json").read_text()) == json.loads(json.dumps(summary))


def test_the_worst_attack_is_chosen_training_by_training(workplace):
    returns = {
        "ppo/Ledger-v0/0": {"natural": [9.0], "random": [5.0], "mad": [1.0]},
        "ppo/Ledger-v0/1": {"natural": [1.0], "random": [2.0], "mad": [6.0]},
    }
    summary = summed_up(workplace, returns, seeds=2)
    assert summary["envs"]["Ledger-v0"]["worst"]["agents"]["ppo"]["scores"] == {"0": 1.0, "1": 2.0}
    assert summary["cells"] == {"complete": 2, "total": 4}
    assert (workplace / "out/tables.md").read_text().startswith("Not complete: 2 of 4 runs.")


def test_the_area_under_a_curve_is_its_mean_over_the_steps(workplace):
    curve = {10: [0.0, 2.0], 20: [3.0, 5.0], 40: [4.0, 4.0]}
    summary = summed_up(workplace, {"ppo/Ledger-v0/0": same([1.0])}, {"ppo/Ledger-v0/0": curve})
    # Means 1, 4, 4; trapezoids 25 and 80 over 30 steps.
    assert summary["envs"]["Ledger-v0"]["area_under_curve"]["agents"]["ppo"]["mean"]["value"] == pytest.approx(105 / 30)
    lines = rows(workplace / "out/curves.csv")
    assert [(line["step"], line["mean"], line["std"], line["episodes"]) for line in lines] == [
        ("10", "1", "1", "2"),
        ("20", "4", "1", "2"),
        ("40", "4", "0", "2"),
    ]
    assert [line["area_under_curve"] for line in rows(workplace / "out/results.csv")] == ["3.5"] * 3


def test_scores_of_several_environments_are_normalised(workplace):
    env = {"id": "Ledger-v0", "gym_packages": ["zoo_environments"]}
    returns = {
        "ppo/easy/0": same([50.0]),
        "ppo/easy/1": same([200.0]),
        "ppo/hard/0": same([-5.0]),
        "ppo/hard/1": same([0.0]),
        "twin/easy/0": same([100.0]),
    }
    ranges = {"easy": [0, 100], "hard": [-10, 0]}
    summary = summed_up(workplace, returns, envs={"easy": env, "hard": env}, normalize=ranges, seeds=2)
    overall = summary["overall"]["natural"]["agents"]
    assert list(overall) == ["ppo"]  # twin has nothing in one of them
    # Scores 0.5 and 2, 0.5 and 1; to the target of 1 they lack 0.5, 0, 0.5 and 0.
    assert overall["ppo"]["mean"]["value"] == 1.0
    assert overall["ppo"]["iqm"]["value"] == 0.75
    assert overall["ppo"]["optimality_gap"]["value"] == 0.25
    assert summary["envs"]["easy"]["natural"]["agents"]["ppo"]["optimality_gap"]["value"] == 0.25
    expected = statistics.interval({"easy": [0.5, 2.0], "hard": [0.5, 1.0]}, statistics.iqm, 0.95, 2000)
    assert overall["ppo"]["iqm"] == {"value": expected.value, "low": expected.low, "high": expected.high}
    assert "**All environments, normalised: interquartile mean" in (workplace / "out/tables.md").read_text()


def test_what_an_agent_has_more_of_in_one_environment_counts_no_more(workplace):
    """An unfinished grid: equal agents, one of which lacks seeds where both are bad."""
    env = {"id": "Ledger-v0", "gym_packages": ["zoo_environments"]}
    returns = {f"{agent}/easy/{seed}": same([100.0]) for agent in ("ppo", "twin") for seed in range(3)}
    returns |= {f"twin/hard/{seed}": same([-10.0]) for seed in range(3)} | {"ppo/hard/1": same([-10.0])}
    ranges = {"easy": [0, 100], "hard": [-10, 0]}
    summary = summed_up(workplace, returns, envs={"easy": env, "hard": env}, normalize=ranges, seeds=3)
    overall = summary["overall"]["natural"]["agents"]
    assert [overall[agent]["seeds"] for agent in ("ppo", "twin")] == [1, 3]
    for statistic in ("mean", "median", "iqm", "optimality_gap"):
        assert overall["ppo"][statistic]["value"] == overall["twin"][statistic]["value"] == 0.5


def test_rows_carry_what_it_takes_to_get_them_again(workplace):
    summed_up(workplace, {"ppo/Ledger-v0/0": {"natural": [1.0, 2.0, 6.0], "random": [1.0], "mad": [1.0]}})
    first, second, _ = rows(workplace / "out/results.csv")
    assert (first["agent"], first["env"], first["seed"], first["evaluation"]) == ("ppo", "Ledger-v0", "0", "natural")
    assert (first["mean"], first["median"], first["episodes"], first["steps_per_second"]) == ("3", "2", "3", "32")
    assert (first["min"], first["max"], first["mean_length"]) == ("1", "6", "10")
    assert first["std"] == "2.160246899"
    assert first["command"].startswith("python -m rlspo.zoo.train")
    assert first["rlspo"] and first["torch"] and first["stable_baselines3"] and first["python"]
    assert json.loads(second["evaluation_settings"]) == {
        "model": "last", "episodes": 3, "deterministic": True, "attack": "random", "epsilon": 0.1
    }  # fmt: skip
    assert read(workplace / "out/episodes.json")[0]["returns"] == [1.0, 2.0, 6.0]
    assert {path.name for path in (workplace / "out").iterdir() if path.is_file()} == {*FILES}


def test_the_clock_of_a_curve_is_that_of_environments_side_by_side(workplace, monitor):
    file = write_grid(workplace, agents=AGENTS, evaluations={"natural": {}})
    grid, (run, _) = read_grid(file), runs_of(file, workplace / "out")
    fake(run, {"natural": [1.0]}, {4000: [1.0], 8000: [2.0], 16000: [3.0]})
    for number in range(8):
        monitor(run.folder.run_folder / f"{number}.monitor.csv", [(1.0, 1000, 10.0), (1.0, 1000, 20.0)])
    report.write(grid, [run], 1, workplace / "out")
    assert [line["seconds"] for line in rows(workplace / "out/curves.csv")] == ["5", "10", "20"]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"natural": {}}, "the best agent, deterministic, "),
        ({"sampled": {"deterministic": False}}, "the best agent, actions sampled, "),
        ({"natural": {}, "sampled": {"deterministic": False}}, "the best agent, deterministic but in sampled, "),
    ],
)
def test_the_head_says_how_agents_act(workplace, how, said):
    file = write_grid(workplace, agents=AGENTS, evaluations=how)
    grid, (run, _) = read_grid(file), runs_of(file, workplace / "out")
    fake(run, {name: [1.0] for name in how})
    report.write(grid, [run], 1, workplace / "out")
    assert said in (workplace / "out/tables.md").read_text().replace("the last agent", "the best agent")


def test_commits_with_changes_are_told_from_those_without(workplace, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    for dirty, seed in ((False, 0), (True, 1)):
        versions = {**environment_record(), "git": {"rlspo": {"commit": commit, "dirty": dirty}}}
        monkeypatch.setattr(tiny_grids, "environment_record", lambda versions=versions: versions)
        summary = summed_up(workplace, {f"ppo/Ledger-v0/{seed}": same([1.0])}, seeds=2)
        assert summary["about"]["commits"] == [commit + ("-dirty" if dirty else "")]
        assert rows(workplace / "out/results.csv")[0]["commit"] == summary["about"]["commits"][0]
        assert f", commit 0123456{'-dirty' if dirty else ''}.\n" in (workplace / "out/tables.md").read_text()


@pytest.mark.parametrize(("seeds", "said"), [(1, None), (2, "50%"), (3, "75%"), (10, None)])
def test_intervals_of_few_seeds_are_said_to_be_narrow(workplace, capsys, seeds, said):
    returns = {f"ppo/Ledger-v0/{seed}": same([float(seed)]) for seed in range(seeds)}
    summary = summed_up(workplace, returns, seeds=seeds)
    report.show(summary, workplace / "out")
    line = f"Bootstrap intervals from {seeds} seeds are too narrow: about {said} of those of a mean hold it, rather than 95%."
    for text in ((workplace / "out/tables.md").read_text(), capsys.readouterr().out):
        assert (line in text) if said else ("too narrow" not in text)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_coverage_is_what_simulation_gives(seeds):
    generator = np.random.default_rng(seeds)
    drawn = generator.normal(size=(1000, seeds))
    intervals = [statistics.interval(values, statistics.mean, n_resamples=500) for values in drawn]
    held = np.mean([each.low <= 0 <= each.high for each in intervals])
    assert held == pytest.approx(COVERAGE[seeds], abs=0.04)


def test_a_single_seed_has_no_interval(workplace):
    summary = summed_up(workplace, {"ppo/Ledger-v0/0": same([3.0])})
    described = summary["envs"]["Ledger-v0"]["natural"]["agents"]["ppo"]
    assert described["mean"] == {"value": 3.0, "low": None, "high": None}
    assert "| ppo | 1 | 3.000 | 3.000 | 3.000 | 3.000 |" in (workplace / "out/tables.md").read_text()


def test_against_a_baseline_one_column_for_each_measure(workplace):
    returns = {f"{agent}/Ledger-v0/{seed}": same([seed + (agent == "twin")]) for agent in AGENTS for seed in range(2)}
    summary = summed_up(workplace, returns, seeds=2, baseline="ppo")
    improvement = summary["envs"]["Ledger-v0"]["natural"]["improvement"]
    assert list(improvement["twin"]) == ["ppo"] and improvement["ppo"] == {}
    (table,) = [table for table in tables_of(summary) if "scoring higher than ppo" in table.title]
    assert table.columns == ["agent", "natural", "random", "MAD", "worst attack"]
    # 1 and 2 against 0 and 1: three wins and a tie of four pairs.
    assert [row[0] for row in table.rows] == ["twin"] and table.rows[0][1].startswith("88% (")


def test_tables_mark_the_best_and_keep_their_shape():
    table = TextTable("Title", ["agent", "a|b"], [["x", "1 (0 to 2)"], ["y", "3"]], frozenset({(0, 1), (1, 1)}))
    expected = "**Title**\n\n| agent | a\\|b |\n| --- | ---: |\n| x | **1** (0 to 2) |\n| y | **3** |\n"
    assert table.markdown() == expected


def test_an_evaluation_that_is_not_finite_costs_its_area_only(workplace):
    curve = {10: [0.0, 2.0], 20: [float("nan"), 5.0], 40: [4.0, 4.0]}
    whole = {10: [1.0], 40: [3.0]}
    returns = {"ppo/Ledger-v0/0": same([1.0]), "twin/Ledger-v0/0": same([2.0])}
    measures = summed_up(workplace, returns, {"ppo/Ledger-v0/0": curve, "twin/Ledger-v0/0": whole})["envs"]["Ledger-v0"]
    assert [*measures["area_under_curve"]["agents"]] == ["twin"]
    assert [*measures["natural"]["agents"]] == ["ppo", "twin"]
