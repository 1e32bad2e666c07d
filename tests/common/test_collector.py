"""Acting, evaluating in batches and bootstrapping at time limits, each against a direct calculation."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv

from rlspo import PPO
from rlspo.common import collector
from rlspo.common.collector import TimeLimits, env_actions, evaluate_in_batches, stack_observations, torch_actor
from rlspo.common.trees import to_tensor, tree_map
from tests.spaces import ACTIONS, SpacesEnv, policy_name

Array = np.ndarray


def make(observation: str = "box", action: str = "box", **kwargs: Any) -> PPO:
    options = {"n_steps": 8, "batch_size": 8, "n_epochs": 1, "seed": 0, **kwargs}
    return PPO(policy_name(observation), SpacesEnv(observation, action), **options)


def observations_of(model: PPO, size: int) -> Any:
    model.observation_space.seed(1)
    return stack_observations([model.observation_space.sample() for _ in range(size)])


@pytest.mark.parametrize("observation", ["box", "dict"])
@pytest.mark.parametrize("action", ACTIONS)
def test_torch_actor_reports_what_sb3_says_of_its_actions(observation: str, action: str, device: str) -> None:
    model = make(observation, action, device=device)
    observations = observations_of(model, 5)
    actions, values, log_probs = torch_actor(model.policy, model.randomness.torch)(observations)
    tensors = to_tensor(observations, model.device)
    expected_values, expected, _ = model.policy.evaluate_actions(tensors, torch.as_tensor(actions, device=model.device))
    assert values is not None
    np.testing.assert_allclose(values, expected_values.detach().cpu().flatten(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(log_probs, expected.detach().cpu(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("action", ACTIONS)
def test_environment_gets_actions_of_its_space(action: str) -> None:
    model = make(action=action, device="cpu")
    actions, _, _ = torch_actor(model.policy, model.randomness.torch)(observations_of(model, 20))
    for row in env_actions(actions, model.policy, model.action_space):
        assert model.action_space.contains(row)


def test_box_actions_are_clipped_and_shaped() -> None:
    model = make(device="cpu")
    space = spaces.Box(np.array([[-1.0, -2.0]], np.float32), np.array([[1.0, 0.5]], np.float32))
    given = np.array([[-5.0, -5.0], [0.25, 0.25], [5.0, 5.0]], np.float32)
    got = env_actions(given, model.policy, space)
    assert got.tolist() == [[[-1.0, -2.0]], [[0.25, 0.25]], [[1.0, 0.5]]]
    assert given[0, 0] == -5.0, "the unclipped action is the one that was sampled"


class WideActions(SpacesEnv):
    def __init__(self) -> None:
        super().__init__()
        self.action_space = spaces.Box(np.array([0.0, -10.0], np.float32), np.array([4.0, 10.0], np.float32))


def test_generalised_exploration_of_actions_with_several_axes() -> None:
    class Square(SpacesEnv):
        def __init__(self) -> None:
            super().__init__("box", "box")
            self.action_space = spaces.Box(-1, 1, (2, 2), np.float32)

    model = PPO("MlpPolicy", Square(), use_sde=True, n_steps=16, batch_size=16, seed=0).learn(32)
    assert model.predict(np.zeros(model.observation_space.shape, np.float32))[0].shape == (2, 2)


def test_squashed_actions_are_stretched_to_the_bounds() -> None:
    model = PPO("MlpPolicy", WideActions(), n_steps=8, use_sde=True, batch_size=8, policy_kwargs={"squash_output": True})
    got = env_actions(np.array([[-1.0, -1.0], [0.0, 0.5], [1.0, 1.0]], np.float32), model.policy, model.action_space)
    np.testing.assert_allclose(got, [[0, -10], [2, 5], [4, 10]])


@pytest.mark.parametrize("observation", ["box", "image", "dict"])
@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_chunks_do_not_show(observation: str, chunk: int, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(observation, "discrete", device=device)
    observations, actions = observations_of(model, 7), np.arange(7) % 3
    monkeypatch.setattr(collector, "EVALUATION_CHUNK", chunk)
    monkeypatch.setattr(collector, "IMAGE_EVALUATION_CHUNK", chunk)
    values, log_probs = evaluate_in_batches(model.policy, observations, actions)
    with torch.no_grad():
        inputs = model.policy.preprocess(to_tensor(observations, model.device))
        distribution, expected = model.policy.evaluation_of(inputs)
        expected_log_probs = distribution.log_prob(torch.as_tensor(actions, device=model.device))
    assert log_probs is not None
    np.testing.assert_allclose(values, expected.cpu(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(log_probs, expected_log_probs.cpu(), rtol=1e-4, atol=1e-6)
    alone, nothing = evaluate_in_batches(model.policy, observations, None)
    np.testing.assert_allclose(alone, values, rtol=1e-4, atol=1e-6)
    assert nothing is None


def test_stacking() -> None:
    assert stack_observations([1, 2, 3]).tolist() == [1, 2, 3]
    stacked = stack_observations([{"a": np.zeros(2), "b": 1}, {"a": np.ones(2), "b": 2}])
    assert stacked["a"].tolist() == [[0, 0], [1, 1]]
    assert stacked["b"].tolist() == [1, 2]


@pytest.mark.parametrize("observation", ["box", "dict", "discrete"])
def test_only_time_limits_are_bootstrapped(observation: str, device: str) -> None:
    """r + gamma V(last observation) where a limit cut the episode, r where it ended by itself or went on."""
    model = make(observation, device=device)
    last = [model.observation_space.sample() for _ in range(3)]
    limits = TimeLimits()
    limits.note(0, np.array([True, False]), [{"TimeLimit.truncated": True, "terminal_observation": last[0]}, {}])
    limits.note(1, np.array([False, True]), [{}, {"TimeLimit.truncated": False, "terminal_observation": last[1]}])
    limits.note(2, np.array([True, True]), [{}, {"TimeLimit.truncated": True, "terminal_observation": last[2]}])
    rewards = np.ones((3, 2), np.float32)
    got = limits.bootstrap(rewards, 0.9, model.policy)
    with torch.no_grad():
        first, third = (
            float(model.policy.predict_values(to_tensor(stack_observations([one]), model.device)))
            for one in (last[0], last[2])
        )
    # Where V is near -1 / 0.9 the sum cancels, and what is left of it has float32's error of its terms.
    np.testing.assert_allclose(got, [[1 + 0.9 * first, 1], [1, 1], [1, 1 + 0.9 * third]], rtol=1e-5, atol=1e-6)
    assert (rewards == 1).all(), "the recorded rewards stay as they are"


def test_no_time_limit_changes_nothing() -> None:
    rewards = np.ones((3, 2), np.float32)
    assert TimeLimits().bootstrap(rewards, 0.9, policy=None) is rewards


class Countdown(gym.Env):
    """Observes the step's number; ends after ``length`` steps."""

    observation_space = spaces.Box(-100, 100, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, length: int) -> None:
        self.length, self.steps = length, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return np.full(1, self.steps, np.float32), 1.0, self.steps == self.length, False, {}


