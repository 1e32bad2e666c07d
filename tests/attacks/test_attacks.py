"""Attacked evaluation: the attacks do what they say, episodes are counted without bias, SB3's agents are judged too."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.atari_wrappers import EpisodicLifeEnv
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from rlspo import BARPO, PPO
from rlspo.attacks import ATTACKS, attacked_evaluation

SMALL: dict[str, Any] = {"n_steps": 64, "batch_size": 32, "n_epochs": 2, "seed": 0, "device": "cpu"}


class Tracking(gym.Env[np.ndarray, np.ndarray]):
    """Reward is minus the squared distance of the action to the observation; episodes last one to four steps."""

    observation_space = spaces.Box(-1, 1, (3,), np.float32)
    action_space = spaces.Box(-2, 2, (3,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(1, 5))
        self.state = self.np_random.uniform(-1, 1, 3).astype(np.float32)
        return self.state, {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        reward = -float(np.sum((action - self.state) ** 2))
        self.left -= 1
        self.state = self.np_random.uniform(-1, 1, 3).astype(np.float32)
        return self.state, reward, self.left == 0, False, {}


def perfect_agent(library: Any = PPO) -> Any:
    """A linear policy whose mean action is its observation and whose value is the sum of the observation."""
    model = library("MlpPolicy", Tracking(), **SMALL, policy_kwargs={"net_arch": []})
    with torch.no_grad():
        model.policy.action_net.weight.copy_(torch.eye(3))
        model.policy.action_net.bias.zero_()
        model.policy.value_net.weight.fill_(1.0)
    return model


def test_natural_return_of_the_perfect_agent_is_zero_and_attacks_cost_what_they_can() -> None:
    """MAD moves every coordinate of the mean action by epsilon: -3 eps^2 a step is the worst there is."""
    model = perfect_agent()
    env = make_vec_env(Tracking, 8)
    mean = {name: attacked_evaluation(model, env, name, 0.3, 40, seed=3).mean() for name in (None, *ATTACKS)}
    assert mean[None] == pytest.approx(0, abs=1e-8)
    steps = 2.5
    worst = -3 * 0.3**2 * steps
    assert mean["mad"] == pytest.approx(worst, rel=0.25)
    assert mean["random"] == pytest.approx(worst / 3, rel=0.3), "the mean square of a uniform number is a third"
    assert mean["critic"] < mean["random"]


def test_zero_radius_is_no_attack() -> None:
    model = BARPO("MlpPolicy", Tracking(), **SMALL).learn(128)
    env = make_vec_env(Tracking, 4)
    natural = attacked_evaluation(model, env, None, 0.0, 12, seed=1)
    for attack in ATTACKS:
        np.testing.assert_allclose(attacked_evaluation(model, env, attack, 0.0, 12, seed=1), natural, rtol=1e-4)


def test_natural_evaluation_agrees_with_sb3s() -> None:
    model = PPO("MlpPolicy", "CartPole-v1", **SMALL).learn(512)
    env = make_vec_env("CartPole-v1", 3)
    env.seed(5)
    expected, _ = evaluate_policy(model, env, 9, return_episode_rewards=True)
    assert sorted(attacked_evaluation(model, env, None, 0.0, 9, seed=5)) == sorted(expected)


def test_sb3s_agents_are_judged_with_the_same_numbers() -> None:
    ours, theirs = perfect_agent(), perfect_agent(stable_baselines3.PPO)
    env = make_vec_env(Tracking, 4)
    for attack in ATTACKS:
        mine, other = (attacked_evaluation(model, env, attack, 0.2, 8, seed=2) for model in (ours, theirs))
        np.testing.assert_allclose(mine, other, rtol=1e-5)


def test_a_lost_life_is_not_an_episode() -> None:
    class Lives(gym.Env[Any, Any]):
        """Three lives of two steps each, one reward a step."""

        observation_space, action_space = spaces.Box(0, 1, (2,), np.float32), spaces.Discrete(2)
        ale = property(lambda self: self)

        def lives(self) -> int:
            return 3 - self.age // 2

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            super().reset(seed=seed)
            self.age = 0
            return np.zeros(2, np.float32), {}

        def step(self, action: int) -> Any:
            self.age += 1
            return np.zeros(2, np.float32), 1.0, self.age >= 6, False, {}

    env = make_vec_env(Lives, 2, wrapper_class=EpisodicLifeEnv)
    model = PPO("MlpPolicy", env, **SMALL)
    returns = attacked_evaluation(model, env, "random", 0.1, 4)
    assert len(returns) == 4
    assert returns.min() >= 5, "whole episodes, not single lives"


def test_bad_arguments() -> None:
    model, env = perfect_agent(), make_vec_env(Tracking, 1)
    with pytest.raises(ValueError, match=r"attack is 'fgsm'.*random.*critic.*mad"):
        attacked_evaluation(model, env, "fgsm", 0.1)
    with pytest.raises(TypeError, match=r"epsilon is '0.1'"):
        attacked_evaluation(model, env, "mad", "0.1")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="actor-critic"):
        attacked_evaluation(stable_baselines3.SAC("MlpPolicy", "Pendulum-v1"), env, "mad", 0.1)
