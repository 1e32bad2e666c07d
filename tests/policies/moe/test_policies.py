"""Mixture-of-experts policies in every agent: one expert is the plain policy; several learn, save, load and log."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.evaluation import evaluate_policy

from rlspo import ARPO, BARPO, PDPPO, PPO, SAC
from rlspo.policies.moe.settings import ROUTINGS
from tests.spaces import OBSERVATIONS, SpacesEnv, policy_name

ON_POLICY: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "n_epochs": 2, "seed": 3}
OFF_POLICY: dict[str, Any] = {"learning_starts": 10, "batch_size": 16, "buffer_size": 100, "seed": 3}
LAKE = "rlspo/FrozenLakePostDecision-v0"


def weights(model: Any) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.policy.parameters()])


def moe(observation: str) -> str:
    return "Moe" + policy_name(observation)


@pytest.mark.parametrize("action", ["box", "discrete", "multi_discrete", "multi_binary"])
@pytest.mark.parametrize("agent", [PPO, ARPO, BARPO])
def test_one_expert_is_the_plain_policy(agent: type[PPO], action: str) -> None:
    plain = agent("MlpPolicy", SpacesEnv("box", action), **ON_POLICY).learn(64)
    mixture = agent("MoeMlpPolicy", SpacesEnv("box", action), **ON_POLICY, policy_kwargs={"n_experts": 1}).learn(64)
    assert torch.equal(weights(plain), weights(mixture))


@pytest.mark.parametrize("observation", ["image", "dict"])
@pytest.mark.parametrize(("agent", "options"), [(PPO, ON_POLICY), (SAC, OFF_POLICY)], ids=["ppo", "sac"])
def test_one_expert_is_the_plain_policy_for_images_and_dictionaries(
    observation: str, agent: Any, options: dict[str, Any]
) -> None:
    plain = agent(policy_name(observation), SpacesEnv(observation), **options).learn(34)
    mixture = agent(moe(observation), SpacesEnv(observation), **options, policy_kwargs={"n_experts": 1}).learn(34)
    assert torch.equal(weights(plain), weights(mixture))


def test_one_expert_is_the_plain_policy_of_pdppo() -> None:
    plain = PDPPO("MlpPolicy", LAKE, **ON_POLICY).learn(64)
    mixture = PDPPO("MoeMlpPolicy", LAKE, **ON_POLICY, policy_kwargs={"n_experts": 1}).learn(64)
    assert torch.equal(weights(plain), weights(mixture))


@pytest.mark.parametrize("use_sde", [False, True])
def test_one_expert_is_the_plain_policy_of_sac(use_sde: bool) -> None:
    plain = SAC("MlpPolicy", SpacesEnv(), **OFF_POLICY, use_sde=use_sde).learn(40)
    mixture = SAC("MoeMlpPolicy", SpacesEnv(), **OFF_POLICY, use_sde=use_sde, policy_kwargs={"n_experts": 1}).learn(40)
    assert torch.equal(weights(plain), weights(mixture))


@pytest.mark.parametrize("action", ["box", "discrete", "multi_discrete", "multi_binary"])
@pytest.mark.parametrize("observation", ["box", "image", "dict"])
def test_learns_saves_and_loads(observation: str, action: str, tmp_path: Path, device: str) -> None:
    env = SpacesEnv(observation, action)
    model = PPO(moe(observation), env, **ON_POLICY, ent_coef=0.01, device=device)
    before = weights(model)
    model.learn(64)
    assert weights(model).isfinite().all()
    assert not torch.equal(before, weights(model))
    model.save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model", env=env, device=device)
    seen = model.env.reset()
    np.testing.assert_array_equal(model.predict(seen, deterministic=True)[0], loaded.predict(seen, deterministic=True)[0])
    assert loaded.policy.n_experts == 4
    loaded.learn(32)


@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_sac_learns_saves_and_loads(observation: str, tmp_path: Path, device: str) -> None:
    options = {"policy_kwargs": {"net_arch": [16], "n_experts": 3, "gate_arch": [8], "share_features_extractor": True}}
    model = SAC(moe(observation), SpacesEnv(observation), **OFF_POLICY, **options, device=device).learn(30)
    assert weights(model).isfinite().all()
    model.save(tmp_path / "model")
    loaded = SAC.load(tmp_path / "model", env=SpacesEnv(observation), device=device)
    seen = model.env.reset()
    np.testing.assert_array_equal(model.predict(seen, deterministic=True)[0], loaded.predict(seen, deterministic=True)[0])
    loaded.learn(30)


@pytest.mark.parametrize("routing", ROUTINGS)
@pytest.mark.parametrize("gate", ["observation", "latent"])
def test_every_routing_moves_gate_and_experts(routing: str, gate: str) -> None:
    kwargs = {"routing": routing, "gate": gate}
    for model, parts in (
        (PPO("MoeMlpPolicy", SpacesEnv(), **ON_POLICY, policy_kwargs=kwargs), ("gate_net", "action_net")),
        (SAC("MoeMlpPolicy", SpacesEnv(), **OFF_POLICY, policy_kwargs=kwargs), ("actor.gate", "actor.mu")),
    ):
        modules = [model.policy.get_submodule(part) for part in parts]
        before = [torch.cat([p.detach().flatten().clone() for p in module.parameters()]) for module in modules]
        model.learn(64)
        for module, old in zip(modules, before, strict=True):
            assert not torch.equal(old, torch.cat([p.detach().flatten() for p in module.parameters()]))


@pytest.mark.parametrize("agent", [ARPO, BARPO])
def test_adversaries_attack_mixtures(agent: type[ARPO]) -> None:
    model = agent("MoeMlpPolicy", SpacesEnv(), **ON_POLICY, epsilon=0.2).learn(64)
    assert weights(model).isfinite().all()


@pytest.mark.parametrize("options", [{}, {"credit": "joint"}, {"ratio": "joint"}, {"critics": "single"}])
def test_pdppo_with_mixtures(options: dict[str, Any]) -> None:
    model = PDPPO("MoeMlpPolicy", "rlspo/LotSizing-v0", **ON_POLICY, **options).learn(64)
    assert weights(model).isfinite().all()


@pytest.mark.no_cover
@pytest.mark.parametrize("routing", ["frequency", "marginal"])
def test_compiled_ppo_equals_eager(routing: str, device: str) -> None:
    finals = []
    for compiled in (False, True):
        options = {**ON_POLICY, "policy_kwargs": {"net_arch": [8], "routing": routing}, "ent_coef": 0.01}
        model = PPO("MoeMlpPolicy", SpacesEnv(), **options, device=device, compile=compiled).learn(96)
        finals.append(weights(model))
    torch.testing.assert_close(finals[0], finals[1], rtol=1e-3, atol=1e-5)


def test_diagnostics_are_logged() -> None:
    model = PPO("MoeMlpPolicy", SpacesEnv(), **ON_POLICY, policy_kwargs={"n_experts": 3, "routing": "frequency"}).learn(32)
    logged = model.logger.name_to_value
    usage = [logged[f"moe/usage_{k}"] for k in range(3)]
    assert sum(usage) == pytest.approx(1.0)
    assert sum(logged[f"moe/wins_{k}"] for k in range(3)) == pytest.approx(1.0)
    assert 0 <= logged["moe/gate_entropy"] <= logged["moe/usage_entropy"] + 1e-5 <= np.log(3) + 2e-5
    assert {"moe/kl_mean", "moe/kl_min", "moe/dead_experts", "moe/routing_loss", "moe/q_loss"} <= logged.keys()
    model = SAC("MoeMlpPolicy", SpacesEnv(), **OFF_POLICY).learn(30)
    assert {"moe/usage_0", "moe/wins_3", "moe/kl_min", "train/actor_loss"} <= model.logger.name_to_value.keys()


def test_sb3s_methods_work_on_mixtures() -> None:
    model = PPO("MoeMlpPolicy", SpacesEnv(), **ON_POLICY)
    seen = torch.zeros(6, 5)
    actions, values, log_probs = model.policy(seen)
    again, log_probs_again, entropy = model.policy.evaluate_actions(seen, actions)
    assert actions.shape == (6, 2)
    assert values.shape == (6, 1)
    torch.testing.assert_close(log_probs, log_probs_again)
    torch.testing.assert_close(values, again)
    assert entropy.shape == (6,)
    distribution = model.policy.get_distribution(seen)
    torch.testing.assert_close(distribution.log_prob(actions), log_probs)
    assert torch.equal(distribution.mode(), model.policy.get_distribution(seen).get_actions(deterministic=True))
    evaluate_policy(model, SpacesEnv(), n_eval_episodes=2, warn=False)


def test_sb3s_methods_work_on_the_actor_of_sac() -> None:
    model = SAC("MoeMlpPolicy", SpacesEnv(), **OFF_POLICY)
    seen = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    actions, log_probs = model.actor.action_log_prob(seen)
    mixture = model.policy.distribution_of(seen)
    torch.testing.assert_close(mixture.log_prob(actions), log_probs, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model.actor(seen, deterministic=True), mixture.mode())
    assert model.actor(seen).shape == (6, 2)
    assert model.actor.predict(seen.numpy())[0].shape == (6, 2)
    with pytest.raises(TypeError, match=r"policy\.distribution_of"):
        model.actor.get_action_dist_params(seen)


@pytest.mark.parametrize(("agent", "options"), [(PPO, ON_POLICY), (SAC, OFF_POLICY)], ids=["ppo", "sac"])
def test_a_policy_for_other_observations_is_refused(agent: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"does not take observations of Dict.*Use MoeMultiInputPolicy"):
        agent("MoeMlpPolicy", SpacesEnv("dict"), **options)
    with pytest.raises(ValueError, match=r"does not take observations of Box.*Use MoeMlpPolicy"):
        agent("MoeMultiInputPolicy", SpacesEnv(), **options)


@pytest.mark.parametrize(("agent", "options"), [(PPO, ON_POLICY), (SAC, OFF_POLICY)], ids=["ppo", "sac"])
def test_experts_begin_apart_unless_told_not_to(agent: Any, options: dict[str, Any]) -> None:
    def spread(amount: float) -> float:
        kwargs = {"n_experts": 8, "initial_spread": amount, "net_arch": [256]}
        policy = agent("MoeMlpPolicy", SpacesEnv(), **options, policy_kwargs=kwargs).policy
        return float(policy.distribution_of(torch.zeros(1, 5)).experts.mean.std().detach())

    assert spread(0.0) < 0.15
    assert 0.3 < spread(0.5) < 0.7


class TwoPeaks(SpacesEnv):
    """One decision: -0.6 and 0.6 are worth 1, next to nothing lies between."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space, self.action_space = (type(self.action_space)(-1, 1, (1,), np.float32) for _ in range(2))

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.zeros(1, np.float32), float(np.exp(-(((abs(action[0]) - 0.6) / 0.2) ** 2))), True, False, {}


