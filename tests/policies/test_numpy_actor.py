"""Acting in numpy is acting with the torch policy: the same distribution, the weights of the moment, and only where it can."""

from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from rlspo import ARPO, BARPO, PDPPO, PPO, SAC
from rlspo.common.trees import to_tensor
from rlspo.envs import PostDecision
from rlspo.policies import ActorCriticPolicy, Bernoulli, Categorical, Distribution, Gaussian, MultiCategorical
from rlspo.policies.mixtures import Mixture
from rlspo.policies.moe import MoeActorCriticPolicy
from rlspo.sac.policies import SACPolicy
from tests.spaces import ACTIONS, OBSERVATIONS, SpacesEnv, policy_name


def make(observation: str = "box", action: str = "box", policy: Any = None, **kwargs: Any) -> PPO:
    kwargs = {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "seed": 0, "device": "cpu", **kwargs}
    return PPO(policy or policy_name(observation), SpacesEnv(observation, action), **kwargs)


def some_observations(model: PPO, size: int = 7) -> np.ndarray:
    space = model.observation_space
    return np.random.default_rng(0).normal(0, 3, (size, *space.shape)).astype(space.dtype)


def distribution_at(model: PPO, observations: np.ndarray) -> Distribution:
    with torch.no_grad():
        return model.policy.distribution_of(model.policy.preprocess(to_tensor(observations, model.device))).detach()


def perturb_weights(model: PPO) -> None:
    """Large weights, so that different observations get clearly different distributions."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"activation_fn": nn.ReLU},
        {"net_arch": []},
        {"net_arch": {"pi": [8, 16, 4], "vf": [5]}},
        {"share_features_extractor": False, "log_std_init": -1.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("observation", ["box", "box64"])
def test_gaussian_actions_are_the_mean_plus_the_noise(observation: str, normalize: bool, options: dict[str, Any]) -> None:
    model = make(observation, normalize_observations=normalize, policy_kwargs=options)
    perturb_weights(model)
    observations = some_observations(model)
    if normalize:
        model.policy.preprocess.update(5 + 3 * observations)
    distribution = distribution_at(model, observations)
    actor = model.policy.fast_actor(np.random.default_rng(3))
    noise = np.random.default_rng(3).standard_normal(distribution.mean.shape, dtype=np.float32)
    expected = distribution.mean.numpy() + distribution.log_std.exp().numpy() * noise
    got = actor(observations)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("action", "kind"),
    [("discrete", Categorical), ("multi_discrete", MultiCategorical), ("multi_binary", Bernoulli)],
)
def test_frequencies_are_the_probabilities(action: str, kind: type) -> None:
    model = make(action=action)
    perturb_weights(model)
    actor = model.policy.fast_actor(np.random.default_rng(0))
    for observation in some_observations(model, 4):
        distribution = distribution_at(model, observation[None])
        assert isinstance(distribution, kind)
        samples, counts = np.unique(actor(np.repeat(observation[None], 20_000, axis=0)), axis=0, return_counts=True)
        rows = torch.as_tensor(samples)
        logits = distribution.logits.expand(len(rows), -1)
        repeated = MultiCategorical(logits, distribution.sizes) if kind is MultiCategorical else kind(logits)
        probabilities = repeated.log_prob(rows).exp().numpy()
        assert probabilities.sum() > 0.999, "an action that has a chance never came"
        expected = 20_000 * probabilities
        statistic = ((counts - expected) ** 2 / expected)[expected > 5].sum()
        assert statistic < 40, f"chi-square {statistic:.0f} with at most 5 degrees of freedom"


def test_sees_the_weights_of_the_moment() -> None:
    """Changed in place, by an update or by a load, at the next rollout."""
    model = make()
    observations = some_observations(model)

    def gap(which: PPO) -> float:
        """Between what the agent's next rollout would do and what its torch policy says."""
        which.randomness.numpy = np.random.default_rng(3)
        noise = np.random.default_rng(3).standard_normal((len(observations), 2), dtype=np.float32)
        actions, values, log_probs = which.make_actor()(observations)
        assert values is None
        assert log_probs is None
        distribution = distribution_at(which, observations)
        return float(np.abs(actions - distribution.mean.numpy() - distribution.log_std.exp().numpy() * noise).max())

    before = model.make_actor()(observations)[0]
    perturb_weights(model)
    assert gap(model) < 1e-5
    assert np.abs(model.make_actor()(observations)[0] - before).max() > 0.1
    model.learn(32)
    assert gap(model) < 1e-5
    other = make(seed=5)
    other.set_parameters(model.get_parameters())
    assert gap(other) < 1e-5
    np.testing.assert_allclose(distribution_at(other, observations).mean, distribution_at(model, observations).mean)


