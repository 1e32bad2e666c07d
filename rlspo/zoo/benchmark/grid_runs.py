"""Runs of a grid: one training and its evaluations, in a folder of their own; what is done is read from the folder alone.

A run's folder is ``AGENT/ENV/seed_K/``. It holds ``run/``, an ordinary run folder; ``cell.json``, written when the training
is whole, with its learning curve; ``evaluation_NAME.json``, each written when that evaluation is whole; and ``log.txt``. These
JSON files appear under their names only when complete, so whatever ends a process, a half result is never read. They are all
that tables need: without ``run/`` they may be kept or sent.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlspo.zoo.config.atomic import write_text
from rlspo.zoo.config.convert import merged
from rlspo.zoo.runs.evaluation_log import DamagedFile

#: What the files of a run always hold.
_OF_RECORD = ("settings", "n_timesteps", "seconds", "versions")
_OF_EVALUATION = ("settings", "seconds", "summary", "episodes")
#: Stands for a key that is not there.
_ABSENT = "absent"


@dataclass(frozen=True)
class GridRunFolder:
    """Where everything of one run lies.

    :param path: the folder
    """

    path: Path

    @property
    def run_folder(self) -> Path:
        """The run folder."""
        return self.path / "run"

    @property
    def record(self) -> Path:
        """What was trained and how; there only when the training is whole."""
        return self.path / "cell.json"

    @property
    def log(self) -> Path:
        """What the run's process said."""
        return self.path / "log.txt"

    def evaluation(self, name: str) -> Path:
        """The episodes of one evaluation; there only when it is whole."""
        return self.path / f"evaluation_{name}.json"

    def clear(self) -> None:
        """Remove everything, the marks of completeness first."""
        self.record.unlink(missing_ok=True)
        for file in self.path.glob("evaluation_*.json"):
            file.unlink()
        shutil.rmtree(self.path, ignore_errors=True)


