"""The base class of effects on tasks with vectors: hooks around a step, for many copies of the task at once."""

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
    """The current state of ``n`` copies, for one effect.

    :param open: whether the effect was drawn to act in this decision step (its gate), ``(n,)``
    :param holds: whether its concept is active, ``(n,)``
    :param step: completed decision steps of the episode, ``(n,)``; -1 for the observation of a reset
    :param memory: of this effect, arrays ``(n, ...)``; arrays are replaced, never written to
    :param chance: the only source of the hook's random numbers
    """

    open: Array
    holds: Array
    step: Array
    memory: Memory
    chance: Chance


class Effect:
    """A way to perturb a task. All hooks do nothing here; each effect overrides the few that it needs.

    A hook does not change rows where its effect is not ``open`` and has no remaining effect of an earlier step.

    :param task: what is perturbed
    :raises ValueError: for settings that are out of range or that the task does not support
    """

    #: Whether it draws random numbers besides its gate's.
    draws: ClassVar[bool] = True

    def __init__(self, task: Task) -> None:
        self.task = task

    def start(self, n: int) -> Memory:
        """The initial memory of an episode, arrays ``(n, ...)``."""
        return {}

    def act(self, actions: Array, now: Now) -> Array:
        """The actions that the task gets, ``(n, *action_shape)``."""
        return actions

    def force(self, now: Now) -> Array | None:
        """Forces (N) and torques (N m) on the bodies during the step, ``(n, n_bodies, 6)``; None: none."""
        return None

    def kick(self, now: Now) -> Array | None:
        """Velocity changes of the joints before the step, ``(n, n_velocities)``; None: none."""
        return None

    def reward(self, rewards: Array, now: Now) -> Array:
        """The rewards that the agent gets, ``(n,)``."""
        return rewards

    def observe(self, observations: Array, now: Now) -> Array:
        """The observations that the agent gets, ``(n, *observation_shape)``."""
        return observations


class Faults:
    """Faults of single entries: while the gate is open, each entry starts one with a probability; it lasts some steps.

    :param fraction: the probability for each entry while the gate is open, in [0, 1]
    :param steps: duration of a fault in decision steps, at least 1
    """

    def __init__(self, fraction: Any, steps: Any) -> None:
        self.fraction, self.steps = number("fraction", fraction, 0, 1), whole("steps", steps, 1)

    def start(self, n: int, shape: tuple[int, ...]) -> Memory:
        """The initial memory: no entry has a fault."""
        return {"left": np.zeros((n, *shape), np.int64)}

    def hit(self, now: Now, shape: tuple[int, ...]) -> Array:
        """Whether each entry has a fault now, ``(n, *shape)``."""
        begun = rows(now.open, shape) & (now.chance.random(*shape) < self.fraction)
        left = np.where(begun, self.steps, np.maximum(now.memory["left"] - 1, 0)) * rows(now.holds, shape)
        now.memory["left"] = left
        return left > 0


def rows(flags: Array, shape: tuple[int, ...]) -> Array:
    """Flags of rows, ``(n,)``, reshaped to broadcast with arrays ``(n, *shape)``."""
    return flags.reshape(-1, *[1] * len(shape))
