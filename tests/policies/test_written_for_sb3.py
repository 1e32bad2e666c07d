"""Policies written for SB3 train in every agent as they stand, or are refused where a loss would learn something else."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy, MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.sac.policies import Actor, SACPolicy
from torch import nn

import rlspo
from rlspo.attacks import attacked_evaluation
from tests.ppo.test_parity_with_sb3 import assert_same_parameters, copy_rollout, quiet, train_both
from tests.spaces import SpacesEnv


class Network(nn.Module):
    """Actor and critic of different shapes on a common layer, in the form that SB3's guide asks for."""

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.latent_dim_pi, self.latent_dim_vf = 12, 9
        self.common = nn.Linear(feature_dim, 10)
        self.policy_net = nn.Sequential(nn.Linear(10, 12), nn.ReLU())
        self.value_net = nn.Sequential(nn.Linear(10, 9), nn.Tanh())

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: torch.Tensor) -> torch.Tensor:
        return self.policy_net(self.common(features))

    def forward_critic(self, features: torch.Tensor) -> torch.Tensor:
        return self.value_net(self.common(features))


class Custom(ActorCriticPolicy):
    """As in SB3's guide."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "ortho_init": False})

    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor: Any = Network(self.features_dim)


class Gated(BaseFeaturesExtractor):
    """A features extractor of a user's."""

    def __init__(self, space: Any, features_dim: int = 6) -> None:
        super().__init__(space, features_dim)
        self.first, self.second = (nn.Linear(space.shape[0], features_dim) for _ in range(2))

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return self.first(observations) * torch.sigmoid(self.second(observations))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_sde": True},
        {"policy_kwargs": {"features_extractor_class": Gated, "share_features_extractor": False}},
    ],
    ids=["guide", "gSDE", "features extractor"],
)
def test_trains_to_sb3s_weights(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    kwargs: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "n_epochs": 3, "seed": 3, "device": "cpu", **options}
    reference = stable_baselines3.PPO(Custom, SpacesEnv(), **kwargs)
    _, callback = reference._setup_learn(32)
    reference.collect_rollouts(reference.env, callback, reference.rollout_buffer, 32)
    ours = rlspo.PPO(Custom, SpacesEnv(), **kwargs)
    ours.set_parameters(reference.get_parameters())
    copy_rollout(reference, ours)
    train_both(quiet(reference), quiet(ours), monkeypatch)
    assert_same_parameters(reference, ours)
    seen = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    expected, got = (model.predict(seen, deterministic=True)[0] for model in (reference, ours))
    np.testing.assert_allclose(got, expected, atol=1e-4)


ON_POLICY: dict[str, tuple[type[Any], str, dict[str, Any]]] = {
    "PPO": (rlspo.PPO, "CartPole-v1", {}),
    "BARPO": (rlspo.BARPO, "CartPole-v1", {"adversary_steps": 2}),
    "PDPPO": (rlspo.PDPPO, "rlspo/AdmissionControl-v0", {}),
    "SPO": (rlspo.SPO, "CartPole-v1", {"gradient_steps": 2, "n_particles": 4, "depth": 2}),
}


@pytest.mark.parametrize("case", ON_POLICY)
def test_every_agent_takes_it_saves_it_and_loads_it(case: str, tmp_path: Any) -> None:
    agent, env, options = ON_POLICY[case]
    model = agent(Custom, env, n_steps=32, batch_size=16, seed=0, **options)
    before = model.policy.mlp_extractor.common.weight.clone()
    model.learn(64)
    assert not torch.equal(before, model.policy.mlp_extractor.common.weight)
    assert model.policy_class is Custom
    assert isinstance(model.policy, Custom)
    model.save(tmp_path / "model")
    loaded = agent.load(tmp_path / "model", env=env)
    assert isinstance(loaded.policy, Custom)
    observation = model.env.reset()
    np.testing.assert_array_equal(model.predict(observation)[0].shape, loaded.predict(observation)[0].shape)
    loaded.learn(32)


def test_of_dict_observations() -> None:
    class OfDict(MultiInputActorCriticPolicy):
        def _build_mlp_extractor(self) -> None:
            self.mlp_extractor: Any = Network(self.features_dim)

    env = SpacesEnv("dict")
    assert isinstance(rlspo.PPO(OfDict, env, n_steps=16, batch_size=16).learn(16).policy, OfDict)


class CustomSAC(SACPolicy):
    """Its actor has a layer of its own."""

    def make_actor(self, features_extractor: Any = None) -> Actor:
        actor = super().make_actor(features_extractor)
        actor.latent_pi = nn.Sequential(nn.LayerNorm(actor.features_dim), *actor.latent_pi)
        return actor


def test_sac_takes_one_of_sacs(tmp_path: Any) -> None:
    options: dict[str, Any] = {"learning_starts": 10, "batch_size": 8, "seed": 0, "policy_kwargs": {"net_arch": [8]}}
    model = rlspo.SAC(CustomSAC, SpacesEnv(), **options).learn(20)
    model.save(tmp_path / "model")
    assert isinstance(rlspo.SAC.load(tmp_path / "model").policy, CustomSAC)
    reference = stable_baselines3.SAC(CustomSAC, SpacesEnv(), **options)
    reference.set_parameters(model.get_parameters())
    seen = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    expected, got = (one.predict(seen, deterministic=True)[0] for one in (reference, model))
    np.testing.assert_allclose(got, expected, atol=1e-6)


