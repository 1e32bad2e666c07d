"""Environments that write each observation into the same array: what is kept of a step stays that of the step."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from rlspo import SAC
from rlspo.common.checked_env import CheckedDummyVecEnv
from rlspo.envs import PostDecision
from rlspo.zoo.envs.processes import ProcessVecEnv


class Counter(gym.Env[np.ndarray, np.ndarray]):
    """Observes the number of the step, in one array for all of them; five steps."""

    observation_space = spaces.Box(0, 10, (1,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self) -> None:
        self.x = np.zeros(1, np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.x[:] = 0
        return self.x, {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.x += 1
        return self.x, 0.0, False, bool(self.x[0] >= 5), {}


@pytest.mark.parametrize("make", [CheckedDummyVecEnv, ProcessVecEnv])
def test_the_last_observation_of_an_episode_is_its_own(make: Callable[[Any], VecEnv]) -> None:
    env = make([Counter])
    env.reset()
    for _ in range(5):
        seen, _, dones, infos = env.step(np.zeros((1, 1), np.float32))
    env.close()
    assert dones[0]
    assert infos[0]["terminal_observation"].tolist() == [5.0]
    assert seen.tolist() == [[0.0]]


def test_a_replay_buffer_holds_no_step_into_the_next_episode() -> None:
    with pytest.warns(UserWarning, match="Nothing is learned"):
        model = SAC("MlpPolicy", Counter(), learning_starts=100, buffer_size=50, seed=0, device="cpu").learn(10)
    assert model.replay_buffer is not None
    data = model.replay_buffer.next_observations[:10].reshape(-1)
    assert np.asarray(data).tolist() == [1, 2, 3, 4, 5] * 2


def test_a_post_decision_observation_is_from_before_the_step() -> None:
    env = PostDecision(Counter(), lambda observation, action: (observation, 0.0))
    env.reset()
    for step in range(3):
        *_, info = env.step(env.action_space.sample())
        assert info["post_decision_obs"].tolist() == [step]
