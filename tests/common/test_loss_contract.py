"""Whoever writes a loss wrongly is told so, of the loss, at its first minibatch."""

import warnings
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from rlspo import PPO
from rlspo.common.errors import UnsupportedNetworkError
from rlspo.common.rollout_buffer import Field
from rlspo.policies import ActorCriticPolicy

SMALL: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "seed": 0, "device": "cpu", "compile": False}


def agent(change: Any, policy: Any = "MlpPolicy", **kwargs: Any) -> PPO:
    """PPO whose loss is what ``change`` makes of PPO's, and of its statistics."""

    class Changed(PPO):
        def loss(self, parameters: Any, batch: Any) -> Any:
            return change(*super().loss(parameters, batch))

    return Changed(policy, "Pendulum-v1", **{**SMALL, **kwargs})


MISTAKES = {
    "no statistics": (lambda loss, stats: loss, r"Changed\.loss returned a tensor of shape \(\)"),
    "nothing": (lambda loss, stats: None, r"Changed\.loss returned None"),
    "three things": (lambda loss, stats: (loss, stats, 1), r"Changed\.loss returned a tuple of 3"),
    "a loss for each row": (lambda loss, stats: (loss.expand(4), stats), r"returned a loss that is a tensor of shape \(4,\)"),
    "a loss of length one": (lambda loss, stats: (loss[None], stats), r"returned a loss that is a tensor of shape \(1,\)"),
    "a number": (lambda loss, stats: (1.0, stats), "returned a loss that is a float"),
    "a number to log": (lambda loss, stats: (loss, {**stats, "x": 1.0}), "returned the statistic 'x', which is a float"),
    "rows to log": (lambda loss, stats: (loss, {**stats, "x": loss.expand(3)}), r"'x', which is a tensor of shape \(3,\)"),
}


@pytest.mark.parametrize("policy", ["MlpPolicy", "MoeMlpPolicy"])
@pytest.mark.parametrize(("change", "message"), MISTAKES.values(), ids=MISTAKES)
def test_what_a_loss_returns(change: Any, message: str, policy: str) -> None:
    with pytest.raises(TypeError, match=f"(?s){message}.*it must return a scalar tensor"):
        agent(change, policy).learn(16)


def test_a_target_needs_its_statistic() -> None:
    def without(loss: Any, stats: Any) -> Any:
        return loss, {name: value for name, value in stats.items() if name != "approx_kl"}

    agent(without).learn(16)
    with pytest.raises(ValueError, match="target_kl needs the loss to return the statistic 'approx_kl'"):
        agent(without, target_kl=0.1).learn(16)


def test_a_loss_that_moves_nothing() -> None:
    class Direct(PPO):
        def loss(self, parameters: Any, batch: Any) -> Any:
            value = self.policy.values_of(self.policy.preprocess(batch.observations))
            return value.square().mean(), {"approx_kl": value.mean()}

    with pytest.warns(UserWarning, match=r"The gradient of .*Direct\.loss is 0 in every parameter"):
        Direct("MlpPolicy", "Pendulum-v1", **SMALL).learn(16)


def test_layers_that_no_optimiser_has() -> None:
    class Late(ActorCriticPolicy):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.head = nn.Linear(2, 1)

    with pytest.warns(UserWarning, match=r"2 parameters of the policy .* will not be trained: head\.weight, head\.bias"):
        PPO(Late, "Pendulum-v1", **SMALL)

    class Frozen(Late):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.head.requires_grad_(False)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PPO(Frozen, "Pendulum-v1", **SMALL)


def test_networks_of_the_agent() -> None:
    class WithHead(PPO):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.head = nn.Linear(2, 1)
            super().__init__(*args, **kwargs)

    with pytest.warns(UserWarning, match="Networks of the agent .* will not be trained, and not saved: head"):
        WithHead("MlpPolicy", "Pendulum-v1", **SMALL)


def test_a_branch_on_a_tensor_cannot_be_compiled() -> None:
    def branching(loss: torch.Tensor, stats: Any) -> Any:
        return (loss if loss > 0 else 2 * loss), stats

    agent(branching).learn(16)
    with pytest.raises(UnsupportedNetworkError, match=r"cannot be compiled as a whole: .*torch\.where"):
        agent(branching, compile=True).learn(16)


def test_arguments_of_ones_own_class_are_guessed() -> None:
    class Own(PPO):
        def __init__(self, *args: Any, aux_coef: float = 0.1, **kwargs: Any) -> None:
            self.aux_coef = aux_coef
            super().__init__(*args, **kwargs)

    with pytest.raises(TypeError, match=r"Own\.__init__\(\) got .* 'aux_coeff'\. Did you mean 'aux_coef'\?"):
        Own("MlpPolicy", "Pendulum-v1", aux_coeff=1.0)  # type: ignore[call-arg]


def test_a_coefficient_that_is_a_text() -> None:
    class Own(PPO):
        coefficients = (*PPO.coefficients, "aux_coef")
        aux_coef = "much"

    with pytest.raises(TypeError, match="aux_coef is 'much'"):
        Own("MlpPolicy", "Pendulum-v1", **SMALL).learn(16)


class Fields(PPO):
    extra_fields: ClassVar[Any] = {"goal": Field((2,))}
    steps: ClassVar[Any] = {"goal": np.zeros((1, 2))}

    def step_fields(self, infos: Any) -> Any:
        return self.steps


def test_fields_that_are_not_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    Fields("MlpPolicy", "Pendulum-v1", **SMALL).learn(16)
    monkeypatch.setattr(Fields, "steps", {"other": np.zeros(1)})
    with pytest.raises(ValueError, match=r"There is no field 'other' to record; declare it: extra_fields"):
        Fields("MlpPolicy", "Pendulum-v1", **SMALL).learn(16)


@pytest.mark.parametrize("given", [{"goal": (2,)}, ("goal",), {"goal": {"a": Field(), "b": 3}}])
def test_fields_that_are_none(given: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fields, "extra_fields", given)
    with pytest.raises(TypeError, match=r"extra_fields is .*Field\(\(3,\)\)"):
        Fields("MlpPolicy", "Pendulum-v1", **SMALL)


def test_assigning_a_field_fills_it() -> None:
    class Own(PPO):
        def estimate_advantages(self, buffer: Any, rewards: Any, last_values: Any, dones: Any, cut: Any) -> None:
            super().estimate_advantages(buffer, rewards, last_values, dones, cut)
            buffer.advantages = buffer.advantages + 1
            buffer.returns = 2.0

    model = Own("MlpPolicy", gym.make("CartPole-v1"), **SMALL).learn(16)
    assert (model.rollout_buffer.data["returns"] == 2.0).all()
    assert "advantages" not in vars(model.rollout_buffer)
    reference = PPO("MlpPolicy", gym.make("CartPole-v1"), **SMALL).learn(16)
    np.testing.assert_allclose(model.rollout_buffer.data["advantages"], reference.rollout_buffer.data["advantages"] + 1)


def test_fields_are_declared_by_agents_and_not_handed_to_the_buffer() -> None:
    with pytest.raises(ValueError, match="rollout_buffer_kwargs has extra_fields, which agents declare"):
        PPO("MlpPolicy", "CartPole-v1", rollout_buffer_kwargs={"extra_fields": {"goal": Field((2,))}})
