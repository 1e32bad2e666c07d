"""Up to n processes, a fresh one for each job: what they tell, and what happens when one dies, hangs, or loses its parent."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from typing import Any

from rlspo.common.env_failures import in_one_line
from rlspo.zoo.cli.signals import HANG_UP
from rlspo.zoo.errors import UserError

_LOOK_EVERY = 0.25  # seconds
_ENDING = 10.0  # seconds that a process has to end by itself once its work is over
_STARTS = 3  # attempts to start a process
_KILLERS = (signal.SIGTERM, *HANG_UP)
#: What a worker does with its job; the pipe is for telling how far it is, and for answers.
Work = Callable[[Any, Connection], None]


@dataclass(frozen=True)
class Finished:
    """The work is done."""


@dataclass(frozen=True)
class Failed:
    """The work raised something.

    :param reason: in one line
    :param trace: what Python said
    """

    reason: str
    trace: str = ""


@dataclass(frozen=True)
class Died:
    """The process is gone without having told why: killed, or out of memory.

    :param silent: it was killed, because it had given no sign of life for so many seconds
    """

    exit_code: int | None
    silent: float | None = None

    @property
    def reason(self) -> str:
        """How the process ended, as a part of a sentence."""
        if self.silent is not None:
            return f"its process hung: it gave no sign of life for {self.silent / 60:.0f} min"
        if self.exit_code is not None and self.exit_code < 0:
            return f"its process was killed by {signal.Signals(-self.exit_code).name}"
        return f"its process ended with exit code {self.exit_code}"


@dataclass
class Worker:
    """One process at work.

    :param key: of whoever gave the job
    :param patience: seconds without a sign of life after which it counts as hanging
    :param heard: when it last gave one
    """

    key: Any
    process: Any  # of multiprocessing: each way of starting has a class of its own
    pipe: Connection = field(repr=False)
    patience: float
    heard: float = field(default_factory=time.monotonic)
    started: float = field(default_factory=time.monotonic)

    def answer(self, go_on: bool) -> None:
        """Let a worker go on, or stop it; one that has died meanwhile is noticed at the next message."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send(go_on)

    def kill(self) -> None:
        """End it and all that it started, without waiting; on Windows what it started has to notice."""
        if self.process.pid is None:
            return  # it never started
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):  # it may not have its own group yet
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()

    def bury(self) -> None:
        """:meth:`kill` it, and wait until it is gone."""
        self.kill()
        if self.process.pid is not None:
            self.process.join()
        self.pipe.close()


class Pool:
    """Up to ``n_workers`` processes, a fresh one for each job, so that nothing leaks from one into the next.

    A Ctrl-C in the terminal reaches the parent only. Whatever ends the parent ends the workers and all that they started.

    :param n_workers: processes at once
    """

    def __init__(self, n_workers: int) -> None:
        self.n_workers = n_workers
        self.workers: list[Worker] = []

    def start(self, context: BaseContext, key: Any, work: Work, job: Any, patience: float) -> Worker:
        """Begin a job.

        :param context: how to start a process
        :param work: called there with the job and a pipe to tell something; what it returns is not looked at
        :raises UserError: if the system gives no process
        """
        for attempt in range(_STARTS):
            ours, theirs = multiprocessing.Pipe()
            process = context.Process(target=_live, args=(work, job, theirs))  # type: ignore[attr-defined]
            worker = Worker(key, process, ours, patience)
            try:
                with _signals_wait():  # until the worker is known here, where it is ended
                    process.start()
                    self.workers.append(worker)
                return worker
            except (EOFError, OSError) as error:  # a server that forks workers was killed; the next start makes a new one
                ours.close()
                if attempt == _STARTS - 1:
                    raise UserError(
                        f"Processes for trainings cannot be started: {type(error).__name__}: {error}. Is there memory left? "
                        "The same command goes on from here."
                    ) from error
            finally:
                theirs.close()
        raise AssertionError

    def run(
        self, begin: Callable[[], Worker | None], look: Callable[[Worker], None] = lambda worker: None
    ) -> Generator[tuple[Worker, Any]]:
        """Begin jobs until there are none, and pass on what the workers tell; last of all how they ended: as
        :class:`Finished`, :class:`Failed` or :class:`Died`.

        :param begin: calls :meth:`start`, or gives None when there is no job now; asked again whenever a worker ends
        :param look: called again and again with each worker that tells nothing; it may know of other signs of life
        """
        try:
            while True:
                while len(self.workers) < self.n_workers and begin() is not None:
                    pass
                if not self.workers:
                    return
                ready = wait([worker.pipe for worker in self.workers], _LOOK_EVERY)
                for worker in list(self.workers):
                    message = _message(worker, worker.pipe in ready, look)
                    if isinstance(message, Finished | Failed | Died):
                        self.workers.remove(worker)
                        worker.bury()  # with what it may have left behind
                    if message is not None:
                        yield worker, message
        finally:
            for worker in self.workers:
                worker.kill()  # all before the first is waited for
            for worker in self.workers:
                worker.bury()


def _message(worker: Worker, ready: bool, look: Callable[[Worker], None]) -> Any:
    """What a worker tells, or what became of it; None if there is nothing new."""
    if ready:
        try:
            message = worker.pipe.recv()
        except (EOFError, ConnectionResetError):
            worker.process.join(_ENDING)
            return Died(worker.process.exitcode)
        worker.heard = time.monotonic()
        if isinstance(message, Finished | Failed):
            worker.process.join(_ENDING)
        return message
    # What a worker has started may hold its pipe open.
    if worker.process.exitcode is not None and not worker.pipe.poll():
        return Died(worker.process.exitcode)
    look(worker)
    silent = time.monotonic() - worker.heard
    return Died(None, silent) if silent > worker.patience else None


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """Signals that end a command come after this. A process that is started in here never hears Ctrl-C, not even while it
    imports.

    Python runs handlers in the main thread whichever thread a signal reaches, so no mask of one thread keeps them away.
    """
    came: list[int] = []
    handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, *_KILLERS):
            if callable(signal.getsignal(number)):  # not where it is ignored, as nohup leaves it
                handlers[number] = signal.signal(number, lambda number, frame: came.append(number))
    masks = hasattr(signal, "pthread_sigmask")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT]) if masks else set()
    try:
        yield
    finally:
        if masks:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for caught, handler in handlers.items():
            signal.signal(caught, handler)
        if came:
            signal.raise_signal(came[0])


def _live(work: Work, job: Any, pipe: Connection) -> None:
    """The life of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where there are no sessions; the parent decides
    for number in _KILLERS:
        signal.signal(number, signal.SIG_DFL)  # a forked one has its parent's handlers
    if hasattr(os, "setsid"):
        os.setsid()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    last: Finished | Failed = Finished()
    try:
        work(job, pipe)
    except (EOFError, BrokenPipeError):
        os._exit(1)  # nobody is left to listen
    except UserError as error:
        last = Failed(str(error))
    except Exception as error:  # of somebody's environment or policy
        last = Failed(in_one_line(error), traceback.format_exc())
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # nobody is left to listen
        pipe.send(last)


def _end_with_parent() -> None:
    """Once the parent is gone, end this process and all that it started: nobody waits for it."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
