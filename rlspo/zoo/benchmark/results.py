"""From the folders of runs to the files that are kept: every number with what it takes to get it again."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlspo.zoo.benchmark.curves import Curve
from rlspo.zoo.benchmark.grid import Grid, write_grid
from rlspo.zoo.benchmark.grid_runs import GridRun, write_json
from rlspo.zoo.cli import terminal
from rlspo.zoo.config.atomic import whole, write_text
from rlspo.zoo.errors import UserError
from rlspo.zoo.evaluate.statistics import iqm
from rlspo.zoo.runs.evaluation_log import DamagedFile

#: What is worth keeping beside the grid file: small, without models and logs.
FILES = ("results.csv", "curves.csv", "episodes.json", "summary.json", "tables.md")


@dataclass(frozen=True)
class Result:
    """One evaluation of one run.

    :param run: that was evaluated
    :param evaluation: its name
    :param returns: of the episodes, ``(n_episodes,)``
    :param lengths: their steps, ``(n_episodes,)``
    :param area: under the learning curve of the run, divided by the steps; None without a curve
    :param record: ``cell.json``
    :param evaluated: ``evaluation_NAME.json``
    """

    run: GridRun
    evaluation: str
    returns: np.ndarray
    lengths: np.ndarray
    area: float | None
    record: dict[str, Any]
    evaluated: dict[str, Any]

    @property
    def commit(self) -> str | None:
        """Of rlspo when it was trained, with ``-dirty`` where files had been changed since; None where there was none."""
        state = (self.record["versions"]["git"] or {}).get("rlspo")
        return state and f"{state['commit']}{'-dirty' if state['dirty'] else ''}"

    def row(self) -> dict[str, Any]:
        """One line of ``results.csv``."""
        packages = self.record["versions"]["packages"]
        return {
            "agent": self.run.agent,
            "env": self.run.env,
            "seed": self.run.seed,
            "evaluation": self.evaluation,
            "n_timesteps": self.record["n_timesteps"],
            "mean": self.returns.mean(),
            "std": self.returns.std(),
            "median": np.median(self.returns),
            "iqm": iqm(self.returns),
            "min": self.returns.min(),
            "max": self.returns.max(),
            "mean_length": self.lengths.mean(),
            "episodes": len(self.returns),
            "area_under_curve": self.area,
            "seconds": self.record["seconds"],
            "steps_per_second": self.record["n_timesteps"] / max(self.record["seconds"], 1e-9),
            "finished": self.record["finished"],
            "fingerprint": self.record["fingerprint"],
            "evaluation_settings": json.dumps(self.evaluated["settings"]),
            "evaluation_seed": self.evaluated["seed"],
            "python": self.record["versions"]["python"],
            **{package.replace("-", "_"): version for package, version in packages.items()},
            "commit": self.commit,
            "command": self.record["command"],
        }


def read_results(runs: Sequence[GridRun]) -> tuple[list[Result], list[Curve]]:
    """Everything that complete runs hold."""
    results, curves = [], []
    for run in runs:
        record = run.record()
        try:
            curve = Curve.of(run, record)
        except DamagedFile as error:
            terminal.error(f"{run.key} has no learning curve. {error}")
            curve = None
        if curve is not None:
            curves.append(curve)
        for name in run.evaluations:
            evaluated = run.evaluation(name)
            if record is None or evaluated is None:
                raise DamagedFile(f"{run.folder.path}: something was removed while the tables were made.")
            episodes = evaluated["episodes"]
            results.append(
                Result(
                    run=run,
                    evaluation=name,
                    returns=np.array([episode["return"] for episode in episodes]),
                    lengths=np.array([episode["length"] for episode in episodes]),
                    area=None if curve is None else curve.area,
                    record=record,
                    evaluated=evaluated,
                )
            )
    return results, curves


def write_results(results: Sequence[Result], curves: Sequence[Curve], folder: Path) -> None:
    """Write ``results.csv``, ``curves.csv`` and ``episodes.json``."""
    _write_csv(folder / "results.csv", [result.row() for result in results])
    _write_csv(folder / "curves.csv", [row for curve in curves for row in curve.rows()])
    episodes = [
        {
            "agent": result.run.agent,
            "env": result.run.env,
            "seed": result.run.seed,
            "evaluation": result.evaluation,
            "returns": result.returns.tolist(),
            "lengths": result.lengths.tolist(),
        }
        for result in results
    ]
    write_json(folder / "episodes.json", episodes)


def _write_csv(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write a table whole or not at all; numbers with ten digits, nothing for what is unknown."""
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {key: f"{value:.10g}" if isinstance(value, float) else value for key, value in row.items()} for row in rows
        )
    write_text(file, text.getvalue())


def export(grid: Grid, file: Path, folder: Path, to: Path) -> None:
    """Copy what is worth keeping, and write the grid beside it.

    :param file: the grid was read from
    :param folder: of the grid
    :raises UserError: if it cannot be written there
    """
    try:
        to.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            with whole(to / name) as partial:
                shutil.copyfile(folder / name, partial)
        write_grid(grid, file, to)
    except OSError as error:
        raise UserError(f"--export: cannot write to {to}: {error.strerror}.") from error
