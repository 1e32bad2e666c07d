"""The training episodes of a run, as SB3's ``Monitor`` wrote them."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.monitor import Monitor, ResultsWriter

from rlspo.zoo import display
from rlspo.zoo.patience import PatientFile

_NAME = re.compile(r"(\d+\.)?monitor\.csv")


def be_patient(env: gym.Env) -> None:
    """Let a ``Monitor`` with a file wait where it cannot write, rather than end the training."""
    if isinstance(env, Monitor) and env.results_writer is not None:
        patient(env.results_writer)


def patient(writer: ResultsWriter) -> ResultsWriter:
    """Let a writer of episodes keep what it cannot write now."""
    writer.file_handler.close()
    file: Any = PatientFile(Path(writer.file_handler.name))
    writer.file_handler = file
    writer.logger = csv.DictWriter(file, fieldnames=writer.logger.fieldnames)
    return writer


@dataclass(frozen=True)
class Episodes:
    """Episodes of all training environments, in the order in which they ended; all arrays ``(n_episodes,)``.

    :param steps: over all environments at the end of each
    :param seconds: since training began
    :param returns: undiscounted; NaN for what is no finite number
    """

    steps: np.ndarray
    seconds: np.ndarray
    returns: np.ndarray

    def seconds_at(self, steps: np.ndarray) -> np.ndarray:
        """When training had come this far; beyond the last episode at the pace until then. NaN without episodes.

        :param steps: over all environments, ``(n,)``
        """
        if len(self.steps) == 0:
            return np.full(len(steps), np.nan)
        last = len(self.steps) - 1 - np.unique(self.steps[::-1], return_index=True)[1]  # where episodes ended together
        known, seconds = np.array([0, *self.steps[last]]), np.array([0, *self.seconds[last]])
        beyond = seconds[-1] * np.asarray(steps) / known[-1]
        return np.where(steps > known[-1], beyond, np.interp(steps, known, seconds))

    def episodes_at(self, steps: np.ndarray) -> np.ndarray:
        """How many episodes had ended by then.

        :param steps: over all environments, ``(n,)``
        """
        if len(self.steps) == 0:
            return np.full(len(steps), np.nan)
        return np.searchsorted(self.steps, steps, side="right").astype(float)


def monitor_files(folder: Path) -> list[Path]:
    """``0.monitor.csv``, ``1.monitor.csv``, ... or ``monitor.csv``, one for each training environment."""
    return sorted(file for file in folder.glob("*monitor.csv") if _NAME.fullmatch(file.name))


def env_id(folder: Path) -> str | None:
    """The environment that the files name."""
    for file in monitor_files(folder):
        found = _header(file).get("env_id")
        if found not in (None, "None"):
            return str(found)
    return None


def read_episodes(folder: Path) -> Episodes:
    """Read all files of a run.

    The environments of a run step together, so at the end of an episode the steps over all of them are those of its own
    environment times their number.
    """
    files = monitor_files(folder)
    tables = []
    for file in files:
        rows = _each_once(file, np.array(list(_rows(file)), dtype=float).reshape(-1, 3))
        returns, lengths, seconds = rows.T
        tables.append(np.stack([lengths.cumsum() * len(files), seconds + _began(file), returns], axis=1))
    if not tables:
        return Episodes(*np.empty((3, 0)))
    table = np.concatenate(tables)
    table = table[np.lexsort((table[:, 1], table[:, 0]))]
    returns = np.where(np.isfinite(table[:, 2]), table[:, 2], np.nan)
    return Episodes(table[:, 0], table[:, 1] - min(map(_began, files)), returns)


def _header(file: Path) -> dict[str, object]:
    """What the first line says; nothing where it says nothing."""
    with file.open(encoding="utf-8", errors="replace") as lines:
        first = lines.readline().removeprefix("#")
    try:
        data = json.loads(first)
    except json.JSONDecodeError:
        return {}
    return data if isinstance(data, dict) else {}


def _each_once(file: Path, rows: np.ndarray) -> np.ndarray:
    """Rows without those that stand there twice, of which the user is told.

    An environment cannot end two episodes in the same microsecond; copies that step at once (``n_envs`` in the header) can.
    """
    if len(rows) == 0 or _header(file).get("n_envs", 1) != 1:
        return rows
    _, first = np.unique(rows, axis=0, return_index=True)
    if len(first) < len(rows):
        display.note(f"{file}: {len(rows) - len(first)} lines stand there more than once, and are counted once.")
    return rows[np.sort(first)]


def _began(file: Path) -> float:
    """When its clock was at 0, in seconds."""
    began = _header(file).get("t_start")
    return float(began) if isinstance(began, int | float) else 0.0


def _rows(file: Path) -> Iterator[tuple[float, float, float]]:
    """Return, length and time of each episode; a line that is still being written is left out."""
    with file.open(newline="", encoding="utf-8", errors="replace") as lines:
        rows = csv.reader(line for line in lines if not line.startswith("#"))
        names = next(rows, [])
        try:
            places = [names.index(name) for name in ("r", "l", "t")]
        except ValueError:
            return
        for row in rows:
            if len(row) == len(names):
                try:
                    yield float(row[places[0]]), float(row[places[1]]), float(row[places[2]])
                except ValueError:
                    continue
