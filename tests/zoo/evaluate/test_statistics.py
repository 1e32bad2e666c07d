"""The statistics agree with hand-made numbers, with brute force, and with rliable on the same numbers."""

from __future__ import annotations

import importlib.util
import itertools
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy import stats

from rlspo.zoo.evaluate import statistics
from rlspo.zoo.evaluate.statistics import (
    Estimate,
    area_under_curve,
    difference_interval,
    interval,
    iqm,
    mean,
    mean_gain,
    mean_interval,
    median,
    optimality_gap,
    performance_profile,
    performance_profile_band,
    probability_of_improvement,
    probability_of_improvement_interval,
)

TASKS = ("a", "b", "c", "d", "e")


def runs(seed: int, n_runs: int, shift: float = 0.0) -> dict[str, np.ndarray]:
    """Scores with a level of its own for each task."""
    generator = np.random.default_rng(seed)
    return {task: level + shift + generator.normal(0, 0.3, n_runs) for level, task in enumerate(TASKS)}


def matrix(scores: dict[str, np.ndarray]) -> np.ndarray:
    """As rliable has it, ``(n_runs, n_tasks)``."""
    return np.stack(list(scores.values()), axis=1)


# By hand.


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7.0], 7.0),
        ([1.0, 2.0, 6.0], 3.0),  # a quarter of three is less than one: nothing is left out
        ([100.0, 1.0, 3.0, -100.0], 2.0),
        ([-50.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 99.0], 3.5),
        ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 80.0], 4.0),  # two of nine at each end
    ],
)
def test_interquartile_mean(values, expected):
    assert iqm(values) == pytest.approx(expected)


def test_interquartile_mean_works_on_the_last_axis():
    values = np.array([[0.0, 1.0, 3.0, 100.0], [4.0, 4.0, 4.0, 4.0]])
    assert iqm(values).tolist() == [2.0, 4.0]


@pytest.mark.parametrize("values", [[], [1.0, 2.0, 3.0, float("nan")], [1.0, 2.0, 3.0, float("inf")]])
def test_interquartile_mean_does_not_trim_away_what_is_no_number(values):
    with pytest.raises(ValueError, match="finite"):
        iqm(values)


def test_optimality_gap():
    assert optimality_gap([0.5, 1.0, 3.0]) == pytest.approx(0.5 / 3)  # what goes beyond the target does not make up for it
    assert optimality_gap([5.0, 20.0], target=10.0) == pytest.approx(2.5)


def test_probability_of_improvement_counts_pairs_and_halves_ties():
    assert probability_of_improvement([1.0, 2.0, 3.0], [2.0]) == pytest.approx(1.5 / 3)
    x, y = {"a": [1.0, 4.0], "b": [0.0]}, {"b": [1.0], "a": [2.0, 3.0, 5.0]}
    assert probability_of_improvement(x, y) == pytest.approx((2 / 6 + 0) / 2)  # each task counts once, whatever its runs
    assert probability_of_improvement(y, x) == pytest.approx(1 - probability_of_improvement(x, y))


def test_performance_profile_counts_each_task_once():
    profile = performance_profile({"a": [0.0, 1.0], "b": [0.5, 0.5, 0.5, 2.0]}, [-1.0, 0.0, 0.5, 1.5])
    assert profile.tolist() == [1.0, 0.75, (0.5 + 0.25) / 2, 0.125]


def test_area_under_curve_weighs_values_by_how_long_they_lasted():
    assert area_under_curve([0, 10], [2.0, 4.0]) == 3.0
    assert area_under_curve([0, 1, 10], [0.0, 10.0, 10.0]) == pytest.approx((5 + 90) / 10)
    assert area_under_curve([7], [3.0]) == 3.0


@pytest.mark.parametrize(("steps", "values"), [([], []), ([1, 2], [1.0]), ([1, 1], [1.0, 2.0]), ([2, 1], [1.0, 2.0])])
def test_area_under_curve_refuses_what_is_no_curve(steps, values):
    with pytest.raises(ValueError, match="curve"):
        area_under_curve(steps, values)


def test_tasks_may_stand_for_their_runs():
    scores = {"a": [0.0, 2.0, 4.0, 6.0], "b": [10.0, 10.0], "c": [20.0, 22.0]}
    assert interval(scores, median, of_tasks=True).value == 10.0
    assert interval(scores, mean, of_tasks=True).value == pytest.approx((3 + 10 + 21) / 3)
    assert interval(scores, mean).value == pytest.approx((12 + 20 + 42) / 8)


# Intervals.


