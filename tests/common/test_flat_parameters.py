"""One vector behind a module: the same numbers under every name, and Adam as torch.optim does it."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from rlspo.common.adam import Adam
from rlspo.common.flat_parameters import FlatParameters

Tensor = torch.Tensor


def network(device: str = "cpu") -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 3)).to(device)


def flat(module: nn.Module, optimizer: Any = torch.optim.Adam, **options: Any) -> FlatParameters:
    return FlatParameters(module, optimizer(module.parameters(), **options))


def gradients(module: nn.Module, steps: int, seed: int = 1) -> list[dict[str, Tensor]]:
    """Random gradients of very different sizes, among them zeros."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [10.0 ** (-3 + i % 5) * (i % 7 != 3) for i in range(steps)]
    return [
        {
            name: (size * torch.randn(parameter.shape, generator=generator)).to(parameter.device)
            for name, parameter in module.named_parameters()
        }
        for size in sizes
    ]


def torch_step(module: nn.Module, optimizer: torch.optim.Optimizer, gradient: dict[str, Tensor], rate: float) -> None:
    for name, parameter in module.named_parameters():
        parameter.grad = gradient[name].clone()
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()


def flat_step(vectors: FlatParameters, gradient: dict[str, Tensor], rate: float) -> None:
    assert vectors.adam is not None
    state = (vectors.weights, vectors.first_moment, vectors.second_moment, vectors.steps)
    with torch.no_grad():
        flattened = vectors.flatten(gradient)
        new = vectors.adam.step(vectors.weights, flattened, *state[1:], torch.tensor(rate, device=flattened.device))
        for old, value in zip(state, new, strict=True):
            old.copy_(value)


def rates(steps: int) -> list[float]:
    return [1e-2 * (1 - step / steps) for step in range(steps)]


def assert_same(ours: nn.Module, reference: nn.Module, rtol: float = 1e-6) -> None:
    for (name, got), (_, expected) in zip(ours.named_parameters(), reference.named_parameters(), strict=True):
        difference = float((got - expected).detach().norm() / expected.detach().norm().clamp(min=1e-3))
        assert difference <= rtol, f"{name}: relative difference {difference:.1e}"


def test_parameters_are_views_of_the_vector(device: str) -> None:
    module = network(device)
    before = copy.deepcopy(module)
    vectors = flat(module)
    assert vectors.weights.numel() == sum(parameter.numel() for parameter in module.parameters())
    assert_same(module, before, rtol=0.0)
    with torch.no_grad():
        vectors.weights.mul_(2)
    for parameter, old in zip(module.parameters(), before.parameters(), strict=True):
        assert torch.equal(parameter, 2 * old)
    with torch.no_grad():
        module[3].bias.fill_(7.0)
    assert vectors.weights[-3:].tolist() == [7.0] * 3


def test_named_and_flatten_are_inverse_and_differentiable(device: str) -> None:
    module = network(device)
    vectors = flat(module)
    vector = torch.randn(vectors.weights.shape, device=device)
    named = vectors.named(vector)
    assert {name: tensor.shape for name, tensor in named.items()} == {
        name: parameter.shape for name, parameter in module.named_parameters()
    }
    assert torch.equal(vectors.flatten(named), vector)
    assert torch.equal(vectors.flatten(dict(reversed(named.items()))), vector), "names decide, not the order"
    gradient = torch.func.grad(lambda v: (vectors.named(v)["3.bias"] * torch.arange(3, device=device)).sum())(vector)
    assert gradient[-3:].tolist() == [0.0, 1.0, 2.0]
    assert gradient[:-3].abs().max() == 0


def test_state_dict_round_trip(device: str) -> None:
    module, other = network(device), network(device)
    vectors = flat(module)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.normal_()
    module.load_state_dict(other.state_dict())
    assert_same(module, other, rtol=0.0)
    assert torch.equal(vectors.weights, torch.cat([parameter.detach().flatten() for parameter in other.parameters()]))
    twin = network(device)
    twin.load_state_dict(module.state_dict())
    assert_same(twin, other, rtol=0.0)