@pytest.mark.no_cover
def test_sac_with_a_mixture_finds_both_peaks_and_one_gaussian_neither() -> None:
    options: dict[str, Any] = {**OFF_POLICY, "batch_size": 64, "buffer_size": 2000, "learning_rate": 4e-3, "ent_coef": 0.15}
    plain, mixture = (
        SAC(policy, TwoPeaks(), **options, policy_kwargs={"net_arch": [32, 32]}, compile=False).learn(600).policy
        for policy in ("MlpPolicy", "MoeMlpPolicy")
    )
    with torch.no_grad():
        assert plain.distribution_of(torch.zeros(1, 1)).mode().abs() < 0.3
        found = mixture.distribution_of(torch.zeros(1, 1))
    modes = found.experts.mode().flatten()
    assert ((modes.abs() - 0.6).abs() < 0.2).all()
    assert modes.min() < 0 < modes.max()
    assert abs(abs(float(found.mode())) - 0.6) < 0.2


def test_only_the_likely_expert_learns_from_an_action() -> None:
    model = PPO("MoeMlpPolicy", SpacesEnv(), **ON_POLICY, policy_kwargs={"primitive_update": "max", "n_experts": 2})
    mixture = model.policy.distribution_of(torch.randn(1, 5))
    mean = torch.tensor([[[-3.0, 0.0], [3.0, 0.0]]], requires_grad=True)
    apart = type(mixture).of(mixture.gate, mean, torch.zeros(1))
    for hard, learning in ((True, [False, True]), (False, [True, True])):
        log_prob = replace(apart, one_learns=hard).log_prob(torch.tensor([[1.0, 0.0]]))
        (gradient,) = torch.autograd.grad(log_prob, mean)
        assert [bool(row.any()) for row in gradient[0]] == learning
        torch.testing.assert_close(log_prob, apart.log_prob(torch.tensor([[1.0, 0.0]])))


