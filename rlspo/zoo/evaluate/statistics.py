"""Statistics for few runs: interquartile means, stratified bootstrap intervals and what goes with them.

After Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice, NeurIPS 2021 (arXiv 2108.13264):
its interquartile mean, optimality gap, probability of improvement, performance profiles and stratified bootstrap.

``Scores`` are either one task's, an array ``(n_runs,)``, or a mapping from tasks to such arrays; tasks may differ in the
number of runs. A bootstrap resample draws as many runs as there are with replacement within each task (strata), never across
tasks, and intervals are percentiles over the resamples. A task with one run gives no spread between runs, and so
no interval: its ends are then nan. Scores that are empty or not finite are a ``ValueError`` everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import integrate, stats

Array = np.ndarray[Any, np.dtype[np.float64]]
Scores = Mapping[str, Any] | Sequence[float] | np.ndarray
#: From samples, whose last axis holds the scores of all runs of all tasks, to one number for each.
Statistic = Callable[[Array], Any]


@dataclass(frozen=True)
class Estimate:
    """An estimate and its confidence interval.

    :param value: of the scores as they are
    :param low: lower end of the interval; nan where some task has one run only
    :param high: upper end of the interval; nan likewise
    """

    value: float
    low: float
    high: float


def mean(values: Any) -> Any:
    """Mean over the last axis."""
    return np.mean(values, axis=-1)


def median(values: Any) -> Any:
    """Median over the last axis."""
    return np.median(values, axis=-1)


def iqm(values: Any) -> Any:
    """Interquartile mean over the last axis: the mean of the middle half, less noisy than the median and robust to outliers.

    >>> float(iqm([0.0, 1.0, 3.0, 100.0]))
    2.0

    :param values: ``(..., n)``; a quarter of n, rounded down, is left out at each end
    :raises ValueError: for no values, or values that are not finite: these would be trimmed as outliers without a message
    """
    numbers = np.asarray(values, dtype=float)
    if numbers.shape[-1] == 0 or not np.isfinite(numbers).all():
        raise ValueError("An interquartile mean needs one value at least, and finite ones.")
    return stats.trim_mean(numbers, 0.25, axis=-1)


def optimality_gap(values: Any, target: float = 1.0) -> Any:
    """By how much the scores fail to reach a target on average over the last axis; what goes beyond it does not count.

    >>> float(optimality_gap([0.5, 2.0]))
    0.25

    :param values: ``(..., n)``
    :param target: the score from which on an agent counts as good enough
    """
    return target - np.mean(np.minimum(np.asarray(values, dtype=float), target), axis=-1)


def interval(
    scores: Scores,
    statistic: Statistic,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
    of_tasks: bool = False,
) -> Estimate:
    """A statistic over all runs of all tasks, with a percentile interval of the stratified bootstrap.

    >>> interval([1.0, 2.0, 3.0, 4.0], mean).value
    2.5
    >>> interval({"easy": [9.0, 9.0, 9.0], "hard": [1.0]}, mean, of_tasks=True).value
    5.0

    :param statistic: such as :func:`mean` or :func:`iqm`: works on the last axis of ``(..., n)``
    :param confidence: between 0 and 1
    :param n_resamples: bootstrap resamples, at least 1; the ends vary less with more of them
    :param seed: of the resampling
    :param of_tasks: compute the statistic of the task means instead of all runs, so that n is the number of tasks; papers
        mean this by the median over many games
    """
    strata = _strata(scores)
    value = float(statistic(_pooled(strata, of_tasks)))
    resampled = statistic(_pooled(_resample(strata, n_resamples, np.random.default_rng(seed)), of_tasks))
    return _estimate(value, resampled, confidence, strata)


def difference_interval(
    x: Scores, y: Scores, statistic: Statistic, confidence: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> Estimate:
    """The statistic of ``x`` minus that of ``y``, both resampled independently; parameters as of :func:`interval`.

    >>> difference_interval([3.0, 5.0], [1.0, 2.0], mean).value
    2.5
    """
    ours, theirs = _strata(x), _strata(y)
    generator = np.random.default_rng(seed)
    value = float(statistic(_pooled(ours))) - float(statistic(_pooled(theirs)))
    resampled = [statistic(_pooled(_resample(strata, n_resamples, generator))) for strata in (ours, theirs)]
    return _estimate(value, resampled[0] - resampled[1], confidence, [*ours, *theirs])


def mean_interval(values: Any, confidence: float = 0.95) -> Estimate:
    """The mean of a few runs with Student's interval, for two to ten runs, where the bootstrap is too narrow.

    :param values: ``(n_runs,)``
    :return: nan for the ends with a single run
    """
    (runs,) = _strata(values)
    value = float(runs.mean())
    if len(runs) < 2:
        return Estimate(value, float("nan"), float("nan"))
    half = float(stats.t.ppf((1 + confidence) / 2, len(runs) - 1) * runs.std(ddof=1) / np.sqrt(len(runs)))
    return Estimate(value, value - half, value + half)


def mean_gain(x: Any, y: Any, confidence: float = 0.95) -> Estimate:
    """The mean of ``x`` minus that of ``y`` with Welch's interval, for a few runs each; as :func:`mean_interval`."""
    (ours,), (theirs,) = _strata(x), _strata(y)
    value = float(ours.mean() - theirs.mean())
    if min(len(ours), len(theirs)) < 2:
        return Estimate(value, float("nan"), float("nan"))
    if np.ptp(ours) == np.ptp(theirs) == 0:
        return Estimate(value, value, value)
    low, high = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(confidence)
    return Estimate(value, float(low), float(high))


