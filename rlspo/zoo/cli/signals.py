"""Stopping a run from outside, so that nothing is lost: by a signal, by an environment, or because its time is up."""

from __future__ import annotations

import contextlib
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

#: Seconds after which a limit rings that was over while one inside of it was waited for.
_BEHIND = 1.0


class Stopped(BaseException):
    """A second signal, or one that came where there is nothing to finish first; as KeyboardInterrupt, no Exception."""


class TimeIsUp(BaseException):
    """The time that was given is over; as KeyboardInterrupt, no Exception."""


@contextlib.contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise :class:`TimeIsUp` once some time is over; in the main thread only, and not on Windows.

    A limit inside of another ends no later than that, which rings again behind it.

    :param seconds: of the clock on the wall; None for no limit of its own
    """

    if seconds is None or not HAS_ALARM or threading.current_thread() is not threading.main_thread():
        yield  # in other threads Python allows no handlers
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise TimeIsUp

    outer, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    before, started = signal.signal(signal.SIGALRM, ring), time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, min(seconds, outer) if outer else seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if outer:
            # Not at once, or the one that waits for the inner limit would take it for that.
            signal.setitimer(signal.ITIMER_REAL, max(outer - (time.monotonic() - started), _BEHIND))


class StopSignal:
    """Catches SIGINT (Ctrl-C), SIGTERM and SIGHUP (the terminal is gone) while it is entered.

    The first signal only sets :attr:`received`, which training looks at after every step. A second one raises
    :class:`Stopped` wherever the program is, for when a step hangs; so does the first once :attr:`patient` is False.
    While :attr:`deaf`, as the agent is being saved, signals are only noted; the second signal of a patient program makes it
    deaf, so that no third one comes between it and the saving. A SIGHUP that is ignored (``nohup``) stays ignored. Outside
    the main thread, where Python allows no handlers, it does nothing.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.patient = True
        self.deaf = False
        self._before: dict[int, Any] = {}
        self._reason = ""

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
        """128 plus the signal's number, as shells have it: 130 after Ctrl-C, 143 after SIGTERM; 1 after :meth:`end`; or 0."""
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
            self.deaf = self.patient
            raise Stopped(self.name)
        # Not print(): a signal handler must not touch a stream that the interrupted code may be writing to.
        with contextlib.suppress(OSError):  # of a terminal that is gone
            os.write(2, f"\n{self.name}: stopping at the next step and saving the model; once more stops at once.\n".encode())