@dataclass(frozen=True)
class GridRun:
    """One agent on one environment with one seed.

    :param agent: its name in the grid
    :param env: its name in the grid
    :param folder: of the run
    :param command: arguments of ``rlspo train`` that do this training again
    :param settings: everything that decides what the training gives, plain data
    :param evaluations: by name, everything that decides what each one gives, plain data
    :param n_timesteps: steps to train
    :param defaults: of settings, by the same keys
    """

    agent: str
    env: str
    seed: int
    folder: GridRunFolder
    command: tuple[str, ...]
    settings: dict[str, Any]
    evaluations: dict[str, dict[str, Any]]
    n_timesteps: int
    defaults: dict[str, Any]

    @property
    def key(self) -> str:
        """``AGENT/ENV/SEED``, as ``--only`` takes it."""
        return f"{self.agent}/{self.folder.path.parent.name}/{self.seed}"

    def standing(self) -> Standing:
        """What of the run is there, and whether it is what the grid asks for."""
        try:
            record = self.record()
        except DamagedFile as error:
            return Standing(False, tuple(self.evaluations), (), (str(error),))
        if record is None:
            return Standing(False, tuple(self.evaluations), ())
        stale = self.training_changes(record)
        missing, damaged = [], []
        for name in self.evaluations:
            try:
                done = self.evaluation(name)
            except DamagedFile as error:
                damaged.append(str(error))
                continue
            if done is None:
                missing.append(name)
            else:
                stale += [f"{name}: {text}" for text in self.evaluation_changes(name, done)]
        return Standing(True, tuple(missing), tuple(stale), tuple(damaged))

    def record(self) -> dict[str, Any] | None:
        """What was trained and how; None if the training is not whole.

        :raises DamagedFile: if it cannot be read, or is another run's
        """
        return self._read(self.folder.record, _OF_RECORD, lambda data: data)

    def evaluation(self, name: str) -> dict[str, Any] | None:
        """What came of an evaluation; None if it is not whole.

        :raises DamagedFile: if it cannot be read, or is another run's
        """
        return self._read(self.folder.evaluation(name), _OF_EVALUATION, lambda data: data.get("of", {}))

    def _read(self, file: Path, keys: Collection[str], owner: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
        """A file of this run.

        :param keys: that it must have
        :param owner: from its content to where agent, environment and seed stand; files of earlier versions do not tell
        """
        data = read_json(file)
        if data is None:
            return None
        missing = sorted(set(keys) - data.keys())
        if missing:
            raise DamagedFile(f"{file} is damaged: it has no {', '.join(missing)}.")
        told = owner(data)
        own = {"agent": self.agent, "env": self.env, "seed": self.seed}
        other = [f"{key} {told[key]}, not {value}" for key, value in own.items() if told.get(key, value) != value]
        if other:
            raise DamagedFile(f"{file} belongs to another run: {'; '.join(other)}.")
        return data

    def training_changes(self, record: Mapping[str, Any]) -> list[str]:
        """How the settings of a training that was done differ from the grid's.

        A setting that did not exist then had the value that is its default now: a new option, left alone, changes nothing.
        """
        before = merged(plain_json(self.defaults), record["settings"])
        if isinstance(before.get("seeds"), dict):  # earlier versions recorded what they derived from it
            before["seeds"] = {"seed": before["seeds"].get("seed")}
        if "native" not in before:  # earlier versions had it in the command only, where it was said
            said = _vec_env(shlex.split(record.get("command", "")))
            same = said in (None, _vec_env(self.command))
            before["native"] = self.settings.get("native") if same else said == "native"
        return differences(before, plain_json(self.settings))

    def evaluation_changes(self, name: str, done: Mapping[str, Any]) -> list[str]:
        """How the settings of an evaluation that was done differ from the grid's."""
        return differences(done["settings"], plain_json(self.evaluations[name]))


@dataclass(frozen=True)
class Standing:
    """How far a run is.

    :param trained: whether its training is whole
    :param missing: evaluations that are still to be done
    :param stale: how the settings of what is there differ from the grid's; empty if they do not
    :param damaged: which files cannot be read, and why
    """

    trained: bool
    missing: tuple[str, ...]
    stale: tuple[str, ...]
    damaged: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return self.trained and not self.missing and not self.stale and not self.damaged

    @property
    def word(self) -> str:
        """``damaged``, ``stale``, ``done``, ``trained`` or ``missing``."""
        if self.damaged:
            return "damaged"
        if self.stale:
            return "stale"
        return "done" if self.complete else "trained" if self.trained else "missing"


def _vec_env(words: Sequence[str]) -> str | None:
    """What a command says of how environments are stepped."""
    return words[words.index("--vec-env") + 1] if "--vec-env" in words else None


def plain_json(data: Any) -> Any:
    """Data as it comes back from a JSON file.

    >>> plain_json({"a": (1, 2)})
    {'a': [1, 2]}
    """
    return json.loads(json.dumps(data))


def fingerprint(settings: Mapping[str, Any]) -> str:
    """A short mark that differs where settings differ."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def differences(before: Any, now: Any, place: str = "") -> list[str]:
    """Where two pieces of plain data differ, in words.

    >>> differences({"agent": {"gamma": 0.99, "n_steps": 8}}, {"agent": {"gamma": 0.9, "n_steps": 8}})
    ['agent.gamma: 0.99 -> 0.9']
    """
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted({*before, *now})
        inside = f"{place}." if place else ""
        return [
            text for key in keys for text in differences(before.get(key, _ABSENT), now.get(key, _ABSENT), f"{inside}{key}")
        ]
    return [] if before == now else [f"{place}: {before} -> {now}"]


def read_json(file: Path) -> Any:
    """The mapping in a JSON file, None if it is not there.

    :raises DamagedFile: if it cannot be read
    """
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DamagedFile(f"{file} is damaged: {error}.") from error
    if not isinstance(data, dict):
        raise DamagedFile(f"{file} is damaged: it holds no mapping.")
    return data


def write_json(file: Path, data: Any) -> None:
    """Write a file whole or not at all; it is on the disk before it has its name."""
    write_text(file, json.dumps(data, indent=2) + "\n")
