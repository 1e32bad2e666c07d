"""How far the runs of a grid are."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rlspo.zoo.benchmark.grid_runs import GridRun, read_json
from rlspo.zoo.runs.evaluation_log import DamagedFile
from rlspo.zoo.runs.folder import RunFolder


@dataclass
class Progress:
    """How far one run is.

    :param state: ``"waiting"``, ``"training"``, ``"evaluating"``, ``"done"`` or ``"failed"``
    :param steps: trained so far
    :param steps_per_second: of the training
    :param evaluated: evaluations done
    :param means: mean return of each of these
    :param seconds_evaluating: that these took
    :param seconds: since the process of the run began
    :param reason: why it failed
    """

    state: str = "waiting"
    steps: int = 0
    steps_per_second: float = 0.0
    evaluated: int = 0
    means: dict[str, float] = field(default_factory=dict)
    seconds_evaluating: float = 0.0
    seconds: float = 0.0
    reason: str = ""

    def read(self, run: GridRun) -> None:
        """Take in what the run's folder says, as far as it can be read."""
        with contextlib.suppress(DamagedFile):
            self._read(run)

    def _read(self, run: GridRun) -> None:
        record = run.record()
        if record is None:
            record = read_json(RunFolder.existing(run.folder.run_folder).status)
            if record is not None:
                self.steps = record["num_timesteps"]
        else:
            self.steps = record["n_timesteps"]
            done = {name: run.evaluation(name) for name in run.evaluations}
            self.means = {name: data["summary"]["mean"] for name, data in done.items() if data is not None}
            self.seconds_evaluating = sum(data["seconds"] for data in done.values() if data is not None)
            self.evaluated = len(self.means)
        if record is not None and record["seconds"] > 0:
            self.steps_per_second = self.steps / record["seconds"]


class Watcher(Protocol):
    """Whoever shows the grid to the user."""

    def changed(self, run: GridRun, progress: Progress) -> None:
        """A run has entered another state."""

    def look(self) -> None:
        """Some time has passed."""


def seconds_left(runs: Sequence[GridRun], progress: Mapping[str, Progress], jobs: int) -> float | None:
    """How long runs will still take, from what is known of the same agent and environment, else of any.

    :param runs: that are to be done
    :param progress: by key; of all runs of the grid
    :param jobs: runs at a time
    :return: None while nothing is known
    """
    open_runs = [run for run in runs if progress[run.key].state in ("waiting", "training", "evaluating")]
    speeds = {key: each.steps_per_second for key, each in progress.items() if each.steps_per_second > 0}
    evaluating = {key: each.seconds_evaluating for key, each in progress.items() if each.state == "done"}
    if not speeds:
        return None
    each_takes = []
    for run in open_runs:
        kind = run.key.rpartition("/")[0]
        now = progress[run.key]
        speed = now.steps_per_second or _mean_of(speeds, kind)
        training = max(run.n_timesteps - now.steps, 0) / speed
        each_takes.append(training + max(_mean_of(evaluating, kind) - now.seconds_evaluating, 0))
    return max(sum(each_takes) / jobs, max(each_takes, default=0))


def _mean_of(known: Mapping[str, float], kind: str) -> float:
    """Mean over the runs of this agent and environment, else over all; 0 if none is known."""
    same = [value for key, value in known.items() if key.rpartition("/")[0] == kind] or list(known.values())
    return sum(same) / len(same) if same else 0.0