def test_the_critic_may_choose_the_mode() -> None:
    model = SAC("MoeMlpPolicy", SpacesEnv(), **OFF_POLICY, policy_kwargs={"mode_by": "critic"}).learn(30)
    seen = torch.randn(40, 5)
    with torch.no_grad():
        mixture = model.policy.distribution_of(seen)
        modes = mixture.experts.mode()
        values = model.policy.q_values_of((seen, modes)).amin(dim=0)
        expected = modes[torch.arange(40), values.argmax(dim=-1)]
        torch.testing.assert_close(model.policy._predict(seen, deterministic=True), expected)
        model.policy.mode_by = "gate"
        torch.testing.assert_close(model.policy._predict(seen, deterministic=True), mixture.mode())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_experts": 0}, "n_experts is 0"),
        ({"routing": "top1"}, "routing is 'top1'"),
        ({"routing_loss": "hinge"}, "routing_loss is 'hinge'"),
        ({"primitive_update": "some"}, "primitive_update is 'some'"),
        ({"gate": "trunk"}, "gate is 'trunk'"),
        ({"gumbel_temperature": 0.0}, "gumbel_temperature is 0"),
        ({"gate_arch": [0]}, r"gate_arch is \[0\]; its widths"),
        ({"initial_spread": -1.0}, "initial_spread is -1"),
    ],
)
def test_bad_settings(options: dict[str, Any], message: str) -> None:
    for make in (
        lambda: PPO("MoeMlpPolicy", SpacesEnv(), **ON_POLICY, policy_kwargs=options),
        lambda: SAC("MoeMlpPolicy", SpacesEnv(), **OFF_POLICY, policy_kwargs=options),
    ):
        with pytest.raises(ValueError, match=message):
            make()


