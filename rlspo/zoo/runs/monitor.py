"""The training episodes of a run, as stable-baselines3's ``Monitor`` wrote them."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlspo.zoo.cli import terminal
from rlspo.zoo.config import yaml_io
from rlspo.zoo.errors import UserError

_NAME = re.compile(r"(\d+\.)?monitor\.csv")
#: Wrappers that play several frames in a step, and how they name the number; 4 by default.
SKIPS = {
    "AtariWrapper": "frame_skip",
    "AtariPreprocessing": "frame_skip",
    "MaxAndSkipEnv": "skip",
    "MaxAndSkipObservation": "skip",
    "RepeatAction": "num_repeats",
}


@dataclass(frozen=True)
class TrainingEpisodes:
    """Episodes of all training environments, in the order in which they ended; all arrays ``(n_episodes,)``.

    :param steps: over all environments at the end of each, those of the run that this one continues included
    :param seconds: since this training began
    :param returns: undiscounted; NaN for what is not a finite number
    :param lengths: in steps of the environment
    :param successes: 1.0 or 0.0; NaN where the environment does not report it, or ``Monitor`` does not record ``is_success``
    :param before: steps that the agent had when this training began
    """

    steps: np.ndarray
    seconds: np.ndarray
    returns: np.ndarray
    lengths: np.ndarray
    successes: np.ndarray
    before: int = 0

    def seconds_at(self, steps: np.ndarray) -> np.ndarray:
        """Seconds after which training had come this far; beyond the last episode extrapolated. NaN without episodes.

        :param steps: over all environments, ``(n,)``
        """
        if len(self.steps) == 0:
            return np.full(len(steps), np.nan)
        last = len(self.steps) - 1 - np.unique(self.steps[::-1], return_index=True)[1]  # where episodes ended together
        known, seconds = np.array([self.before, *self.steps[last]]), np.array([0, *self.seconds[last]])
        beyond = seconds[-1] * (np.asarray(steps) - self.before) / (known[-1] - self.before)
        return np.where(steps > known[-1], beyond, np.interp(steps, known, seconds))

    def episodes_at(self, steps: np.ndarray) -> np.ndarray:
        """Number of episodes that had ended by then.

        :param steps: over all environments, ``(n,)``
        """
        if len(self.steps) == 0:
            return np.full(len(steps), np.nan)
        return np.searchsorted(self.steps, steps, side="right").astype(float)


def monitor_files(folder: Path) -> list[Path]:
    """``0.monitor.csv``, ``1.monitor.csv``, ... or ``monitor.csv``, one for each training environment."""
    return sorted(file for file in folder.glob("*monitor.csv") if _NAME.fullmatch(file.name))


def env_id(folder: Path) -> str | None:
    """The environment's id in the headers of the files."""
    for file in monitor_files(folder):
        found = _header(file).get("env_id")
        if found not in (None, "None"):
            return str(found)
    return None


def steps_before(folder: Path) -> int:
    """Steps that the agent of a run had when its training began: 0 unless it continues a saved agent (``-i``)."""
    with contextlib.suppress(UserError, OSError, ValueError, TypeError, KeyError, AttributeError):
        config = yaml_io.read_mapping(folder / "config.yml")
        if config.get("trained_agent") is None:
            return 0
        if "steps_before" in config:
            return max(int(config["steps_before"]), 0)
        status = json.loads((folder / "status.json").read_text(encoding="utf-8"))  # of a run of an earlier version
        return max(int(status["total"]) - int(config["settings"]["n_timesteps"]), 0)
    return 0


