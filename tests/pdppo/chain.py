"""A small world with a post-decision state, exact in numbers and playable, for the tests of PDPPO."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlspo.envs import TabularModel
from rlspo.envs.post_decision import OBSERVATION_KEY, REWARD_KEY

GAMMA = 0.9


def chain(noise: float = 0.3) -> TabularModel:
    """A queue of up to three: serve none, one or two for 0, 1 or 2.5; then up to two arrive, and each that waits costs 1.

    Four states, three actions, four post-decision states: many pairs share one.

    :param noise: chance that arrivals are not the usual one; 0 for a world without chance
    """
    post = np.array([[max(s - a, 0) for a in range(3)] for s in range(4)])
    transition = np.zeros((4, 4))
    for x in range(4):
        for arrivals, chance in ((0, noise / 2), (1, 1 - noise), (2, noise / 2)):
            transition[x, min(x + arrivals, 3)] += chance
    cost = np.array([0.0, 1.0, 2.5])
    return TabularModel(
        post=post,
        decision_reward=np.tile(-cost, (4, 1)),
        transition=transition,
        chance_reward=-transition @ np.arange(4.0),
        start=np.full(4, 0.25),
    )


class ChainEnv(gym.Env[int, int]):
    """:func:`chain` to be played; the reward of chance is that of what happened.

    :param noise: see there
    :param length: steps of an episode
    :param truncates: the end is a time limit; False: it ends the task
    """

    def __init__(self, noise: float = 0.3, length: int = 20, truncates: bool = True) -> None:
        self.model = chain(noise)
        self.length, self.truncates = length, truncates
        self.observation_space: Any = spaces.Discrete(4)
        self.action_space: Any = spaces.Discrete(3)
        self.post_decision_space: Any = spaces.Discrete(4)
        self.render_mode = None

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.state, self.steps = int(self.np_random.integers(4)), 0
        return self.observe(self.state), {}

    def observe(self, state: int) -> Any:
        return state

    def post_decision(self, action: int) -> tuple[Any, float]:
        return self.observe(int(self.model.post[self.state, action])), float(self.model.decision_reward[self.state, action])

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        post, reward = self.post_decision(action)
        row = self.model.transition[self.model.post[self.state, action]]
        self.state = int(self.np_random.choice(4, p=row))
        self.steps += 1
        over = self.steps >= self.length
        info = {OBSERVATION_KEY: post, REWARD_KEY: reward}
        return self.observe(self.state), reward - self.state, over and not self.truncates, over and self.truncates, info


class VectorChainEnv(ChainEnv):
    """The same, seen as a vector (one-hot), in float32."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.observation_space = self.post_decision_space = spaces.Box(0, 1, (4,), np.float32)

    def observe(self, state: int) -> Any:
        return np.eye(4, dtype=np.float32)[state]