def probability_of_improvement(x: Scores, y: Scores) -> float:
    """Probability that a run of ``x`` scores higher than one of ``y`` on the same task, averaged over tasks; ties are half.

    >>> probability_of_improvement([2.0, 3.0], [1.0, 3.0])
    0.625

    :raises ValueError: if the tasks differ
    """
    return float(np.mean([_wins(ours, theirs) for ours, theirs in _paired(x, y)]))


def probability_of_improvement_interval(
    x: Scores, y: Scores, confidence: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> Estimate:
    """:func:`probability_of_improvement` with an interval, the runs of both resampled independently.

    Parameters as of :func:`interval`.
    """
    generator = np.random.default_rng(seed)
    pairs = _paired(x, y)
    resampled = [_wins(*_resample([ours, theirs], n_resamples, generator)) for ours, theirs in pairs]
    runs = [each for pair in pairs for each in pair]
    return _estimate(probability_of_improvement(x, y), np.mean(resampled, axis=0), confidence, runs)


def performance_profile(scores: Scores, thresholds: Any) -> Array:
    """Share of runs that score above each threshold, averaged over tasks.

    >>> performance_profile([0.2, 0.6], [0.0, 0.5, 1.0]).tolist()
    [1.0, 0.5, 0.0]

    :param thresholds: ``(n_thresholds,)``
    :return: ``(n_thresholds,)``
    """
    limits = np.asarray(thresholds, dtype=float)
    return np.mean([(runs[:, None] > limits).mean(axis=0) for runs in _strata(scores)], axis=0)


def performance_profile_band(
    scores: Scores, thresholds: Any, confidence: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> tuple[Array, Array]:
    """The interval around each point of :func:`performance_profile`, each for itself.

    :param thresholds: ``(n_thresholds,)``
    :return: lower and upper ends, both ``(n_thresholds,)``; other parameters as of :func:`interval`
    """
    strata, limits = _strata(scores), np.asarray(thresholds, dtype=float)
    generator = np.random.default_rng(seed)
    # Only the number of times that each run is drawn matters, so shares are one matrix product.
    shares = [
        generator.multinomial(len(runs), np.full(len(runs), 1 / len(runs)), n_resamples) @ (runs[:, None] > limits) / len(runs)
        for runs in strata
    ]
    return _ends(np.mean(shares, axis=0), confidence, strata)


def area_under_curve(steps: Any, values: Any) -> float:
    """Mean of a curve over its steps, by the trapezoidal rule: what an agent returned on average while it learned.

    >>> area_under_curve([0, 10, 20], [0.0, 1.0, 1.0])
    0.75

    :param steps: ``(n,)``, increasing
    :param values: ``(n,)``
    :raises ValueError: for curves without points, of different lengths, or whose steps do not increase
    """
    steps, values = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    if len(steps) == 0 or steps.shape != values.shape or np.any(np.diff(steps) <= 0):
        raise ValueError(f"A curve needs as many values as increasing steps; it has {len(values)} and {len(steps)}.")
    if len(steps) == 1:
        return float(values[0])
    return float(integrate.trapezoid(values, steps) / (steps[-1] - steps[0]))


def _strata(scores: Scores) -> list[Array]:
    """One array for each task."""
    named = scores if isinstance(scores, Mapping) else {"the scores": scores}
    if not named:
        raise ValueError("There are no scores.")
    strata = []
    for task, runs in named.items():
        array = np.asarray(runs, dtype=float)
        if array.ndim != 1 or array.size == 0:
            raise ValueError(
                f"The scores of {task!r} must be an array (n_runs,) with one run at least, not of shape {array.shape}."
            )
        if not np.isfinite(array).all():
            raise ValueError(f"The scores of {task!r} are not all finite: {array.tolist()}.")
        strata.append(array)
    return strata


def _resample(strata: list[Array], n_resamples: int, generator: np.random.Generator) -> list[Array]:
    """Runs drawn with replacement within each task, ``(n_resamples, n_runs)`` each."""
    if n_resamples < 1:
        raise ValueError(f"A bootstrap needs one resample at least; it was given {n_resamples}.")
    return [generator.choice(runs, (n_resamples, len(runs))) for runs in strata]


def _pooled(strata: list[Array], of_tasks: bool = False) -> Array:
    """All runs, or the mean of each task, along the last axis."""
    parts = [runs.mean(axis=-1, keepdims=True) for runs in strata] if of_tasks else strata
    return np.concatenate(parts, axis=-1)


def _ends(resampled: Any, confidence: float, strata: list[Array]) -> tuple[Any, Any]:
    """Percentiles over the first axis; nan where some task has one run only."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must lie between 0 and 1, such as 0.95.")
    outside = (1 - confidence) / 2
    ends = np.quantile(resampled, [outside, 1 - outside], axis=0)
    if any(len(runs) == 1 for runs in strata):
        ends = np.full_like(ends, np.nan)
    return ends[0], ends[1]


def _estimate(value: float, resampled: Any, confidence: float, strata: list[Array]) -> Estimate:
    low, high = _ends(resampled, confidence, strata)
    return Estimate(value, float(low), float(high))


def _paired(x: Scores, y: Scores) -> list[tuple[Array, Array]]:
    """The runs of both on each task."""
    if isinstance(x, Mapping) != isinstance(y, Mapping) or (isinstance(x, Mapping) and set(x) != set(y)):
        raise ValueError("Both must have scores on the same tasks.")
    if isinstance(x, Mapping) and isinstance(y, Mapping):
        return [(_strata(x[task])[0], _strata(y[task])[0]) for task in x]
    return [(_strata(x)[0], _strata(y)[0])]


def _wins(ours: Array, theirs: Array) -> Any:
    """Share of pairs that the first wins, over the last axes; ties count half."""
    difference = ours[..., :, None] - theirs[..., None, :]
    return ((difference > 0) + 0.5 * (difference == 0)).mean(axis=(-2, -1))