def test_interval_of_two_runs_is_what_all_resamples_give():
    # The mean of a resample is 0, 5 or 10, with probabilities 1/4, 1/2, 1/4.
    estimate = interval([0.0, 10.0], mean, confidence=0.95)
    assert (estimate.value, estimate.low, estimate.high) == (5.0, 0.0, 10.0)
    narrow = interval([0.0, 10.0], mean, confidence=0.4)
    assert (narrow.low, narrow.high) == (5.0, 5.0)


@pytest.mark.parametrize("statistic", [mean, median, iqm])
def test_interval_agrees_with_every_resample_there_is(statistic):
    scores = np.array([0.0, 1.0, 3.0, 7.0, 12.0])
    every = statistic(np.array(list(itertools.product(scores, repeat=5))))
    expected = np.quantile(every, [0.1, 0.9])
    estimate = interval(scores, statistic, confidence=0.8, n_resamples=20_000)
    assert [estimate.low, estimate.high] == pytest.approx(expected, abs=0.25)


def test_resamples_stay_within_their_task():
    # Every resample of these has the same mean; drawing across tasks would not.
    estimate = interval({"a": [1.0] * 5, "b": [9.0] * 5}, mean)
    assert (estimate.low, estimate.value, estimate.high) == (5.0, 5.0, 5.0)


def test_interval_of_a_difference_is_wider_than_that_of_each_part():
    x, y = runs(0, 8, shift=1.0), runs(1, 8)
    difference = difference_interval(x, y, mean)
    parts = [interval(each, mean) for each in (x, y)]
    assert difference.value == pytest.approx(parts[0].value - parts[1].value)
    # Variances of independent parts add up.
    widths = [part.high - part.low for part in parts]
    assert difference.high - difference.low == pytest.approx(np.hypot(*widths), rel=0.1)


@pytest.mark.parametrize(
    "estimate",
    [
        interval([3.0], mean),
        interval({"a": [1.0, 2.0], "b": [5.0]}, iqm),
        difference_interval([1.0, 2.0], [5.0], mean),
        probability_of_improvement_interval([1.0, 2.0], [5.0]),
    ],
)
def test_one_run_of_a_task_has_no_interval(estimate):
    assert np.isfinite(estimate.value)
    assert np.isnan([estimate.low, estimate.high]).all()


def test_one_run_of_a_task_has_no_band():
    low, high = performance_profile_band([1.0], [0.0, 2.0])
    assert np.isnan([low, high]).all()


def test_the_same_seed_gives_the_same_interval_and_leaves_global_generators_alone():
    state = np.random.get_state()[1].tolist()
    first, again, other = (interval(runs(0, 7), iqm, seed=seed) for seed in (3, 3, 4))
    assert first == again != other
    assert np.random.get_state()[1].tolist() == state


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    generator = np.random.default_rng(0)
    inside = 0
    for trial in range(300):
        estimate = interval(generator.normal(0, 1, 20), mean, n_resamples=400, seed=trial)
        inside += estimate.low <= 0 <= estimate.high
    assert 0.88 <= inside / 300 <= 0.97  # the percentile interval of 20 runs is a little short of 95 %


@pytest.mark.parametrize(
    ("scores", "match"),
    [
        ({}, "no scores"),
        ([], "'the scores'"),
        ({"a": [1.0], "b": []}, "'b'"),
        ([1.0, float("nan")], "not all finite"),
        ({"a": [1.0, float("-inf")]}, "'a' are not all finite"),
        (np.ones((2, 2)), r"\(2, 2\)"),
    ],
)
def test_scores_that_are_none(scores, match):
    for call in (
        lambda: interval(scores, mean),
        lambda: difference_interval([1.0], scores, mean),
        lambda: performance_profile(scores, [0.0]),
        lambda: performance_profile_band(scores, [0.0]),
    ):
        with pytest.raises(ValueError, match=match):
            call()


def test_arguments_that_make_no_sense():
    with pytest.raises(ValueError, match="confidence is 95"):
        interval([1.0, 2.0], mean, confidence=95)
    with pytest.raises(ValueError, match="one resample"):
        interval([1.0, 2.0], mean, n_resamples=0)
    for x, y in (({"a": [1.0]}, {"b": [1.0]}), ({"a": [1.0]}, [1.0])):
        with pytest.raises(ValueError, match="same tasks"):
            probability_of_improvement(x, y)


# The same numbers through rliable.


@pytest.fixture(scope="module")
def rliable() -> Iterator[types.SimpleNamespace]:
    """rliable's modules.

    Its bootstrap comes from ``arch.bootstrap``. The rest of that package, which ``import arch`` runs too, does not load beside
    every version of pandas, so the package is entered without it. rliable draws from numpy's global generator.
    """
    metrics = pytest.importorskip("rliable.metrics")
    spec = importlib.util.find_spec("arch")
    assert spec is not None
    package: Any = types.ModuleType("arch")
    package.__path__ = spec.submodule_search_locations
    state = np.random.get_state()
    np.random.seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "arch", package)
        library = importlib.import_module("rliable.library")
        yield types.SimpleNamespace(metrics=metrics, library=library)
    np.random.set_state(state)