def test_hooks_of_layers_are_heard() -> None:
    """As torch's own forward pass hears them: the agent acts by what it learns."""
    model = make()
    model.policy.action_net.register_forward_hook(lambda module, inputs, output: output + 5.0)
    observations = some_observations(model)
    actions, _, _ = model.make_actor()(observations)
    assert np.abs(actions.mean() - float(distribution_at(model, observations).mean.mean())) < 0.5
    assert actions.mean() > 4


def agent_of(agent: type[PPO], policy: str, env: SpacesEnv, **kwargs: Any) -> PPO:
    told: Any = PostDecision(env, lambda seen, taken: (seen, 0.0)) if agent is PDPPO else env
    return agent(policy, told, n_steps=16, batch_size=16, seed=0, device="cpu", **kwargs)


@pytest.mark.parametrize("agent", [PPO, ARPO, BARPO, PDPPO])
@pytest.mark.parametrize("policy", ["MlpPolicy", "MoeMlpPolicy"])
def test_stock_policies_act_in_numpy(agent: type[PPO], policy: str) -> None:
    """All of them over vectors: what is renamed or rewritten in them must not switch the fast path off unseen."""
    routing = {"routing": "frequency"} if policy == "MoeMlpPolicy" else {}
    for action, kwargs in [(action, {}) for action in ACTIONS] + [
        ("box", {"activation_fn": nn.ReLU, "share_features_extractor": False, **routing}),
        ("box", {"net_arch": [], "ortho_init": False}),
    ]:
        for normalize in (False, True):
            model = agent_of(agent, policy, SpacesEnv("box", action), normalize_observations=normalize, policy_kwargs=kwargs)
            assert model.policy.fast_actor(np.random.default_rng(0)) is not None, (action, kwargs, normalize)


@pytest.mark.parametrize("observation", ["image", "dict", "discrete", "multi_discrete", "multi_binary"])
def test_stock_policies_over_anything_else_act_in_torch(observation: str) -> None:
    for name in (policy_name(observation), "Moe" + policy_name(observation)):
        model = agent_of(PPO, name, SpacesEnv(observation))
        assert model.policy.fast_actor(np.random.default_rng(0)) is None, name


class OtherDistribution(ActorCriticPolicy):
    def distribution_of(self, inputs: Any) -> Distribution:
        return Gaussian(torch.zeros(len(inputs), 2), self.log_std)

    def evaluation_of(self, inputs: Any) -> tuple[Distribution, torch.Tensor]:
        return self.distribution_of(inputs), self.values_of(inputs)


class OtherHead(ActorCriticPolicy):
    def _distribution(self, latent: torch.Tensor) -> Distribution:
        return Gaussian(torch.tanh(self.action_net(latent)), self.log_std)


class OtherFeatures(ActorCriticPolicy):
    def _features(self, inputs: Any, extractor: nn.Module) -> torch.Tensor:
        return -super()._features(inputs, extractor)


class OtherMixture(MoeActorCriticPolicy):
    def _mixture(self, gate: torch.Tensor, head: torch.Tensor) -> Mixture:
        return super()._mixture(gate, torch.tanh(head))


class DoublingExtractor(FlattenExtractor):
    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(observations)


@pytest.mark.parametrize(
    ("observation", "options"),
    [
        ("image", {}),
        ("dict", {}),
        ("discrete", {}),
        ("multi_binary", {}),
        ("box", {"use_sde": True}),
        ("box", {"policy": OtherDistribution}),
        ("box", {"policy": OtherHead}),
        ("box", {"policy": OtherFeatures}),
        ("box", {"policy": OtherMixture}),
        ("box", {"policy_kwargs": {"features_extractor_class": DoublingExtractor}}),
        ("box", {"policy_kwargs": {"activation_fn": nn.ELU}}),
    ],
    ids=str,
)
def test_leaves_to_torch_what_it_does_not_know(observation: str, options: dict[str, Any]) -> None:
    model = make(observation, **options)
    assert model.policy.fast_actor(np.random.default_rng(0)) is None
    OBSERVATIONS[observation].seed(0)
    seen = model.env.reset()
    actions, values, log_probs = model.make_actor()(seen)
    with torch.no_grad():
        distribution, expected = model.policy.evaluation_of(model.policy.preprocess(to_tensor(seen, model.device)))
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(log_probs, distribution.log_prob(torch.as_tensor(actions)).detach(), rtol=1e-4, atol=1e-5)


def test_is_for_the_cpu_alone(device: str) -> None:
    model = make(device=device)
    assert (model.policy.fast_actor(np.random.default_rng(0)) is not None) == (device == "cpu")


