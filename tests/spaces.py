"""A tiny environment for any combination of spaces, with time limits and with episodes that end."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

OBSERVATIONS: dict[str, spaces.Space] = {
    "box": spaces.Box(-2, 2, (5,), np.float32),
    "box64": spaces.Box(-2, 2, (2, 3), np.float64),
    "discrete": spaces.Discrete(4),
    "multi_discrete": spaces.MultiDiscrete([2, 3]),
    "multi_binary": spaces.MultiBinary(3),
    "image": spaces.Box(0, 255, (3, 36, 36), np.uint8),
    "dict": spaces.Dict(
        {
            "vector": spaces.Box(-1, 1, (4,), np.float32),
            "image": spaces.Box(0, 255, (36, 36, 1), np.uint8),
            "count": spaces.Discrete(3),
        }
    ),
}
ACTIONS: dict[str, spaces.Space] = {
    "box": spaces.Box(-1, 1, (2,), np.float32),
    "discrete": spaces.Discrete(3),
    "multi_discrete": spaces.MultiDiscrete([2, 3]),
    "multi_binary": spaces.MultiBinary(2),
}


class SpacesEnv(gym.Env[Any, Any]):
    """Random observations, rewards that depend on the action, episodes that end or are cut.

    :param observation: key of ``OBSERVATIONS``
    :param action: key of ``ACTIONS``
    """

    def __init__(self, observation: str = "box", action: str = "box") -> None:
        self.observation_space = OBSERVATIONS[observation]
        self.action_space = ACTIONS[action]
        self.render_mode = None
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        reward = float(np.sum(action)) + self.steps % 3
        return self.observation_space.sample(), reward, self.steps % 11 == 7, self.steps >= 13, {}


def policy_name(observation: str) -> str:
    """The SB3 alias that fits a key of ``OBSERVATIONS``."""
    return {"image": "CnnPolicy", "dict": "MultiInputPolicy"}.get(observation, "MlpPolicy")
