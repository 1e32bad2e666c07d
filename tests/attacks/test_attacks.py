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
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.policies import ActorCriticPolicy as SB3Policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from rlspo import BARPO, PPO
from rlspo.adversary import Langevin, LinfBall, Power
from rlspo.attacks import ATTACKS, Attack, MADAttack, attacked_evaluation
from rlspo.attacks.evaluation import attacked_episodes
from rlspo.policies import ActorCriticPolicy

SMALL: dict[str, Any] = {"n_steps": 64, "batch_size": 32, "n_epochs": 2, "seed": 0, "device": "cpu"}


@pytest.mark.parametrize("wrong", [0, -1, 10.5])
def test_the_number_of_episodes_is_checked(wrong: Any) -> None:
    model = PPO("MlpPolicy", "CartPole-v1", **SMALL)
    with pytest.raises((TypeError, ValueError), match=f"n_eval_episodes is {wrong}"):
        attacked_evaluation(model, "CartPole-v1", None, 0.0, n_eval_episodes=wrong)


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


def test_the_published_search_is_nearly_blind_on_a_flat_policy_and_power_is_not() -> None:
    """Both against the corner that is worst in closed form: the change of a linear mean is the sum of the weights' sizes."""
    model, ball = perfect_agent(), LinfBall(torch.tensor(0.2))
    with torch.no_grad():
        model.policy.action_net.weight.mul_(0.05)
    inputs = torch.rand(64, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1
    objective = MADAttack().objective(model.policy, inputs)
    weights, std = model.policy.action_net.weight.detach(), model.policy.log_std.detach().exp()
    most = float((((0.2 * weights.abs().sum(dim=1)) / std) ** 2).sum() / 2)

    def reached(solver: Any) -> float:
        noise = solver.draw(ball, inputs, torch.Generator().manual_seed(0))
        return float(objective(solver(objective, inputs, ball, noise)).mean()) / most

    assert reached(Power(10)) == pytest.approx(1, abs=1e-3)
    assert reached(Langevin(10, temperature=1.0)) < 0.5
    assert reached(Langevin(50, temperature=1.0)) < reached(Langevin(5, temperature=1.0)), "more steps make it weaker"
    assert reached(Langevin(10, temperature=0.0)) > 0.75


def test_samples_of_actions_are_the_same_whatever_the_attack_draws() -> None:
    """At radius 0 an attack changes nothing."""
    model, env = perfect_agent(), make_vec_env(Tracking, 4)
    attacks = (None, *ATTACKS)
    returns = [attacked_evaluation(model, env, attack, 0.0, 12, seed=1, deterministic=False) for attack in attacks]
    for each in returns[1:]:
        np.testing.assert_allclose(each, returns[0], rtol=1e-4)
    other = attacked_evaluation(model, env, None, 0.0, 12, seed=2, deterministic=False)
    assert not np.allclose(other, returns[0])


class FirstAction(Attack):
    """Push the first component of the mean action up."""

    def __init__(self, steps: int = 10) -> None:
        super().__init__(Power(steps, restarts=1))

    def objective(self, policy: Any, inputs: Any) -> Any:
        return lambda perturbed: policy.distribution_of(perturbed).mode()[:, 0]


@pytest.mark.parametrize("attack", [FirstAction, FirstAction(steps=1)])
def test_an_attack_of_your_own(attack: Any) -> None:
    """In l2 it moves the first coordinate, and so the action, by all of epsilon."""
    model, env, epsilon = perfect_agent(), make_vec_env(Tracking, 8), 0.3
    episodes = attacked_episodes(model, env, attack, epsilon, 40, seed=3, norm="l2")
    np.testing.assert_allclose(episodes.returns, -(epsilon**2) * episodes.lengths, rtol=1e-4)


def test_an_attack_may_be_a_name_a_class_or_an_object() -> None:
    model, env = perfect_agent(), make_vec_env(Tracking, 4)
    for name, attack in ATTACKS.items():
        own = attack() if name == "random" else attack(steps=5)  # type: ignore[call-arg]
        named, given, made = (attacked_evaluation(model, env, each, 0.3, 8, steps=5) for each in (name, attack, own))
        np.testing.assert_array_equal(named, given)
        np.testing.assert_array_equal(named, made)
    strong = attacked_evaluation(model, env, MADAttack(solver=Power()), 0.3, 8)
    assert strong.mean() < attacked_evaluation(model, env, "mad", 0.3, 8).mean() + 1e-6


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


def test_sb3s_agents_are_evaluated_with_the_same_numbers() -> None:
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


@pytest.mark.parametrize("attack", [None, "random", "critic", "mad"])
@pytest.mark.parametrize("library", [PPO, stable_baselines3.PPO])
def test_env_may_be_an_environment(library: Any, attack: str | None) -> None:
    model = perfect_agent(library)
    expected = attacked_evaluation(model, make_vec_env(Tracking, 1), attack, 0.3, 6, seed=3)
    np.testing.assert_array_equal(attacked_evaluation(model, Tracking(), attack, 0.3, 6, seed=3), expected)
    assert (expected < 0).all() if attack else (expected == 0).all()


@pytest.mark.parametrize("library", [PPO, stable_baselines3.PPO])
def test_env_may_be_an_id(library: Any) -> None:
    model = library("MlpPolicy", "CartPole-v1", **SMALL)
    expected = attacked_evaluation(model, make_vec_env("CartPole-v1", 1), "mad", 0.3, 4, seed=3)
    assert len(set(expected)) > 1, "episodes that are all alike would show nothing"
    np.testing.assert_array_equal(attacked_evaluation(model, "CartPole-v1", "mad", 0.3, 4, seed=3), expected)


def test_an_environment_of_other_spaces_is_rejected() -> None:
    with pytest.raises(ValueError, match="spaces do not match"):
        attacked_evaluation(perfect_agent(), "CartPole-v1", "mad", 0.1, 1)


@pytest.mark.parametrize("training", [True, False])
def test_statistics_of_vec_normalize_do_not_move(training: bool) -> None:
    env = VecNormalize(make_vec_env(Tracking, 4))
    model = PPO("MlpPolicy", env, **SMALL).learn(256)
    env.training = training

    def statistics() -> list[Any]:
        return [np.copy(value) for rms in (env.obs_rms, env.ret_rms) for value in (rms.mean, rms.var, rms.count)]

    before = statistics()
    for attack in (None, "mad"):
        attacked_evaluation(model, env, attack, 0.2, 8)
    assert env.training == training
    for old, new in zip(before, statistics(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_an_agent_of_vec_normalize_sees_what_it_learned_from() -> None:
    """Also where it is given an id or a plain environment."""
    own = VecNormalize(make_vec_env("Pendulum-v1", 2))
    model = PPO("MlpPolicy", own, **SMALL).learn(256)
    own.obs_rms.mean, own.obs_rms.var = np.full(3, 3.0), np.full(3, 0.01)
    for attack in (None, "mad"):
        expected = attacked_evaluation(model, own, attack, 0.2, 2, seed=1)
        found = attacked_evaluation(model, make_vec_env("Pendulum-v1", 2), attack, 0.2, 2, seed=1)
        np.testing.assert_array_equal(found, expected)
    alone = attacked_evaluation(model, "Pendulum-v1", None, 0.2, 1, seed=1)
    np.testing.assert_array_equal(alone, expected_of_one(model, own))
    assert own.training and own.norm_reward
    stacked = VecFrameStack(VecNormalize(make_vec_env("Pendulum-v1", 2)), 2)
    model = PPO("MlpPolicy", stacked, **SMALL)
    with pytest.raises(ValueError, match="is in none"):
        attacked_evaluation(model, VecFrameStack(make_vec_env("Pendulum-v1", 1), 2), None, 0.2, 1)


def expected_of_one(model: Any, own: VecNormalize) -> np.ndarray:
    """In a single environment with the statistics of ``own``."""
    env = VecNormalize(make_vec_env("Pendulum-v1", 1))
    env.obs_rms = own.obs_rms
    return attacked_evaluation(model, env, None, 0.2, 1, seed=1)


def test_statistics_are_freed_again_after_a_failure() -> None:
    class Failing(Tracking):
        def step(self, action: np.ndarray) -> Any:
            raise RuntimeError("the simulator fell over")

    env = VecNormalize(make_vec_env(Failing, 1), norm_obs=False)
    with pytest.raises(RuntimeError, match="fell over"):
        attacked_evaluation(perfect_agent(), env, "mad", 0.2, 1)
    assert env.training


@pytest.mark.parametrize("monitored", [True, False])
def test_returns_are_raw_whatever_vec_normalize_makes_of_rewards(monitored: bool) -> None:
    def make() -> Any:
        return make_vec_env(Tracking, 4) if monitored else DummyVecEnv([Tracking] * 4)

    scaled = VecNormalize(make(), norm_obs=False, norm_reward=True)
    scaled.ret_rms.var = np.array(100.0)
    expected = attacked_evaluation(perfect_agent(), make(), "mad", 0.3, 8, seed=3)
    np.testing.assert_allclose(attacked_evaluation(perfect_agent(), scaled, "mad", 0.3, 8, seed=3), expected, rtol=1e-5)
    assert scaled.norm_reward


@pytest.mark.parametrize("monitored", [True, False])
def test_lengths_copies_and_successes_of_episodes(monitored: bool) -> None:
    """The first copy plays episodes of one step, the second of two, and only the second says how they went."""

    class Steps(Tracking):
        def __init__(self, length: int) -> None:
            self.length = length

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            first = super().reset(seed=seed)
            self.left = self.length
            return first

        def step(self, action: np.ndarray) -> Any:
            state, _, over, truncated, _ = super().step(action)
            return state, 10.0, over, truncated, {"is_success": True} if over and self.length == 2 else {}

    makers = [lambda length=length: Steps(length) for length in (1, 2)]
    env = DummyVecEnv([lambda make=make: Monitor(make()) for make in makers] if monitored else makers)
    counted: list[None] = []
    episodes = attacked_episodes(perfect_agent(), env, "random", 0.1, 5, on_episode=lambda: counted.append(None))
    assert list(episodes.copies) == [0, 0, 1, 1, 1]
    assert list(episodes.lengths) == [1, 1, 2, 2, 2]
    assert list(episodes.returns) == [10, 10, 20, 20, 20]
    np.testing.assert_array_equal(episodes.successes, [np.nan, np.nan, 1, 1, 1])
    assert len(counted) == 5


def test_training_goes_on_with_new_episodes_after_an_evaluation_on_the_same_environment() -> None:
    model = PPO("MlpPolicy", make_vec_env(Tracking, 2), **SMALL).learn(128)
    attacked_evaluation(model, model.get_env(), "mad", 0.2, 5)
    model.learn(128, reset_num_timesteps=False)
    assert (model.rollout_buffer.data["episode_starts"][0] == 1).all()
    assert model.num_timesteps == 256


def test_bad_arguments() -> None:
    model, env = perfect_agent(), make_vec_env(Tracking, 1)
    with pytest.raises(ValueError, match=r"attack is 'fgsm'.*random.*critic.*mad"):
        attacked_evaluation(model, env, "fgsm", 0.1)
    with pytest.raises(TypeError, match=r"attack is 3 of type int.*'mad', a subclass of rlspo\.attacks\.Attack"):
        attacked_evaluation(model, env, 3, 0.1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="steps is 0"):
        attacked_evaluation(model, env, "mad", 0.1, steps=0)
    with pytest.raises(TypeError, match=r"epsilon is '0.1'"):
        attacked_evaluation(model, env, "mad", "0.1")  # type: ignore[arg-type]
    for seed in (-1, None, 0.5):
        with pytest.raises(ValueError, match=r"seed is .*; it must be a whole number of at least 0"):
            attacked_evaluation(model, env, "mad", 0.1, seed=seed)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="clip_to_space is 'yes' of type str"):
        attacked_evaluation(model, env, "mad", 0.1, clip_to_space="yes")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="actor-critic"):
        attacked_evaluation(stable_baselines3.SAC("MlpPolicy", "Pendulum-v1"), env, "mad", 0.1)


class OwnPredict(ActorCriticPolicy):
    def _predict(self, observation: Any, deterministic: bool = False) -> torch.Tensor:
        return 0.5 * super()._predict(observation, deterministic)


class SB3OwnPredict(SB3Policy):
    def _predict(self, observation: Any, deterministic: bool = False) -> torch.Tensor:
        return 0.5 * super()._predict(observation, deterministic)


@pytest.mark.parametrize(("library", "policy"), [(PPO, OwnPredict), (stable_baselines3.PPO, SB3OwnPredict)])
@pytest.mark.parametrize("attack", [None, "mad"])
def test_a_policy_that_chooses_actions_in_its_own_way_is_refused(library: Any, policy: Any, attack: str | None) -> None:
    """It was another agent that was evaluated."""
    model = library(policy, "Pendulum-v1", n_steps=16, batch_size=16, device="cpu")
    with pytest.raises(TypeError, match="chooses actions in _predict, a method of its own"):
        attacked_evaluation(model, "Pendulum-v1", attack, 0.1, 1)