def frames_per_step(folder: Path) -> int:
    """How many of a Monitor's steps one of the agent's takes: Monitor is innermost, and wrappers for games skip frames."""
    with contextlib.suppress(UserError, OSError, ValueError, TypeError, KeyError, AttributeError):
        wrappers = yaml_io.read_mapping(folder / "config.yml")["settings"]["env_wrapper"]
        listed = wrappers if isinstance(wrappers, list) else [wrappers]
        pieces = [piece for one in listed for piece in (one.items() if isinstance(one, dict) else [(one, {})])]
        named = [(SKIPS.get(str(path).rpartition(".")[2]), given or {}) for path, given in pieces]
        return math.prod(max(int(given.get(name, 4)), 1) for name, given in named if name is not None)
    return 1


def read_episodes(folder: Path) -> TrainingEpisodes:
    """Read all files of a run.

    The environments of a run step together, so at the end of an episode the steps over all of them are those of its own
    environment times their number. Those that write into one file say which of them an episode is of. Where the agent
    decides every few frames, lengths are in frames, and steps in decisions (to a few steps: games begin with idle frames).
    """
    files = monitor_files(folder)
    tables, skip = [], frames_per_step(folder)
    for file in files:
        rows = _each_once(file, np.array(list(_rows(file)), dtype=float).reshape(-1, 5))
        returns, lengths, seconds, successes, copies = rows.T
        steps = lengths.cumsum() / skip * len(files)
        if len(rows) and not np.isnan(copies).any():
            for copy in np.unique(copies):
                own = copies == copy
                steps[own] = lengths[own].cumsum() / skip * float(str(_header(file).get("n_envs", 1)))
        tables.append(np.stack([steps, seconds + _began(file), returns, lengths, successes], axis=1))
    before = steps_before(folder)
    if not tables:
        nothing = np.empty(0)
        return TrainingEpisodes(nothing, nothing, nothing, nothing, nothing, before)
    table = np.concatenate(tables)
    steps, seconds, returns, lengths, successes = table[np.lexsort((table[:, 1], table[:, 0]))].T
    returns = np.where(np.isfinite(returns), returns, np.nan)
    return TrainingEpisodes(steps + before, seconds - min(map(_began, files)), returns, lengths, successes, before)


def _header(file: Path) -> dict[str, object]:
    """The header in the first line; empty where there is none."""
    with file.open(encoding="utf-8", errors="replace") as lines:
        first = lines.readline().removeprefix("#")
    try:
        data = json.loads(first)
    except json.JSONDecodeError:
        return {}
    return data if isinstance(data, dict) else {}


def _each_once(file: Path, rows: np.ndarray) -> np.ndarray:
    """Rows without duplicates; a note reports how many there were.

    An environment cannot end two episodes in the same microsecond; copies that step at once (``n_envs`` in the header) can.
    """
    if len(rows) == 0 or _header(file).get("n_envs", 1) != 1:
        return rows
    _, first = np.unique(rows[:, :3], axis=0, return_index=True)
    if len(first) < len(rows):
        terminal.note(f"{file}: {len(rows) - len(first)} lines are duplicates, and are counted once.")
    return rows[np.sort(first)]


def _began(file: Path) -> float:
    """Time at which the file was begun, in seconds."""
    began = _header(file).get("t_start")
    return float(began) if isinstance(began, int | float) else 0.0


def _rows(file: Path) -> Iterator[tuple[float, ...]]:
    """Return, length, time, success and copy (NaN: not said) of each episode; a line that is being written is left out."""
    with file.open(newline="", encoding="utf-8", errors="replace") as lines:
        rows = csv.reader(line for line in lines if not line.startswith("#"))
        names = next(rows, [])
        if not {"r", "l", "t"} <= {*names}:
            return
        for row in rows:
            if len(row) == len(names):
                of = dict(zip(names, row, strict=True))
                try:
                    copy = float(of.get("copy") or "nan")
                    yield float(of["r"]), float(of["l"]), float(of["t"]), _success(of.get("is_success", "")), copy
                except ValueError:
                    continue


def _success(text: str) -> float:
    """As ``Monitor`` writes it: a truth value, or a number."""
    if text in ("True", "False"):
        return float(text == "True")
    try:
        return float(text)
    except ValueError:
        return np.nan
