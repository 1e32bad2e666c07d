"""Schedules of concept drift: the transition of an environment from one concept to another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlspo.common.errors import did_you_mean
from rlspo.envs.arguments import number, whole

#: Description of each kind, for error messages and the docs.
KINDS = {
    "always": "the concept holds from the first step on",
    "sudden": "the concept holds from step `period` on",
    "cyclic": "it comes and goes every `period` steps",
    "ramp": "it grows in a straight line until step `period`",
    "random_switching": "before each step it comes or goes with probability 1 / `period`",
    "random_walk": "its strength takes a normal step of standard deviation 1 / sqrt(`period`), reflected at 0 and 1",
}


@dataclass(frozen=True)
class Schedule:
    """When a concept is active, in decision steps of an episode.

    :param kind: one of :data:`KINDS`
    :param period: in decision steps, at least 1; ignored for ``"always"``
    """

    kind: str = "always"
    period: float = 1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"schedule is {self.kind!r}. {did_you_mean(str(self.kind), KINDS)}")
        if self.kind in ("sudden", "cyclic"):
            whole("period", self.period, 1)
        else:
            number("period", self.period, 1)

    def first(self) -> float:
        """The level at the beginning of an episode."""
        return 1.0 if self.kind == "always" else 0.0

    def level_after(self, step: Any, level: Any, random: Any) -> Any:
        """The level after a decision step, for one environment, or for several as arrays ``(n,)``.

        :param step: number of completed decision steps of the episode, including this one
        :param level: during that step
        :param random: generator for the two random kinds; the others draw nothing. With the methods ``random()`` and
            ``normal(scale=...)`` of :class:`numpy.random.Generator`, which return one number per environment
        """
        if self.kind == "sudden":
            return 1.0 * (step >= self.period)
        if self.kind == "cyclic":
            return 1.0 * (step // self.period % 2)
        if self.kind == "ramp":
            return np.minimum(step / self.period, 1.0)
        if self.kind == "random_switching":
            return np.where(random.random() < 1 / self.period, 1.0 - level, level)
        if self.kind == "random_walk":
            # Reflected: folded back at 0 and at 1, as often as needed.
            moved = np.abs(level + random.normal(scale=self.period**-0.5)) % 2
            return np.where(moved > 1, 2 - moved, moved)
        return level

    def start(self, early: bool = False) -> Drift:
        """The drift of one environment, which restarts with each episode.

        :param early: see :class:`Drift`
        """
        return Drift(self, early)


class Drift:
    """The progress of the drift in an episode: :attr:`level` in [0, 1].

    :param schedule: of the drift
    :param early: ``"sudden"`` starts one step early, as in the published code
    """

    def __init__(self, schedule: Schedule, early: bool = False) -> None:
        self.schedule = schedule
        self._early = int(early)
        self.level = 0.0
        self.step = 0

    def reset(self) -> None:
        """Start an episode, at step 0."""
        self.step = 0
        sudden = self.schedule.kind == "sudden"
        self.level = float(sudden and self._early >= self.schedule.period) or self.schedule.first()

    def advance(self, random: np.random.Generator) -> None:
        """Advance by one decision step.

        :param random: for the two random kinds; the others draw nothing
        """
        self.step += 1
        step = self.step + (self._early if self.schedule.kind == "sudden" else 0)
        self.level = float(self.schedule.level_after(step, self.level, random))
