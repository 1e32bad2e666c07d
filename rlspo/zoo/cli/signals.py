"""Stopping a run without losing its agent: by a signal, by an environment, or after a time limit."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

#: Windows has no SIGHUP.
HANG_UP: tuple[signal.Signals, ...] = (signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()
#: Whether a program can interrupt itself after some time; Windows cannot.
HAS_ALARM = hasattr(signal, "setitimer")

#: Seconds after which an outer limit fires that expired while an inner one was active.
_DELAY = 1.0
#: Seconds that a program has to end, once a signal has stopped it, before another one interrupts that too.
_ENDING = 5.0


class Stopped(BaseException):
    """Raised by a second signal, or by the first where nothing has to be finished; as KeyboardInterrupt, no Exception."""


class TimeIsUp(BaseException):
    """A time limit is over; as KeyboardInterrupt, no Exception."""


@contextlib.contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise :class:`TimeIsUp` after some time; in the main thread only, and not on Windows.

    A limit inside another one ends no later than the outer limit, which fires again after it.

    :param seconds: of wall time; None for no limit
    """

    if seconds is None or not HAS_ALARM or threading.current_thread() is not threading.main_thread():
        yield  # in other threads Python allows no handlers
        return

    def expire(number: int, frame: FrameType | None) -> None:
        raise TimeIsUp

    outer, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    before, started = signal.signal(signal.SIGALRM, expire), time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, min(seconds, outer) if outer else seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if outer:
            # Not at once, or the code around the inner limit would take it for the inner one.
            signal.setitimer(signal.ITIMER_REAL, max(outer - (time.monotonic() - started), _DELAY))


class StopSignal:
    """Catches SIGINT (Ctrl-C), SIGTERM and SIGHUP (the terminal was closed) while the context is active.

    The first signal only sets :attr:`received`, which training checks after every step. A second one raises
    :class:`Stopped` wherever the program is, for when a step hangs; so does the first once :attr:`patient` is False.
    While :attr:`deaf`, as the agent is being saved, signals are only recorded; the second signal of a patient program makes it
    deaf, so that no third one interrupts the saving. Once one has raised, those of the next seconds are only recorded, so that
    a key pressed twice, or held down, does not interrupt the ending of what was started. A SIGHUP that is ignored (``nohup``)
    stays ignored. Outside the main thread, where Python allows no handlers, it does nothing.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.patient = True
        self.deaf = False
        self._before: dict[int, Any] = {}
        self._reason = ""
        self._raised = -math.inf  # when

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            hang_up = [number for number in HANG_UP if signal.getsignal(number) != signal.SIG_IGN]  # as nohup leaves it
            caught = [signal.SIGINT, signal.SIGTERM, *hang_up]
            self._before = {number: signal.signal(number, self._handle) for number in caught}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> int:
        """128 plus the signal's number, as in shells: 130 after Ctrl-C, 143 after SIGTERM; 1 after :meth:`end`; or 0."""
        return 0 if self.received is None else 128 + self.received if self.received else 1

    @property
    def name(self) -> str:
        """What stopped the run, in words."""
        if not self.received:
            return self._reason
        return "Ctrl-C" if self.received == signal.SIGINT else signal.Signals(self.received).name

    def end(self, reason: str) -> None:
        """Stop without a signal, such as when an environment calls ``sys.exit()``."""
        if self.received is None:
            self.received, self._reason = 0, reason

    def _handle(self, number: int, frame: FrameType | None) -> None:
        first = self.received is None
        self.received = number
        if self.deaf:
            return
        if not (first and self.patient):
            if time.monotonic() - self._raised < _ENDING:
                return
            self._raised, self.deaf = time.monotonic(), self.patient
            raise Stopped(self.name)
        # Not print(): a signal handler must not touch a stream that the interrupted code may be writing to.
        with contextlib.suppress(OSError):  # of a closed terminal
            os.write(2, f"\n{self.name}: stopping at the next step and saving the model; once more stops at once.\n".encode())
