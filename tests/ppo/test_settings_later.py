"""Settings changed on a model count as they do in SB3, without compiling anew, or are refused at once, by name."""

import copy
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import FloatSchedule
from torch import nn
from torch.nn.utils import parameters_to_vector

from rlspo import ARPO, BARPO, PDPPO, PPO, SPO
from tests.ppo.test_parity_with_sb3 import assert_same_parameters, pair, train_both
from tests.spaces import SpacesEnv

SMALL: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "n_epochs": 2, "seed": 1, "device": "cpu"}


def attribute(name: str, value: Any) -> Callable[[Any], None]:
    return lambda model: setattr(model, name, value)


def in_groups(**values: Any) -> Callable[[Any], None]:
    return lambda model: [group.update(values) for group in model.policy.optimizer.param_groups]  # type: ignore[return-value]


def freeze(model: Any) -> None:
    model.policy.mlp_extractor.policy_net.requires_grad_(not model.policy.mlp_extractor.policy_net[0].weight.requires_grad)


def forget_moments(model: Any) -> None:
    model.policy.optimizer.state.clear()


def load_moments(model: Any) -> None:
    state = copy.deepcopy(model.policy.optimizer.state_dict())
    for entry in state["state"].values():
        entry["exp_avg"].fill_(1e-3)
        entry["exp_avg_sq"].fill_(1e-5)
        entry["step"].fill_(7.0)
    model.policy.optimizer.load_state_dict(state)


def steps_of_their_own(model: Any) -> None:
    """Somebody else's loss."""
    for _ in range(3):
        model.policy.optimizer.zero_grad()
        sum(parameter.square().sum() for parameter in model.policy.parameters()).backward()
        model.policy.optimizer.step()


def hooks(model: Any) -> None:
    """On the gradient before it is clipped, in both of torch's ways; those that only read change nothing."""

    def louder(parameter: torch.Tensor) -> None:
        parameter.grad.mul_(30.0)

    policy = model.policy
    policy.action_net.weight.register_hook(lambda gradient: gradient * 0)
    policy.action_net.bias.register_hook(lambda gradient: None)
    policy.value_net.weight.register_post_accumulate_grad_hook(louder)
    policy.value_net.bias.register_post_accumulate_grad_hook(lambda parameter: setattr(parameter, "grad", parameter.grad / 30))


def step_hooks(model: Any) -> None:
    """Before and after the steps of an optimiser: small gradients are none, weights stay within bounds."""
    parameters = [*model.policy.parameters()]

    def before(*_: Any) -> None:
        for parameter in parameters:
            parameter.grad[parameter.grad.abs() < 1e-3] = 0.0

    @torch.no_grad()
    def after(*_: Any) -> None:
        for parameter in parameters:
            parameter.clamp_(-0.3, 0.3)

    model.policy.optimizer.register_step_pre_hook(before)
    model.policy.optimizer.register_step_post_hook(after)


