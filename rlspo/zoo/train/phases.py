"""Where the time of a run goes: collecting, updating, evaluating."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from stable_baselines3.common.callbacks import BaseCallback

PHASES = ("collect", "update", "evaluate")


class Stopwatch:
    """Adds up seconds, for one phase at a time.

    >>> ticks = iter([0.0, 2.0, 5.0, 6.0])
    >>> stopwatch = Stopwatch(now=lambda: next(ticks))
    >>> stopwatch.start("collect")
    >>> with stopwatch.aside("evaluate"):
    ...     pass
    >>> stopwatch.start(None)
    >>> stopwatch.seconds
    {'collect': 3.0, 'update': 0.0, 'evaluate': 3.0}

    :param now: the time in seconds, from any origin
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self._now = now
        self._phase: str | None = None
        self._since = 0.0

    def start(self, phase: str | None) -> None:
        """End the phase under way and begin another, or none."""
        now = self._now()
        if self._phase is not None:
            self.seconds[self._phase] += now - self._since
        self._phase, self._since = phase, now

    @contextlib.contextmanager
    def aside(self, phase: str) -> Iterator[None]:
        """Time another phase for a while; the interrupted phase continues afterwards."""
        interrupted = self._phase
        self.start(phase)
        try:
            yield
        finally:
            self.start(interrupted)


class PhaseTimes(BaseCallback):
    """Logs ``time/collect_seconds``, ``time/update_seconds`` and ``time/evaluate_seconds``: totals since the run began.

    Collecting is the time between the beginning and the end of a rollout, updating the time until the next one begins.
    Every agent that follows SB3's interface calls the callbacks at both.

    :param stopwatch: also given to the callback that evaluates, which times its evaluations with it
    """

    def __init__(self, stopwatch: Stopwatch) -> None:
        super().__init__()
        self.stopwatch = stopwatch

    def _on_rollout_start(self) -> None:
        self.stopwatch.start("collect")

    def _on_rollout_end(self) -> None:
        self.stopwatch.start("update")
        for tag, seconds in self.totals().items():
            self.logger.record(tag, seconds)

    def _on_step(self) -> bool:
        return True

    def totals(self) -> dict[str, float]:
        """Seconds so far, by tag."""
        return {f"time/{phase}_seconds": seconds for phase, seconds in self.stopwatch.seconds.items()}
