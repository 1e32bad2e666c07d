"""The numbers of docs/stori.md: how results are joined and normalised, and what is said of results that are not all there."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
NAMES = ("stori_results", "stori_pictures", "stochastic_report", "stori_report")


@pytest.fixture(scope="module")
def modules():
    """The scripts, imported as they import each other: from their own folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield {name: importlib.import_module(name) for name in NAMES}
        for name in NAMES:
            sys.modules.pop(name)


@pytest.fixture(scope="module")
def results(modules):
    return modules["stori_results"]


def write_grid(folder: Path, returns: dict[tuple[str, str, int], list[float]]) -> Path:
    """What ``rlspo benchmark --export`` leaves, as far as it is read here."""
    folder.mkdir()
    episodes = [
        {"agent": agent, "env": env, "seed": seed, "evaluation": name, "returns": values, "lengths": [1] * len(values)}
        for (agent, env, seed), values in returns.items()
        for name, values in (("sampled", values), ("random", [-1000.0]))
    ]
    (folder / "episodes.json").write_text(json.dumps(episodes))
    about = {"n_timesteps": [100_352], "episodes": 2, "seeds": [0, 7]}
    (folder / "summary.json").write_text(json.dumps({"about": about}))
    return folder


def skill_free(results, **values):
    """Scores of the random policy by cell, with intervals of one to each side."""
    return {("random", cell): results.Score(value, value - 1, value + 1) for cell, value in values.items()}


def test_there_are_24_cells_and_each_was_published_for_two_agents(results):
    assert len(results.CELLS) == 24
    found = results.published()
    assert sorted(found) == sorted((name, cell) for name in ("DreamerV3", "STORM") for cell in results.CELLS)
    assert all(score.low <= score.value <= score.high for score in found.values())
    assert found["DreamerV3", "breakout-3.1"] == results.Score(63.4, 38.3, 109.4)


def test_scores_of_a_grid_are_means_over_the_means_of_seeds(results, tmp_path):
    returns = {
        ("ppo", "breakout-1", 7): [3.0, 5.0],
        ("ppo", "breakout-1", 0): [1.0, 1.0],
        ("ppo", "breakout-3.2A", 0): [2.0],
    }
    found = results.of_grid(write_grid(tmp_path / "grid", returns), results.CELLS, "sampled")
    both = found["ppo", "breakout-1"]
    assert (both.value, both.low, both.high, both.seeds) == (2.5, 1.0, 4.0, (1.0, 4.0))  # in the order of the seeds
    assert found["ppo", "breakout-3.2A"] == results.Score(2.0, seeds=(2.0,))  # one seed says nothing of others
    assert results.of_grid(tmp_path / "none", results.CELLS, "sampled") == {}


def test_an_environment_with_an_unknown_name_is_rejected_rather_than_lost(results, tmp_path):
    folder = write_grid(tmp_path / "grid", {("ppo", "breakout-3.2a", 0): [1.0]})
    with pytest.raises(ValueError, match=r"no cell 'breakout-3\.2a'. Did you mean 'breakout-3\.2A'"):
        results.of_grid(folder, results.CELLS, "sampled")


def test_an_evaluation_that_a_grid_does_not_have_is_rejected(results, tmp_path):
    folder = write_grid(tmp_path / "grid", {("ppo", "breakout-1", 0): [1.0]})
    with pytest.raises(ValueError, match=r"no evaluation 'natural' but \['random', 'sampled'\]"):
        results.of_grid(folder, results.CELLS, "natural")


def test_what_is_kept_is_measured_from_random_in_the_same_cell(results):
    scores = {("ppo", "boxing-3.1"): results.Score(42.0), ("ppo", "boxing-1"): results.Score(11.0)}
    random = skill_free(results, **{"boxing-3.1": 2.0, "boxing-1": 1.0})
    assert results.kept("ppo", "boxing-1", scores, random) == (11 - 1) / (42 - 2)
    assert results.kept("ppo", "boxing-3.1", scores, random) == 1.0


