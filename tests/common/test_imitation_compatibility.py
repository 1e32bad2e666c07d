"""What libraries written for SB3's agents do with one: imitation's GAIL and behavioural cloning, in short."""

from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnvWrapper

from rlspo import PPO, SAC


class Averaging(Logger):
    """Adds up what is recorded, as imitation's logger does in its rounds."""

    def __init__(self) -> None:
        super().__init__(folder=None, output_formats=[])
        self.sums: dict[str, float] = {}

    def dump(self, step: int = 0) -> None:
        for key, value in self.name_to_value.items():
            self.sums[key] = self.sums.get(key, 0.0) + float(value)
        super().dump(step)


class OwnRewards(VecEnvWrapper):
    """Rewards of a discriminator, and a record of what was seen."""

    def __init__(self, venv: Any) -> None:
        super().__init__(venv)
        self.seen: list[np.ndarray] = []

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        observations, _, dones, infos = self.venv.step_wait()
        self.seen.append(observations)
        return observations, np.tanh(observations[:, 0]), dones, infos


AGENTS: dict[str, tuple[type[Any], str, dict[str, Any]]] = {
    "PPO": (PPO, "CartPole-v1", {"n_steps": 16, "batch_size": 32}),
    "SAC": (SAC, "Pendulum-v1", {"learning_starts": 8, "batch_size": 16, "train_freq": 4}),
}


@pytest.mark.parametrize("case", AGENTS)
def test_learning_in_rounds_from_rewards_of_ones_own(case: str) -> None:
    agent, env_id, options = AGENTS[case]
    venv = make_vec_env(env_id, 2, seed=0)
    model = agent("MlpPolicy", venv, seed=0, **options)
    wrapped = OwnRewards(venv)
    model.set_env(wrapped)
    logger = Averaging()
    model.set_logger(logger)

    class Watches(BaseCallback):
        rewards: list[float] = []  # noqa: RUF012

        def _on_step(self) -> bool:
            np.testing.assert_allclose(self.locals["rewards"], np.tanh(self.locals["new_obs"][:, 0]), rtol=1e-6)
            assert self.model._last_obs.shape == self.locals["new_obs"].shape
            self.rewards.extend(self.locals["rewards"])
            return True

    watches = Watches()
    for _ in range(2):
        model.learn(32, reset_num_timesteps=False, callback=watches, log_interval=1)
    assert model.num_timesteps == len(watches.rewards) == 64
    assert len(wrapped.seen) == 32
    assert model.logger is logger
    if agent is PPO:
        assert logger.sums["train/n_updates"] > 0
        assert all(np.isfinite(value) for value in logger.sums.values())


def test_the_policys_own_optimizer_and_learning_take_turns() -> None:
    """Behavioural cloning on ``policy.evaluate_actions``: what it learns is what PPO goes on from, Adam's moments too."""
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=32, batch_size=32, seed=0).learn(32)
    policy = model.policy
    observations, actions = torch.randn(64, 4), torch.zeros(64, dtype=torch.long)
    before = policy.evaluate_actions(observations, actions)[1].mean().item()
    policy.set_training_mode(True)
    for _ in range(20):
        _, log_probs, entropy = policy.evaluate_actions(observations, actions)
        policy.optimizer.zero_grad()
        (-log_probs.mean() - 1e-3 * entropy.mean()).backward()
        policy.optimizer.step()
    cloned = policy.evaluate_actions(observations, actions)[1].mean().item()
    assert cloned > before + 0.01
    weights = torch.nn.utils.parameters_to_vector(policy.parameters()).detach()
    own = torch.cat([parameter.detach().flatten() for parameter in model.update.vector.parameters])
    assert torch.equal(own, torch.cat([view.flatten() for view in model.update.vector.views(model.update.vector.weights)]))
    model.learn(32, reset_num_timesteps=False)
    after = torch.nn.utils.parameters_to_vector(policy.parameters()).detach()
    assert 0 < (after - weights).norm() < 0.5 * weights.norm()
    assert abs(policy.evaluate_actions(observations, actions)[1].mean().item() - cloned) < 0.1


def test_methods_of_the_policy_that_others_call() -> None:
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=32, batch_size=32, seed=0).learn(64)
    policy, seen = model.policy, np.zeros((3, 4), np.float32)
    tensor, vectorized = policy.obs_to_tensor(seen)
    assert vectorized
    actions, values, log_probs = policy(tensor)
    distribution = policy.get_distribution(tensor)
    torch.testing.assert_close(distribution.log_prob(actions), log_probs)
    torch.testing.assert_close(policy.predict_values(tensor), values)
    assert values.shape == (3, 1)
    assert {"r", "l", "t"} <= model.ep_info_buffer[0].keys()
    assert model.policy.optimizer.param_groups[0]["lr"] == 3e-4
