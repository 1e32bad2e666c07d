"""Code written against SB3's buffers reads, fills and subclasses those of rlspo."""

from typing import Any

import numpy as np
import pytest
import stable_baselines3
import torch
from stable_baselines3.common.buffers import DictRolloutBuffer
from stable_baselines3.common.buffers import RolloutBuffer as SB3RolloutBuffer
from stable_baselines3.common.vec_env import DummyVecEnv

from rlspo import PDPPO, PPO, SAC
from rlspo.common.rollout_buffer import RolloutBuffer
from tests.ppo.test_parity_with_sb3 import copy_rollout
from tests.spaces import ACTIONS, OBSERVATIONS, SpacesEnv, policy_name

SMALL: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "seed": 0, "device": "cpu"}


def env(observation: str = "box", action: str = "box", n_envs: int = 2) -> DummyVecEnv:
    return DummyVecEnv([lambda: SpacesEnv(observation, action)] * n_envs)


def pair(observation: str, action: str) -> tuple[Any, PPO]:
    """SB3's PPO with a rollout in its buffer, and ours with the same."""
    reference = stable_baselines3.PPO(policy_name(observation), env(observation, action), **SMALL)
    _, callback = reference._setup_learn(32)
    reference.collect_rollouts(reference.env, callback, reference.rollout_buffer, 16)
    ours = PPO(policy_name(observation), env(observation, action), **SMALL)
    copy_rollout(reference, ours)
    ours.rollout_buffer.full = True
    return reference, ours


