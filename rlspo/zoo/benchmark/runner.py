"""Doing the runs of a grid, some at a time, each in a process of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rlspo.zoo.benchmark.grid_runs import GridRun
from rlspo.zoo.benchmark.progress import Progress, Watcher
from rlspo.zoo.benchmark.worker import Job, work
from rlspo.zoo.errors import UserError
from rlspo.zoo.jobs import lock
from rlspo.zoo.jobs.pool import Died, Failed, Finished, Pool, Worker
from rlspo.zoo.runs.folder import RunFolder

#: Seconds without a sign of life after which a run is given up: nothing in its status, its log, or its evaluations.
_SILENCE = {"training": 3600.0, "evaluating": 6 * 3600.0}
_TAIL = 12  # lines of a log
# A fresh interpreter for each run, so that its numbers are those of ``rlspo train`` with one thread.
_CONTEXT = multiprocessing.get_context("spawn")


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Keep a second program out of the folder of a grid; runs whose parent was killed hold it until they have ended.

    :raises rlspo.zoo.jobs.lock.AtWork: if somebody works there
    """
    refusal = (
        f"{folder}: another rlspo benchmark is at work there. Wait for it, stop it, or name another folder: -o DIR. "
        "To see what it has so far: --report"
    )
    with lock.only_one(folder, refusal):
        with contextlib.suppress(OSError):  # of a full disk; it only helps to tell who is at work
            (folder / "lock.pid").write_text(str(os.getpid()))
        yield


class Runner:
    """Trains and evaluates the runs of a grid.

    :param runs: in the order in which they are to be done
    :param progress: of every run of the grid, by its key; kept up to date
    :param watcher: is told
    :param folder: of the grid, which :func:`only_one` keeps others out of
    :param device: to train on
    """

    def __init__(
        self, runs: Sequence[GridRun], progress: dict[str, Progress], watcher: Watcher, folder: Path, device: str = "auto"
    ) -> None:
        self.waiting = list(runs)
        self.progress, self.watcher, self.folder, self.device = progress, watcher, folder, device
        self._signs: dict[str, list[float]] = {}  # when the files of each run were last changed

    def run(self, jobs: int) -> None:
        """Run all, ``jobs`` at a time. Whatever ends this ends the runs that are under way too."""
        pool = Pool(jobs)
        with contextlib.closing(pool.run(lambda: self._next(pool), self._look_at)) as told:
            for worker, message in told:
                self._end(worker, message)

    def _next(self, pool: Pool) -> Worker | None:
        while self.waiting:
            run = self.waiting.pop(0)
            try:
                return self._start(run, pool)
            except (OSError, UserError) as error:  # of a full disk, or a system that gives no more processes
                self._fail(run, f"it cannot be started: {error}")
        return None

    def _start(self, run: GridRun, pool: Pool) -> Worker:
        """Begin a run: from scratch, unless its training is whole."""
        standing = run.standing()
        if not standing.trained:
            run.folder.clear()
        run.folder.path.mkdir(parents=True, exist_ok=True)
        run.folder.log.touch()  # a full disk is noticed here
        job = Job(
            grid=self.folder,
            folder=run.folder.path,
            command=[*run.command],
            settings=run.settings,
            about={"agent": run.agent, "env": run.env, "seed": run.seed},
            evaluations={name: run.evaluations[name] for name in standing.missing},
            device=self.device,
        )
        state = "evaluating" if standing.trained else "training"
        with _one_thread():
            worker = pool.start(_CONTEXT, run, work, job, _SILENCE[state])
        self._enter(run, state)
        return worker

    def _look_at(self, worker: Worker) -> None:
        """See how far a run is."""
        self._read(worker)
        run: GridRun = worker.key
        progress = self.progress[run.key]
        if progress.state == "training" and run.folder.record.is_file():
            self._enter(run, "evaluating")
        worker.patience = _SILENCE[progress.state]
        signs = _signs(run)
        if signs != self._signs.get(run.key):
            self._signs[run.key], worker.heard = signs, time.monotonic()
        self.watcher.look()

    def _read(self, worker: Worker) -> None:
        progress = self.progress[worker.key.key]
        progress.seconds = time.monotonic() - worker.started
        progress.read(worker.key)

    def _end(self, worker: Worker, message: Finished | Failed | Died) -> None:
        """Say how a run ended: exit code or signal, and the last lines of its log where it is not done."""
        self._read(worker)
        run: GridRun = worker.key
        if isinstance(message, Finished) and run.standing().complete:
            self._enter(run, "done")
        else:
            reason = "its process ended without all results" if isinstance(message, Finished) else message.reason
            self._fail(run, f"{reason}\n{_end_of_log(run)}")

    def _fail(self, run: GridRun, reason: str) -> None:
        self.progress[run.key].reason = reason
        self._enter(run, "failed")

    def _enter(self, run: GridRun, state: str) -> None:
        self.progress[run.key].state = state
        self.watcher.changed(run, self.progress[run.key])


def _signs(run: GridRun) -> list[float]:
    """When the files that a run writes were last changed."""
    folder = run.folder
    files = [RunFolder.existing(folder.run_folder).status, folder.log, *map(folder.evaluation, run.evaluations)]
    return [file.stat().st_mtime for file in files if file.is_file()]


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """The environment of a process that is started in here; libraries read it when they are imported."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before


def _end_of_log(run: GridRun) -> str:
    """The last lines that a run's process wrote."""
    try:
        lines = run.folder.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError as error:
        return f"{run.folder.log} cannot be read: {error}"
    return "\n".join([f"the end of {run.folder.log}:", *(f"  {line}" for line in lines[-_TAIL:])])
