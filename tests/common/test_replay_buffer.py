"""The replay buffer keeps the last transitions of all environments, and files of it are as large as it is filled."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.env_util import make_vec_env

from rlspo import SAC
from rlspo.common.errors import IncompatibleModelError
from rlspo.common.replay_buffer import ReplayBuffer
from rlspo.common.vector_env import ONLY_RESET
from tests.spaces import OBSERVATIONS, SpacesEnv

SMALL: dict[str, Any] = {"learning_starts": 10, "batch_size": 16, "buffer_size": 200, "seed": 1}


def make(size: int, n_envs: int, device: str = "cpu") -> ReplayBuffer:
    return ReplayBuffer(size, OBSERVATIONS["box"], SpacesEnv().action_space, device=device, n_envs=n_envs)


def test_the_ring_keeps_the_last_transitions(device: str) -> None:
    buffer = make(5, n_envs=2, device=device)
    for step in range(4):
        row = np.full((2, 5), step, np.float32) + np.array([[0.0], [0.5]])
        infos: list[dict[str, Any]] = [{}, {"TimeLimit.truncated": True}]
        if step == 2:
            infos[0][ONLY_RESET] = True  # this environment only reset
        buffer.add(row, row + 1, np.zeros((2, 2)), row[:, 0], np.array([step == 3, True]), infos)
    assert buffer.size() == 5
    kept = dict(zip(buffer.data["rewards"].tolist(), buffer.data["dones"].tolist(), strict=True))
    assert kept == {1.0: 0.0, 1.5: 0.0, 2.5: 0.0, 3.0: 1.0, 3.5: 0.0}
    drawn = buffer.rows(1000, torch.Generator(device).manual_seed(0))
    assert set(drawn.tolist()) == set(range(5))
    with pytest.raises(ValueError, match="empty"):
        make(5, n_envs=1).rows(1)


def test_more_environments_than_rows(device: str) -> None:
    buffer = make(3, n_envs=5, device=device)
    for step in range(2):
        row = np.full((5, 5), 10 * step, np.float32) + np.arange(5)[:, None]
        buffer.add(row, row, np.zeros((5, 2)), row[:, 0], np.zeros(5), [{}] * 5)
    assert sorted(buffer.data["rewards"].tolist()) == [12.0, 13.0, 14.0]
    assert torch.equal(buffer.data["observations"][:, 0], buffer.data["rewards"])


def test_a_buffer_is_saved_as_large_as_it_is_filled(tmp_path: Path, device: str) -> None:
    model = SAC("MlpPolicy", SpacesEnv(), **{**SMALL, "buffer_size": 1_000_000}, device=device).learn(20)
    model.save_replay_buffer(tmp_path / "buffer")
    assert (tmp_path / "buffer.pkl").stat().st_size < 50_000
    other = SAC("MlpPolicy", make_vec_env(SpacesEnv, 2), **SMALL, device="cpu")
    other.load_replay_buffer(tmp_path / "buffer")
    assert other.replay_buffer.size() == 20
    assert torch.equal(other.replay_buffer.data["rewards"][:20], model.replay_buffer.data["rewards"][:20].cpu())
    other.learn(30)
    assert other.replay_buffer.size() == 50


def test_acting_needs_no_memory_for_transitions() -> None:
    assert not SAC("MlpPolicy", SpacesEnv(), buffer_size=10**12).replay_buffer.data


def test_a_loaded_buffer_goes_by_the_agents_settings(tmp_path: Path) -> None:
    more: dict[str, Any] = {**SMALL, "n_steps": 3, "gamma": 0.9}
    SAC("MlpPolicy", SpacesEnv(), **more, device="cpu").learn(20).save_replay_buffer(tmp_path / "buffer")
    other = SAC("MlpPolicy", SpacesEnv(), **{**more, "gamma": 0.5}, device="cpu")
    other.load_replay_buffer(tmp_path / "buffer")
    discounts = other.replay_buffer.sample(200).discounts
    assert discounts.max() == pytest.approx(0.5)
    assert discounts.min() == pytest.approx(0.125)


@pytest.mark.parametrize(
    ("settings", "env", "words"),
    [
        ({"n_steps": 1}, SpacesEnv, "It is of n_steps 3, not of 1"),
        ({"n_steps": 3}, lambda: SpacesEnv("image"), "observations"),
        ({"n_steps": 3}, lambda: gym.make("Pendulum-v1"), "It is of observations"),
        ({"n_steps": 3}, None, "It is of 1 environments side by side, not of 2"),
    ],
)
def test_a_buffer_that_does_not_fit_the_agent_is_refused(
    tmp_path: Path, settings: dict[str, Any], env: Any, words: str
) -> None:
    SAC("MlpPolicy", SpacesEnv(), **{**SMALL, "n_steps": 3}, device="cpu").learn(20).save_replay_buffer(tmp_path / "buffer")
    given = make_vec_env(SpacesEnv, 2) if env is None else env()
    policy = "CnnPolicy" if words == "observations" else "MlpPolicy"
    other = SAC(policy, given, **{**SMALL, **settings}, device="cpu")
    with pytest.raises(IncompatibleModelError, match=words):
        other.load_replay_buffer(tmp_path / "buffer")
