"""Where the memory at the beginning of a sequence comes from: stored, burned in, or computed again."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from rlspo import BARPO, PPO
from rlspo.common.compilation import compiler_available
from rlspo.common.sequences import MEMORY, with_memory

KIND: dict[str, Any] = {"lstm_hidden_size": 16, "net_arch": [32]}
N_STEPS, N_ENVS, LENGTH, BURN_IN = 32, 3, 8, 5


def collected(**settings: Any) -> Any:
    """An agent with a rollout, whose weights have changed since."""
    given = {"n_steps": N_STEPS, "batch_size": N_STEPS * N_ENVS, "sequence_length": LENGTH, "seed": 0, "compile": False}
    model: Any = PPO("MlpLstmPolicy", make_vec_env("CartPole-v1", N_ENVS, seed=0), policy_kwargs=KIND, **given, **settings)
    model.learn(N_STEPS * N_ENVS)
    _, callback = model._setup_learn(N_STEPS * N_ENVS, None)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, N_STEPS)
    with torch.no_grad():
        for parameter in model.policy.lstm_actor.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return model


def replayed(model: Any, first: int, until: int) -> torch.Tensor:
    """Step by step from the memory stored at step ``first``: what is remembered before step ``until``."""
    data = model.rollout_buffer.data
    memory = torch.tensor(data[MEMORY][first])
    with torch.no_grad():
        for step in range(first, until):
            seen = with_memory(torch.tensor(data["observations"][step]), memory, torch.tensor(data["episode_starts"][step]))
            memory = model.policy.memory_after(model.policy.preprocess(seen))
    return memory


def values_of_sequences(model: Any) -> torch.Tensor:
    """pi's log-probabilities of all rows as the loss computes them, ``(n_steps, n_envs)``."""
    data, rows = model.learning_data(), torch.as_tensor(np.concatenate(model.minibatches()))
    seen = {key: part[rows] for key, part in data["observations"].items()}
    with torch.no_grad():
        found = model.policy.distribution_of(model.policy.preprocess(seen)).log_prob(data["actions"][rows])
    by_row = torch.zeros(N_STEPS * N_ENVS)
    by_row[rows] = found
    return by_row.reshape(N_STEPS, N_ENVS)


def expected(model: Any, number: int, memory: torch.Tensor) -> torch.Tensor:
    """The same of sequence ``number`` of all environments, from ``memory`` on, step by step."""
    data, found = model.rollout_buffer.data, []
    with torch.no_grad():
        for step in range(number * LENGTH, (number + 1) * LENGTH):
            seen = with_memory(torch.tensor(data["observations"][step]), memory, torch.tensor(data["episode_starts"][step]))
            inputs = model.policy.preprocess(seen)
            found.append(model.policy.distribution_of(inputs).log_prob(torch.tensor(data["actions"][step])))
            memory = model.policy.memory_after(inputs)
    return torch.stack(found)


