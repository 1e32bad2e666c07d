"""What an effect on a task with vectors is: hooks around a step, for many copies of the task at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rlspo.envs.arguments import number, whole
from rlspo.envs.stochastic.chance import Chance
from rlspo.envs.stochastic.task import Task

Array = np.ndarray
Memory = dict[str, Any]


@dataclass
class Now:
    """A moment of ``n`` copies, as one effect sees it.

    :param open: whether chance lets the effect act in this decision step, ``(n,)``
    :param holds: whether its concept holds at all, ``(n,)``
    :param step: decision steps of the episode that are over, ``(n,)``; -1 for the observation of a reset
    :param memory: of this effect, arrays ``(n, ...)``; entries are replaced, never written into
    :param chance: from which alone the hook draws
    """

    open: Array
    holds: Array
    step: Array
    memory: Memory
    chance: Chance


class Effect:
    """A way to perturb a task. All hooks do nothing here; each effect overrides the few that it needs.

    A hook leaves rows alone where its effect neither is ``open`` nor has something left of an earlier step.

    :param task: what is perturbed
    :raises ValueError: for settings that are out of range, or that the task does not allow
    """

    #: Whether it draws random numbers beside its gate's.
    draws: ClassVar[bool] = True

    def __init__(self, task: Task) -> None:
        self.task = task

    def start(self, n: int) -> Memory:
        """What is remembered when an episode begins, arrays ``(n, ...)``."""
        return {}

    def act(self, actions: Array, now: Now) -> Array:
        """The actions that the task gets, ``(n, *action_shape)``."""
        return actions

    def force(self, now: Now) -> Array | None:
        """Forces (N) and torques (N m) on the bodies during the step, ``(n, n_bodies, 6)``; None: none."""
        return None

    def kick(self, now: Now) -> Array | None:
        """Added to the velocities of the joints before the step, ``(n, n_velocities)``; None: nothing."""
        return None

    def reward(self, rewards: Array, now: Now) -> Array:
        """The rewards that the agent gets, ``(n,)``."""
        return rewards

    def observe(self, observations: Array, now: Now) -> Array:
        """The observations that the agent gets, ``(n, *observation_shape)``."""
        return observations


class Faults:
    """Faults of single entries: while the gate is open each entry begins one with a probability, which lasts some steps.

    :param fraction: the chance of each entry while the gate is open, in [0, 1]
    :param steps: how many decision steps a fault lasts, at least 1
    """

    def __init__(self, fraction: Any, steps: Any) -> None:
        self.fraction, self.steps = number("fraction", fraction, 0, 1), whole("steps", steps, 1)

    def start(self, n: int, shape: tuple[int, ...]) -> Memory:
        """No entry has a fault."""
        return {"left": np.zeros((n, *shape), np.int64)}

    def hit(self, now: Now, shape: tuple[int, ...]) -> Array:
        """Which entries have one now, ``(n, *shape)``."""
        begun = rows(now.open, shape) & (now.chance.random(*shape) < self.fraction)
        left = np.where(begun, self.steps, np.maximum(now.memory["left"] - 1, 0)) * rows(now.holds, shape)
        now.memory["left"] = left
        return left > 0


def rows(flags: Array, shape: tuple[int, ...]) -> Array:
    """Flags of rows, ``(n,)``, to be combined with arrays ``(n, *shape)``."""
    return flags.reshape(-1, *[1] * len(shape))
