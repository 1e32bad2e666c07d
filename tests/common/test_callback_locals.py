"""Callbacks see SB3's local variables: the same names, types, shapes and meaning, on the fast path too."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, EveryNTimesteps
from stable_baselines3.common.vec_env import DummyVecEnv

from rlspo import PPO, SPO
from rlspo.common.trees import to_tensor
from tests.spaces import SpacesEnv, policy_name

SMALL: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "seed": 0, "device": "cpu"}


def form(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: form(part) for key, part in value.items()}
    return (type(value), value.dtype, tuple(value.shape)) if isinstance(value, torch.Tensor | np.ndarray) else type(value)


class Forms(BaseCallback):
    """What each local variable looks like, at a step and after the rollout."""

    def __init__(self) -> None:
        super().__init__()
        self.at_step: dict[str, Any] = {}
        self.at_end: dict[str, Any] = {}

    def _on_step(self) -> bool:
        self.at_step = {name: form(value) for name, value in self.locals.items()}
        assert self.locals["n_steps"] == (self.num_timesteps // 2 - 1) % 16
        return True

    def _on_rollout_end(self) -> None:
        self.at_end = {name: form(value) for name, value in self.locals.items()}
        assert self.locals["n_steps"] == 16


@pytest.mark.parametrize("action", ["box", "discrete", "multi_discrete"])
@pytest.mark.parametrize("observation", ["box", "dict"])
def test_names_types_and_shapes_are_sb3s(observation: str, action: str) -> None:
    def forms(cls: Any) -> Forms:
        env = DummyVecEnv([lambda: SpacesEnv(observation, action)] * 2)
        found = Forms()
        cls(policy_name(observation), env, **SMALL).learn(32, callback=found)
        return found

    expected, got = forms(stable_baselines3.PPO), forms(PPO)
    # What SB3 calls things while it looks at the ends of episodes, and classes that are another's by nature.
    loop = {"idx", "done", "terminal_obs", "terminal_value", "self", "__class__", "callback", "rollout_buffer", "env"}
    for name in expected.at_step.keys() - loop:
        assert got.at_step[name] == expected.at_step[name], name
    for name in ("obs_tensor", "values", "log_probs", "new_obs", "rewards", "dones", "infos", "clipped_actions"):
        assert got.at_end[name] == expected.at_end[name], name
    assert {"self", "callback", "rollout_buffer", "env"} <= got.at_step.keys()


class Values(BaseCallback):
    """Keeps what it reads, and checks it against the policy."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[tuple[torch.Tensor, torch.Tensor]] = []

    def _on_step(self) -> bool:
        observations, values, log_probs = (self.locals[name] for name in ("obs_tensor", "values", "log_probs"))
        with torch.no_grad():
            actions = torch.as_tensor(self.locals["actions"])
            expected_values, expected_log_probs, _ = self.model.policy.evaluate_actions(observations, actions)
        torch.testing.assert_close(values, expected_values)
        torch.testing.assert_close(log_probs, expected_log_probs)
        assert self.locals["values"] is values
        self.kept.append((values, log_probs))
        return True

    def _on_rollout_end(self) -> None:
        with torch.no_grad():
            expected = self.model.policy.predict_values(torch.as_tensor(self.locals["new_obs"]))
        torch.testing.assert_close(self.locals["values"], expected)


@pytest.mark.parametrize("kwargs", [{}, {"policy_kwargs": {"share_features_extractor": False, "activation_fn": torch.nn.ELU}}])
def test_they_are_what_the_policy_says(kwargs: Any) -> None:
    """Also inside of other callbacks; what was kept stays as it was."""
    inner, within = Values(), Values()
    read: list[Any] = []
    callback = CallbackList([inner, EveryNTimesteps(2, within), lambda_callback(read)])
    model = PPO("MlpPolicy", SpacesEnv("box", "box"), **SMALL, **kwargs)
    model.learn(32, callback=callback)
    assert len(inner.kept) == 32
    assert within.kept
    assert isinstance(read[0]["values"], torch.Tensor)
    second = torch.stack([values for values, _ in inner.kept[16:]])
    np.testing.assert_allclose(model.rollout_buffer.values, second.reshape(16, 1), rtol=1e-4, atol=1e-5)


def lambda_callback(read: list[Any]) -> BaseCallback:
    class Copies(BaseCallback):
        def _on_step(self) -> bool:
            assert isinstance(dict(self.locals)["values"], torch.Tensor)  # not what stands in for it
            read.append(self.locals.copy())
            assert self.locals.get("no such name", 3) == 3
            return True

    return Copies()


def test_values_at_the_end_are_those_of_the_memory() -> None:
    """As sb3-contrib's: V of the last observations with what is remembered there."""
    found = []

    class Reads(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_end(self) -> None:
            model = self.model
            seen = model._env_memory.seen(self.locals["new_obs"], self.locals["dones"])
            with torch.no_grad():
                expected = model.policy.values_of(model.policy.preprocess(to_tensor(seen, model.device)))
            found.append((self.locals["values"].reshape(-1), expected))

    env = DummyVecEnv([lambda: gym.make("Pendulum-v1")] * 2)
    PPO("MlpLstmPolicy", env, n_steps=16, batch_size=16, seed=0, policy_kwargs={"lstm_hidden_size": 8}).learn(64, Reads())
    assert len(found) == 2
    for values, expected in found:
        torch.testing.assert_close(values, expected)


def test_actions_of_the_rollout_before_are_elements_of_the_space() -> None:
    """Spaces may number actions from 5; what is read before a new rollout begins is what was there."""
    seen = []

    class Reads(BaseCallback):
        def _on_rollout_start(self) -> None:
            seen.extend(self.locals.get("actions", []))

        def _on_step(self) -> bool:
            return True

    class FromFive(SpacesEnv):
        def __init__(self) -> None:
            super().__init__("box", "discrete")
            self.action_space = gym.spaces.Discrete(3, start=5)

    PPO("MlpPolicy", FromFive(), n_steps=16, batch_size=16, seed=0).learn(48, Reads())
    assert len(seen) == 2 and set(map(int, seen)) <= {5, 6, 7}


def test_a_searching_agent_has_them_too() -> None:
    class Reads(BaseCallback):
        def _on_step(self) -> bool:
            assert self.locals["values"].shape == (1, 1)
            assert self.locals["log_probs"].shape == (1,)
            return True

    SPO("MlpPolicy", "CartPole-v1", n_steps=4, batch_size=4, gradient_steps=1, n_particles=2, depth=1).learn(4, Reads())


@pytest.mark.parametrize("agent", [PPO, SPO])
def test_what_was_logged_is_numbers(agent: Any) -> None:
    class Logged(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_end(self) -> None:
            assert all(isinstance(float(value), float) for value in self.logger.name_to_value.values())

    options = {} if agent is PPO else {"gradient_steps": 1, "n_particles": 2, "depth": 1}
    model = agent("MlpPolicy", "CartPole-v1", n_steps=16, batch_size=16, **options)
    model.learn(48, callback=Logged(), log_interval=100)
    assert len(model.logger.name_to_value) > 5
