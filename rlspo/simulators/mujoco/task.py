"""The task on top of the physics: observations, rewards and ends of episodes, for many states at once."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np


class Score(NamedTuple):
    """Rewards and ends of a step.

    :param rewards: ``(n,)``
    :param terms: the terms of the reward, ``(n,)`` each, under their names in the environment's info
    :param terminated: ``(n,)``
    """

    rewards: np.ndarray
    terms: dict[str, np.ndarray]
    terminated: np.ndarray


class Constants:
    """What a task reads of the models, as they are when it is asked for; n = 1 if all states have the same.

    :param models: of MuJoCo, one for all states or one for each
    :param frame_skip: substeps of a step
    """

    def __init__(self, models: Sequence[Any], frame_skip: int) -> None:
        self.models, self.frame_skip = models, frame_skip
        # Views of the models' own: getting one takes longer than a reward.
        self._options = [model.opt for model in models]

    @property
    def timestep(self) -> np.ndarray:
        """In s, ``(n,)``."""
        return np.array([options.timestep for options in self._options])

    @property
    def dt(self) -> np.ndarray:
        """Duration of a step in s, ``(n,)``."""
        return self.timestep * self.frame_skip

    @property
    def body_mass(self) -> np.ndarray:
        """In kg, ``(n, n_bodies)``."""
        return np.stack([model.body_mass for model in self.models])


class Task:
    """The rules of one environment. They repeat gymnasium's operations one by one, so that results agree to the last bits.

    A frame has MuJoCo's arrays under their names in ``MjData``, each ``(n, ...)``: qpos, qvel, ctrl, and those that the task
    lists.

    :param env: the innermost environment; its settings are read
    """

    #: Arrays that are read after the step.
    after: tuple[str, ...] = ()
    #: Arrays that are read before the step, as the previous step left them. They may lag a substep behind qpos.
    before: tuple[str, ...] = ()
    #: Arrays that only :meth:`facts` reads, after the step.
    shown: tuple[str, ...] = ()

    def __init__(self, env: Any) -> None:
        self.env = env

    def observe(self, now: SimpleNamespace) -> np.ndarray:
        """``(n, n_features)``, float64.

        :param now: the frame after the step
        """
        raise NotImplementedError

    def score(self, then: SimpleNamespace, now: SimpleNamespace, actions: np.ndarray, model: Constants) -> Score:
        """
        :param then: the frame before the step
        :param now: the frame after it
        :param actions: as given to the environment, ``(n, n_actions)``
        :param model: of all states, or of each
        """
        raise NotImplementedError

    def facts(self, then: SimpleNamespace, now: SimpleNamespace, model: Constants) -> dict[str, np.ndarray]:
        """What the environment's info says besides the terms of the reward, ``(n, ...)`` each.

        The arguments are those of :meth:`score`.
        """
        return {}


def sum_of_squares(values: np.ndarray) -> np.ndarray:
    """Over all but the first dimension, in the array's own precision: the cost of a float32 action is computed in float32."""
    # Contiguous rows are summed in the order in which NumPy sums a single one.
    return np.ascontiguousarray(np.square(values)).reshape(len(values), -1).sum(axis=1)


def lengths(vectors: np.ndarray) -> np.ndarray:
    """Euclidean norms of ``(n, d)``, as NumPy takes that of a single vector: ``(n,)``."""
    return np.array([np.linalg.norm(vector, ord=2) for vector in vectors])


def between(low: float, values: np.ndarray, high: float) -> np.ndarray:
    """Whether low < value < high."""
    return np.asarray((low < values) & (values < high))


def never(rewards: np.ndarray) -> np.ndarray:
    """``terminated`` of a task whose episodes never terminate."""
    return np.zeros(len(rewards), bool)
