"""Wrappers that are asked row by row see nothing of the real environment, draw for each branch, follow their attributes."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import TransformReward
from stable_baselines3.common.vec_env import DummyVecEnv

import rlspo  # noqa: F401
from rlspo.simulators import NotSimulatableError, check_simulator, simulator_for


def branched(env: gym.Env, n: int = 4) -> Any:
    """The outcome of one step of n branches with streams of their own."""
    simulator = simulator_for(env)
    states = simulator.replicate(simulator.reseed(simulator.capture(env), 5), n)
    return simulator.step(states, np.ones(n, int))


class Shaped(gym.RewardWrapper):
    def reward(self, reward: Any) -> Any:
        return reward - abs(float(self.unwrapped.state[0]))


class Noisy(gym.ObservationWrapper):
    def observation(self, observation: Any) -> Any:
        return observation + self.np_random.normal(size=observation.shape)


class Global(gym.RewardWrapper):
    def reward(self, reward: Any) -> Any:
        return reward + np.random.normal()


@pytest.mark.parametrize(("wrapper", "asked"), [(Shaped, "unwrapped"), (Noisy, "np_random"), (Global, "NumPy's global")])
def test_what_would_be_asked_of_the_real_environment_is_refused(wrapper: Any, asked: str) -> None:
    env = wrapper(gym.make("CartPole-v1"))
    env.reset(seed=0)
    before = env.unwrapped.np_random.bit_generator.state
    with pytest.raises(NotSimulatableError, match=f"{wrapper.__name__} cannot be simulated: it .*{asked}"):
        branched(env)
    assert env.unwrapped.np_random.bit_generator.state == before


def test_a_function_that_holds_on_to_the_environment_is_refused() -> None:
    inner = gym.make("CartPole-v1")
    env = TransformReward(inner, lambda reward: reward - abs(inner.unwrapped.state[0]))  # type: ignore[attr-defined]
    with pytest.raises(NotSimulatableError, match="holds on to the environment itself"):
        simulator_for(env)


class Chance(gym.RewardWrapper):
    """Adds noise of its own generator."""

    simulated_state = ("rng",)

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.rng = np.random.default_rng(3)

    def reward(self, reward: Any) -> Any:
        return reward + self.rng.normal()


def test_a_generator_of_a_wrapper_draws_for_each_branch_and_foretells_nothing() -> None:
    env = Chance(gym.make("CartPole-v1"))
    env.reset(seed=0)
    simulator = simulator_for(env)
    assert simulator.stochastic
    found = branched(env)
    assert len({*found.rewards}) == 4
    again = branched(env)
    np.testing.assert_array_equal(found.rewards, again.rewards)  # of the same seed
    later = simulator.step(simulator.select(found.states, np.zeros(4, int)), np.ones(4, int))
    assert len({*later.rewards}) == 4, "branches selected from one draw apart"
    replayed = simulator.step(simulator.capture(env), np.ones(1, int)).rewards[0]
    assert replayed == env.step(1)[1], "without reseed a branch is the environment's own future"
    assert replayed not in found.rewards


class Count(gym.RewardWrapper):
    """Remembers a number."""

    simulated_state = ("n",)

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.n = 0

    def reward(self, reward: Any) -> Any:
        self.n += 1
        return float(reward) - 0.01 * self.n


@pytest.mark.parametrize("name", ["rlspo/RubiksCube-v0", "rlspo/Sokoban-v0"])
def test_a_memory_around_rules_in_torch(name: str) -> None:
    assert check_simulator(Count(gym.make(name)), steps=16) == []


class Scaled(gym.RewardWrapper):
    simulated_state = ()

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.scale = 1.0

    def reward(self, reward: Any) -> Any:
        return self.scale * reward


def test_attributes_that_are_changed_later_are_followed() -> None:
    env = DummyVecEnv([lambda: Scaled(gym.make("CartPole-v1"))] * 2)
    env.reset()
    simulator = simulator_for(env)
    env.set_attr("scale", 5.0)
    assert simulator.step(simulator.capture(env), np.ones(2, int)).rewards.tolist() == [5.0, 5.0]


def test_rules_that_are_changed_later_are_followed() -> None:
    env = gym.make("rlspo/AdmissionControl-v0")
    env.reset(seed=0)
    simulator = simulator_for(env)
    env.unwrapped.holding_cost = 100.0  # type: ignore[attr-defined]
    for _ in range(20):
        expected = simulator.step(simulator.capture(env), np.array([1])).rewards[0]
        assert env.step(1)[1] == pytest.approx(expected)


def test_two_wrappers_draw_apart() -> None:
    env = Chance(Chance(gym.make("CartPole-v1")))
    env.reset(seed=0)
    simulator = simulator_for(env)
    drawn = [
        layer._asked(layer.wrapper.reward, memory, np.zeros(3))[1]  # type: ignore[attr-defined]
        for layer, memory in zip(
            simulator.layers,
            simulator.reseed(simulator.replicate(simulator.capture(env), 3), 5).memory,
            strict=True,
        )
        if layer.stochastic
    ]
    assert len(drawn) == 2
    assert not np.isclose(*drawn).any()


class Shown(Count):
    """Its memory is a property."""

    simulated_state = ("count",)

    @property
    def count(self) -> int:
        return self.n

    @count.setter
    def count(self, value: int) -> None:
        self.n = value


def test_a_memory_may_be_a_property() -> None:
    env = Shown(gym.make("CartPole-v1"))
    env.reset(seed=0)
    simulator = simulator_for(env)
    states = simulator.replicate(simulator.capture(env), 3)
    assert simulator.step(states, np.ones(3, int)).rewards.tolist() == [0.99] * 3