OPTIMIZERS: list[tuple[Any, dict[str, Any]]] = [
    (torch.optim.Adam, {}),
    (torch.optim.Adam, {"eps": 1e-5, "betas": (0.8, 0.95)}),
    (torch.optim.Adam, {"weight_decay": 0.1}),
    (torch.optim.Adam, {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    (torch.optim.AdamW, {"weight_decay": 0.1}),
    (torch.optim.AdamW, {"weight_decay": 0.0, "betas": (0.5, 0.9)}),
]


@pytest.mark.parametrize(("optimizer", "options"), OPTIMIZERS, ids=str)
def test_twenty_steps_equal_torch(optimizer: Any, options: dict[str, Any], device: str) -> None:
    module, reference = network(device), network(device)
    vectors = flat(module, optimizer, **options)
    theirs = optimizer(reference.parameters(), **options)
    for gradient, rate in zip(gradients(module, 20), rates(20), strict=True):
        torch_step(reference, theirs, gradient, rate)
        flat_step(vectors, gradient, rate)
    assert_same(module, reference)
    assert float(vectors.steps) == 20


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.AdamW])
def test_goes_on_from_a_loaded_state(optimizer: Any, device: str) -> None:
    """Five steps of torch, the rest in both; then torch goes on from the flat state."""
    module, reference = network(device), network(device)
    theirs = optimizer(reference.parameters())
    steps = gradients(reference, 15)
    for gradient in steps[:5]:
        torch_step(reference, theirs, gradient, 1e-2)
    vectors = flat(module, optimizer)
    flat_step(vectors, steps[7], 1.0)  # something to overwrite
    module.load_state_dict(reference.state_dict())
    vectors.optimizer.load_state_dict(copy.deepcopy(theirs.state_dict()))
    vectors.adopt_optimizer_state()
    assert float(vectors.steps) == 5
    for gradient in steps[5:10]:
        torch_step(reference, theirs, gradient, 1e-2)
        flat_step(vectors, gradient, 1e-2)
    assert_same(module, reference)

    vectors.publish_steps()
    state = vectors.optimizer.state_dict()["state"]
    for index, expected in theirs.state_dict()["state"].items():
        assert float(state[index]["step"]) == 10
        torch.testing.assert_close(state[index]["exp_avg"], expected["exp_avg"], rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(state[index]["exp_avg_sq"], expected["exp_avg_sq"], rtol=1e-5, atol=1e-7)
    third = network(device)
    third.load_state_dict(module.state_dict())
    continued = optimizer(third.parameters())
    continued.load_state_dict(copy.deepcopy(vectors.optimizer.state_dict()))
    for gradient in steps[10:]:
        torch_step(reference, theirs, gradient, 1e-2)
        torch_step(third, continued, gradient, 1e-2)
    assert_same(third, reference)


def test_moments_of_the_optimizer_are_views_also_after_a_load() -> None:
    module = network()
    vectors = flat(module)
    vectors.optimizer.load_state_dict(copy.deepcopy(vectors.optimizer.state_dict()))
    vectors.adopt_optimizer_state()
    vectors.first_moment.fill_(3.0)
    vectors.second_moment.fill_(4.0)
    for parameter in module.parameters():
        assert (vectors.optimizer.state[parameter]["exp_avg"] == 3.0).all()
        assert (vectors.optimizer.state[parameter]["exp_avg_sq"] == 4.0).all()


def test_an_empty_state_means_no_moments() -> None:
    module = network()
    vectors = flat(module)
    flat_step(vectors, gradients(module, 1)[0], 1e-3)
    vectors.optimizer.load_state_dict(torch.optim.Adam(network().parameters()).state_dict())
    vectors.adopt_optimizer_state()
    assert vectors.first_moment.abs().max() == vectors.second_moment.abs().max() == vectors.steps == 0


class MyAdam(torch.optim.Adam):
    """May do anything, so it is not taken for Adam."""


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        (torch.optim.SGD, {"lr": 0.1}),
        (torch.optim.RMSprop, {}),
        (torch.optim.Adam, {"amsgrad": True}),
        (torch.optim.AdamW, {"maximize": True}),
        (torch.optim.Adam, {"lr": torch.tensor(1e-3), "foreach": False}),
        (MyAdam, {}),
    ],
    ids=str,
)
def test_other_optimizers_are_not_taken_for_adam(optimizer: Any, options: dict[str, Any]) -> None:
    vectors = flat(network(), optimizer, **options)
    assert vectors.adam is None
    vectors.adopt_optimizer_state()
    vectors.publish_steps()
    assert not vectors.optimizer.state


def test_several_parameter_groups_are_not_taken_for_adam() -> None:
    module = network()
    groups = [{"params": module[0].parameters(), "lr": 1e-2}, {"params": module[3].parameters()}]
    assert Adam.of(torch.optim.Adam(groups)) is None