@pytest.mark.parametrize(
    ("agent", "options", "message"),
    [
        (
            SAC,
            {"routing_loss": "squared_error", "routing": "score"},
            "routing_loss is 'squared_error', .*'score'.*'frequency'",
        ),
        (SAC, {"primitive_update": "max", "routing": "marginal"}, "primitive_update is 'max', which does nothing"),
        (SAC, {"routing_coef": 2.0, "routing": "gumbel"}, "routing_coef is 2.0, .*use routing='frequency' or 'score'"),
        (PPO, {"routing_coef": 2.0}, "routing_coef is 2.0, which does nothing with routing='marginal'"),
        (PPO, {"q_net_arch": [32]}, r"q_net_arch is \[32\], which does nothing with routing='marginal'"),
        (PPO, {"gumbel_temperature": 1.0}, "gumbel_temperature is 1.0, .*use routing='gumbel'"),
    ],
)
def test_a_setting_that_does_nothing_is_named(agent: Any, options: dict[str, Any], message: str) -> None:
    with pytest.warns(UserWarning, match=message):
        agent("MoeMlpPolicy", SpacesEnv(), **(ON_POLICY if agent is PPO else OFF_POLICY), policy_kwargs=options)


def test_gsde_is_for_one_expert() -> None:
    for agent, options in ((PPO, ON_POLICY), (SAC, OFF_POLICY)):
        with pytest.raises(ValueError, match="use_sde is True with several experts"):
            agent("MoeMlpPolicy", SpacesEnv(), **options, use_sde=True)


@pytest.mark.parametrize("action", ["box", "discrete", "multi_discrete", "multi_binary"])
@pytest.mark.parametrize("gate", ["observation", "latent"])
def test_acting_in_numpy_is_acting_with_the_mixture(gate: str, action: str) -> None:
    options = {"n_experts": 3, "gate": gate, "gate_arch": [4]}
    model = PPO("MoeMlpPolicy", SpacesEnv("box", action), **ON_POLICY, policy_kwargs=options, device="cpu")
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())))
    n, seen = 40_000, np.random.default_rng(0).normal(size=(1, 5)).astype(np.float32)
    act = model.policy.fast_actor(np.random.default_rng(1))
    assert act is not None
    actions = torch.as_tensor(act(seen.repeat(n, axis=0))).reshape(n, -1).float()
    with torch.no_grad():
        mixture = model.policy.distribution_of(model.policy.preprocess(torch.as_tensor(seen.repeat(n, axis=0))))
        expected = mixture.sample(torch.Generator().manual_seed(2)).reshape(n, -1).float()
    scale = expected.std(dim=0).clamp(min=0.1)
    for moment in (1, 2):
        assert ((actions**moment).mean(0) - (expected**moment).mean(0)).abs().max() < 0.06 * scale.max() ** moment + 0.02
    if action != "discrete":
        ours, theirs = (torch.corrcoef(sample.T)[0, 1] for sample in (actions, expected))
        assert abs(ours - theirs) < 0.05
