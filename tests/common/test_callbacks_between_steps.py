"""Callbacks that write to the policy within a rollout, and that stop it: what was recorded stays true."""

import copy
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


class Change(BaseCallback):
    """Changes the policy after half of a rollout, by a function of it."""

    def __init__(self, change: Any) -> None:
        super().__init__()
        self.change = change

    def _on_step(self) -> bool:
        if self.n_calls == 32:
            self.before = copy.deepcopy(self.model.policy)
            self.change(self.model.policy)
            self.after = copy.deepcopy(self.model.policy)
        return True


def load_twice(policy: Any) -> None:
    policy.load_from_vector(policy.parameters_to_vector() * 2)


def put_data(policy: Any) -> None:
    for parameter in policy.parameters():
        parameter.data = parameter.data * 2


def replace_a_layer(policy: Any) -> None:
    policy.action_net = torch.nn.Sequential(torch.nn.Linear(64, 8), torch.nn.Linear(8, 1))


def shift_statistics(policy: Any) -> None:
    policy.preprocess.parts["observation"].normalizer.mean.add_(1.0)


@pytest.mark.parametrize("within", ["alone", "a list of the user's"])
@pytest.mark.parametrize("change", [load_twice, put_data, replace_a_layer, shift_statistics])
def test_whatever_changes_the_policy_each_step_is_that_of_the_policy_that_acted(change: Any, within: str) -> None:
    class Both(CallbackList):
        def _on_step(self) -> bool:
            return super()._on_step()

    one = Change(change)
    model = PPO("MlpPolicy", "Pendulum-v1", **SMALL, normalize_observations=True)
    model.learn(64)
    model.learn(64, one if within == "alone" else Both([one]), reset_num_timesteps=False)
    buffer = model.rollout_buffer
    seen, actions = (torch.as_tensor(buffer.flat(name)) for name in ("observations", "actions"))
    for policy, rows in ((one.before, slice(0, 32)), (one.after, slice(32, 64))):
        with torch.no_grad():
            distribution, values = policy.evaluation_of(policy.preprocess(seen[rows]))
            log_probs = distribution.log_prob(actions[rows])
        np.testing.assert_allclose(buffer.flat("values")[rows], values, atol=1e-4)
        np.testing.assert_allclose(buffer.flat("log_probs")[rows], log_probs, atol=1e-4)
        strayed = (actions[rows] - distribution.mode()) / distribution.log_std.exp()
        assert strayed.abs().mean() < 1.3, "acted with these weights"


class Wins(gym.Env[np.ndarray, int]):
    """Pays one at each step of episodes of twenty."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space: Any = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return np.zeros(1, np.float32), 1.0, self.t == 20, False, {}


def test_returns_whose_spread_scales_rewards_go_on_over_a_stop() -> None:
    class Stop(BaseCallback):
        def _on_step(self) -> bool:
            return self.n_calls < 10

    model = PPO("MlpPolicy", Wins(), **{**SMALL, "n_steps": 16, "batch_size": 16}, normalize_rewards=True, gamma=1.0)
    model.learn(16)
    model.learn(16, Stop(), reset_num_timesteps=False)
    assert model.reward_scaler is not None
    np.testing.assert_allclose(model.reward_scaler.running_return, 6.0, err_msg="16 + 10 steps are 6 of the second episode")


def test_advantages_computed_anew_after_a_rollout_are_the_same() -> None:
    class Again(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_end(self) -> None:
            buffer: Any = self.model.rollout_buffer
            self.before = buffer.advantages.copy()
            buffer.rewards[:] += self.more
            arguments = (self.locals["last_values"], self.locals["dones"])
            buffer.compute_returns_and_advantage(*arguments)
            self.after = buffer.advantages.copy()

    for more in (0.0, 1.0):
        again = Again()
        again.more = more
        env = gym.wrappers.TimeLimit(gym.make("Pendulum-v1").unwrapped, 10)
        PPO("MlpPolicy", env, **SMALL, normalize_rewards=True, gamma=0.5, gae_lambda=0.0).learn(64, again)
        np.testing.assert_allclose(again.after - again.before, more, atol=1e-5)
