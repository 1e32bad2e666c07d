"""The folder of a run: ``logs/ALGO/ENV_N/``, and the records from which the run can be understood and repeated."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import rlspo
from rlspo.zoo.config import yaml_io
from rlspo.zoo.config.atomic import read_whole
from rlspo.zoo.config.ownership import TOKEN
from rlspo.zoo.config.schema import RunConfig
from rlspo.zoo.errors import UserError

_PACKAGES = ("rlspo", "stable-baselines3", "gymnasium", "torch", "numpy", "mujoco", "ale-py")


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run.

    :param path: the folder
    :param tensorboard: where the TensorBoard log goes, inside the folder unless the user chose otherwise
    :param made: folders above that did not exist before, innermost first
    :param was_there: an empty folder of the user's
    """

    path: Path
    tensorboard: Path
    made: tuple[Path, ...] = ()
    was_there: bool = False

    @classmethod
    def create(
        cls, log_folder: Path, algo: str, env_id: str, tensorboard: Path | None = None, unique: bool = False
    ) -> RunFolder:
        """Make the next free folder; runs that start at the same moment get different ones.

        :param log_folder: the folder of all runs
        :param tensorboard: another place for the TensorBoard log
        :param unique: end the name in a UUID, for disks on which creating a folder is not atomic
        :raises UserError: if the folder cannot be made
        """
        name = env_id.rpartition(":")[2].replace("/", "-")
        parent = log_folder / algo
        made = tuple(folder for folder in (parent, log_folder) if not folder.exists())
        try:
            parent.mkdir(parents=True, exist_ok=True)
            number = max((found for entry in parent.glob(f"{name}_*") if (found := number_of(entry, name))), default=0)
            while True:
                number += 1
                path = parent / (f"{name}_{number}_{uuid.uuid4()}" if unique else f"{name}_{number}")
                try:
                    path.mkdir()
                except FileExistsError:
                    continue
                return cls(path, tensorboard if tensorboard is not None else path / "tensorboard", made)
        except OSError as error:
            raise UserError(f"--log-folder: cannot make a folder in {parent}: {error.strerror}.") from error

    @classmethod
    def at(cls, path: Path, tensorboard: Path | None = None) -> RunFolder:
        """Make exactly this folder.

        :raises UserError: if it cannot be made, or holds anything already
        """
        made, was_there = tuple(parent for parent in path.parents if not parent.exists()), path.exists()
        try:
            path.mkdir(parents=True, exist_ok=True)
            taken = any(path.iterdir())
            if not taken:
                (path / TOKEN).open("x").close()  # of two runs that start at the same moment one has it
        except FileExistsError:
            taken = True
        except OSError as error:
            raise UserError(f"--run-folder: cannot make {path}: {error.strerror}.") from error
        if taken:
            raise UserError(f"--run-folder: {path} is not empty; nothing is overwritten. Name another, or remove it.")
        return cls(path, tensorboard if tensorboard is not None else path / "tensorboard", made, was_there)

    @classmethod
    def existing(cls, path: Path) -> RunFolder:
        """The folder of a run in progress or finished."""
        return cls(path, path / "tensorboard")

    def discard(self) -> None:
        """Remove the folder of a run that never began to train."""
        for inside in self.path.iterdir() if self.was_there else [self.path]:
            if inside.is_dir():
                shutil.rmtree(inside, ignore_errors=True)
            else:
                inside.unlink(missing_ok=True)
        for folder in self.made:
            with contextlib.suppress(OSError):
                folder.rmdir()  # succeeds only where empty: other runs stay

    @property
    def config(self) -> Path:
        """Every setting."""
        return self.path / "config.yml"

    @property
    def status(self) -> Path:
        """The progress of the run, for other programs."""
        return self.path / "status.json"

    @property
    def last_model(self) -> Path:
        """The agent as training left it."""
        return self.path / "last_model.zip"

    @property
    def best_model(self) -> Path:
        """The agent with the highest mean return in an evaluation during training."""
        return self.path / "best_model.zip"

    @property
    def checkpoints(self) -> Path:
        """Agents saved on the way."""
        return self.path / "checkpoints"

    @property
    def evaluations(self) -> Path:
        """Returns of the evaluations during training."""
        return self.path / "evaluations.npz"

    @property
    def learning_curve(self) -> Path:
        """The plot of the returns over training."""
        return self.path / "learning_curve.png"

    @property
    def report(self) -> Path:
        """The report after training: natural return and returns under attack."""
        return self.path / "report.json"

    @property
    def video(self) -> Path:
        """The video of the agent."""
        return self.path / "video.mp4"

    @property
    def replay_buffer(self) -> Path:
        """The replay buffer of the last model, where it was to be kept."""
        return self.path / "replay_buffer.pkl"

    @property
    def traceback(self) -> Path:
        """The traceback, where training failed."""
        return self.path / "traceback.txt"

    def statistics_of(self, model: Path) -> Path:
        """The file with the statistics of ``VecNormalize`` that belong to a model, for runs that use it."""
        return model.with_name(model.stem + "_vecnormalize.pkl")

    def record(self, config: RunConfig, args: dict[str, Any], command: str) -> None:
        """Write the records of this run.

        :param config: every setting
        :param args: the command line as parsed
        :param command: the command line as typed
        """
        config.write(self.config)
        yaml_io.write(self.path / "args.yml", args, comment="The command line, defaults included.")
        (self.path / "command.txt").write_text(command + "\n", encoding="utf-8")
        versions = json.dumps(environment_record(), indent=2)
        (self.path / "versions.json").write_text(versions + "\n", encoding="utf-8")


