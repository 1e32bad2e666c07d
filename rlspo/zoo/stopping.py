"""Stopping a run from outside, so that nothing is lost: by Ctrl-C, by SIGTERM, or because its time is up."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """A second signal, or one that came where there is nothing to finish first; as KeyboardInterrupt, no Exception."""


class TimeIsUp(BaseException):
    """The time that was given is over; as KeyboardInterrupt, no Exception."""


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise :class:`TimeIsUp` in the main thread once some time is over.

    :param seconds: of the clock on the wall; None for ever
    """

    def ring(number: int, frame: FrameType | None) -> None:
        raise TimeIsUp

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds or 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class StopSignal:
    """Catches SIGINT (Ctrl-C) and SIGTERM while it is entered.

    The first signal only sets :attr:`received`, which training looks at after every step. A second one raises
    :class:`Stopped` wherever the program is, for when a step hangs; so does the first once :attr:`patient` is False.
    While :attr:`deaf`, as the agent is being saved, signals are only noted. Outside the main thread, where Python allows
    no handlers, it does nothing.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.patient = True
        self.deaf = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> int:
        """128 plus the signal's number, as shells have it: 130 after Ctrl-C, 143 after SIGTERM; 0 without a signal."""
        return 0 if self.received is None else 128 + self.received

    @property
    def name(self) -> str:
        """What stopped the run, in words."""
        return "" if self.received is None else "Ctrl-C" if self.received == signal.SIGINT else "SIGTERM"

    def _handle(self, number: int, frame: FrameType | None) -> None:
        first = self.received is None
        self.received = number
        if self.deaf:
            return
        if not (first and self.patient):
            raise Stopped(self.name)
        # Not print(): a signal handler must not touch a stream that the interrupted code may be writing to.
        os.write(2, f"\n{self.name}: stopping at the next step and saving the model; once more stops at once.\n".encode())