def test_nothing_is_said_of_what_is_kept_where_a_number_is_missing_or_there_was_nothing_to_lose(results):
    scores = {("ppo", "boxing-3.1"): results.Score(42.0), ("ppo", "boxing-1"): results.Score(11.0)}
    random = skill_free(results, **{"boxing-3.1": 2.0, "boxing-1": 1.0})
    for key in scores:
        assert results.kept("ppo", "boxing-1", {one: scores[one] for one in scores if one != key}, random) is None
    for key in random:
        assert results.kept("ppo", "boxing-1", scores, {one: random[one] for one in random if one != key}) is None
    # 2.9 is above the mean of random actions, 2, but within its interval.
    assert results.kept("ppo", "boxing-1", {**scores, ("ppo", "boxing-3.1"): results.Score(2.9)}, random) is None
    assert results.kept("ppo", "boxing-1", {**scores, ("ppo", "boxing-3.1"): results.Score(3.1)}, random) is not None


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ((5.0, 6.0), (1.0, 4.0), "better"),
        ((1.0, 4.0), (5.0, 6.0), "worse"),
        ((1.0, 6.0), (2.0, 3.0), "undecided"),
        ((4.0, 5.0), (3.0, 4.0), "undecided"),  # a tie is not above
        ((5.0,), (1.0, 2.0), "undecided"),
        (None, (1.0, 2.0), "missing"),
    ],
)
def test_a_verdict_needs_two_seeds_each_that_do_not_overlap(results, ours, theirs, expected):
    score = None if ours is None else results.Score(float(np.mean(ours)), seeds=ours)
    assert results.verdict(score, results.Score(float(np.mean(theirs)), seeds=theirs)) == expected


def test_two_seeds_above_two_others_come_about_by_chance_in_one_of_six_cases(results):
    pair = results.Score(1.0, seeds=(0.0, 2.0))
    assert results.by_chance(pair, pair) == 1 / 6


def test_a_table_of_losses_has_a_place_for_each_game_and_type(modules, results):
    scores = {("ppo", "gopher-3.1"): results.Score(1000.0), ("ppo", "gopher-3.2"): results.Score(250.0)}
    random = skill_free(results, **{"gopher-3.1": 0.0, "gopher-3.2": 0.0})
    table = modules["stori_pictures"].loss_table("ppo", scores, random)
    assert table.shape == (4, 6)
    assert table[2, 3] == 0.75
    assert np.isnan(table).sum() == 23


def test_tables_of_partial_results_say_what_is_missing(modules, results):
    report = modules["stori_report"]
    scores = {("ppo", "breakout-3.1"): results.Score.of_seeds({0: 31.0, 7: 33.0}), ("ppo", "breakout-1"): results.Score(9.0)}
    random = skill_free(results, **{"breakout-3.1": 2.0, "breakout-1": 3.0})
    lines = {
        line.split("|")[1].strip(): line for line in report.returns(scores, results.published(), random).splitlines()[2:26]
    }
    assert list(lines) == [f"`{cell}`" for cell in results.CELLS]
    assert "32.0 (31.0 to 33.0), 2 seeds | 100 % | 63.4 (38.3 to 109)" in lines["`breakout-3.1`"]
    assert "| 9.0 | 20 % |" in lines["`breakout-1`"]
    assert "| not run | not run | not run |  | 852 (246 to 1,189) |" in lines["`bankheist-3.2`"]


def test_the_verdict_on_continuous_control_comes_from_the_data(modules, results):
    made = {
        ("ppo", "Hopper-3.2"): (100.0, 300.0),
        ("barpo", "Hopper-3.2"): (400.0, 500.0),
        ("ppo", "Hopper-3.1"): (1000.0, 1200.0),
        ("barpo", "Hopper-3.1"): (900.0, 1000.0),
        ("ppo", "Hopper-2.1"): (200.0, 400.0),
        ("pdppo", "Hopper-2.1"): (300.0, 320.0),
    }
    scores = {key: results.Score.of_seeds(dict(enumerate(values))) for key, values in made.items()}
    table = modules["stochastic_report"].table(scores, "")
    assert "| Hopper | 3.2 | 200 (100, 300) | 450 (400, 500) | not run |" in table
    said = {text.partition(":")[0].lstrip("*"): text for text in modules["stochastic_report"].verdicts(scores)}
    assert len(said) == 6
    assert said["BARPO on Hopper, type 3.2"] == (
        "**BARPO on Hopper, type 3.2: yes, every seed is above every seed of PPO, which chance alone brings about in 1 of 6 "
        "cases.** 450 against 200 (+250); without noise (3.1) 950 against 1,100 (-150)."
    )
    assert "not shown" in said["PDPPO on Hopper, type 2.1"]
    assert said["PDPPO on Hopper, type 1"] == "PDPPO on Hopper, type 1: not run."


def test_pictures_are_drawn_of_nothing_and_of_something(modules, results, tmp_path):
    pictures, continuous = modules["stori_pictures"], modules["stochastic_report"]
    for number, scores in enumerate(({}, {("ppo", "boxing-3.1"): results.Score.of_seeds({0: 3.0, 1: 4.0})})):
        folder = tmp_path / str(number)
        named = {"PPO": ("ppo", scores), "STORM": ("STORM", results.published())}
        pictures.losses(named, {}, folder)
        pictures.returns(named, {}, folder)
        continuous.draw({("ppo", "Hopper-1"): results.Score(5.0, seeds=(5.0,))} if number else {}, folder / "continuous.png")
        assert {file.name for file in folder.iterdir()} == {"loss.png", "returns.png", "continuous.png"}
