"""Callbacks that write to the policy within a rollout, and that stop it: what was recorded stays true."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, CheckpointCallback

from rlspo import PPO, SAC
from rlspo.common.weights_in_use import of_users

SMALL: dict[str, Any] = {"n_steps": 64, "batch_size": 32, "n_epochs": 1, "learning_rate": 0.0, "seed": 0, "device": "cpu"}


class Narrow(BaseCallback):
    """Narrows the spread after half of each rollout, and puts it back."""

    def _on_rollout_start(self) -> None:
        self._write(0.0)

    def _on_step(self) -> bool:
        if self.n_calls % 64 == 32:
            self._write(-3.0)
        return True

    def _write(self, value: float) -> None:
        with torch.no_grad():
            self.model.policy.log_std.data.fill_(value)


@pytest.mark.parametrize("policy", ["MlpPolicy", "MlpLstmPolicy"])
def test_log_probabilities_are_those_of_the_weights_that_acted(policy: str) -> None:
    model = PPO(policy, "Pendulum-v1", **SMALL).learn(64, Narrow())
    data = model.rollout_buffer.data
    mean = np.abs(data["actions"][32:]).max()
    assert mean < 0.5, "the new spread is acted with"
    assert data["log_probs"][:32].max() < 0
    assert data["log_probs"][32:].mean() > 1
    if policy == "MlpPolicy":
        other = stable_baselines3.PPO(policy, "Pendulum-v1", **SMALL).learn(64, Narrow())
        theirs = other.rollout_buffer.log_probs.reshape(-1)
        assert data["log_probs"][32:].mean() == pytest.approx(theirs[32:].mean(), abs=0.5)
        assert data["log_probs"][:32].mean() == pytest.approx(theirs[:32].mean(), abs=0.5)


def test_which_callbacks_are_of_users() -> None:
    assert of_users(Narrow())
    assert of_users(CallbackList([CheckpointCallback(10, "x"), Narrow()]))
    assert not of_users(CallbackList([CheckpointCallback(10, "x")]))


class Counter(gym.Env[np.ndarray, np.ndarray]):
    """Observes ten times the episode's number plus the step's; episodes of five steps."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)
    episode = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode, self.t = self.episode + 1, 0
        return self._seen(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return self._seen(), 0.0, self.t == 5, False, {}

    def _seen(self) -> np.ndarray:
        return np.array([10 * self.episode + self.t], np.float32)


class StopAtEnd(BaseCallback):
    def _on_step(self) -> bool:
        return not self.locals["dones"][0]


def test_after_a_stop_a_rollout_begins_with_a_new_episode() -> None:
    model = PPO("MlpPolicy", Counter(), **SMALL)
    model.learn(64, StopAtEnd())
    model.learn(64, reset_num_timesteps=False)
    data = model.rollout_buffer.data
    assert data["observations"][:6, 0, 0].tolist() == [20, 21, 22, 23, 24, 30]
    assert data["episode_starts"][:6, 0].tolist() == [1, 0, 0, 0, 0, 1]


def test_after_a_stop_a_replay_buffer_gets_no_transition_that_never_was() -> None:
    model = SAC("MlpPolicy", Counter(), learning_starts=2, batch_size=2, buffer_size=50, seed=0, device="cpu")
    model.learn(64, StopAtEnd())
    model.learn(12, reset_num_timesteps=False)
    assert model.replay_buffer is not None
    count = model.replay_buffer.size()
    before, after = (
        np.asarray(getattr(model.replay_buffer, name)[:count]).reshape(-1) for name in ("observations", "next_observations")
    )
    assert (after - before).tolist() == [1.0] * count


def test_a_layer_may_be_replaced_within_a_rollout() -> None:
    class Replace(BaseCallback):
        def _on_step(self) -> bool:
            if self.n_calls == 5:
                policy: Any = self.model.policy
                policy.action_net = torch.nn.Sequential(torch.nn.Linear(64, 8), torch.nn.Linear(8, 1))
            return True

    model = PPO("MlpPolicy", "Pendulum-v1", **SMALL).learn(64, Replace())
    assert np.isfinite(model.rollout_buffer.data["log_probs"]).all()