@pytest.mark.parametrize(
    ("observation", "action"), [("box", kind) for kind in ACTIONS] + [(kind, "box") for kind in OBSERVATIONS if kind != "box"]
)
def test_fields_and_samples_are_sb3s(observation: str, action: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reference, ours = pair(observation, action)
    for name in ("observations", "actions", "rewards", "values", "log_probs", "advantages", "returns", "episode_starts"):
        expected, got = getattr(reference.rollout_buffer, name), getattr(ours.rollout_buffer, name)
        for key in expected if isinstance(expected, dict) else [...]:
            left, right = (expected, got) if key is ... else (expected[key], got[key])
            np.testing.assert_allclose(right, left, rtol=1e-6, err_msg=name)
    monkeypatch.setattr(np.random, "permutation", lambda rows: np.arange(rows) if np.isscalar(rows) else rows)
    theirs, mine = (next(model.rollout_buffer.get()) for model in (reference, ours))
    assert type(mine) is type(theirs)
    order = np.arange(32).reshape(16, 2).T.ravel()  # SB3's rows are sorted by environment
    for expected, got in zip(theirs, mine, strict=True):
        for key in expected if isinstance(expected, dict) else [...]:
            left, right = (expected, got) if key is ... else (expected[key], got[key])
            torch.testing.assert_close(right[order], left, check_dtype=False)
    actions = mine.actions.long().flatten() if action == "discrete" else mine.actions  # as SB3's PPO does
    values, log_probs, _ = ours.policy.evaluate_actions(mine.observations, actions)
    assert values.shape == (32, 1)
    assert log_probs.shape == (32,)


def test_get_gives_every_row_once() -> None:
    model = PPO("MlpPolicy", env(), **SMALL).learn(32)
    batches = [batch.returns for batch in model.rollout_buffer.get(12)]
    assert [len(batch) for batch in batches] == [12, 12, 8]
    assert sorted(torch.cat(batches).tolist()) == sorted(model.rollout_buffer.returns.ravel().tolist())


def test_is_filled_by_sb3s_add() -> None:
    for observation, action in (("box", "discrete"), ("dict", "box"), ("discrete", "multi_discrete")):
        reference, ours = pair(observation, action)
        source, buffer = reference.rollout_buffer, ours.rollout_buffer
        buffer.reset()
        for step in range(16):
            seen = source.observations
            seen = {key: array[step] for key, array in seen.items()} if isinstance(seen, dict) else seen[step]
            values, log_probs = torch.as_tensor(source.values[step]).reshape(-1, 1), torch.as_tensor(source.log_probs[step])
            buffer.add(seen, source.actions[step], source.rewards[step], source.episode_starts[step], values, log_probs)
        last, dones = torch.tensor([[0.5], [-0.5]]), np.array([True, False])
        for each in (source, buffer):
            each.compute_returns_and_advantage(last_values=last, dones=dones)
        np.testing.assert_allclose(buffer.advantages, source.advantages, rtol=1e-5, atol=1e-6)


class Counting(SB3RolloutBuffer):
    """With a setting and a count of its own."""

    def __init__(self, *args: Any, step: int = 1, **kwargs: Any) -> None:
        self.step, self.resets = step, 0
        super().__init__(*args, **kwargs)

    def reset(self) -> None:
        super().reset()
        self.resets += self.step


class MonteCarlo(SB3RolloutBuffer):
    """Advantages without bootstrapping from V."""

    def compute_returns_and_advantage(self, last_values: torch.Tensor, dones: np.ndarray) -> None:
        following: Any = last_values.clone().cpu().numpy().flatten() * (1.0 - dones)
        for step in reversed(range(self.buffer_size)):
            following = self.rewards[step] + self.gamma * following
            self.advantages[step] = following - self.values[step]
            following = following * (1.0 - self.episode_starts[step])
        self.returns = self.advantages + self.values


def test_subclasses_of_sb3s_buffer_work() -> None:
    model = PPO("MlpPolicy", env(), **SMALL, rollout_buffer_class=Counting, rollout_buffer_kwargs={"step": 2}).learn(64)
    assert isinstance(model.rollout_buffer, Counting)
    assert model.rollout_buffer.resets == 2 * 3
    with_dict = PPO("MultiInputPolicy", env("dict"), **SMALL, rollout_buffer_class=Counting).learn(32)
    assert isinstance(with_dict.rollout_buffer, Counting)


def test_their_advantages_are_learned_from(tmp_path: Any) -> None:
    model = PPO("MlpPolicy", env(), **SMALL, rollout_buffer_class=MonteCarlo).learn(32)
    buffer = model.rollout_buffer
    own = MonteCarlo(16, model.observation_space, model.action_space, "cpu", n_envs=2, gamma=model.gamma)
    own.rewards, own.values, own.episode_starts = buffer.rewards, buffer.values, buffer.episode_starts
    dones = model._last_episode_starts
    last = model.policy.predict_values(torch.as_tensor(model._last_obs)).detach()
    own.compute_returns_and_advantage(last, dones)
    # By the weights after the update V of the last observation differs; where an episode ended after it, it plays no part.
    ended = buffer.episode_starts[1:].any(axis=0)
    assert ended.all()
    last_start = int(np.flatnonzero(buffer.episode_starts[:, 0])[-1])
    np.testing.assert_allclose(buffer.advantages[:last_start, 0], own.advantages[:last_start, 0], rtol=1e-5)
    np.testing.assert_array_equal(model.learning_data()["advantages"], buffer.advantages.reshape(-1))
    np.testing.assert_allclose(buffer.returns, buffer.advantages + buffer.values, rtol=1e-6)
    model.save(tmp_path / "model")
    assert isinstance(PPO.load(tmp_path / "model", env=env()).learn(32).rollout_buffer, MonteCarlo)


class OwnAdd(SB3RolloutBuffer):
    def add(self, *args: Any, **kwargs: Any) -> None:
        super().add(*args, **kwargs)


class OfDicts(DictRolloutBuffer):
    pass


@pytest.mark.parametrize(
    ("agent", "cls", "message"),
    [
        (PPO, OwnAdd, "OwnAdd, which overrides add"),
        (PPO, OfDicts, "OfDicts, which extends DictRolloutBuffer"),
        (PPO, dict, "is <class 'dict'>; it must be a subclass"),
        (PDPPO, MonteCarlo, "overrides compute_returns_and_advantage"),
    ],
)
def test_others_are_rejected_at_once(agent: Any, cls: type, message: str) -> None:
    where = "rlspo/AdmissionControl-v0" if agent is PDPPO else SpacesEnv()
    with pytest.raises(TypeError, match=message):
        agent("MlpPolicy", where, rollout_buffer_class=cls)


def test_own_subclasses_and_stock_classes_stay() -> None:
    class Own(RolloutBuffer):
        pass

    assert type(PPO("MlpPolicy", env(), **SMALL, rollout_buffer_class=Own).rollout_buffer) is Own
    assert type(PPO("MlpPolicy", env(), **SMALL, rollout_buffer_class=SB3RolloutBuffer).rollout_buffer) is RolloutBuffer


@pytest.mark.parametrize("observation", ["box", "dict"])
def test_replay_buffers_read_like_sb3s(observation: str) -> None:
    options: dict[str, Any] = {"learning_starts": 16, "batch_size": 16, "buffer_size": 200, "seed": 0, "device": "cpu"}
    read = []
    for cls in (stable_baselines3.SAC, SAC):
        model = cls(policy_name(observation), SpacesEnv(observation), **options)
        before = model.replay_buffer.rewards.copy()
        model.learn(40)
        buffer = model.replay_buffer
        assert not before.any()
        read.append((buffer.observations, buffer.next_observations, buffer.actions, buffer.rewards, buffer.dones))
        assert buffer.pos == buffer.size() == 40
        assert buffer.rewards[:40].any()
        assert not buffer.rewards[40:].any()
    for expected, got in zip(*read, strict=True):
        for key in expected if isinstance(expected, dict) else [...]:
            left, right = (expected, got) if key is ... else (expected[key], got[key])
            assert right.shape == left.shape
    with pytest.raises(AttributeError, match="time limit"):
        _ = model.replay_buffer.timeouts