def vectorised(n_steps: int, batch_size: int) -> PPO:
    """Two gymnasium environments that spend the step after an episode's end on resetting."""
    envs = SyncVectorEnv([lambda: Countdown(3), lambda: Countdown(4)])
    return PPO(
        "MlpPolicy",
        envs,
        n_steps=n_steps,
        batch_size=batch_size,
        n_epochs=2,
        seed=0,
        device="cpu",
        normalize_observations=True,
        policy_kwargs={"net_arch": [8]},
    )


def test_steps_that_only_reset_are_recorded_but_not_learned_from() -> None:
    model = vectorised(n_steps=16, batch_size=4).learn(32)
    valid = model.rollout_buffer.valid
    # Episodes of 3 and 4 steps, each followed by a step that resets.
    assert np.flatnonzero(~valid[:, 0]).tolist() == [3, 7, 11, 15]
    assert np.flatnonzero(~valid[:, 1]).tolist() == [4, 9, 14]
    rows = model.minibatches()
    assert [len(some) for some in rows] == [4, 4, 4, 4, 4, 4, 1]
    assert sorted(np.concatenate(rows)) == np.flatnonzero(model.rollout_buffer.flat("valid")).tolist()
    normalizer = model.policy.preprocess.parts["observation"].normalizer
    assert float(normalizer.count) == valid.sum() == 25
    seen = model.rollout_buffer.flat("observations")[model.rollout_buffer.flat("valid")]
    np.testing.assert_allclose(normalizer.mean, seen.mean(axis=0), rtol=1e-5)
    assert seen.max() == 3, "the observation after an episode's end is no observation to act on"


def test_one_minibatch_to_a_rollout_with_steps_that_only_reset() -> None:
    """Each row that counts comes once; where none does, nothing is learned."""
    model = vectorised(n_steps=16, batch_size=32)
    before = model.update.vector.weights.clone()
    model.learn(32)
    (rows,) = model.minibatches()
    assert sorted(rows) == np.flatnonzero(model.rollout_buffer.flat("valid")).tolist()
    assert not torch.equal(model.update.vector.weights, before)
    before = model.update.vector.weights.clone()
    model.rollout_buffer.data["valid"][:] = False
    model.train()
    assert torch.equal(model.update.vector.weights, before)


def test_every_row_comes_once_in_an_epoch() -> None:
    model = make(n_steps=32, device="cpu").learn(32)
    rows = model.minibatches()
    assert rows.shape == (4, 8)
    assert sorted(rows.flatten().tolist()) == list(range(32))
    assert not np.array_equal(rows, model.minibatches())


def test_rollout_goes_on_where_the_last_one_stopped() -> None:
    model = make(n_steps=8, device="cpu")
    _, callback = model._setup_learn(100)
    for _ in range(3):
        model.collect_rollouts(model.env, callback, model.rollout_buffer, 8)
        following = tree_map(np.copy, model._last_obs)
        started = np.copy(model._last_episode_starts)
        model.collect_rollouts(model.env, callback, model.rollout_buffer, 8)
        np.testing.assert_array_equal(model.rollout_buffer.observations[0], following)
        np.testing.assert_array_equal(model.rollout_buffer.episode_starts[0], started)
    assert model.num_timesteps == 48
