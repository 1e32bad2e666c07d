"""Environments in processes of their own: one that dies or hangs is reported, and none keeps a run from ending."""

from __future__ import annotations

import contextlib
import copy
import multiprocessing
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import gymnasium as gym
from stable_baselines3.common.vec_env import SubprocVecEnv

from rlspo.common.cut_episodes import CutEpisodes
from rlspo.common.workers import WorkerLost, end_waiting, how_it_ended, is_gone
from rlspo.zoo.cli.signals import HANG_UP
from rlspo.zoo.errors import UserError

#: Seconds that an environment may take for one step or reset before it counts as hanging.
PATIENCE = 600.0
#: Seconds that all processes together get to end before they are killed.
CLOSING = 5.0
_CHECK_EVERY = 1.0


class _Failure(dict):
    """An exception of an environment, on its way to the training process; SB3's workers pass on infos only."""


class ErrorForwarding(gym.Wrapper):
    """Around an environment in a worker: returns its exceptions as answers, so that the training process can raise them."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self._cut = CutEpisodes(env)
        self._last: dict[str, Any] | None = None  # info of a step that ended an episode, which SB3 sends after the reset

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        try:
            answer = super().reset(**kwargs)
            self._cut.was_reset(self._last)
            return answer
        except Exception as error:
            return None, _Failure(error=_portable(error))

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        try:
            answer = super().step(action)
            over = answer[2] or answer[3]
            self._last = answer[4] if over else None
            # SB3 resets before it sends what an episode ended with, and the reset may write into it.
            return (copy.deepcopy(answer[0]), *answer[1:]) if over else answer
        except Exception as error:
            return None, 0.0, False, False, _Failure(error=_portable(error))


def _portable(error: Exception) -> Exception:
    """An exception that another process can unpickle, with its traceback as a note."""
    trace = traceback.format_exc()
    try:
        portable: Exception = pickle.loads(pickle.dumps(error))
    except Exception:  # a user's exception may not pickle
        portable = RuntimeError(f"{type(error).__name__}: {error}")
    portable.add_note(f"In the process of the environment:\n{trace}")
    return portable


class _Remote:
    """The pipe to one worker. Waiting for an answer stops when the worker has ended or has not answered for too long.

    :param pipe: SB3's
    :param process: of the worker
    """

    def __init__(self, index: int, pipe: Connection, process: Any) -> None:
        self.index, self.pipe, self.process = index, pipe, process
        self.waits_since: float | None = None
        self.hangs = False

    def send(self, message: Any) -> None:
        try:
            self.pipe.send(message)
        except OSError as error:
            raise self.lost() from error

    def recv(self) -> Any:
        self.waits_since = time.monotonic()
        try:
            answer = self.pipe.recv()
        except (EOFError, OSError) as error:
            raise self.lost() from error
        finally:
            self.waits_since = None
        if isinstance(answer, tuple) and any(type(part) is _Failure for part in answer):
            raised: Exception = next(part for part in answer if type(part) is _Failure)["error"]
            raised.add_note(f"Environment {self.index} raised this.")
            raise raised
        return answer

    def check(self) -> None:
        """Stop waiting for a worker that will not answer; called from another thread."""
        since = self.waits_since
        if since is None:
            return
        dead = is_gone(self.process) and time.monotonic() - since > 2 * _CHECK_EVERY
        self.hangs = time.monotonic() - since > PATIENCE
        if (dead or self.hangs) and self.waits_since == since:
            end_waiting(self.pipe)

    def lost(self) -> WorkerLost:
        """An error that describes what happened to the worker."""
        if self.hangs:
            return WorkerLost(
                f"Environment {self.index} has not answered for {PATIENCE:.0f} s; its process {self.process.pid} hangs"
            )
        return how_it_ended(self.index, self.process)


class ProcessVecEnv(SubprocVecEnv):
    """SB3's environments in processes of their own, watched.

    An environment's exception is raised here again, with notes on its index and traceback. A process that dies is
    noticed at once, one that hangs after :data:`PATIENCE` seconds; both are named by index. Closing takes at most
    :data:`CLOSING` seconds: what has not ended by then is killed.

    :param env_fns: make the environments
    :param start_method: of the processes, see SB3
    :raises UserError: where a process does not start
    """

    def __init__(self, env_fns: list[Callable[[], gym.Env]], start_method: str | None = None) -> None:
        self.processes: list[Any] = []
        self._over = threading.Event()
        self._starts_since: float | None = time.monotonic()
        self._slow_start = False
        threading.Thread(target=self._watch, daemon=True).start()
        try:
            super().__init__([_Forwarding(make) for make in env_fns], start_method)
        except BaseException as error:
            self._over.set()
            if not isinstance(error, EOFError | OSError):
                raise
            self.closed = True
            self._kill()
            if self._slow_start:
                raise UserError(
                    f"--vec-env subproc: environment 0 was not made within {PATIENCE:.0f} s. Does its constructor wait for "
                    "something, such as a licence, a download or another program?"
                ) from error
            raise UserError(
                f"--vec-env subproc: {len(env_fns)} processes for environments could not be started ({type(error).__name__}: "
                f"{error}); exit codes: {[process.exitcode for process in self.processes]}. Python's own messages are above."
            ) from error
        pairs = zip(self.remotes, self.processes, strict=True)
        self.remotes: tuple[Any, ...] = tuple(_Remote(index, *pair) for index, pair in enumerate(pairs))
        self._starts_since = None

    def _watch(self) -> None:
        while not self._over.wait(_CHECK_EVERY):
            since = self._starts_since
            if since is None:
                for remote in self.remotes:
                    remote.check()
            elif time.monotonic() - since > PATIENCE and self.processes:
                self._slow_start = True
                end_waiting(self.remotes[0])  # the only one that SB3 asks while it starts them

    def close(self) -> None:
        """Let all processes end, and kill those that do not."""
        if self.closed:
            return
        self.closed = True
        self._over.set()
        for remote in self.remotes:
            with contextlib.suppress(WorkerLost):
                remote.send(("close", None))
        deadline = time.monotonic() + CLOSING
        for process in self.processes:
            process.join(max(deadline - time.monotonic(), 0.0))
        self._kill()

    def _kill(self) -> None:
        for process in self.processes:
            if process.is_alive():
                process.kill()
            process.join(1.0)


class _Forwarding:
    """Makes an environment inside :class:`ErrorForwarding`.

    :param make: the environment
    """

    def __init__(self, make: Callable[[], gym.Env]) -> None:
        self.make = make

    def __call__(self) -> gym.Env:
        if multiprocessing.parent_process() is not None:
            # Signals of a terminal reach every process of it; only the main one decides when to stop.
            for number in (signal.SIGINT, *HANG_UP):
                signal.signal(number, signal.SIG_IGN)
        return ErrorForwarding(self.make())
