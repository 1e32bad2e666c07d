"""Switching between training and evaluation at each step: fast, and with the same effect as torch's ``train``."""

import gymnasium as gym
import pytest
import torch
from torch import nn

import rlspo
from rlspo.policies.functional import switch_mode


class Frozen(nn.Sequential):
    """Stays in evaluation mode, as pretrained backbones do."""

    def train(self, mode: bool = True) -> "Frozen":
        return super().train(False)


def modes(module: nn.Module) -> dict[str, bool]:
    return {name: part.training for name, part in module.named_modules()}


@pytest.mark.parametrize("training", [True, False])
def test_has_the_effect_of_train(training: bool) -> None:
    scripted = torch.jit.trace(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)), torch.zeros(1, 2), check_trace=False)
    network = nn.Sequential(nn.Linear(2, 2), Frozen(nn.Linear(2, 2), nn.Dropout(0.5)), nn.BatchNorm1d(2), scripted)
    network.register_module("nothing", None)
    expected = modes(network.train(training))
    network.train(not training)
    switch_mode(network, training)
    assert modes(network) == expected
    assert not network[1][1].training


@pytest.mark.parametrize("agent", [rlspo.PPO, rlspo.SAC])
def test_policies_switch_as_sb3s(agent: type) -> None:
    policy = agent("MlpPolicy", gym.make("Pendulum-v1"), policy_kwargs={"share_features_extractor": False}).policy
    for training in (True, False):
        super(rlspo.policies.functional.Functional, policy).set_training_mode(training)
        expected = modes(policy)
        policy.set_training_mode(not training)
        policy.set_training_mode(training)
        assert modes(policy) == expected


def test_an_actor_with_a_switch_of_its_own_keeps_it() -> None:
    model = rlspo.SAC("MlpPolicy", "Pendulum-v1")
    calls = []

    class Actor(type(model.actor)):  # type: ignore[misc]
        def set_training_mode(self, mode: bool) -> None:
            calls.append(mode)

    model.actor.__class__ = Actor
    model.policy.set_training_mode(True)
    assert calls == [True]