# SAC's, whose standard deviation is an output of the network.


class OtherHeads(SACPolicy):
    def _heads(self, inputs: Any) -> Any:
        latent, mean, log_std = super()._heads(inputs)
        return latent, -mean, log_std


def make_sac(policy: Any = "MlpPolicy", **kwargs: Any) -> SAC:
    kwargs = {"learning_starts": 8, "batch_size": 8, "buffer_size": 100, "seed": 0, "device": "cpu", **kwargs}
    return SAC(policy, "Pendulum-v1", **kwargs)


def sac_gap(model: SAC) -> float:
    """Between the actions of the fast path and the torch policy's distribution with the same noise."""
    observations = 3 * np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    with torch.no_grad():
        distribution = model.policy.distribution_of(model.policy.preprocess(torch.as_tensor(observations)))
        noise = np.random.default_rng(3).standard_normal((50, 1), dtype=np.float32)
        expected = distribution.from_noise(torch.as_tensor(noise)).numpy()
    act = model.policy.fast_actor(np.random.default_rng(3))
    assert act is not None
    got = act(observations)
    assert got.dtype == np.float32
    assert np.ptp(got) > 0.5
    return float(np.abs(got - expected).max())


@pytest.mark.parametrize(
    "options", [{}, {"activation_fn": nn.Tanh}, {"net_arch": []}, {"net_arch": {"pi": [8], "qf": [4]}}], ids=str
)
def test_squashed_actions_are_those_of_the_torch_policy(options: dict[str, Any]) -> None:
    model = make_sac(policy_kwargs=options)
    assert sac_gap(model) < 1e-5
    with torch.no_grad():
        for parameter in model.actor.parameters():
            parameter.add_(2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    assert sac_gap(model) < 1e-4  # the standard deviation is clipped in both
    model.learn(20)
    assert sac_gap(model) < 1e-4


def test_a_single_expert_acts_as_the_plain_policy() -> None:
    plain, single = make_sac(), make_sac("MoeMlpPolicy", policy_kwargs={"n_experts": 1})
    acts = [model.policy.fast_actor(np.random.default_rng(0)) for model in (plain, single)]
    assert all(act is not None for act in acts)
    np.testing.assert_array_equal(*(act(np.ones((5, 3), np.float32)) for act in acts if act is not None))


def test_sac_acts_by_a_hook_and_a_new_layer_at_once() -> None:
    model = make_sac().learn(12)
    model.actor.mu.register_forward_hook(lambda module, inputs, output: output + 20.0)
    assert model._sample_action(0)[1].item() == pytest.approx(1.0)
    model = make_sac().learn(12)
    model.actor.mu = nn.Linear(256, 1)
    nn.init.constant_(model.actor.mu.bias, -20.0)
    assert model._sample_action(0)[1].item() == pytest.approx(-1.0)


@pytest.mark.parametrize(
    "options",
    [{"use_sde": True}, {"policy": OtherHeads}, {"policy": "MoeMlpPolicy"}, {"policy_kwargs": {"activation_fn": nn.ELU}}],
    ids=str,
)
def test_sac_leaves_to_torch_what_it_does_not_know(options: dict[str, Any]) -> None:
    model = make_sac(**options)
    assert model.policy.fast_actor(np.random.default_rng(0)) is None
    model.learn(12)


@pytest.mark.parametrize("make_any", [make, make_sac])
def test_what_is_put_in_place_of_a_method_is_left_to_torch(make_any: Any) -> None:
    """By hand on one object, or by a hook of all modules."""

    def fast(model: Any) -> bool:
        return model.policy.fast_actor(np.random.default_rng(0)) is not None

    model = make_any()
    layer = (model.actor.latent_pi if make_any is make_sac else model.policy.mlp_extractor.policy_net)[0]
    assert fast(model)
    layer.forward = lambda inputs: torch.zeros(len(inputs), layer.out_features)
    assert not fast(model)
    model = make_any()
    model.policy.distribution_of = lambda inputs: None
    assert not fast(model)
    model = make_any()
    handle = nn.modules.module.register_module_forward_hook(lambda module, inputs, output: output)
    assert not fast(model)
    handle.remove()
    assert fast(model)


class DeepMean(SACPolicy):
    def make_actor(self, features_extractor: Any = None) -> Any:
        actor: Any = super().make_actor(features_extractor)
        actor.mu = nn.Sequential(nn.Linear(256, 5), nn.ReLU(), nn.Linear(5, actor.mu.out_features))
        return actor.to(self.device)


def test_the_last_layers_of_an_actor_may_be_others() -> None:
    model = make_sac(DeepMean).learn(12)
    assert sac_gap(model) < 1e-4
