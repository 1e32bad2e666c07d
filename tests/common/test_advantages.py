"""Generalised advantages against the sum that defines them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlspo.common.advantages import generalized_advantages

Rollout = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def rollout(n_steps: int, n_envs: int, seed: int, ending: float = 0.2) -> Rollout:
    """Rewards, values, next values and continues."""
    random = np.random.default_rng(seed)
    rewards, values = random.normal(0, 3, (2, n_steps, n_envs)).astype(np.float32)
    continues = (random.random((n_steps, n_envs)) > ending).astype(np.float32)
    return rewards, values, random.normal(0, 3, n_envs).astype(np.float32), continues


def by_definition(data: Rollout, gamma: float, gae_lambda: float) -> np.ndarray:
    """A_t = sum_k (gamma lambda)^k delta_{t+k}, as long as no episode ended in between; O(T^2) in float64."""
    rewards, values, last, continues = (array.astype(np.float64) for array in data)
    following = np.vstack([values[1:], last])
    advantages = np.zeros_like(rewards)
    for env in range(rewards.shape[1]):
        for start in range(len(rewards)):
            for k, step in enumerate(range(start, len(rewards))):
                bootstrap = gamma * following[step, env] if continues[step, env] else 0.0
                delta = rewards[step, env] + bootstrap - values[step, env]
                advantages[start, env] += (gamma * gae_lambda) ** k * delta
                if not continues[step, env]:
                    break
    return advantages


@settings(max_examples=60, deadline=None)
@given(
    n_steps=st.integers(1, 20),
    n_envs=st.integers(1, 4),
    gamma=st.floats(0, 1),
    gae_lambda=st.floats(0, 1),
    ending=st.sampled_from([0.0, 0.2, 1.0]),
    seed=st.integers(0, 10_000),
)
def test_equals_the_definition(n_steps: int, n_envs: int, gamma: float, gae_lambda: float, ending: float, seed: int) -> None:
    data = rollout(n_steps, n_envs, seed, ending)
    got = generalized_advantages(*data, gamma, gae_lambda)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, by_definition(data, gamma, gae_lambda), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n_steps", [1, 200])
def test_one_environment_alone_is_one_of_several(n_steps: int) -> None:
    data = rollout(n_steps, 3, seed=1)
    together = generalized_advantages(*data, 0.99, 0.95)
    for env in range(3):
        rewards, values, last, continues = data
        column = slice(env, env + 1)
        alone = generalized_advantages(rewards[:, column], values[:, column], last[column], continues[:, column], 0.99, 0.95)
        assert alone.shape == (n_steps, 1)
        np.testing.assert_allclose(alone, together[:, column], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n_envs", [1, 3])
def test_nothing_flows_over_the_end_of_an_episode(n_envs: int) -> None:
    rewards, values, last, continues = rollout(12, n_envs, seed=2, ending=0.0)
    continues[5] = 0
    before = generalized_advantages(rewards, values, last, continues, 0.99, 0.95)
    rewards[6:] += 100
    values[6:] -= 50
    after = generalized_advantages(rewards, values, last + 7, continues, 0.99, 0.95)
    np.testing.assert_array_equal(after[:6], before[:6])
    assert (np.abs(after[6:] - before[6:]) > 1).all()


@pytest.mark.parametrize("n_envs", [1, 3])
def test_the_two_limits(n_envs: int) -> None:
    """lambda 0: one-step errors. lambda 1: discounted return to the end, bootstrapped, minus the value."""
    data = rewards, values, last, continues = rollout(30, n_envs, seed=3)
    one_step = rewards + 0.9 * continues * np.vstack([values[1:], last]) - values
    np.testing.assert_allclose(generalized_advantages(*data, 0.9, 0.0), one_step, rtol=1e-5, atol=1e-5)
    returns, running = np.zeros_like(rewards), last
    for step in range(29, -1, -1):
        running = rewards[step] + 0.9 * continues[step] * running
        returns[step] = running
    np.testing.assert_allclose(generalized_advantages(*data, 0.9, 1.0), returns - values, rtol=1e-4, atol=1e-4)


def test_leaves_its_arguments_alone() -> None:
    data = rollout(6, 2, seed=4)
    copies = [array.copy() for array in data]
    generalized_advantages(*data, 0.99, 0.95)
    for array, copy in zip(data, copies, strict=True):
        np.testing.assert_array_equal(array, copy)