CHANGES: dict[str, Callable[[Any], Any]] = {
    "ent_coef": attribute("ent_coef", 0.3),
    "vf_coef": attribute("vf_coef", 5.0),
    "max_grad_norm": attribute("max_grad_norm", 1e-3),
    "target_kl": attribute("target_kl", 1e-4),
    "n_epochs": attribute("n_epochs", 5),
    "batch_size": attribute("batch_size", 8),
    "normalize_advantage": attribute("normalize_advantage", False),
    "clip_range": attribute("clip_range", FloatSchedule(0.01)),
    "clip_range_vf": attribute("clip_range_vf", FloatSchedule(0.001)),
    "lr_schedule": attribute("lr_schedule", FloatSchedule(3e-3)),
    "weight_decay": in_groups(weight_decay=10.0),
    "betas": in_groups(betas=(0.5, 0.8)),
    "eps": in_groups(eps=0.1),
    "freeze": freeze,
    "forget_moments": forget_moments,
    "load_moments": load_moments,
    "steps_of_their_own": steps_of_their_own,
    "hooks": hooks,
    "step_hooks": step_hooks,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_as_in_sb3(change: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """After an update, and again after the next (a layer that was frozen thaws: it has taken fewer steps)."""
    changed, unchanged = pair("box", "box"), pair("box", "box")
    for models in (changed, unchanged):
        for number in range(3):
            if number and models is changed:
                for model in models:
                    change(model)
            with monkeypatch.context() as patch:
                train_both(*models, patch)
            assert_same_parameters(*models)
    assert not torch.equal(
        parameters_to_vector(changed[1].policy.parameters()), parameters_to_vector(unchanged[1].policy.parameters())
    )


@pytest.mark.parametrize("kind", ["register_full_backward_hook", "register_full_backward_pre_hook"])
def test_hooks_that_would_not_be_called_are_refused(kind: str) -> None:
    model = PPO("MlpPolicy", SpacesEnv(), **SMALL)
    handle = getattr(model.policy.action_net, kind)(lambda *_: None)
    with pytest.raises(ValueError, match=r"^The layer action_net has hooks on its backward pass"):
        model.learn(32)
    handle.remove()
    model.learn(32)


def test_hooks_come_and_go() -> None:
    """A compiled update is eager meanwhile; an optimiser steps by itself while hooks wait for its steps."""
    model = PPO("MlpPolicy", SpacesEnv(), **SMALL).learn(32)
    weight, optimizer = model.policy.action_net.weight, model.policy.optimizer
    compiled: list[int] = []
    model.update._function = lambda *_: compiled.append(1)
    calls: list[torch.Tensor] = []
    handle = weight.register_hook(calls.append)
    model.learn(32)
    assert len(calls) == 4
    assert not compiled
    handle.remove()
    handle = optimizer.register_step_post_hook(lambda *_: calls.append(weight))
    model.learn(32)
    assert len(calls) == 8
    assert model.update.vector.adam is None
    handle.remove()
    model.learn(32)
    assert len(calls) == 8
    assert model.update.vector.adam is not None
    assert float(optimizer.state[weight]["step"]) == model.update.vector.steps.item() == 16
    model.save(io.BytesIO())


def test_learning_rate_discount_and_lambda_count_too() -> None:
    """SB3 takes these to its schedule and its buffer once, and later changes are lost without a word."""
    changed = PPO("MlpPolicy", SpacesEnv(), **SMALL, normalize_rewards=True)
    changed.learning_rate, changed.gamma, changed.gae_lambda = 2e-2, 0.5, 0.1
    made = PPO("MlpPolicy", SpacesEnv(), **SMALL, learning_rate=2e-2, gamma=0.5, gae_lambda=0.1, normalize_rewards=True)
    for model in (changed, made):
        model.learn(64)
    assert torch.equal(changed.update.vector.weights, made.update.vector.weights)


@pytest.mark.parametrize("agent", [PPO, ARPO, BARPO])
def test_a_radius_and_guidance_count(agent: type[PPO]) -> None:
    """From no ball to one and back; from one guidance to another."""
    if agent is PPO:
        expected = PPO("MlpPolicy", SpacesEnv(), **SMALL).learn(64).update.vector.weights
        kind, kwargs = (
            ARPO,
            {"epsilon": 0.3, "normalize_observations": False, "normalize_rewards": False, "learning_rate": 3e-4},
        )
        model = kind("MlpPolicy", SpacesEnv(), **SMALL, **kwargs)
        model.epsilon = 0.0
        torch.testing.assert_close(model.learn(64).update.vector.weights, expected)
        return
    model = agent("MlpPolicy", SpacesEnv(), **SMALL, epsilon=0.0, epsilon_ramp=0.0)
    model.epsilon, model.guidance = 0.3, 2.0  # type: ignore[attr-defined]
    made = agent("MlpPolicy", SpacesEnv(), **SMALL, epsilon=0.3, epsilon_ramp=0.0, guidance=2.0)
    torch.testing.assert_close(model.learn(64).update.vector.weights, made.learn(64).update.vector.weights)


def spo(**kwargs: Any) -> SPO:
    options = {"n_steps": 8, "batch_size": 8, "gradient_steps": 2, "n_particles": 4, "depth": 2, "seed": 0, "device": "cpu"}
    return SPO("MlpPolicy", "CartPole-v1", **{**options, **kwargs})


def test_settings_of_spo_count() -> None:
    later = {"tau": 0.5, "vf_coef": 3.0, "policy_kl": 1e-3, "max_grad_norm": 0.01, "gradient_steps": 4, "gamma": 0.9}
    changed = spo()
    for name, value in later.items():
        setattr(changed, name, value)
    made = spo(**later)
    for model in (changed, made):
        model.learn(24)
    assert torch.equal(changed.update.vector.weights, made.update.vector.weights)
    assert torch.equal(changed.policy.target, made.policy.target)


def pdppo() -> PDPPO:
    return PDPPO("MlpPolicy", "rlspo/FrozenLakePostDecision-v0", n_steps=16, batch_size=8)


IN_WEIGHTS = ("use_sde", "normalize_observations", "policy_kwargs")


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        (lambda: PPO("MlpPolicy", SpacesEnv(), **SMALL), "n_steps", 64),
        (lambda: PPO("MlpPolicy", SpacesEnv(), **SMALL), "normalize_observations", True),
        (lambda: PPO("MlpPolicy", SpacesEnv(), **SMALL), "normalize_rewards", True),
        (lambda: PPO("MlpPolicy", SpacesEnv(), **SMALL), "use_sde", True),
        (lambda: PPO("MlpPolicy", SpacesEnv(), **SMALL), "policy_kwargs", {"net_arch": [4]}),
        (lambda: BARPO("MlpPolicy", SpacesEnv(), **SMALL), "adversary_steps", 3),
        (lambda: BARPO("MlpPolicy", SpacesEnv(), **SMALL), "solver", "pgd"),
        (pdppo, "targets", "split"),
        (pdppo, "ratio", "joint"),
        (spo, "policy_kwargs", {"net_arch": [4]}),
        (spo, "n_particles", 7),
        (spo, "dual_learning_rate", 0.5),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_an_agent_is_built_for_is_refused(make: Callable[[], Any], name: str, value: Any) -> None:
    model = make()
    before = getattr(model, name)
    remedy = "make a new agent" if name in IN_WEIGHTS else rf"\.load\(path, env=env, {name}="
    with pytest.raises(ValueError, match=rf"^{name} is .* cannot change to .*{remedy}"):
        setattr(model, name, value)
    assert getattr(model, name) == before
    setattr(model, name, before)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vf_coef", -1.0),
        ("ent_coef", float("nan")),
        ("gamma", 2),
        ("max_grad_norm", 0),
        ("target_kl", -0.1),
        ("n_epochs", 0),
        ("batch_size", 7.5),
        ("clip_range", float("inf")),
        ("learning_rate", -1e-3),
        ("normalize_advantage", "yes"),
        ("sde_sample_freq", -7),
        ("compile", "always"),
        ("clip_range", None),
        ("clip_range", -1),
        ("clip_range", FloatSchedule(-1)),
        ("clip_range_vf", 0),
        ("learning_rate", FloatSchedule(float("nan"))),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(name: str, value: Any, tmp_path: Path) -> None:
    """By the constructor, by ``load``, and on the model."""
    model = PPO("MlpPolicy", SpacesEnv(), **SMALL)
    before = getattr(model, name)
    with pytest.raises((ValueError, TypeError), match=f"^{name} is (?!a schedule)"):
        setattr(model, name, value)
    assert getattr(model, name) is before
    model.save(tmp_path / "model")
    with pytest.raises((ValueError, TypeError), match=f"^{name} is (?!a schedule)"):
        PPO.load(tmp_path / "model", **{name: value})
    with pytest.raises((ValueError, TypeError), match=f"^{name} is (?!a schedule)"):
        PPO("MlpPolicy", SpacesEnv(), **{**SMALL, name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("resampling", "stratified"),
        ("resample_period", 0),
        ("ess_threshold", 1.5),
        ("ess_threshold", 0.5),
        ("as_published", "no"),
        ("search_kl", 9.0),
    ],
)
def test_of_a_search_too(name: str, value: Any) -> None:
    """Also what does not go with another setting: a share beside a period, more nats than particles reach."""
    model = spo()
    before = getattr(model, name)
    with pytest.raises((ValueError, TypeError), match=rf"{name} (is )?{value!r}"):
        setattr(model, name, value)
    assert getattr(model, name) is before
    model.resample_period, model.ess_threshold = None, 0.5


def test_a_clip_range_is_a_schedule_as_in_sb3(tmp_path: Path) -> None:
    model = PPO("MlpPolicy", SpacesEnv(), **SMALL)
    model.clip_range, model.clip_range_vf = 0.1, np.float32(0.5)
    assert (model.clip_range(0.3), model.clip_range_vf(0.3)) == (0.1, 0.5)
    model.clip_range_vf = None
    model.learn(32).save(tmp_path / "model")
    assert PPO.load(tmp_path / "model", clip_range=0.3).clip_range(0.5) == 0.3


def test_a_number_in_a_file_is_no_schedule() -> None:
    model = PPO("MlpPolicy", SpacesEnv(), **SMALL)
    vars(model)["clip_range"] = FloatSchedule(-1)
    with pytest.raises(ValueError, match=r"^clip_range is -1\.0; it must be a finite number"):
        model.learn(32)


def test_another_batch_size_warns_as_in_sb3(tmp_path: Path) -> None:
    model = PPO("MlpPolicy", SpacesEnv(), **SMALL)
    warns = lambda: pytest.warns(UserWarning, match="truncated mini-batch of size 8")  # noqa: E731
    with warns():
        model.batch_size = 12
    model.batch_size = 16
    model.save(tmp_path / "model")
    with warns():
        PPO.load(tmp_path / "model", batch_size=12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spo().batch_size = 12


class Normalized(nn.Module):
    """Layers that form statistics of the rows of a minibatch."""

    def __init__(self, space: Any) -> None:
        super().__init__()
        self.features_dim = 5
        self.layers = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(5))

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return self.layers(observations)


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
def test_a_single_row_has_no_statistics() -> None:
    kwargs: dict[str, Any] = {**SMALL, "policy_kwargs": {"features_extractor_class": Normalized}}
    refused = r"^batch_size is such that the last minibatch of an epoch has a single row"
    model = PPO("MlpPolicy", SpacesEnv(), **kwargs)
    with pytest.raises(ValueError, match=refused):
        model.batch_size = 31
    assert model.batch_size == 16
    with pytest.raises(ValueError, match=refused):
        PPO("MlpPolicy", SpacesEnv(), **{**kwargs, "batch_size": 31})
    # Resets may leave a single row, too: it waits for the next epoch.
    model.learn(32)
    model.rollout_buffer.data["valid"][:15] = False
    model.train()
    assert [len(rows) for rows in model.minibatches()] == [16]


class Anneal(BaseCallback):
    """Changes all that may change, in each rollout."""

    rounds = 0

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.rounds += 1
        model: Any = self.model
        model.ent_coef, model.vf_coef, model.max_grad_norm = 0.1 / self.rounds, 0.5 + self.rounds, 0.5 / self.rounds
        model.target_kl, model.learning_rate, model.clip_range = 1.0 / self.rounds, 1e-3 / self.rounds, 0.3 / self.rounds
        for group in model.policy.optimizer.param_groups:
            group["betas"], group["eps"] = (0.9 - 0.01 * self.rounds, 0.99), 1e-5 / self.rounds


def test_one_compilation_serves_them_all() -> None:
    """And minibatches that do not divide the rollout."""
    options = {**SMALL, "batch_size": 12, "n_epochs": 1, "target_kl": 5.0, "policy_kwargs": {"net_arch": [4]}}
    counters = torch._dynamo.utils.counters
    weights = {}
    for compiled in (False, True):
        torch._dynamo.reset()
        counters.clear()
        model = PPO("MlpPolicy", SpacesEnv("box", "discrete"), **options, compile=compiled).learn(32 * 12, callback=Anneal())
        weights[compiled] = model.update.vector.weights.clone()
    assert model.update.compiled
    assert counters["stats"]["unique_graphs"] == 1
    torch.testing.assert_close(weights[True], weights[False], rtol=1e-4, atol=1e-5)


def test_another_method_before_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    models = pair("box", "box")
    for model in models:
        in_groups(amsgrad=True)(model)
    train_both(*models, monkeypatch)
    assert_same_parameters(*models)
    assert "max_exp_avg_sq" in next(iter(models[1].policy.optimizer.state.values()))


def test_frozen_for_ever_means_no_moments() -> None:
    model = PPO("MlpPolicy", SpacesEnv(), **SMALL)
    assert isinstance(model.policy.value_net, nn.Linear)
    model.policy.value_net.requires_grad_(False)
    model.learn(32)
    assert model.policy.value_net.weight not in model.policy.optimizer.state
