"""Trainings in processes of their own: what a worker is told, what it tells, and what happens when it dies."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from rlspo.common.env_failures import in_one_line
from rlspo.zoo.errors import UserError
from rlspo.zoo.tune.training import Abandoned, Judging, Outcome, train_seed

_REPORT_EVERY = 0.5  # seconds between messages about progress
#: Seconds without a message after which a worker counts as hanging; a step, or an evaluation, may take so long.
SILENCE = 1800.0
_STARTS = 3  # attempts to start a process
# Workers are forked, where that is possible, from a server that has imported everything and done nothing: they begin in no
# time, alike, and without the threads and locks of the program that searches.
if "forkserver" in multiprocessing.get_all_start_methods():
    multiprocessing.set_forkserver_preload(["rlspo.zoo.tune.command", "torch._dynamo"])
    _START: Callable[..., BaseProcess] = multiprocessing.get_context("forkserver").Process
else:
    _START = multiprocessing.get_context("spawn").Process


@dataclass(frozen=True)
class Job:
    """Work for one process.

    :param base: what ``rlspo train`` would have parsed
    :param overrides: settings on top of it
    :param seeds: trained one after the other
    """

    base: dict[str, Any]
    overrides: dict[str, Any]
    seeds: tuple[int, ...]
    judging: Judging


@dataclass(frozen=True)
class Progress:
    """A training goes on.

    :param steps: done with this seed
    """

    seed: int
    steps: int


@dataclass(frozen=True)
class Evaluated:
    """An evaluation on the way. As after an :class:`Outcome`, the worker waits for an answer: True to go on, False to stop."""

    seed: int
    checkpoint: int
    value: float


@dataclass(frozen=True)
class Failed:
    """Training raised something.

    :param reason: in one line
    :param trace: what Python said
    """

    reason: str
    trace: str = ""


@dataclass(frozen=True)
class Died:
    """The process is gone without having told why: killed, or out of memory.

    :param silent: it was killed, because it had told nothing for so many seconds
    """

    exit_code: int | None
    silent: float | None = None

    @property
    def reason(self) -> str:
        """In words."""
        if self.silent is not None:
            return f"its process hung: it gave no sign of life for {self.silent / 60:.0f} min"
        return f"its process ended with exit code {self.exit_code}"


@dataclass(frozen=True)
class Finished:
    """The process has done all it was told, or was stopped by an answer."""


Message = Progress | Evaluated | Outcome | Failed | Died | Finished


def _work(job: Job, pipe: Connection) -> None:
    """The life of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the parent decides
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # bars are being drawn, and --json is to be one document
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    told = time.monotonic()

    def on_step(steps: int) -> None:
        nonlocal told
        if time.monotonic() - told > _REPORT_EVERY:
            told = time.monotonic()
            if parent is not None and not parent.is_alive():
                os._exit(1)  # nobody is left to listen
            pipe.send(Progress(seed, steps))

    def on_evaluation(checkpoint: int, value: float) -> None:
        pipe.send(Evaluated(seed, checkpoint, value))
        if not pipe.recv():
            raise Abandoned

    try:
        for seed in job.seeds:
            pipe.send(train_seed(job.base, job.overrides, seed, job.judging, on_step, on_evaluation))
            if not pipe.recv():
                raise Abandoned
        pipe.send(Finished())
    except Abandoned:
        pipe.send(Finished())
    except (EOFError, BrokenPipeError):
        os._exit(1)
    except UserError as error:
        pipe.send(Failed(str(error)))
    except Exception as error:  # of somebody's environment or policy
        pipe.send(Failed(in_one_line(error), traceback.format_exc()))


@dataclass
class Worker:
    """One process at work.

    :param key: of whoever gave the job
    :param heard: when it last told something
    """

    key: Any
    process: BaseProcess
    pipe: Connection = field(repr=False)
    heard: float = field(default_factory=time.monotonic)

    def answer(self, go_on: bool) -> None:
        """Let a worker go on, or stop it; one that has died meanwhile is noticed at the next message."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send(go_on)


class Pool:
    """Up to ``n_workers`` processes, a fresh one for each job, so that nothing leaks from one into the next.

    :param n_workers: processes at once
    """

    def __init__(self, n_workers: int) -> None:
        self.n_workers = n_workers
        self.workers: list[Worker] = []

    def run(self, next_job: Callable[[], tuple[Any, Job] | None]) -> Iterator[tuple[Worker, Message]]:
        """Give out jobs until there are none, and pass on what the workers tell.

        :param next_job: gives a key and a job, or None when there is none at this moment; asked again whenever a worker ends
        """
        try:
            while True:
                while len(self.workers) < self.n_workers and (job := next_job()) is not None:
                    self.workers.append(_start(*job))
                if not self.workers:
                    return
                ready = wait([worker.pipe for worker in self.workers], min(SILENCE, 60.0))
                for worker in list(self.workers):
                    silent = time.monotonic() - worker.heard
                    if worker.pipe in ready:
                        message = self._receive(worker)
                    elif silent > SILENCE:
                        worker.process.kill()
                        message = Died(None, silent)
                    else:
                        continue
                    if isinstance(message, Finished | Failed | Died):
                        self._end(worker)
                    yield worker, message
        finally:
            for worker in list(self.workers):
                worker.process.kill()
                self._end(worker)

    def _receive(self, worker: Worker) -> Message:
        try:
            message: Message = worker.pipe.recv()
            worker.heard = time.monotonic()
            return message
        except (EOFError, ConnectionResetError):
            worker.process.join()
            return Died(worker.process.exitcode)

    def _end(self, worker: Worker) -> None:
        self.workers.remove(worker)
        worker.process.join()
        worker.pipe.close()


def _start(key: Any, job: Job) -> Worker:
    for attempt in range(_STARTS):
        ours, theirs = multiprocessing.Pipe()
        process = _START(target=_work, args=(job, theirs))
        try:
            process.start()
            return Worker(key, process, ours)
        except (EOFError, OSError) as error:  # the server that forks workers was killed; the next start makes a new one
            ours.close()
            if attempt == _STARTS - 1:
                raise UserError(
                    f"Processes for trainings cannot be started: {type(error).__name__}: {error}. Is there memory left? "
                    "The same command goes on from here."
                ) from error
        finally:
            theirs.close()
    raise AssertionError
