"""When a concept holds: each kind of schedule against its rule, step by step."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import stats

from rlspo.envs.schedules import KINDS, Schedule


def levels(kind: str, period: float, steps: int, seed: int = 0) -> list[float]:
    """The level in each of the first steps of an episode."""
    drift, random = Schedule(kind, period).start(), np.random.default_rng(seed)
    drift.reset()
    seen = []
    for _ in range(steps):
        seen.append(drift.level)
        drift.advance(random)
    return seen


def test_always_holds_from_the_first_step_on():
    assert levels("always", 1, 5) == [1.0] * 5


def test_sudden_begins_with_step_period_and_stays():
    assert levels("sudden", 3, 8) == [0, 0, 0, 1, 1, 1, 1, 1]
    assert levels("sudden", 1, 3) == [0, 1, 1]


def test_cyclic_changes_every_period_steps():
    assert levels("cyclic", 2, 9) == [0, 0, 1, 1, 0, 0, 1, 1, 0]
    assert levels("cyclic", 1, 4) == [0, 1, 0, 1]


def test_ramp_is_a_straight_line_up_to_one():
    assert levels("ramp", 4, 7) == [0, 0.25, 0.5, 0.75, 1, 1, 1]
    assert levels("ramp", 2.5, 4) == pytest.approx([0, 0.4, 0.8, 1])


def test_random_switching_changes_one_step_in_period():
    seen = np.array(levels("random_switching", 4, 20_000))
    assert set(seen) == {0.0, 1.0} and seen[0] == 0
    changes = int(np.count_nonzero(np.diff(seen)))
    assert stats.binomtest(changes, len(seen) - 1, 0.25).pvalue > 1e-4
    assert levels("random_switching", 1, 5) == [0, 1, 0, 1, 0]


def test_random_walk_stays_in_bounds_and_spreads_evenly():
    seen = np.array(levels("random_walk", 4, 40_000))
    assert seen.min() >= 0 and seen.max() <= 1 and seen[0] == 0
    # Reflected normal steps leave the uniform distribution as it is. One in 40: nearly independent.
    assert stats.kstest(seen[40::40], "uniform").pvalue > 1e-3


def test_random_walk_takes_steps_of_the_stated_size():
    seen = np.array(levels("random_walk", 10_000, 20_000))
    inside = (seen[:-1] > 0.1) & (seen[:-1] < 0.9)
    assert np.diff(seen)[inside].std() == pytest.approx(0.01, rel=0.03)


@pytest.mark.parametrize("kind", KINDS)
def test_an_episode_begins_anew_and_follows_its_generator(kind):
    drift, random = Schedule(kind, 2).start(), np.random.default_rng(3)
    drift.reset()
    for _ in range(7):
        drift.advance(random)
    drift.reset()
    again = []
    random = np.random.default_rng(0)
    for _ in range(10):
        again.append(drift.level)
        drift.advance(random)
    assert again == levels(kind, 2, 10)


@pytest.mark.parametrize("kind", ["always", "sudden", "cyclic", "ramp"])
def test_kinds_without_chance_draw_nothing(kind):
    random = np.random.default_rng(0)
    drift = Schedule(kind, 3).start()
    drift.reset()
    for _ in range(5):
        drift.advance(random)
    assert random.random() == np.random.default_rng(0).random()


def test_the_published_code_is_a_step_early_where_it_is_sudden():
    drift, random, seen = Schedule("sudden", 3).start(early=True), np.random.default_rng(0), []
    drift.reset()
    for _ in range(4):
        seen.append(drift.level)
        drift.advance(random)
    assert seen == [0, 0, 1, 1]
    drift = Schedule("sudden", 1).start(early=True)
    drift.reset()
    assert drift.level == 1
    drift = Schedule("cyclic", 1).start(early=True)
    drift.reset()
    assert drift.level == 0


@pytest.mark.parametrize(
    ("kind", "period", "message"),
    [
        ("suden", 3, "schedule is 'suden'. Did you mean 'sudden'?"),
        ("sudden", 0, "period is 0; it must be a whole number of at least 1."),
        ("cyclic", 2.5, "period is 2.5; it must be a whole number of at least 1."),
        ("sudden", True, "period is True"),
        ("ramp", 0.5, "period is 0.5; it must be a finite number, at least 1."),
        ("random_walk", float("nan"), "period is nan"),
        ("random_switching", "often", "period is 'often'"),
    ],
)
def test_wrong_schedules_say_what_is_wrong(kind, period, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Schedule(kind, period)
