"""Settings changed on a SAC agent count as they do in SB3, or are refused at once, by name."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.utils import parameters_to_vector

from rlspo import SAC
from tests.sac.test_parity_with_sb3 import pair, train_both
from tests.spaces import SpacesEnv

OFF: dict[str, Any] = {"learning_starts": 10, "batch_size": 8, "buffer_size": 100, "seed": 0, "device": "cpu"}


def attribute(name: str, value: Any) -> Callable[[Any], None]:
    return lambda model: setattr(model, name, value)


def ent_coef_tensor(model: Any) -> None:
    model.ent_coef_tensor = torch.tensor(0.7)


def decay(model: Any) -> None:
    for optimizer in (model.actor.optimizer, model.critic.optimizer):
        for group in optimizer.param_groups:
            group.update(weight_decay=5.0, betas=(0.5, 0.9), eps=1e-3)


def forget_moments(model: Any) -> None:
    model.critic.optimizer.state.clear()


def freeze(model: Any) -> None:
    model.actor.latent_pi[0].requires_grad_(not model.actor.latent_pi[0].weight.requires_grad)


def hooks(model: Any) -> None:
    parts = (model.actor.mu.weight, model.critic.qf0[0].weight, model.log_ent_coef)
    for parameter in parts:
        parameter.register_hook(lambda gradient: gradient * -0.5)


CHANGES: dict[str, Callable[[Any], None]] = {
    "gamma": attribute("gamma", 0.5),
    "tau": attribute("tau", 0.9),
    "target_entropy": attribute("target_entropy", 3.0),
    "target_update_interval": attribute("target_update_interval", 3),
    "batch_size": attribute("batch_size", 4),
    "ent_coef_tensor": ent_coef_tensor,
    "decay": decay,
    "forget_moments": forget_moments,
    "freeze": freeze,
    "hooks": hooks,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_as_in_sb3(change: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """After a training, and again after the next (a layer that was frozen thaws)."""
    options = {"ent_coef": 0.2} if change is ent_coef_tensor else {}
    changed, unchanged = pair("box", **options), pair("box", **options)
    for models in (changed, unchanged):
        for number in range(3):
            if number and models is changed:
                for model in models:
                    change(model)
            with monkeypatch.context() as patch:
                train_both(*models, patch, gradient_steps=4)
            vectors = [vectors_of(model) for model in models]
            torch.testing.assert_close(vectors[1], vectors[0], rtol=1e-3, atol=1e-4)
    assert (vectors_of(unchanged[1]) - vectors_of(changed[1])).abs().max() > 1e-4


def test_hooks_on_steps_are_refused_by_name() -> None:
    model = SAC("MlpPolicy", SpacesEnv(), **OFF).learn(12)
    handle = model.critic.optimizer.register_step_post_hook(lambda *_: None)
    with pytest.raises(ValueError, match=r"^The optimizer of the critic has hooks on its steps"):
        model.learn(4, reset_num_timesteps=False)
    handle.remove()
    model.learn(4, reset_num_timesteps=False)


def vectors_of(model: Any) -> torch.Tensor:
    """All that learns."""
    return parameters_to_vector([*model.policy.parameters(), *([model.log_ent_coef] if model.ent_coef_optimizer else [])])


@pytest.mark.parametrize(
    "later",
    [
        {"learning_rate": 1e-2, "gradient_steps": 2, "tau": 0.1},
        {"ent_coef": 0.4, "gamma": 0.8},
        {"train_freq": (2, "step"), "learning_starts": 5},
    ],
    ids=lambda later: "-".join(later),
)
def test_what_sb3_reads_once_counts_too(later: dict[str, Any]) -> None:
    fixed = {"ent_coef": 0.1} if "ent_coef" in later else {}
    changed = SAC("MlpPolicy", "Pendulum-v1", **{**OFF, **fixed})
    for name, value in later.items():
        setattr(changed, name, value)
    made = SAC("MlpPolicy", "Pendulum-v1", **{**OFF, **fixed, **later})
    for model in (changed, made):
        model.learn(20)
    assert torch.equal(vectors_of(changed), vectors_of(made))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("buffer_size", 200, "cannot change to 200"),
        ("n_steps", 3, "cannot change to 3"),
        ("use_sde", True, "cannot change"),
        ("precision", "bfloat16", "cannot change"),
        ("ent_coef", 0.1, "it is learned"),
        ("tau", 2.0, "between 0 and 1"),
        ("gamma", float("nan"), "finite"),
        ("batch_size", 0, "at least 1"),
        ("gradient_steps", -2, "at least 1"),
        ("train_freq", "often", "whole number"),
        ("learning_rate", -1e-3, "at least 0"),
        ("action_noise", "x", "ActionNoise"),
        ("sde_sample_freq", -7, "at least 1"),
        ("compile", "always", "'auto'"),
    ],
)
def test_what_cannot_change_is_refused_at_once(name: str, value: Any, message: str) -> None:
    model = SAC("MlpPolicy", SpacesEnv(), **OFF)
    before = getattr(model, name)
    with pytest.raises((ValueError, TypeError), match=rf"^{name} (is|cannot).*{message}"):
        setattr(model, name, value)
    assert getattr(model, name) == before
