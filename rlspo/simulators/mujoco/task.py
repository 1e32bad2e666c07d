"""What a task makes of the physics: observations, rewards and ends of episodes, for many states at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np


class Score(NamedTuple):
    """What a step was worth.

    :param rewards: ``(n,)``
    :param terms: the parts of the reward, ``(n,)`` each, under the names that they have in the environment's info
    :param terminated: ``(n,)``
    """

    rewards: np.ndarray
    terms: dict[str, np.ndarray]
    terminated: np.ndarray


class Task:
    """The rules of one environment. They follow gymnasium's to the operation, so that results are the same to the last bits.

    A frame has MuJoCo's arrays by their names in ``MjData``, each ``(n, ...)``: always qpos, qvel and ctrl, and those that the
    task asks for.

    :param env: the innermost environment, of which the settings are read
    """

    #: Arrays that are read after the step.
    after: tuple[str, ...] = ()
    #: Arrays that are read before the step, from what the step before it left. They may lag a substep behind qpos.
    before: tuple[str, ...] = ()

    def __init__(self, env: Any) -> None:
        self.env = env

    def observe(self, now: SimpleNamespace) -> np.ndarray:
        """``(n, n_features)``, float64.

        :param now: the frame after the step
        """
        raise NotImplementedError

    def score(self, then: SimpleNamespace, now: SimpleNamespace, actions: np.ndarray, model: SimpleNamespace) -> Score:
        """
        :param then: the frame before the step
        :param now: the frame after it
        :param actions: as the environment was given them, ``(n, n_actions)``
        :param model: ``dt`` and ``timestep`` in s, ``(n,)``, ``body_mass`` in kg, ``(n, n_bodies)``; n = 1 if all are the same
        """
        raise NotImplementedError


def sum_of_squares(values: np.ndarray) -> np.ndarray:
    """Over all but the first dimension, in the numbers' own precision: an action of float32 costs what float32 says."""
    # Rows that lie together in memory are summed in the order in which NumPy sums one of them alone.
    return np.ascontiguousarray(np.square(values)).reshape(len(values), -1).sum(axis=1)


def between(low: float, values: np.ndarray, high: float) -> np.ndarray:
    """Whether low < value < high."""
    return np.asarray((low < values) & (values < high))


def never(rewards: np.ndarray) -> np.ndarray:
    """No episode ends."""
    return np.zeros(len(rewards), bool)
