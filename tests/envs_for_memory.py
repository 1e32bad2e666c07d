"""Tasks that cannot be done without remembering."""

from __future__ import annotations

from itertools import product
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


class TMaze(gym.Env):
    """A corridor with a sign at its beginning that says which way to turn at its end (Bakker 2002).

    Forward is right in the corridor; anything else costs 0.1 and leads nowhere. At the junction the turn that the sign showed
    earns 1, the other nothing, and either ends the episode.

    :param length: of the corridor
    """

    FORWARD, LEFT, RIGHT = range(3)

    def __init__(self, length: int = 4) -> None:
        self.length = length
        self.observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = gym.spaces.Discrete(3)

    def _seen(self) -> np.ndarray:
        return np.array([2.0 * self.sign - 1 if self.place == 0 else 0.0, self.place == self.length], np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.place, self.step_number, self.sign = 0, 0, int(self.np_random.integers(2))
        return self._seen(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.step_number += 1
        at_junction = self.place == self.length
        if at_junction and action != self.FORWARD:
            return self._seen(), float(int(action) - 1 == self.sign), True, False, {}
        moves = action == self.FORWARD and not at_junction
        self.place += int(moves)
        return self._seen(), 0.0 if moves else -0.1, False, self.step_number == 5 * self.length, {}


class Copy(gym.Env):
    """Signs are shown one after the other, then each is to be given again, in order. Each right one earns its share of 1.

    :param count: of signs, each one of two
    """

    def __init__(self, count: int = 2) -> None:
        self.count = count
        self.observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = gym.spaces.Discrete(2)

    def _seen(self) -> np.ndarray:
        shown = self.step_number < self.count
        return np.array([2.0 * self.signs[self.step_number] - 1 if shown else 0.0, not shown], np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.step_number, self.signs = 0, self.np_random.integers(2, size=self.count)
        return self._seen(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        asked = self.step_number - self.count
        reward = float(asked >= 0 and int(action) == self.signs[asked]) / self.count
        self.step_number += 1
        return self._seen(), reward, self.step_number == 2 * self.count, False, {}


class Tiger(gym.Env):
    """The tiger problem (Kaelbling et al. 1998): listen for which of two doors hides a tiger, then open one.

    Listening costs 1 and is right with probability 0.85; the door with the tiger costs 20, the other one earns 10, and either
    ends the episode. After ``horizon`` steps it ends by itself.

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
    def best_without_memory(cls, horizon: int) -> tuple[float, dict[tuple[int, int], int]]:
        """The most that can be earned by what was heard last and the number of the step, and the policy that earns it.

        By enumeration of all policies from (step, heard) to an action. No choice comes twice in an episode, so what is earned
        is linear in the probabilities of each, and chance in them adds nothing.
        """
        seen = [(0, 0), *((step, heard) for step in range(1, horizon) for heard in (-1, 1))]
        policies = (dict(zip(seen, actions, strict=True)) for actions in product(range(3), repeat=len(seen)))
        return max(((cls.earned_by(policy, horizon), policy) for policy in policies), key=lambda pair: pair[0])

    @classmethod
    def earned_by(cls, policy: dict[tuple[int, int], int], horizon: int) -> float:
        """What a policy without memory earns on average."""

        def onwards(step: int, heard: int, tiger: int) -> float:
            if step == horizon:
                return 0.0
            action = policy[step, heard]
            if action != cls.LISTEN:
                return -20.0 if action - 1 == tiger else 10.0
            side = 2 * tiger - 1
            return -1 + cls.RIGHT * onwards(step + 1, side, tiger) + (1 - cls.RIGHT) * onwards(step + 1, -side, tiger)

        return 0.5 * (onwards(0, 0, 0) + onwards(0, 0, 1))