def test_burn_in_goes_through_the_steps_before() -> None:
    model = collected(burn_in=BURN_IN)
    found = values_of_sequences(model)
    data = model.rollout_buffer.data
    for number in range(N_STEPS // LENGTH):
        first = number * LENGTH
        memory = torch.tensor(data[MEMORY][0]) if number == 0 else replayed(model, first - BURN_IN, first)
        torch.testing.assert_close(found[first : first + LENGTH], expected(model, number, memory), rtol=1e-4, atol=1e-5)


def test_without_it_sequences_begin_with_what_was_stored() -> None:
    model = collected()
    found = values_of_sequences(model)
    data = model.rollout_buffer.data
    for number in range(N_STEPS // LENGTH):
        memory = torch.tensor(data[MEMORY][number * LENGTH])
        rows = found[number * LENGTH : (number + 1) * LENGTH]
        torch.testing.assert_close(rows, expected(model, number, memory), rtol=1e-4, atol=1e-5)
    burned = values_of_sequences(collected(burn_in=BURN_IN))
    assert (burned - found)[LENGTH:].abs().max() > 1e-3


def test_recomputed_states_are_those_of_the_weights_now() -> None:
    model = collected(recompute_states=True)
    data, stored = model.rollout_buffer.data, model.rollout_buffer.data[MEMORY].copy()
    model._sequences.recompute(model.policy, model.learning_data()["observations"])
    for first in range(LENGTH, N_STEPS, LENGTH):
        torch.testing.assert_close(torch.tensor(data[MEMORY][first]), replayed(model, 0, first), rtol=1e-4, atol=1e-5)
        assert not np.allclose(data[MEMORY][first], stored[first], atol=1e-3)
    assert np.array_equal(data[MEMORY][0], stored[0])


@pytest.mark.parametrize("settings", [{"burn_in": BURN_IN}, {"recompute_states": True}])
def test_no_gradient_goes_before_the_sequence(settings: dict[str, Any]) -> None:
    """Weights learn as from sequences that begin with those memories."""
    model = collected(**settings)
    data = model.learning_data()
    rows = torch.as_tensor(model.minibatches()[0])
    seen = model.policy.preprocess({key: part[rows] for key, part in data["observations"].items()})
    given = model.policy._burned_in(seen)
    assert not given[MEMORY].requires_grad
    for parameter in model.policy.parameters():
        parameter.grad = None
    model.policy.evaluation_of(seen)[1].sum().backward()
    once = [parameter.grad.clone() for parameter in model.policy.lstm_critic.parameters()]
    for parameter in model.policy.parameters():
        parameter.grad = None
    model.policy.evaluation_of({**given, MEMORY: given[MEMORY].clone()})[1].sum().backward()
    for one, parameter in zip(once, model.policy.lstm_critic.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad)


@pytest.mark.skipif(not compiler_available("cpu"), reason="needs a C++ compiler")
def test_compiled_as_eager(device: str) -> None:
    given: dict[str, Any] = {
        "device": device,
        "n_steps": 32,
        "batch_size": 32,
        "sequence_length": 8,
        "burn_in": 4,
        "n_epochs": 2,
        "seed": 0,
    }
    given |= {"policy_kwargs": KIND, "adversary_steps": 1, "recompute_states": True}
    eager, compiled = (
        BARPO("MlpLstmPolicy", make_vec_env("CartPole-v1", 2, seed=0), compile=compile, **given).learn(128)
        for compile in (False, True)
    )
    other = compiled.policy.state_dict()
    for name, tensor in eager.policy.state_dict().items():
        torch.testing.assert_close(tensor, other[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("wrong", [-1, 1.5, True, None])
def test_burn_in_is_a_number_of_steps(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="burn_in is"):
        PPO("MlpLstmPolicy", "CartPole-v1", n_steps=32, burn_in=wrong)


class Named(gym.ObservationWrapper):
    """Observations under a key that begins like words of the memory's own."""

    def __init__(self, env: gym.Env, key: str = "before") -> None:
        super().__init__(env)
        self.key = key
        self.observation_space = gym.spaces.Dict({key: env.observation_space, "x": env.observation_space})

    def observation(self, observation: Any) -> Any:
        return {self.key: observation, "x": observation}


class Counted(BaseFeaturesExtractor):
    """With a layer that counts the passes in which it learns."""

    def __init__(self, space: gym.Space) -> None:
        super().__init__(space, 4)
        self.layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(4))

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return self.layers(observations)


def test_recomputing_is_acting_and_not_learning() -> None:
    counts = []
    for recompute in (False, True):
        given: dict[str, Any] = {"n_steps": 32, "batch_size": 32, "sequence_length": 8, "n_epochs": 3, "compile": False}
        kind = {**KIND, "features_extractor_class": Counted}
        env = make_vec_env("CartPole-v1", 2, seed=0)
        model = PPO("MlpLstmPolicy", env, policy_kwargs=kind, recompute_states=recompute, **given).learn(64)
        counts.append(int(model.policy.features_extractor.layers[1].num_batches_tracked))
    assert counts[0] == counts[1] == 6
    with pytest.raises(ValueError, match=r"burn_in is 4 and the policy has a BatchNorm1d.*recompute_states=True"):
        PPO("MlpLstmPolicy", env, policy_kwargs=kind, burn_in=4, **given)


def test_burn_in_that_no_sequence_has_the_steps_for() -> None:
    given: dict[str, Any] = {"n_steps": 32, "batch_size": 32, "sequence_length": 8}
    PPO("MlpLstmPolicy", "CartPole-v1", policy_kwargs=KIND, burn_in=24, **given)
    with pytest.raises(ValueError, match=r"burn_in is 25, and no sequence of 8 steps has so many before it.*n_steps 32"):
        PPO("MlpLstmPolicy", "CartPole-v1", policy_kwargs=KIND, burn_in=25, **given)


@pytest.mark.parametrize("setting", [{"burn_in": 4}, {"recompute_states": True}, {"sequence_length": 8}])
def test_settings_for_a_memory_that_is_not_there(setting: dict[str, Any]) -> None:
    with pytest.warns(UserWarning, match=f"{next(iter(setting))} is .* which does nothing: the policy has no memory"):
        PPO("MlpPolicy", "CartPole-v1", n_steps=32, batch_size=32, **setting)


def test_keys_of_an_observation_are_not_taken_for_the_memorys_own() -> None:
    given: dict[str, Any] = {"n_steps": 32, "batch_size": 32, "sequence_length": 8, "burn_in": 4}
    given |= {"recompute_states": True, "seed": 0}
    env = make_vec_env("CartPole-v1", 2, seed=0, wrapper_class=Named)
    model = PPO("MultiInputLstmPolicy", env, policy_kwargs=KIND, compile=False, **given).learn(128)
    assert set(model.policy.preprocess.parts) == {"before", "x"}
    env = make_vec_env("CartPole-v1", 2, wrapper_class=Named, wrapper_kwargs={"key": MEMORY})
    with pytest.raises(ValueError, match="keeps for itself"):
        PPO("MultiInputLstmPolicy", env, policy_kwargs=KIND, **given)
