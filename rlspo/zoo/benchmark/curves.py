"""The learning curve of one run of a grid."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlspo.zoo.benchmark.grid_runs import GridRun
from rlspo.zoo.evaluate.statistics import area_under_curve
from rlspo.zoo.runs.evaluation_log import DamagedFile, read_evaluations
from rlspo.zoo.runs.folder import RunFolder
from rlspo.zoo.runs.monitor import read_episodes

#: A curve as ``cell.json`` keeps it: a row for each evaluation, with what :func:`curve_points` lists.
Points = list[list[float | None]]


def curve_points(run_folder: RunFolder, seed: int) -> Points:
    """Of each evaluation during training: the step, seconds since training began, and mean, standard deviation and number of
    the returns; None for what is unknown or not finite. Nothing if there were no evaluations.

    :raises DamagedFile: if they cannot be read, or are another run's
    """
    if not run_folder.evaluations.is_file():
        return []
    steps, returns = read_evaluations(run_folder.evaluations, seed)
    seconds = read_episodes(run_folder.path).seconds_at(steps)
    columns = (steps, seconds.round(1), returns.mean(axis=1), returns.std(axis=1), np.full(len(steps), returns.shape[1]))
    return [
        [value if math.isfinite(value) else None for value in row]
        for row in zip(*map(np.ndarray.tolist, columns), strict=True)
    ]


@dataclass(frozen=True)
class Curve:
    """The evaluations during the training of one run.

    :param run: that was trained
    :param points: a row for each, see :func:`curve_points`; NaN for None, ``(n, 5)``
    """

    run: GridRun
    points: np.ndarray

    @classmethod
    def of(cls, run: GridRun, record: Mapping[str, Any] | None) -> Curve | None:
        """The curve of a run, None if the grid asks for none.

        :param record: ``cell.json``, for where the run folder is no longer beside it
        :raises DamagedFile: if it cannot be read, or is another run's
        """
        points = curve_points(RunFolder.existing(run.folder.run_folder), run.seed) or (record or {}).get("curve")
        if not points:
            return None
        try:
            return cls(run, np.array(points, dtype=float).reshape(len(points), 5))
        except (TypeError, ValueError) as error:
            raise DamagedFile(f"{run.folder.record} holds no learning curve: {error}") from error

    @property
    def area(self) -> float:
        """Under the mean returns, divided by the steps: the mean return over the course of training."""
        return area_under_curve(self.points[:, 0], self.points[:, 2])

    def rows(self) -> Iterable[dict[str, Any]]:
        """Lines of ``curves.csv``."""
        for step, seconds, mean, std, episodes in self.points.tolist():
            yield {
                "agent": self.run.agent,
                "env": self.run.env,
                "seed": self.run.seed,
                "step": int(step),
                "seconds": None if math.isnan(seconds) else seconds,
                "mean": mean,
                "std": std,
                "episodes": int(episodes),
            }
