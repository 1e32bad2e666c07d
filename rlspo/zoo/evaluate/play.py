"""Letting a saved agent act step by step, and reporting the episodes that end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv


@dataclass(frozen=True)
class Episode:
    """One finished episode.

    :param env: index of the environment copy
    :param total: undiscounted sum of the environment's own rewards, before any wrapper clips or scales them
    :param length: steps of the environment
    """

    env: int
    total: float
    length: int


def steps_of(actor: Callable[[Any, np.ndarray], np.ndarray], env: VecEnv, observations: Any) -> Iterator[list[Episode]]:
    """Act without end.

    :param actor: :class:`~rlspo.zoo.evaluate.acting.Actor`, or one that searches
    :param env: with a Monitor around each copy, as every environment of the zoo has it
    :param observations: of its reset, ``(n_envs, *obs_shape)``
    :return: for each step of all copies, the episodes that ended with it
    """
    starts = np.ones(env.num_envs, dtype=bool)
    while True:
        observations, _, starts, infos = env.step(actor(observations, starts))
        yield [
            Episode(index, float(info["episode"]["r"]), int(info["episode"]["l"]))
            for index, info in enumerate(infos)
            if "episode" in info
        ]
