"""CartPole and Pendulum in array form against gymnasium's own step."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from rlspo.simulators import simulator_for
from rlspo.simulators.arrays import ArrayCore

CASES = [
    ("CartPole-v1", {}),
    ("CartPole-v1", {"sutton_barto_reward": True}),
    ("Pendulum-v1", {}),
    ("Pendulum-v1", {"g": 4.0}),
]


@pytest.mark.parametrize(("env_id", "arguments"), CASES)
def test_whole_episodes_are_equal(env_id, arguments):
    env = gym.make(env_id, **arguments)
    env.action_space.seed(0)
    simulator = simulator_for(env)
    assert isinstance(simulator.core, ArrayCore)
    for seed in range(5):
        env.reset(seed=seed)
        states, over = simulator.capture(env), False
        while not over:
            action = env.action_space.sample()
            observation, reward, terminated, truncated, _ = env.step(action)
            states, *found = simulator.step(states, np.asarray(action)[None])
            assert np.array_equal(found[0][0], observation)
            assert found[1][0] == pytest.approx(reward, abs=1e-9)
            assert (found[2][0], found[3][0]) == (terminated, truncated)
            over = terminated or truncated


@pytest.mark.parametrize(("env_id", "arguments"), CASES)
def test_what_is_put_back_goes_on_as_before(env_id, arguments):
    env = gym.make(env_id, **arguments)
    env.action_space.seed(0)
    env.reset(seed=0)
    simulator = simulator_for(env)
    states = simulator.capture(env)
    actions = [env.action_space.sample() for _ in range(8)]
    first = [env.step(action)[:4] for action in actions]
    simulator.restore(env, states)
    again = [env.step(action)[:4] for action in actions]
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one[0], other[0])
        assert one[1:] == other[1:]


def test_environments_with_other_constants_are_not_stepped_with_the_firsts():
    heavy, light = gym.make("CartPole-v1"), gym.make("CartPole-v1")
    light.unwrapped.force_mag = 30.0
    for env in (heavy, light):
        env.reset(seed=0)
    simulator = simulator_for(heavy)
    simulator.capture(heavy)
    with pytest.raises(ValueError, match="force_mag"):
        simulator.capture(light)


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1"])
def test_a_state_before_reset(name):
    env = gym.make(name).unwrapped
    with pytest.raises(gym.error.ResetNeeded):
        simulator_for(env).capture(env)


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1"])
def test_another_of_the_same_constants_is_captured_after_steps_and_pictures(name):
    first, second = gym.make(name), gym.make(name, render_mode="rgb_array")
    first.reset(seed=0)
    second.reset(seed=1)
    second.step(second.action_space.sample())
    second.render()
    assert len(simulator_for(first).capture(second)) == 1
