"""What an environment keeps outside of itself is shared by all its copies, and told."""

import re
import warnings

import gymnasium as gym
import numpy as np
import pytest

from rlspo.simulators import simulator_for


class Shared(gym.Env):
    """Counts all steps of all copies, in its class."""

    observation_space, action_space = gym.spaces.Box(-9, 9, (1,), np.float64), gym.spaces.Discrete(2)
    table = {"kept": [1, 2]}  # noqa: RUF012
    steps, log = 0, []

    def __init__(self, how):
        self.how = how

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1), {}

    def step(self, action):
        if self.how == "number":
            type(self).steps += 1
        if self.how == "list":
            self.log.append(action)
        return np.zeros(1), 0.0, False, False, {}


@pytest.mark.parametrize(("how", "words"), [("number", r"Shared\.steps"), ("list", r"Shared\.log"), ("none", "")])
def test_what_a_step_changes_in_the_class_is_reported_once(how, words):
    env = Shared(how)
    env.reset(seed=0)
    simulator = simulator_for(env)
    states = simulator.capture(env)
    for turn in range(3):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            states = simulator.step(states, np.array([1])).states
        assert len(told) == (bool(words) and turn == 0)
        assert all(re.search(words, str(one.message)) for one in told)
