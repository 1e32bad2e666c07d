"""One program at a time in a folder: a lock that the system frees, whatever ends the program that holds it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from rlspo.zoo.errors import UserError

_GRACE = 10.0  # seconds for the workers of a program that was just killed to end
_WORKERS = "lock.worker_*"


class AtWork(UserError):
    """Another program is at work in a folder."""


@contextlib.contextmanager
def only_one(folder: Path, refusal: str) -> Iterator[None]:
    """Keep a second program out of a folder, by a file ``lock`` in it; one that nobody holds is no obstacle.

    Workers of a killed program that hold the folder, see :func:`as_worker`, are waited for, for ten seconds.

    :param refusal: what a second program is told
    :raises AtWork: if somebody works there
    """
    with _held(folder / "lock", refusal, 0.0):
        _await_workers(folder, refusal, _GRACE)
        try:
            yield
        finally:
            with contextlib.suppress(AtWork):
                _await_workers(folder, refusal, 0.0)


@contextlib.contextmanager
def as_worker(folder: Path) -> Iterator[None]:
    """Around what a worker writes into a folder that its parent holds: whoever comes after the parent waits for it."""
    with _held(folder / _WORKERS.replace("*", str(os.getpid())), "", 0.0):
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():  # a successor may have looked before this lock was there
            os._exit(1)
        yield


def _await_workers(folder: Path, refusal: str, patience: float) -> None:
    deadline = time.monotonic() + patience
    for file in folder.glob(_WORKERS):
        with _held(file, refusal, max(deadline - time.monotonic(), 0.0)):
            pass
        file.unlink(missing_ok=True)


@contextlib.contextmanager
def _held(file: Path, refusal: str, patience: float) -> Iterator[None]:
    lock = FileLock(file)
    try:
        lock.acquire(timeout=patience)
    except Timeout as error:
        raise AtWork(refusal) from error
    except OSError as error:
        raise UserError(f"{file.parent} cannot be written to: {error.strerror}.") from error
    try:
        yield
    finally:
        lock.release()