def read_status(folder: RunFolder) -> dict[str, Any] | None:
    """``status.json``, with the state ``"killed"`` for a run whose state is running and whose process has ended.

    :return: None where it is not there, or not whole
    """
    status = read_whole(folder.status)
    here = status is not None and status.get("state") == "running" and status.get("host") == platform.node()
    if status is not None and here and os.name == "posix":  # on Windows this very call would send a Ctrl-C
        try:
            os.kill(int(status["pid"]), 0)
        except ProcessLookupError:
            status["state"] = "killed"
        except (PermissionError, KeyError, TypeError, ValueError):
            pass  # it is running, or this cannot be found out
    return status


def number_of(folder: Path, name: str) -> int | None:
    """The number of a run folder, None for a folder of another name.

    >>> number_of(Path("logs/ppo/CartPole-v1_3"), "CartPole-v1")
    3
    """
    found = re.fullmatch(rf"{re.escape(name)}_(\d+)(_[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}})?", folder.name)
    return int(found[1]) if found else None


def command_line(arguments: Sequence[str], command: str = "train") -> str:
    """The command, quoted for a shell: as typed where the arguments were typed, else one that does the same.

    >>> command_line(["--env", "My Env-v0"])
    "python -m rlspo.zoo.train --env 'My Env-v0'"
    """
    given = list(arguments)
    if given and sys.orig_argv[-len(given) :] == given:
        return shlex.join(sys.orig_argv)
    return shlex.join(["python", "-m", f"rlspo.zoo.{command}", *given])


def environment_record() -> dict[str, Any]:
    """Versions, platform and git commits, as plain data; None for what is not installed or not in git."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "git": {"rlspo": _code(), "working directory": _git_state(Path.cwd())},
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
    }


def _version(package: str) -> str | None:
    """Installed version."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def code_state() -> str:
    """The commit of rlspo's code, ``-dirty`` where it has changes since; its version where it is not in git."""
    state = _code()
    if state is None:
        return f"rlspo {version('rlspo')}"
    return state["commit"][:7] + ("-dirty" if state["dirty"] else "")


@functools.cache  # loaded code does not change with its files
def _code() -> dict[str, Any] | None:
    """State of rlspo's code. Changes in results, docs and hyperparameters, which are in the same repository, do not count."""
    return _git_state(Path(rlspo.__file__).parent, ".", ":(top)envs")


def _git_state(folder: Path, *counted: str) -> dict[str, Any] | None:
    """Commit that a folder is at, and whether it has changes; None where git does not track it.

    :param counted: paths whose changes count, as git's pathspecs; none for all
    """
    tracked = _git(folder, "ls-files", "--error-unmatch", ".")
    commit = _git(folder, "rev-parse", "HEAD")
    if not tracked or commit is None:
        return None
    return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain", "--", *counted))}


def _git(folder: Path, *arguments: str) -> str | None:
    """Output of git, or None where it fails or is not installed."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
