"""Episodes that a wrapper outside of the Monitor ends, and ends that are none."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.atari_wrappers import EpisodicLifeEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

import rlspo
from rlspo.attacks.evaluation import play
from rlspo.common.checked_env import CheckedDummyVecEnv
from rlspo.zoo.envs.processes import ErrorForwarding
from rlspo.zoo.evaluate import command as evaluate
from rlspo.zoo.train import command as train


class Counting(gym.Env):
    """Pays 1, 2, 3, ... and ends after ``length`` steps; has two lives, the first of which it loses in the middle."""

    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, length: int = 10) -> None:
        self.length, self.step_number = length, 0
        self.ale = self

    def lives(self) -> int:
        """As the ALE tells it."""
        return 2 if self.step_number < self.length // 2 else 1 if self.step_number < self.length else 0

    def reset(self, *, seed=None, options=None):
        self.step_number = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.step_number += 1
        return np.zeros(1, np.float32), float(self.step_number), self.step_number >= self.length, False, {}


def still(observations, starts):
    return np.zeros(len(observations), int)


def cut(**monitor) -> gym.Env:
    return gym.wrappers.TimeLimit(Monitor(Counting(), **monitor), max_episode_steps=3)


def test_what_a_time_limit_ends_is_an_episode(tmp_path):
    file = tmp_path / "0.monitor.csv"
    env = CheckedDummyVecEnv([lambda: cut(filename=str(file)), cut])
    episodes = play(still, env, 5)
    assert episodes.returns.tolist() == [6.0] * 5 and episodes.lengths.tolist() == [3] * 5
    env.close()
    assert [row.split(",")[:2] for row in file.read_text().splitlines()[2:]] == [["6.0", "3"]] * 3
    model = rlspo.PPO("MlpPolicy", env, n_steps=16, batch_size=16, compile=False)
    assert evaluate_policy(model, CheckedDummyVecEnv([cut]), 2, return_episode_rewards=True) == ([6.0, 6.0], [3, 3])


def test_training_tells_them_too():
    model = rlspo.PPO("MlpPolicy", CheckedDummyVecEnv([cut]), n_steps=16, batch_size=16, compile=False).learn(16)
    assert [(episode["r"], episode["l"]) for episode in model.ep_info_buffer] == [(6.0, 3)] * 5


def test_a_lost_life_is_no_episode():
    env = CheckedDummyVecEnv([lambda: EpisodicLifeEnv(Monitor(Counting()))])
    assert play(still, env, 3).lengths.tolist() == [10] * 3


def test_a_reset_in_the_middle_is_none():
    env = CheckedDummyVecEnv([cut])
    env.reset()
    env.step(np.zeros(1, int))
    env.reset()
    for _ in range(3):
        *_, infos = env.step(np.zeros(1, int))
    assert infos[0]["episode"]["l"] == 3


def test_in_a_process_of_its_own():
    env = ErrorForwarding(cut())
    env.reset()
    for _ in range(3):
        *_, info = env.step(0)
    assert "episode" not in info
    env.reset()  # as SB3's worker does before it sends the info
    assert (info["episode"]["r"], info["episode"]["l"]) == (6.0, 3)


def test_where_no_wrapper_reports_an_end_the_evaluation_ends():
    with pytest.raises(RuntimeError, match="inside of the Monitor"):
        play(still, DummyVecEnv([cut]), 1)


def test_the_zoo_evaluates_what_a_wrapper_ends(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--algo", "ppo", "--env", "CartPole-v1", "-n", "32", "--eval-freq", "16", "--eval-episodes", "2", "--no-report"]
    wrapper = "env_wrapper:{gymnasium.wrappers.TimeLimit: {max_episode_steps: 3}}"
    assert train.main([*words, "--verbose", "0", "-params", "n_envs:1", "n_steps:16", "batch_size:16", wrapper]) == 0
    run = Path("logs/ppo/CartPole-v1_1")
    assert np.load(run / "evaluations.npz")["ep_lengths"].tolist() == [[3, 3], [3, 3]]
    assert len((run / "0.monitor.csv").read_text().splitlines()) == 2 + 10
    assert evaluate.main([str(run), "-n", "2", "--seed", "0"]) == 0
