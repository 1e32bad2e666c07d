"""Outliers that running statistics leave out: numbers that are not finite, and single ones so large that the scale would never
recover.

One reward of 1e30 among ordinary ones would make every later reward zero, for good. A number counts as such an outlier where
it is a million times the usual distance from the mean, and a million in its own units.

The usual distance is that of the statistics. While they have few rows, it also follows from the numbers in the batch that
differ from the mean, so that rare rewards or rewards in large units are not outliers. Later, only a large batch with mostly
new values counts: then the scale has changed. A single number among many is an outlier, and so is one in a small batch.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

#: An outlier is this many times the usual distance from the mean.
FAR = 1e6
#: Numbers above this size need further numbers to count as usual.
HUGE = 1e15
#: Rows after which statistics are settled.
SETTLED = 100
#: Rows of a batch that can show a change of scale.
MANY = 32


def ordinary(mean: Any, variance: Any, count: int, center: Any, spread: Any) -> bool:
    """Whether the moments of a batch rule out outliers and numbers that are not finite: a quick check, nearly always True.

    :param mean: of the batch, ``shape``
    :param variance: of the batch, ``shape``
    :param count: rows of the batch
    :param center: running mean, ``shape``
    :param spread: running standard deviation, ``shape``; 0 where unknown
    """
    # No row is farther from the mean than sqrt(count) standard deviations.
    farthest = np.sqrt(variance * count) + np.abs(mean - center)
    return bool((farthest <= FAR * np.maximum(spread, 1.0)).all())


def without_outliers(batch: np.ndarray, center: Any, spread: Any, known: float) -> tuple[np.ndarray, int]:
    """A batch whose outliers are replaced by the mean of the others in their column, or by ``center`` where there are none.

    :param batch: ``(N, *shape)``
    :param center: running mean, ``shape``
    :param spread: running standard deviation, ``shape``; 0 where unknown
    :param known: rows in the running statistics
    :return: in float64, and how many numbers were replaced

    >>> without_outliers(np.array([1.0, 3.0, 1e30, np.nan]), 0.0, 0.0, 0)
    (array([1., 3., 2., 2.]), 2)
    """
    rows = batch.reshape(len(batch), -1).astype(np.float64)
    center, spread = (np.broadcast_to(part, batch.shape[1:]).reshape(-1) for part in (center, spread))
    distances = np.abs(rows - center)
    count = 0
    for index in np.flatnonzero(~(distances <= FAR * np.maximum(spread, 1.0)).all(axis=0)):
        column, width = rows[:, index], spread[index]
        limit = min(FAR * max(width, _usual(distances[:, index], known), 1.0), max(HUGE, FAR * width))
        out = ~(distances[:, index] <= limit)
        column[out] = column[~out].mean() if not out.all() else center[index]
        count += int(out.sum())
    return rows.reshape(batch.shape), count


def _usual(distances: np.ndarray, known: float) -> float:
    """The usual distance from the mean according to the batch; 0 where the batch must not justify an outlier."""
    if known >= SETTLED and len(distances) < MANY:
        return 0.0
    # Early, a rare number among many constant ones is not an outlier; later, most numbers must have changed.
    counted = distances[np.isfinite(distances) & ((distances > 0) | (known >= SETTLED))]
    return float(np.sort(counted)[(len(counted) - 1) // 2]) if len(counted) else 0.0


def tell(what: str, count: int) -> None:
    """Warn of numbers that were left out.

    :param what: of what they are
    """
    warnings.warn(
        f"{count} of the {what} are not finite or a million times larger than usual; the running statistics leave them out. "
        "What else is like them is left out without a word. Fix the environment, or clip what it gives.",
        stacklevel=3,
    )
