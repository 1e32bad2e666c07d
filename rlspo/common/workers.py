"""Environments in their own processes: if a process dies, raise an error that names it instead of waiting for ever."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv, VecEnvWrapper

_LOOK_EVERY = 1.0  # seconds
_ENDING = 10.0  # seconds until the exit code of a dead process is known


class WorkerLost(RuntimeError):
    """The process of an environment died, or did not answer."""


def is_gone(process: Any) -> bool:
    """Whether a process has ended. Unlike ``is_alive``, this leaves the exit code to a later ``join``."""
    return bool(wait([process.sentinel], 0))


def how_it_ended(index: int, process: Any) -> WorkerLost:
    """How the process of environment ``index`` ended, in words."""
    process.join(_ENDING)
    code = process.exitcode
    how = "is gone" if code is None else f"ended with exit code {code}"
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        how = f"was killed by {name}" + (", perhaps for lack of memory" if name == "SIGKILL" else "")
    return WorkerLost(f"The process {process.pid} of environment {index} {how}")


def end_waiting(pipe: Connection) -> None:
    """Close a pipe so that a thread waiting for it gets an end-of-file after the data sent before."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(pipe.fileno())) as end:
        end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def watched(env: VecEnv | None) -> Iterator[None]:
    """Context around steps of environments in processes, SB3's ``SubprocVecEnv``, with or without wrappers; no effect on
    others.

    Other processes may keep the far end of a dead process's pipe open, so that SB3 would wait for ever.

    :raises WorkerLost: if the process of an environment has died
    """
    while isinstance(env, VecEnvWrapper):
        env = env.venv
    # A class that watches its workers itself has other remotes.
    if not isinstance(env, SubprocVecEnv) or not all(isinstance(remote, Connection) for remote in env.remotes):
        yield
        return
    workers: list[tuple[Connection, Any]] = [*zip(env.remotes, env.processes, strict=True)]
    over = threading.Event()
    threading.Thread(target=_watch, args=(workers, over), daemon=True).start()
    try:
        yield
    except (EOFError, OSError) as error:
        gone = wait([process.sentinel for _, process in workers], _LOOK_EVERY)
        for index, (_, process) in enumerate(workers):
            if process.sentinel in gone:
                raise how_it_ended(index, process) from error
        raise
    finally:
        over.set()


def _watch(workers: list[tuple[Connection, Any]], over: threading.Event) -> None:
    while not over.is_set():
        gone = wait([process.sentinel for _, process in workers], _LOOK_EVERY)
        for pipe, process in workers:
            if process.sentinel in gone:
                end_waiting(pipe)
        if gone:
            return
