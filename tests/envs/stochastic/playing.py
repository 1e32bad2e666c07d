"""Perturbed tasks, played."""

from typing import Any

import gymnasium as gym
import numpy as np


def perturbed(task: str = "Hopper", **settings: Any) -> gym.Env:
    """A perturbed MuJoCo task without time limit or checks: the wrapper around gymnasium's environment."""
    env = gym.make(f"STORI/{task}-v0", **settings)
    while not hasattr(env, "perturbation"):
        env = env.env
    return env


def actions_for(env: gym.Env, n: int, seed: int = 0) -> np.ndarray:
    """``n`` random actions."""
    env.action_space.seed(seed)
    return np.stack([env.action_space.sample() for _ in range(n)])


def play(env: gym.Env, n: int, seed: int = 0) -> list[tuple[Any, ...]]:
    """What a reset and ``n`` steps gave, as if episodes did not end."""
    found: list[tuple[Any, ...]] = [env.reset(seed=seed)]
    return found + [env.step(action) for action in actions_for(env, n, seed)]


def within_chance(count: int, n: int, probability: float) -> bool:
    """Whether a count lies within four standard deviations of a binomial distribution's mean."""
    return bool(abs(count - n * probability) <= 4 * np.sqrt(n * probability * (1 - probability)))


class Sliding(gym.Env):
    """A point on a line that actions move; the observation is its place and the last action. Its reward is -|place|.

    Plain Python with a known step, and a step that counts.
    """

    def __init__(self, size: int = 2) -> None:
        self.action_space = gym.spaces.Box(-1.0, 3.0, (size,), np.float32)
        self.observation_space = gym.spaces.Box(-1e3, 1e3, (2 * size,), np.float32)
        self.place = np.zeros(size)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = np.ones(len(self.place))
        return self._seen(np.zeros_like(self.place)), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place = self.place + action
        return self._seen(action), -float(np.abs(self.place).sum()), False, False, {}

    def _seen(self, action: Any) -> np.ndarray:
        return np.concatenate([self.place, action]).astype(np.float32)
