"""What bad input gets: the environment's index and step, and weights as they were."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import DummyVecEnv

import rlspo
from rlspo import PPO
from rlspo.common.env_failures import in_one_line
from rlspo.common.errors import (
    InvalidRolloutError,
    check_choice,
    check_finite,
    check_fraction,
    check_number,
    check_policy_kwargs,
)
from tests.spaces import SpacesEnv, policy_name

Fault = Callable[[tuple[Any, float, bool, bool, dict[str, Any]]], Any]


class Faulty(SpacesEnv):
    """Works until the step at which something goes wrong.

    :param at: this step, counted from 1 over all episodes
    :param fault: changes what ``step`` returns
    """

    def __init__(self, at: int, fault: Fault, observation: str = "box", action: str = "box") -> None:
        super().__init__(observation, action)
        self.at, self.fault, self.all_steps = at, fault, 0

    def step(self, action: Any) -> Any:
        self.all_steps += 1
        result = super().step(action)
        return self.fault(result) if self.all_steps == self.at else result


def bad_observation(result: Any) -> Any:
    return (np.full_like(result[0], np.nan), *result[1:])


def infinite_entry(result: Any) -> Any:
    observation = result[0].copy()
    observation[3] = -np.inf
    return (observation, *result[1:])


def bad_vector(result: Any) -> Any:
    return ({**result[0], "vector": np.full(4, np.nan, np.float32)}, *result[1:])


def bad_reward(value: float) -> Fault:
    return lambda result: (result[0], value, *result[2:])


def bad_end(result: Any) -> Any:
    """The simulation diverges and the environment cuts the episode: the vectorised environment resets at once."""
    return np.full_like(result[0], np.nan), 0.0, False, True, {}


def bad_termination(result: Any) -> Any:
    return np.full_like(result[0], np.nan), 0.0, True, False, {}


def failing(result: Any) -> Any:
    raise ZeroDivisionError("the wheel came off")


def agent(at: int, fault: Fault, observation: str = "box", action: str = "box", which: int = 1) -> PPO:
    """Three environments, of which number ``which`` is faulty; rollouts of 8 steps."""
    never = 10**9
    envs = [lambda i=i: Faulty(at if i == which else never, fault, observation, action) for i in range(3)]
    options: dict[str, Any] = {"n_steps": 8, "batch_size": 12, "n_epochs": 1, "seed": 0, "normalize_rewards": True}
    return PPO(policy_name(observation), DummyVecEnv(envs), **options)


@pytest.mark.parametrize(
    ("fault", "observation", "message"),
    [
        (bad_observation, "box", r"Environment 1 returned a observation that is NaN or infinite at step 10.*nan"),
        (bad_observation, "box64", r"Environment 1 returned a observation"),
        (infinite_entry, "box", r"Environment 1 returned a observation.*-inf"),
        (bad_vector, "dict", r"Environment 1 returned a observation vector that is NaN"),
        (bad_reward(np.nan), "box", r"Environment 1 returned a reward that is NaN or infinite at step 10: nan"),
        (bad_reward(np.inf), "discrete", r"Environment 1 returned a reward.*inf"),
        (bad_reward(1e300), "box", r"Environment 1 returned a reward.*inf"),
        (bad_end, "box", r"Environment 1 .*NaN or infinite at step 10"),
        (failing, "box", r"ZeroDivisionError: the wheel came off .*Environment 1 raised this at step 10"),
    ],
    ids=lambda value: getattr(value, "__name__", value)[:20],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_bad_steps_stop_the_run_and_spare_the_weights(fault: Fault, observation: str, message: str) -> None:
    """In the second rollout; by then the first one has been learned from."""
    at = 11  # ten steps went well
    reference = agent(10**9, fault, observation).learn(24)
    model = agent(at, fault, observation)
    with pytest.raises(ZeroDivisionError if fault is failing else InvalidRolloutError) as error:
        model.learn(1000)
    text = in_one_line(error.value)
    assert re.search(message.replace("a observation", "an? observation"), text)
    assert "weights are as they were after the last update" in text
    assert torch.equal(model.update.vector.weights, reference.update.vector.weights)
    assert np.isfinite(model.reward_scaler.scale)
    assert model.rollout_buffer.pos < 8


def test_the_last_observation_of_an_ended_episode_is_of_no_consequence() -> None:
    model = agent(11, bad_termination).learn(48)
    assert torch.isfinite(model.update.vector.weights).all()


@pytest.mark.parametrize("which", [0, 2])
def test_names_the_right_environment(which: int) -> None:
    with pytest.raises(ZeroDivisionError) as error:
        agent(5, failing, which=which).learn(100)
    assert f"Environment {which} raised this at step 4." in in_one_line(error.value)
    with pytest.raises(InvalidRolloutError, match=rf"Environment {which} returned .* at step 0"):
        agent(1, bad_observation, which=which).learn(100)


class BadStart(SpacesEnv):
    def reset(self, **kwargs: Any) -> Any:
        observation, info = super().reset(**kwargs)
        return observation * np.nan, info


def test_bad_first_observation() -> None:
    model = PPO("MlpPolicy", BadStart("box", "discrete"), n_steps=8, batch_size=8, seed=0)
    with pytest.raises(InvalidRolloutError, match=r"Environment 0 .*observation.* at step 0"):
        model.learn(8)


def test_bad_first_observation_of_a_new_environment() -> None:
    """Also where training goes on, so that the first step is not number 0."""
    model = PPO("MlpPolicy", SpacesEnv("box", "discrete"), n_steps=4, batch_size=4, seed=0).learn(4)
    weights = model.update.vector.weights.clone()
    model.set_env(BadStart("box", "discrete"))
    with pytest.raises(InvalidRolloutError, match=r"Environment 0 .*observation"):
        model.learn(4, reset_num_timesteps=False)
    assert torch.equal(model.update.vector.weights, weights)


def test_training_can_go_on_after_the_environment_was_fixed() -> None:
    model = agent(11, failing)
    with pytest.raises(ZeroDivisionError):
        model.learn(1000)
    before = model.update.vector.weights.clone()
    model.set_env(DummyVecEnv([SpacesEnv] * 3))
    model.learn(24)
    assert torch.isfinite(model.update.vector.weights).all()
    assert not torch.equal(model.update.vector.weights, before)


def test_an_interrupt_is_not_explained_away() -> None:
    def interrupt(result: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        agent(5, interrupt).learn(100)


def test_finite_and_integer_values_pass() -> None:
    check_finite(np.ones((2, 3)), np.zeros(2), 0)
    check_finite({"a": np.ones((2, 3), np.uint8), "b": np.array([1, 2])}, np.array([1e38, -1e38], np.float32), 0)


def test_first_bad_environment_is_named() -> None:
    observations = np.zeros((4, 2, 2))
    observations[2, 0, 1] = np.nan
    observations[3] = np.inf
    with pytest.raises(InvalidRolloutError, match=r"Environment 2 .* at step 7"):
        check_finite(observations, np.full(4, np.nan), 7)


@pytest.mark.parametrize("value", ["0.1", None, True, [1.0], 1j])
def test_numbers_must_be_numbers(value: Any) -> None:
    with pytest.raises(TypeError, match=r"epsilon is .* of type .*must be a number"):
        check_number("epsilon", value)


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), -np.inf, np.float32("nan")])
def test_numbers_must_be_finite_and_not_too_small(value: float) -> None:
    with pytest.raises(ValueError, match=r"epsilon is .*finite number of at least 0"):
        check_number("epsilon", value)


def test_good_numbers_come_back_as_floats() -> None:
    for value in (0, 0.5, np.float32(0.5), np.int64(3)):
        got = check_number("epsilon", value)
        assert type(got) is float
        assert got == value
    assert check_number("steps", 2, minimum=2) == 2
    with pytest.raises(ValueError, match="at least 2"):
        check_number("steps", 1, minimum=2)


def test_fractions_and_choices() -> None:
    assert [check_fraction("ramp", value) for value in (0, 0.5, 1)] == [0.0, 0.5, 1.0]
    with pytest.raises(ValueError, match=r"ramp is 1\.1.*between 0 and 1"):
        check_fraction("ramp", 1.1)
    assert check_choice("norm", "l2", ("linf", "l2")) == "l2"
    with pytest.raises(ValueError, match=r"norm is 'l1'; it must be one of 'linf', 'l2'"):
        check_choice("norm", "l1", ("linf", "l2"))


@pytest.mark.parametrize("agent", ["PPO", "SAC"])
def test_a_misspelt_setting_of_the_policy_is_named_with_those_that_exist(agent: str) -> None:
    words = r"policy_kwargs has 'n_expert', which Moe.* does not take\. Did you mean 'n_experts'\? It takes: .*routing"
    with pytest.raises(TypeError, match=words):
        getattr(rlspo, agent)("MoeMlpPolicy", "Pendulum-v1", policy_kwargs={"n_expert": 3, "net_arch": [8]})


@pytest.mark.parametrize("agent", ["PPO", "SAC"])
def test_the_policies_that_take_a_setting_are_named_where_another_was_given_it(agent: str) -> None:
    words = r"policy_kwargs has 'n_experts', which .* does not take\. Policies that do: MoeMlpPolicy, MoeCnnPolicy, Moe"
    with pytest.raises(TypeError, match=words):
        getattr(rlspo, agent)("MlpPolicy", "Pendulum-v1", policy_kwargs={"n_experts": 3})


@pytest.mark.parametrize("agent", ["PPO", "SAC"])
def test_an_unknown_policy_is_named_with_those_that_exist(agent: str) -> None:
    with pytest.raises(
        ValueError, match=rf"{agent} has no policy 'MlPolicy'\. Did you mean 'MlpPolicy'\? It has: .*MoeMlpPolicy"
    ):
        getattr(rlspo, agent)("MlPolicy", "Pendulum-v1")


def test_a_policy_that_takes_anything_is_given_anything() -> None:
    class Open:
        def __init__(self, **kwargs: int) -> None:
            pass

    class Inner:
        def __init__(self, width: int) -> None:
            pass

    class Outer(Inner):
        def __init__(self, *args: int, depth: int = 1, **kwargs: int) -> None:
            pass

    check_policy_kwargs(Open, ["whatever"], {})
    check_policy_kwargs(Outer, ["depth", "width"], {})
    with pytest.raises(TypeError, match=r"'widht', which Outer does not take\. Did you mean 'width'"):
        check_policy_kwargs(Outer, ["widht"], {})


@pytest.mark.parametrize("number", [1e39, -1e300, np.inf, np.nan])
def test_numbers_that_float32_cannot_hold_are_refused(number: float) -> None:
    with pytest.raises(
        InvalidRolloutError,
        match=r"Environment 1 returned an observation that is (NaN or infinite|too large for float32) at step 7",
    ):
        check_finite(np.array([[0.0], [number]]), np.zeros(2), 7)
    with pytest.raises(InvalidRolloutError, match="a reward"):
        check_finite(np.zeros((2, 1)), np.array([0.0, number]), 7)
    check_finite(np.array([[1e38]]), np.array([-1e38]), 7)
