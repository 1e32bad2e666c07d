"""The numbers behind learning curves: runs of one agent on a common axis, and what they come to together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rlspo.zoo.plot.runs import Curve
from rlspo.zoo.statistics import interval, iqm

Along = Literal["steps", "time", "episodes"]
_POINTS = 200  # of a line, where runs were not looked at in the same moments


@dataclass(frozen=True)
class Line:
    """One agent in one environment; all arrays ``(n,)``.

    :param x: steps, seconds or episodes
    :param values: interquartile mean of the runs that are there
    :param low: lower end of the 95 % bootstrap interval; of a single run, its value less the standard deviation of episodes
    :param high: upper end, likewise
    :param runs: how many runs there are at each point
    """

    x: np.ndarray
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    runs: np.ndarray

    @property
    def whole(self) -> np.ndarray:
        """Where all runs are there, ``(n,)`` of bool."""
        return self.runs == self.runs.max()

    def rows(self) -> Iterator[dict[str, Any]]:
        """One mapping for each point, plain."""
        for x, value, low, high, runs in zip(self.x, self.values, self.low, self.high, self.runs, strict=True):
            known = not math.isnan(low)
            yield {
                "x": float(x),
                "value": float(value),
                "low": float(low) if known else None,
                "high": float(high) if known else None,
                "runs": int(runs),
            }


def line_of(curves: Sequence[Curve], along: Along, window: int) -> Line:
    """Put runs together.

    :param curves: of runs that only differ in their seeds
    :param along: what the x-axis is; known for every curve
    :param window: points of a moving mean over each run, 1 for none
    """
    smoothed = [smooth(curve, window) for curve in curves]
    axes = [axis_of(curve, along) for curve in smoothed]
    x = common_axis(axes)
    values = np.stack([resampled(x, axis, curve.values) for axis, curve in zip(axes, smoothed, strict=True)])
    counts = np.sum(~np.isnan(values), axis=0)
    if len(curves) == 1:
        spread = resampled(x, axes[0], smoothed[0].spread)
        return Line(x, values[0], values[0] - spread, values[0] + spread, counts)
    estimates = [interval(column[~np.isnan(column)], iqm) for column in values.T]
    middle, low, high = np.array([(each.value, each.low, each.high) for each in estimates]).T
    return Line(x, middle, low, high, counts)


def axis_of(curve: Curve, along: Along) -> np.ndarray:
    """Where on the x-axis the points of a curve lie, ``(n,)``."""
    return {"steps": curve.steps, "time": curve.seconds, "episodes": curve.episodes}[along]


def smooth(curve: Curve, window: int) -> Curve:
    """Each point the mean of the last few; the first ones, which have not as many before them, are left out.

    :param window: how many; a curve that has fewer points becomes one point
    """
    window = min(window, len(curve.values))
    if window == 1:
        return curve

    def moving(values: np.ndarray) -> np.ndarray:
        return np.convolve(values, np.ones(window) / window, mode="valid")

    values = moving(curve.values)
    # The spread of all episodes that are now behind a point.
    variance = moving(curve.spread**2 + curve.values**2) - values**2
    later = slice(window - 1, None)
    return Curve(curve.steps[later], curve.seconds[later], curve.episodes[later], values, np.sqrt(np.maximum(variance, 0.0)))


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
