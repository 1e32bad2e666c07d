"""Training lays the parameters out in one vector; whatever users do to the policy in between, it keeps learning."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rlspo import PPO
from rlspo.common.trees import to_tensor
from tests.spaces import OBSERVATIONS, SpacesEnv

RATE = 1e-2
SMALL: dict[str, Any] = {"n_steps": 64, "batch_size": 32, "n_epochs": 2, "seed": 1, "learning_rate": RATE}
Change = Callable[[PPO], PPO]


def same_numbers_elsewhere(model: PPO) -> PPO:
    model.policy.load_from_vector(model.policy.parameters_to_vector())
    return model


def there_and_back(model: PPO) -> PPO:
    model.policy.to(torch.float64).to(torch.float32)
    return model


def new_head(model: PPO) -> PPO:
    model.policy.action_net = nn.Linear(64, 2).to(model.device)
    return model


def new_optimizer(model: PPO) -> PPO:
    model.policy.optimizer = torch.optim.SGD(model.policy.parameters(), lr=RATE)
    return model


def freeze(model: PPO) -> PPO:
    model.policy.mlp_extractor.policy_net[0].weight.requires_grad_(False)
    model.policy.value_net.bias.requires_grad_(False)
    return model


CHANGES: list[Change] = [same_numbers_elsewhere, copy.deepcopy, there_and_back, new_head, new_optimizer, freeze]
every_change = pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)


def snapshot(model: PPO) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.policy.named_parameters()}


def actions(model: PPO) -> np.ndarray:
    OBSERVATIONS["box"].seed(0)
    observations = np.stack([OBSERVATIONS["box"].sample() for _ in range(8)])
    return model.predict(observations, deterministic=True)[0]


@every_change
def test_all_that_is_trainable_moves_and_nothing_else(change: Change, device: str) -> None:
    model = change(PPO("MlpPolicy", SpacesEnv(), **SMALL, device=device).learn(64))
    before, said = snapshot(model), actions(model)
    model.learn(64)
    after = snapshot(model)
    for name, parameter in model.policy.named_parameters():
        assert torch.isfinite(parameter).all(), name
        assert torch.equal(before[name], after[name]) != parameter.requires_grad, name
    assert not np.allclose(said, actions(model), atol=1e-6)


@every_change
def test_what_is_saved_is_what_was_trained(change: Change, device: str) -> None:
    model = change(PPO("MlpPolicy", SpacesEnv(), **SMALL, device=device).learn(64)).learn(64)
    weights = model.get_parameters()["policy"]
    for name, parameter in model.policy.named_parameters():
        assert torch.equal(weights[name], parameter), name
    other = PPO("MlpPolicy", SpacesEnv(), **{**SMALL, "seed": 9}, device=device)
    other.policy.load_state_dict(weights)
    np.testing.assert_array_equal(actions(other), actions(model))


@every_change
def test_rollouts_follow_the_changed_policy(change: Change, device: str) -> None:
    model = change(PPO("MlpPolicy", SpacesEnv(), **SMALL, device=device).learn(64))
    with torch.no_grad():
        model.policy.log_std.fill_(-10)
    _, callback = model._setup_learn(64)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, 64)
    observations = to_tensor(model.rollout_buffer.flat("observations"), model.device)
    with torch.no_grad():
        mean = model.policy.distribution_of(model.policy.preprocess(observations)).mode()
    np.testing.assert_allclose(model.rollout_buffer.flat("actions"), mean.cpu(), atol=1e-3)


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.RMSprop])
def test_a_new_layer_is_trained_by_every_optimizer(optimizer: type[torch.optim.Optimizer]) -> None:
    model = new_head(PPO("MlpPolicy", SpacesEnv(), **SMALL, policy_kwargs={"optimizer_class": optimizer}).learn(64))
    before = model.policy.action_net.weight.detach().clone()
    model.learn(64)
    assert not torch.equal(before, model.policy.action_net.weight)


@pytest.mark.parametrize("change", CHANGES[:3], ids=lambda change: change.__name__)
def test_what_changes_no_number_changes_no_training(change: Change) -> None:
    """Weights, Adam's moments and its step count are those of an agent that was left alone."""
    untouched = PPO("MlpPolicy", SpacesEnv(), **SMALL, device="cpu").learn(64).learn(64, reset_num_timesteps=False)
    model = change(PPO("MlpPolicy", SpacesEnv(), **SMALL, device="cpu").learn(64)).learn(64, reset_num_timesteps=False)
    for (name, expected), got in zip(snapshot(untouched).items(), snapshot(model).values(), strict=True):
        assert torch.equal(expected, got), name


def test_a_copy_learns_by_itself() -> None:
    model = PPO("MlpPolicy", SpacesEnv(), **SMALL).learn(64)
    copied = copy.deepcopy(model)
    before = snapshot(model)
    copied.learn(64)
    assert all(torch.equal(before[name], parameter) for name, parameter in model.policy.named_parameters())
    in_copy = snapshot(copied)
    model.learn(64)
    assert all(torch.equal(in_copy[name], parameter) for name, parameter in copied.policy.named_parameters())


def test_a_new_optimizer_is_the_one_that_steps() -> None:
    """One SGD step is at most the learning rate times the clipped gradient; one Adam step is far longer."""
    kwargs = {**SMALL, "batch_size": 64, "n_epochs": 1, "max_grad_norm": 0.5}
    length = {}
    for name in ("adam", "sgd"):
        model = PPO("MlpPolicy", SpacesEnv(), **kwargs).learn(64)
        if name == "sgd":
            new_optimizer(model)
        before = snapshot(model)
        model.learn(64)
        steps = [(parameter - before[key]).flatten() for key, parameter in snapshot(model).items()]
        length[name] = float(torch.cat(steps).norm())
    assert 0 < length["sgd"] <= RATE * 0.5 * 1.001 < length["adam"]


def test_thawed_parameters_move_again() -> None:
    model = freeze(PPO("MlpPolicy", SpacesEnv(), **SMALL)).learn(64)
    frozen = model.policy.mlp_extractor.policy_net[0].weight
    before = frozen.detach().clone()
    frozen.requires_grad_(True)
    model.learn(64)
    assert not torch.equal(before, frozen)


def test_seeding_restarts_the_samples_of_predict(device: str) -> None:
    model = PPO("MlpPolicy", SpacesEnv(), **SMALL, device=device)
    observation = np.zeros(5, np.float32)
    sequences = []
    for seed in (5, 5, 6):
        model.set_random_seed(seed)
        sequences.append(np.stack([model.predict(observation)[0] for _ in range(4)]))
    first, again, other = sequences
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    assert len(np.unique(first[:, 0])) == 4, "samples differ from one call to the next"