@pytest.mark.parametrize("n_runs", [1, 3, 4, 10])
def test_aggregates_are_rliables(rliable, n_runs):
    scores = runs(5, n_runs, shift=-1.0)
    theirs = matrix(scores)
    assert interval(scores, mean).value == pytest.approx(rliable.metrics.aggregate_mean(theirs), abs=1e-12)
    assert interval(scores, iqm).value == pytest.approx(rliable.metrics.aggregate_iqm(theirs), abs=1e-12)
    assert interval(scores, median, of_tasks=True).value == pytest.approx(rliable.metrics.aggregate_median(theirs), abs=1e-12)
    gap = rliable.metrics.aggregate_optimality_gap(theirs)
    assert interval(scores, optimality_gap).value == pytest.approx(gap, abs=1e-12)


@pytest.mark.parametrize(("n_x", "n_y"), [(1, 1), (5, 5), (3, 8)])
def test_probability_of_improvement_is_rliables(rliable, n_x, n_y):
    x, y = ({task: values.round(1) for task, values in runs(*each).items()} for each in ((0, n_x), (1, n_y, 0.1)))
    expected = rliable.metrics.probability_of_improvement(matrix(x), matrix(y))
    assert probability_of_improvement(x, y) == pytest.approx(expected, abs=1e-12)


def test_performance_profile_is_rliables(rliable):
    scores, thresholds = runs(0, 6), np.linspace(-1, 6, 50)
    values, bands = rliable.library.create_performance_profile({"ours": matrix(scores)}, thresholds, reps=1000)
    assert performance_profile(scores, thresholds) == pytest.approx(values["ours"], abs=1e-12)
    assert np.stack(performance_profile_band(scores, thresholds)) == pytest.approx(bands["ours"], abs=0.05)


@pytest.mark.parametrize(
    ("name", "statistic", "of_tasks"),
    [
        ("aggregate_mean", mean, False),
        ("aggregate_median", median, True),
        ("aggregate_iqm", iqm, False),
        ("aggregate_optimality_gap", statistics.optimality_gap, False),
    ],
)
def test_intervals_are_rliables(rliable, name, statistic, of_tasks):
    scores = runs(2, 8, shift=-0.5)
    aggregate = getattr(rliable.metrics, name)
    estimates = rliable.library.get_interval_estimates(
        {"ours": matrix(scores)}, lambda each: np.array([aggregate(each)]), reps=2000
    )
    low, high = np.ravel(estimates[1]["ours"])
    ours = interval(scores, statistic, of_tasks=of_tasks)
    # Two bootstraps of 2000 resamples each: their ends differ by a few hundredths of the width.
    assert [ours.low, ours.high] == pytest.approx([low, high], abs=0.12 * (high - low))


def test_interval_of_probability_of_improvement_is_rliables(rliable):
    x, y = runs(0, 6), runs(1, 9, shift=0.1)
    improvement = rliable.metrics.probability_of_improvement
    estimates = rliable.library.get_interval_estimates(
        {"ours": [matrix(x), matrix(y)]}, lambda a, b: np.array([improvement(a, b)]), reps=1000
    )
    low, high = np.ravel(estimates[1]["ours"])
    ours = probability_of_improvement_interval(x, y)
    assert [ours.low, ours.high] == pytest.approx([low, high], abs=0.12 * (high - low))


def test_intervals_for_few_runs_are_those_of_student_and_welch():
    rng = np.random.default_rng(0)
    x, y = rng.normal(1, 2, 5), rng.normal(0, 1, 4)
    known = stats.t.interval(0.95, 4, loc=x.mean(), scale=stats.sem(x))
    found = mean_interval(x)
    np.testing.assert_allclose([found.low, found.high], known)
    welch = stats.ttest_ind(x, y, equal_var=False).confidence_interval(0.95)
    gain = mean_gain(x, y)
    np.testing.assert_allclose([gain.value, gain.low, gain.high], [x.mean() - y.mean(), welch.low, welch.high])
    assert np.isnan(mean_gain([1.0], [1.0, 2.0]).low)
    assert mean_gain([2.0, 2.0], [1.0, 1.0]) == Estimate(1.0, 1.0, 1.0)


def test_the_interval_of_few_runs_covers_what_it_says():
    rng = np.random.default_rng(1)
    found = [mean_interval(rng.normal(size=3)) for _ in range(1000)]
    assert 0.93 < np.mean([each.low < 0 < each.high for each in found]) < 0.97
