"""What users write around SAC counts as in SB3: frozen layers, rates, methods, buffers, noise."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.sac.policies import Actor, SACPolicy

import rlspo
from rlspo import SAC
from rlspo.common.errors import IncompatibleModelError
from rlspo.common.replay_buffer import ReplayBuffer
from tests.spaces import SpacesEnv

SMALL: dict[str, Any] = {
    "learning_starts": 10,
    "batch_size": 8,
    "buffer_size": 200,
    "seed": 0,
    "device": "cpu",
    "policy_kwargs": {"net_arch": [8]},
}


@pytest.mark.parametrize("compile", [False, True])
def test_target_critics_follow_frozen_layers(compile: bool) -> None:
    """As a pretrained features extractor that is loaded into critic and actor, and frozen."""
    targets = []
    for library, more in ((SAC, {"compile": compile}), (stable_baselines3.SAC, {})):
        model = library("MlpPolicy", "Pendulum-v1", **SMALL, tau=0.5, **more)
        layer: Any = model.critic.qf0[0]
        with torch.no_grad():
            layer.weight.fill_(0.123)
        layer.weight.requires_grad_(False)
        model.learn(60)
        assert torch.equal(layer.weight, torch.full_like(layer.weight, 0.123))
        targets.append(model.critic_target.qf0[0].weight)
    for target in targets:
        torch.testing.assert_close(target, torch.full_like(target, 0.123))


def test_each_part_has_the_learning_rate_of_its_optimiser() -> None:
    moved = []
    for library in (SAC, stable_baselines3.SAC):

        class OwnRates(library):  # type: ignore[misc, valid-type]
            def _update_learning_rate(self, optimizers: Any) -> None:
                super()._update_learning_rate(optimizers)
                self.critic.optimizer.param_groups[0]["lr"] = 0.0

        model = OwnRates("MlpPolicy", "Pendulum-v1", **SMALL)
        before = [[p.detach().clone() for p in part.parameters()] for part in (model.critic, model.actor)]
        model.learn(40)
        now = ([*part.parameters()] for part in (model.critic, model.actor))
        moved.append(
            [max(float((a - b).abs().max()) for a, b in zip(*pair, strict=True)) for pair in zip(before, now, strict=True)]
        )
    assert moved[0][0] == moved[1][0] == 0
    assert min(moved[0][1], moved[1][1]) > 1e-4


class Constant(SACPolicy):
    def _predict(self, observation: Any, deterministic: bool = False) -> torch.Tensor:
        return torch.full((len(observation), 1), 0.5)


def test_actions_of_a_policy_of_ones_own_are_collected_as_they_are_evaluated() -> None:
    model = SAC(Constant, "Pendulum-v1", **SMALL).learn(30)
    assert model.replay_buffer is not None
    taken = np.asarray(model.replay_buffer.actions[:30]).reshape(-1)
    assert np.allclose(taken[10:], 0.5)
    assert not np.allclose(taken[:10], 0.5)


def test_features_of_an_actor_of_ones_own_are_refused_where_losses_would_not_see_them() -> None:
    class Blind(Actor):
        def extract_features(self, obs: Any, features_extractor: Any) -> torch.Tensor:
            return 0 * super().extract_features(obs, features_extractor)

    class WithBlind(SACPolicy):
        def make_actor(self, features_extractor: Any = None) -> Actor:
            return Blind(**self._update_features_extractor(self.actor_kwargs, features_extractor)).to(self.device)

    with pytest.raises(TypeError, match="Blind defines its own extract_features"):
        SAC(WithBlind, "Pendulum-v1", **SMALL)


def test_an_exported_agent_takes_another_coefficient(tmp_path: Any) -> None:
    model = SAC("MlpPolicy", "Pendulum-v1", **SMALL, ent_coef=0.2)
    folder = model.export(tmp_path / "agent")
    for loaded in (rlspo.load(folder, ent_coef=0.5), rlspo.load(model.export(tmp_path / "other", ent_coef=0.5))):
        assert float(loaded.scalars()["ent_coef"]) == 0.5
    learned = SAC("MlpPolicy", "Pendulum-v1", **SMALL).export(tmp_path / "learned")
    with pytest.raises(IncompatibleModelError, match="ent_coef"):
        rlspo.load(learned, ent_coef=0.1)


class Weighted(ReplayBuffer):
    """Samples one row only, and has a field of its own."""

    asked = 0

    def sample(self, batch_size: int, env: Any = None) -> Any:
        self.asked += 1
        return self._get_samples(np.zeros(batch_size, int), env)


def test_a_replay_buffer_of_ones_own_is_asked_for_its_samples() -> None:
    model = SAC("MlpPolicy", "Pendulum-v1", **SMALL, replay_buffer_class=Weighted).learn(30)
    assert model.replay_buffer.asked == 20  # type: ignore[union-attr]


@pytest.mark.parametrize("shape", [(2, 2), (2, 1)])
def test_noise_on_actions_of_several_axes(shape: tuple[int, ...]) -> None:
    class Table(SpacesEnv):
        def __init__(self) -> None:
            super().__init__()
            self.action_space = spaces.Box(-1, 1, shape, np.float32)

    noise = NormalActionNoise(np.zeros(shape), np.full(shape, 0.1))
    SAC("MlpPolicy", Table(), **SMALL, action_noise=noise).learn(30)


def test_an_exported_agent_that_goes_on_draws_anew(tmp_path: Any) -> None:
    model = rlspo.PPO("MlpPolicy", "CartPole-v1", n_steps=16, batch_size=16, seed=3, device="cpu")
    first = model.env.reset()  # type: ignore[union-attr]
    model.learn(32)
    loaded = rlspo.load(model.export(tmp_path / "agent"), env=gym.make("CartPole-v1"))
    fresh = rlspo.PPO("MlpPolicy", "CartPole-v1", n_steps=16, batch_size=16, seed=3, device="cpu")
    assert loaded.randomness.numpy.bit_generator.state != fresh.randomness.numpy.bit_generator.state
    assert not np.array_equal(loaded.env.reset(), first)
