"""Reward scaling against VecNormalize and against the definition of a discounted return."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from rlspo import PPO
from rlspo.common.advantages import generalized_advantages
from rlspo.common.reward_scaling import RewardScaler
from tests.spaces import SpacesEnv


class Scripted(gym.Env):
    """Pays what the script says and ends an episode where it says so."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, rewards: np.ndarray, dones: np.ndarray) -> None:
        self.script = iter(zip(rewards, dones, strict=True))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        reward, done = next(self.script)
        return np.zeros(1, np.float32), float(reward), bool(done), False, {}


def script(n_steps: int, n_envs: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    rewards = random.normal(2.0, 5.0, (n_steps, n_envs)).astype(np.float32)
    return rewards, (random.random((n_steps, n_envs)) < 0.1).astype(np.float32)


def starts_of(dones: np.ndarray) -> np.ndarray:
    """Where episodes begin: at the first step, and after each end."""
    return np.concatenate([np.ones_like(dones[:1]), dones[:-1]])


@pytest.mark.parametrize("n_envs", [1, 3])
def test_statistics_are_those_of_vecnormalize(n_envs: int) -> None:
    """Fed in three rollouts: the discounted return runs on from one to the next, as the environments do."""
    rewards, dones = script(120, n_envs)
    envs = DummyVecEnv([lambda i=i: Scripted(rewards[:, i], dones[:, i]) for i in range(n_envs)])
    reference = VecNormalize(envs, norm_obs=False, gamma=0.9)
    reference.reset()
    for _ in range(120):
        reference.step(np.zeros(n_envs, int))
    scaler, starts = RewardScaler(0.9, n_envs), starts_of(dones)
    for part in (slice(0, 1), slice(1, 50), slice(50, 120)):
        scaler.update(rewards[part], starts[part])
    assert scaler.statistics.count == pytest.approx(reference.ret_rms.count)
    assert scaler.statistics.mean == pytest.approx(reference.ret_rms.mean, rel=1e-6)
    assert scaler.statistics.var == pytest.approx(reference.ret_rms.var, rel=1e-6)
    np.testing.assert_allclose(scaler.running_return * (1 - dones[-1]), reference.returns)
    np.testing.assert_allclose(scaler(rewards), reference.normalize_reward(rewards), rtol=1e-5)


def test_scale_is_the_deviation_of_the_discounted_return() -> None:
    """By definition: G_t = sum_k gamma^k r_{t-k} within the episode."""
    rewards, dones = script(2000, 2)
    returns = np.zeros_like(rewards)
    for env in range(2):
        for step in range(2000):
            goes_on = step > 0 and not dones[step - 1, env]
            returns[step, env] = rewards[step, env] + (0.95 * returns[step - 1, env] if goes_on else 0.0)
    scaler = RewardScaler(0.95, 2)
    scaler.update(rewards, starts_of(dones))
    assert scaler.scale == pytest.approx(returns.std(), rel=1e-4)


def test_one_scale_holds_for_all_rewards_so_that_sums_stay_sums() -> None:
    rewards, dones = script(50, 2)
    scaler = RewardScaler(0.9, 2, clip=1e9)
    scaler.update(rewards, starts_of(dones))
    np.testing.assert_allclose(scaler(rewards), rewards / scaler.scale, rtol=1e-6)
    np.testing.assert_allclose(scaler(rewards) + scaler(2 - rewards), 2 / scaler.scale, rtol=1e-4)
    assert scaler(rewards).dtype == np.float32


def test_environments_that_are_reset_between_rollouts_begin_a_new_return() -> None:
    scaler, alone = RewardScaler(0.9, 1), RewardScaler(0.9, 1)
    rewards, starts = np.ones((20, 1)), np.eye(20)[0][:, None]
    alone.update(rewards, starts)
    for _ in range(2):  # the first rollout ends inside of an episode
        scaler.update(rewards, starts)
    assert scaler.statistics.mean == pytest.approx(alone.statistics.mean, rel=1e-4)
    assert scaler.statistics.var == pytest.approx(alone.statistics.var, rel=1e-4)


def test_clips() -> None:
    scaler = RewardScaler(0.9, 1, clip=2.0)
    scaler.update(np.ones((50, 1)), np.ones((50, 1)) - 1)
    far = np.array([[1e6], [-1e6]])
    assert scaler(far).ravel().tolist() == [2.0, -2.0]


def test_another_number_of_environments_starts_new_returns() -> None:
    scaler = RewardScaler(0.9, 1)
    scaler.update(np.ones((5, 1)), np.zeros((5, 1)))
    count = scaler.statistics.count
    scaler.update(np.ones((5, 3)), np.zeros((5, 3)))
    assert scaler.running_return.shape == (3,)
    assert scaler.statistics.count == pytest.approx(count + 15)


def test_agent_learns_from_scaled_and_records_raw_rewards() -> None:
    """The value that bootstraps a time limit is in scaled units already, so it is added after scaling."""
    model = PPO("MlpPolicy", SpacesEnv(), n_steps=40, batch_size=20, n_epochs=1, seed=0, device="cpu", normalize_rewards=True)
    _, callback = model._setup_learn(40)
    seen: list[tuple[float, bool, Any]] = []
    step = model.env.step

    def watched_step(actions: np.ndarray) -> Any:
        result = step(actions)
        seen.append((float(result[1][0]), bool(result[3][0]["TimeLimit.truncated"]), result[3][0].get("terminal_observation")))
        return result

    model.env.step = watched_step
    model.collect_rollouts(model.env, callback, model.rollout_buffer, 40)
    buffer = model.rollout_buffer
    np.testing.assert_allclose(buffer.rewards[:, 0], [reward for reward, _, _ in seen], rtol=1e-6)
    scaler = RewardScaler(model.gamma, 1)
    dones = np.append(buffer.episode_starts[1:, 0], model._last_episode_starts)[:, None].astype(np.float32)
    scaler.update(buffer.rewards, buffer.episode_starts)
    rewards = scaler(buffer.rewards)
    assert any(cut for _, cut, _ in seen) or any(end is not None for _, _, end in seen)

    def value(observation: np.ndarray) -> float:
        tensor, _ = model.policy.obs_to_tensor(observation)
        return model.policy.predict_values(tensor).item()

    for index, (_, cut, last) in enumerate(seen):
        if cut:
            rewards[index] += model.gamma * value(last)
    expected = generalized_advantages(
        rewards, buffer.values, np.array([value(model._last_obs)]), 1 - dones, model.gamma, model.gae_lambda
    )
    np.testing.assert_allclose(buffer.advantages, expected, rtol=1e-4, atol=1e-4)
    assert scaler.scale > 1.5, "the scale should matter here"


def test_steps_that_only_reset_do_not_count() -> None:
    """One-step episodes of 100 with a reset of 0 between them: the return is always 100."""
    rewards = np.array([[100.0], [0.0], [102.0], [0.0]])
    starts, valid = np.array([[1.0], [0.0], [1.0], [0.0]]), np.array([[True], [False], [True], [False]])
    scaler = RewardScaler(0.99, 1)
    scaler.update(rewards, starts, valid)
    assert scaler.scale == pytest.approx(1.0, abs=0.3)
