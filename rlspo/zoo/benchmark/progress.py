"""How far the cells of a grid are."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rlspo.zoo.benchmark.jobs import Cell, read_json
from rlspo.zoo.runs.evaluation_log import DamagedFile
from rlspo.zoo.runs.folder import RunFolder


@dataclass
class Progress:
    """How far one cell is.

    :param state: ``"waiting"``, ``"training"``, ``"evaluating"``, ``"done"`` or ``"failed"``
    :param steps: trained so far
    :param steps_per_second: of the training
    :param judged: evaluations done
    :param means: mean return of each of these
    :param seconds_judging: that these took
    :param seconds: since the process of the cell began
    :param reason: why it failed
    """

    state: str = "waiting"
    steps: int = 0
    steps_per_second: float = 0.0
    judged: int = 0
    means: dict[str, float] = field(default_factory=dict)
    seconds_judging: float = 0.0
    seconds: float = 0.0
    reason: str = ""

    def read(self, cell: Cell) -> None:
        """Take in what the cell's folder says, as far as it can be read."""
        with contextlib.suppress(DamagedFile):
            self._read(cell)

    def _read(self, cell: Cell) -> None:
        record = cell.record()
        if record is None:
            record = read_json(RunFolder.existing(cell.folder.run).status)
            if record is not None:
                self.steps = record["num_timesteps"]
        else:
            self.steps = record["n_timesteps"]
            done = {name: cell.evaluation(name) for name in cell.evaluations}
            self.means = {name: data["summary"]["mean"] for name, data in done.items() if data is not None}
            self.seconds_judging = sum(data["seconds"] for data in done.values() if data is not None)
            self.judged = len(self.means)
        if record is not None and record["seconds"] > 0:
            self.steps_per_second = self.steps / record["seconds"]


class Watcher(Protocol):
    """Whoever shows the grid to the user."""

    def changed(self, cell: Cell, progress: Progress) -> None:
        """A cell has entered another state."""

    def look(self) -> None:
        """Some time has passed."""


def seconds_left(cells: Sequence[Cell], progress: Mapping[str, Progress], jobs: int) -> float | None:
    """How long cells will still take, from what is known of the same agent and environment, else of any.

    :param cells: that are to be run
    :param progress: by key; of all cells of the grid
    :param jobs: cells that run at once
    :return: None while nothing is known
    """
    open_cells = [cell for cell in cells if progress[cell.key].state in ("waiting", "training", "evaluating")]
    speeds = {key: each.steps_per_second for key, each in progress.items() if each.steps_per_second > 0}
    judging = {key: each.seconds_judging for key, each in progress.items() if each.state == "done"}
    if not speeds:
        return None
    each_takes = []
    for cell in open_cells:
        kind = cell.key.rpartition("/")[0]
        now = progress[cell.key]
        speed = now.steps_per_second or _mean_of(speeds, kind)
        training = max(cell.n_timesteps - now.steps, 0) / speed
        each_takes.append(training + max(_mean_of(judging, kind) - now.seconds_judging, 0))
    return max(sum(each_takes) / jobs, max(each_takes, default=0))


def _mean_of(known: Mapping[str, float], kind: str) -> float:
    """Mean over the cells of this agent and environment, else over all; 0 if none is known."""
    same = [value for key, value in known.items() if key.rpartition("/")[0] == kind] or list(known.values())
    return sum(same) / len(same) if same else 0.0
