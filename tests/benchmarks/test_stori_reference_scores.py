"""The scores of no skill: what is played, what is repeated, and what decides a number."""

import importlib
import json
import sys
from pathlib import Path

import pytest

from rlspo.envs.profiles import Profile

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def module():
    pytest.importorskip("ale_py")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("stori_reference_scores")
        for name in ("stori_reference_scores", "stori_results"):
            sys.modules.pop(name)


DRIFT = {"type": "2.2", "schedule": "sudden", "period": 5}
HIDING = {"type": "3.2", "effect": "crop", "mode": "left"}


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ({"type": "3.1"}, True),
        (HIDING, True),
        ({"type": "2.2", "schedule": "sudden", "period": 5, "concept": HIDING}, True),
        ({"type": "2.2", "schedule": "sudden", "period": 5, "concept": {"type": "1", "effect": "replace"}}, False),
        (
            {"type": "2.2", "schedule": "sudden", "period": 5, "concept": HIDING, "base": {"type": "1", "effect": "replace"}},
            False,
        ),
        ({"type": "1", "effect": "replace"}, False),
        ({"type": "2.1", "effect": "reward_drop"}, False),
    ],
)
def test_only_what_hides_the_screen_leaves_blind_policies_alone(module, profile, expected):
    assert module.hides_only(Profile.from_mapping(profile)) is expected


def test_no_action_has_a_short_cap_where_noise_does_not_act_in_its_place(module):
    frames = {cell: module.conditions(cell, "noop", 3)["max_frames"] for cell in ("breakout-1", "breakout-3.1")}
    assert frames == {"breakout-1": 108_000, "breakout-3.1": 7_200}
    assert module.conditions("breakout-3.1", "random", 3)["max_frames"] == 108_000


def test_the_interval_is_that_of_student(module):
    # Three numbers with a standard deviation of 1; t of two degrees of freedom is 4.3027.
    low, high = module.interval([1.0, 2.0, 3.0])
    assert low == pytest.approx(2 - 4.302652729911275 / 3**0.5)
    assert high == pytest.approx(2 + 4.302652729911275 / 3**0.5)
    assert module.interval([5.0, 5.0]) == (5.0, 5.0)


def test_play_counts_decision_steps_and_is_the_same_again(module):
    returns, lengths = module.play("breakout-3.1", "noop", 3, 240)
    assert returns == [0.0, 0.0, 0.0]  # nobody serves
    # Of the 240 frames 1 to 30 are played before the first step.
    assert all(210 <= 4 * length < 244 for length in lengths)
    assert len(set(lengths)) > 1
    assert module.play("breakout-3.1", "random", 2, 2_000) == module.play("breakout-3.1", "random", 2, 2_000)


def test_what_was_played_in_the_same_way_is_not_played_again(module, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    asked = list(module.missing(["breakout-3.1"], 3))
    assert [one["policy"] for one in asked] == ["random", "noop"]
    module.file_of("breakout-3.1", "random").write_text(json.dumps({**asked[0], "mean": 1.0}))
    assert [one["policy"] for one in module.missing(["breakout-3.1"], 3)] == ["noop"]
    assert len(list(module.missing(["breakout-3.1"], 4))) == 2
    other = {**asked[0], "profile": {"type": "1", "effect": "replace"}}
    module.file_of("breakout-3.1", "random").write_text(json.dumps(other))
    assert len(list(module.missing(["breakout-3.1"], 3))) == 2


def test_a_cell_that_hides_the_screen_says_whose_score_it_repeats(module, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    about = {"cell": "breakout-3.1", "policy": "random", "mean_length": 200.0}
    known = {**about, "mean": 1.5, "interval": [1.0, 2.0], "returns": [1.0, 2.0]}
    module.file_of("breakout-3.1", "random").write_text(json.dumps(known))
    module.repeat("breakout-3.2B", "random")
    found = json.loads(module.file_of("breakout-3.2B", "random").read_text())
    assert found["repeats"] == "breakout-3.1" and found["mean"] == 1.5 and "returns" not in found
    import stori_results

    assert stori_results.references(tmp_path)["random", "breakout-3.2B"] == stori_results.Score(1.5, 1.0, 2.0)
