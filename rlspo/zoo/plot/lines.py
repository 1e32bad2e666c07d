"""The numbers behind learning curves: the runs of one agent, aggregated.

Runs are aggregated step by step. Over wall time or episodes, a point is placed at the mean over the runs of when they reached
its steps, so that faster runs neither begin nor end the line alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rlspo.zoo.evaluate.statistics import interval, iqm
from rlspo.zoo.plot.numbers import plain
from rlspo.zoo.plot.runs import LearningCurve

Along = Literal["steps", "time", "episodes"]
_GOOD_PART = 0.95  # of a line: the rest is cut off if this part has all runs
_POINTS = 200  # of a line, where runs were evaluated at different steps


@dataclass(frozen=True)
class Line:
    """One agent in one environment; all arrays ``(n,)``.

    :param steps: environment steps
    :param x: the same, or the seconds or training episodes until then, as a mean over runs
    :param values: interquartile mean of the runs at each point
    :param low: lower end of the 95 % bootstrap interval; of a single run, its value less the standard deviation of episodes
    :param high: upper end, likewise
    :param runs: number of runs at each point
    :param total: number of runs
    """

    steps: np.ndarray
    x: np.ndarray
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    runs: np.ndarray
    total: int

    @property
    def whole(self) -> np.ndarray:
        """Where all runs have a value, ``(n,)`` of bool."""
        return self.runs == self.total

    def rows(self) -> Iterator[dict[str, Any]]:
        """One mapping of plain data for each point."""
        columns = (self.steps, self.x, self.values, self.low, self.high)
        for *numbers, runs in zip(*columns, self.runs, strict=True):
            step, x, value, low, high = map(plain, numbers)
            yield {"step": step, "x": x, "value": value, "low": low, "high": high, "runs": int(runs)}


def line_of(curves: Sequence[LearningCurve], along: Along, window: int) -> Line:
    """Aggregate runs.

    :param curves: of runs that only differ in their seeds
    :param along: what the x-axis is; known for every curve
    :param window: points of a moving mean over each run, 1 for none
    """
    smoothed = [smooth(curve, window) for curve in curves]
    steps = common_axis([curve.steps for curve in smoothed])
    values = np.stack([resampled(steps, curve.steps, curve.values) for curve in smoothed])
    places = np.stack([resampled(steps, curve.steps, axis_of(curve, along)) for curve in smoothed])
    counts = np.sum(~np.isnan(values), axis=0)
    if len(curves) == 1:
        spread = resampled(steps, smoothed[0].steps, smoothed[0].spread)
        return Line(steps, places[0], values[0], values[0] - spread, values[0] + spread, counts, total=1)
    whole = steps[counts == len(curves)]
    # Runs never end at the same step: short ends of only some runs would put a kink into the line.
    if len(whole) and whole[-1] - whole[0] >= _GOOD_PART * (steps[-1] - steps[0]):
        kept = (steps >= whole[0]) & (steps <= whole[-1])
        steps, places, values, counts = steps[kept], places[:, kept], values[:, kept], counts[kept]
    middle, low, high = np.array([_aggregated(column[~np.isnan(column)]) for column in values.T]).T
    x = steps if along == "steps" else mean_course(places)
    return Line(steps, x, middle, low, high, counts, len(curves))


def mean_course(places: np.ndarray) -> np.ndarray:
    """The mean over runs of something that grows; where a run is missing, the mean of how fast it grows in the others.

    >>> mean_course(np.array([[1.0, 2.0, 3.0], [3.0, 6.0, np.nan]])).tolist()
    [2.0, 4.0, 5.0]

    :param places: ``(n_runs, n)``; NaN where a run is missing
    :return: ``(n,)``, not decreasing
    """
    first = places[:, 0]
    growth = np.ma.masked_invalid(np.diff(places, axis=1)).mean(axis=0).filled(0.0)  # none across a gap between runs
    return np.concatenate([[0.0], np.cumsum(growth)]) + np.nanmean(first)


def _aggregated(values: np.ndarray) -> tuple[float, float, float]:
    """Interquartile mean and interval of the runs at one point; NaN where there are none, in a gap between runs."""
    if len(values) == 0:
        return (math.nan, math.nan, math.nan)
    estimate = interval(values, iqm)
    return (estimate.value, estimate.low, estimate.high)


def axis_of(curve: LearningCurve, along: Along) -> np.ndarray:
    """The x-coordinates of the points of a curve, ``(n,)``."""
    return {"steps": curve.steps, "time": curve.seconds, "episodes": curve.episodes}[along]


def smooth(curve: LearningCurve, window: int) -> LearningCurve:
    """Each point the mean of the last few that are numbers; the first ones, which have not as many before them, are left out.

    :param window: how many; a curve that has fewer points becomes one point
    """
    window = min(window, len(curve.values))
    if window == 1:
        return curve

    def moving(values: np.ndarray) -> np.ndarray:
        known, ones = ~np.isnan(values), np.ones(window)
        sums, counts = np.convolve(np.where(known, values, 0.0), ones, "valid"), np.convolve(known, ones, "valid")
        return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)

    values = moving(curve.values)
    # The spread of all episodes that are now behind a point.
    variance = moving(curve.spread**2 + curve.values**2) - values**2
    later = slice(window - 1, None)
    return LearningCurve(
        curve.steps[later], curve.seconds[later], curve.episodes[later], values, np.sqrt(np.maximum(variance, 0.0))
    )


def common_axis(axes: Sequence[np.ndarray]) -> np.ndarray:
    """Points for all runs: every point that any of them has, or evenly spaced ones where these are too many.

    :param axes: of each run, not decreasing
    """
    points = np.unique(np.concatenate(axes))
    if len(points) <= _POINTS or all(np.array_equal(axes[0], axis) for axis in axes[1:]):
        return points
    return np.linspace(points[0], points[-1], _POINTS)


def resampled(x: np.ndarray, axis: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A curve at other points: between its own in straight lines, NaN before its first and beyond its last.

    :param x: ``(n,)``
    :param axis: of the curve, not decreasing; where points coincide, their mean counts
    :return: ``(n,)``
    """
    places, group = np.unique(axis, return_inverse=True)
    means = np.bincount(group, values) / np.bincount(group)
    return np.interp(x, places, means, left=np.nan, right=np.nan)