class Scaled(Actor):
    """Computes its mean in a method that losses do not call."""

    def get_action_dist_params(self, obs: Any) -> Any:
        mean, log_std, kwargs = super().get_action_dist_params(obs)
        return 2 * mean, log_std, kwargs


def scaled_sac() -> type:
    def make_actor(self: Any, features_extractor: Any = None) -> Actor:
        return Scaled(**self._update_features_extractor(self.actor_kwargs, features_extractor)).to(self.device)

    return type("ScaledSAC", (SACPolicy,), {"make_actor": make_actor})


class OwnForward(ActorCriticPolicy):
    def forward(self, obs: Any, deterministic: bool = False) -> Any:
        return super().forward(obs, deterministic)


class OwnDistribution(ActorCriticPolicy):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.action_dist = SquashedDiagGaussianDistribution(2)


class OurOwnForward(rlspo.policies.ActorCriticPolicy):
    def evaluate_actions(self, obs: Any, actions: Any) -> Any:
        return super().evaluate_actions(obs, actions)


class Consistent(OurOwnForward):
    def evaluation_of(self, inputs: Any) -> Any:
        return super().evaluation_of(inputs)

    def distribution_of(self, inputs: Any) -> Any:
        return super().distribution_of(inputs)


class OnlyApart(rlspo.policies.ActorCriticPolicy):
    def values_of(self, inputs: Any) -> Any:
        return 100.0 + super().values_of(inputs)


class OnlyBoth(rlspo.policies.ActorCriticPolicy):
    def evaluation_of(self, inputs: Any) -> Any:
        distribution, values = super().evaluation_of(inputs)
        return distribution, 100.0 + values


@pytest.mark.parametrize(
    ("agent", "policy", "message"),
    [
        (rlspo.PPO, OwnForward, "OwnForward defines its own forward, .*distribution_of"),
        (rlspo.PPO, OurOwnForward, "OurOwnForward defines its own evaluate_actions"),
        (rlspo.PPO, OnlyApart, "OnlyApart defines values_of without evaluation_of, which losses use"),
        (rlspo.PPO, OnlyBoth, "OnlyBoth defines evaluation_of without distribution_of or values_of"),
        (rlspo.PPO, OwnDistribution, "actions of a SquashedDiagGaussianDistribution, whose density"),
        (rlspo.SAC, scaled_sac(), "Scaled defines its own get_action_dist_params, .*sample_of"),
        (rlspo.PPO, SACPolicy, "subclass of SB3's ActorCriticPolicy or of"),
        (rlspo.SAC, ActorCriticPolicy, "subclass of SB3's SACPolicy or of"),
    ],
)
def test_what_a_loss_would_not_learn_is_refused_at_once(agent: Any, policy: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        agent(policy, SpacesEnv())


def test_a_policy_with_functional_methods_of_its_own_is_trusted() -> None:
    rlspo.PPO(Consistent, SpacesEnv(), n_steps=16, batch_size=16).learn(16)


def test_an_agent_of_sb3_with_a_policy_of_its_own_can_be_attacked() -> None:
    model = stable_baselines3.PPO(Custom, "CartPole-v1", n_steps=32, batch_size=32, seed=0)
    assert attacked_evaluation(model, "CartPole-v1", "mad", 0.1, 2, steps=2).shape == (2,)


THREADED: dict[str, tuple[type[Any], str, dict[str, Any]]] = {
    "Gaussian": (rlspo.PPO, "MlpPolicy", {}),
    "mixture": (rlspo.PPO, "MoeMlpPolicy", {}),
    "gSDE": (rlspo.PPO, "MlpPolicy", {"use_sde": True}),
    "SAC": (rlspo.SAC, "MlpPolicy", {}),
    "SAC with gSDE": (rlspo.SAC, "MlpPolicy", {"use_sde": True}),
}


@pytest.mark.parametrize("case", THREADED)
def test_threads_get_the_actions_of_their_own_observations(case: str) -> None:
    agent, policy, options = THREADED[case]
    model = agent(policy, "Pendulum-v1", seed=0, **options)
    seen = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)

    def act(observation: np.ndarray) -> np.ndarray:
        return model.predict(observation, deterministic=True)[0]

    alone = [act(observation) for observation in seen]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            np.testing.assert_array_equal(list(pool.map(act, seen)), alone)


@pytest.mark.parametrize("agent", [rlspo.PPO, rlspo.SAC])
@pytest.mark.parametrize("squash", [False, True])
def test_noise_of_gsde_is_sb3s(agent: Any, squash: bool) -> None:
    """What ``predict(deterministic=False)`` adds is the same matrix times the same layer."""
    kwargs = {"squash_output": squash} if agent is rlspo.PPO else {}
    model = agent("MlpPolicy", SpacesEnv(), use_sde=True, seed=0, policy_kwargs=kwargs)
    seen = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    observations = torch.as_tensor(seen)
    with torch.no_grad():
        policy = model.policy
        expected = policy.actor(observations) if agent is rlspo.SAC else policy(observations)[0]
        got = policy._predict(observations)
    torch.testing.assert_close(got, expected)
    assert isinstance(model.action_space, spaces.Box)
