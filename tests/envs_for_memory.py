"""Tasks that cannot be done without remembering."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np


class Recall(gym.Env):
    """A cue is shown at the first step only; the last action is to repeat it. All other actions count for nothing.

    Without memory every policy earns 1/2 on average, with it 1.

    :param delay: steps between the cue and the answer
    """

    def __init__(self, delay: int = 3) -> None:
        self.delay = delay
        self.observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = gym.spaces.Discrete(2)

    def _seen(self) -> np.ndarray:
        shown = 2.0 * self.cue - 1 if self.step_number == 0 else 0.0
        return np.array([shown, self.step_number == self.delay], np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.step_number, self.cue = 0, int(self.np_random.integers(2))
        return self._seen(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        done = self.step_number == self.delay
        reward = float(done and int(action) == self.cue)
        self.step_number += 1
        return self._seen(), reward, done, False, {}


class Tiger(gym.Env):
    """The tiger problem (Kaelbling et al. 1998): listen for which of two doors hides a tiger, then open one.

    Listening costs 1 and is right with probability 0.85; the door with the tiger costs 20, the other one earns 10, and either ends
    the episode. After ``horizon`` steps it ends by itself.

    :param horizon: steps at most
    """

    LISTEN, OPEN_LEFT, OPEN_RIGHT = range(3)
    RIGHT = 0.85

    def __init__(self, horizon: int = 4) -> None:
        self.horizon = horizon
        self.observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = gym.spaces.Discrete(3)

    def _seen(self, heard: float) -> np.ndarray:
        return np.array([heard, self.step_number / self.horizon], np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.step_number, self.tiger = 0, int(self.np_random.integers(2))
        return self._seen(0.0), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.step_number += 1
        if action != self.LISTEN:
            reward = -20.0 if int(action) - 1 == self.tiger else 10.0
            return self._seen(0.0), reward, True, False, {}
        side = self.tiger if self.np_random.random() < self.RIGHT else 1 - self.tiger
        return self._seen(2.0 * side - 1), -1.0, self.step_number == self.horizon, False, {}

    @classmethod
    def value(cls, steps: int, belief: float = 0.5) -> float:
        """The most that can be earned on average in ``steps`` more steps, by dynamic programming over beliefs.

        :param belief: probability that the tiger is behind the left door
        """
        if steps == 0:
            return 0.0
        best = max(10 - 30 * belief, 10 - 30 * (1 - belief))
        listen = -1.0
        for left in (True, False):
            says_left, says_right = (cls.RIGHT, 1 - cls.RIGHT) if left else (1 - cls.RIGHT, cls.RIGHT)
            heard = belief * says_left + (1 - belief) * says_right
            listen += heard * cls.value(steps - 1, belief * says_left / heard)
        return max(best, listen)

    @classmethod
    def value_without_memory(cls, horizon: int) -> float:
        """The most that a policy earns which sees the step's number and what was heard last, but remembers nothing.

        Opening at step t is by the last thing heard; before it all steps listen, since nothing else leads there.
        """
        informed = 10 * cls.RIGHT - 20 * (1 - cls.RIGHT)
        return max(0.0 - horizon, *(informed - listened for listened in range(1, horizon)), -5.0)
