"""Running the cells of a grid, some at a time, each in a process of its own."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlspo.zoo.benchmark.jobs import Cell
from rlspo.zoo.benchmark.progress import Progress, Watcher
from rlspo.zoo.errors import UserError
from rlspo.zoo.runs.folder import RunFolder

_LOOK_EVERY = 0.25  # seconds
#: Seconds without a sign of life after which a cell is given up: nothing in its status, its log, or its evaluations.
_SILENCE = {"training": 3600.0, "evaluating": 6 * 3600.0}
_GRACE = 10.0  # seconds for the processes of a parent that was just killed to end
_TAIL = 12  # lines of a log


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[int]:
    """Keep a second program out of the folder of a grid.

    The cells' processes inherit the lock, so it is held as long as any of them lives, even if their parent was killed.

    :return: file descriptor of the lock
    :raises UserError: if somebody works there
    """
    with (folder / "lock").open("w") as file:
        deadline = time.monotonic() + _GRACE
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() > deadline or _owner_lives(folder):
                    raise UserError(
                        f"{folder}: another rlspo benchmark is at work there. Wait for it, stop it, or name another "
                        "folder: -o DIR. To see what it has so far: --report"
                    ) from error
                time.sleep(0.2)
        with contextlib.suppress(OSError):  # of a full disk; it only helps to tell who is at work
            (folder / "lock.pid").write_text(str(os.getpid()))
        yield file.fileno()


def _owner_lives(folder: Path) -> bool:
    """Whether the parent that took the lock is still there."""
    with contextlib.suppress(OSError, ValueError):
        os.kill(int((folder / "lock.pid").read_text()), 0)
        return True
    return False


@dataclass
class _Running:
    """A cell whose process is alive.

    :param signs: when its files were last changed
    :param heard: when that was seen
    """

    cell: Cell
    process: subprocess.Popen[str]
    started: float = field(default_factory=time.monotonic)
    signs: list[float] = field(default_factory=list)
    heard: float = field(default_factory=time.monotonic)

    def silent(self) -> float:
        """Seconds without a sign of life."""
        folder = self.cell.folder
        files = [RunFolder.existing(folder.run).status, folder.log, *map(folder.evaluation, self.cell.evaluations)]
        signs = [file.stat().st_mtime for file in files if file.is_file()]
        if signs != self.signs:
            self.signs, self.heard = signs, time.monotonic()
        return time.monotonic() - self.heard


class Runner:
    """Runs cells.

    :param cells: in the order in which they are to run
    :param progress: of every cell of the grid, by its key; kept up to date
    :param watcher: is told
    :param lock: file descriptor that the processes inherit
    :param device: to train on
    """

    def __init__(
        self, cells: Sequence[Cell], progress: dict[str, Progress], watcher: Watcher, lock: int, device: str = "auto"
    ) -> None:
        self.waiting = list(cells)
        self.progress, self.watcher, self.lock, self.device = progress, watcher, lock, device
        self.running: list[_Running] = []

    def run(self, jobs: int) -> None:
        """Run all, ``jobs`` at a time. Whatever ends this ends the cells that are under way too."""
        try:
            while self.waiting or self.running:
                while self.waiting and len(self.running) < jobs:
                    cell = self.waiting.pop(0)
                    try:
                        self._start(cell)
                    except OSError as error:  # of a full disk, or a system that gives no more processes
                        self._fail(cell, f"it cannot be started: {error}")
                time.sleep(_LOOK_EVERY)
                for each in list(self.running):
                    self._look_at(each)
                self.watcher.look()
        finally:
            for each in self.running:
                _kill(each.process)

    def _start(self, cell: Cell) -> None:
        """Begin a cell: from scratch, unless its training is whole."""
        standing = cell.standing()
        if not standing.trained:
            cell.folder.clear()
        cell.folder.path.mkdir(parents=True, exist_ok=True)
        job = {
            "folder": str(cell.folder.path),
            "command": cell.command,
            "settings": cell.settings,
            "about": {"agent": cell.agent, "env": cell.env, "seed": cell.seed},
            "evaluations": {name: cell.evaluations[name] for name in standing.missing},
            "device": self.device,
        }
        with cell.folder.log.open("a", encoding="utf-8") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "rlspo.zoo.benchmark.worker"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                pass_fds=[self.lock],
                start_new_session=True,  # a Ctrl-C in the terminal reaches the parent only
            )
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # of a process that ended at once; how it ended is looked at later
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
        self.running.append(_Running(cell, process))
        self._enter(cell, "evaluating" if standing.trained else "training")

    def _look_at(self, each: _Running) -> None:
        """See how far a cell is, and whether it is over."""
        cell, progress = each.cell, self.progress[each.cell.key]
        code = each.process.poll()
        progress.seconds = time.monotonic() - each.started
        progress.read(cell)
        if code is not None:
            self.running.remove(each)
            _kill(each.process)  # what it may have left behind
            if code == 0 and cell.standing().complete:
                self._enter(cell, "done")
            else:
                self._fail(cell, _reason(code, cell))
        elif each.silent() > _SILENCE[progress.state]:
            self.running.remove(each)
            _kill(each.process)
            self._fail(cell, f"it hangs: no sign of life for {each.silent() / 60:.0f} min\n{_end_of_log(cell)}")
        elif progress.state == "training" and cell.folder.record.is_file():
            self._enter(cell, "evaluating")

    def _fail(self, cell: Cell, reason: str) -> None:
        self.progress[cell.key].reason = reason
        self._enter(cell, "failed")

    def _enter(self, cell: Cell, state: str) -> None:
        self.progress[cell.key].state = state
        self.watcher.changed(cell, self.progress[cell.key])


def _kill(process: subprocess.Popen[Any]) -> None:
    """End a process and whatever it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def _reason(code: int, cell: Cell) -> str:
    """How a cell ended that is not done: exit code or signal, and the last lines of its log."""
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"{how}\n{_end_of_log(cell)}"


def _end_of_log(cell: Cell) -> str:
    """The last lines that a cell's process wrote."""
    try:
        lines = cell.folder.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError as error:
        return f"{cell.folder.log} cannot be read: {error}"
    return "\n".join([f"the end of {cell.folder.log}:", *(f"  {line}" for line in lines[-_TAIL:])])
