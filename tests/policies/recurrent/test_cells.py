"""Recurrent layers against torch's own, with episodes that begin inside of sequences."""

from typing import Any

import pytest
import torch
from torch import nn

from rlspo.common.compilation import compile_whole, compiler_available
from rlspo.policies.recurrent.layers import Memory

LENGTH, SEQUENCES, INPUTS, WIDTH = 7, 3, 5, 4
TORCHS = {"lstm": nn.LSTM, "gru": nn.GRU}


def step_by_step(theirs: Any, mine: Memory, inputs: torch.Tensor, keep: torch.Tensor, memory: torch.Tensor) -> tuple[Any, Any]:
    """torch's layers, one step after the other, with states set to zero where an episode begins."""
    states = mine.states(memory)
    outputs = []
    for step, kept in zip(inputs.reshape(LENGTH, SEQUENCES, -1), keep, strict=True):
        states = tuple((state * kept[:, None]).contiguous() for state in states)
        output, after = theirs(step[None], states if mine.kind == "lstm" else states[0])
        states = after if mine.kind == "lstm" else (after,)
        outputs.append(output[0])
    packed = torch.stack(states, dim=1).permute(2, 1, 0, 3).reshape(SEQUENCES, -1)
    return torch.cat(outputs), packed


@pytest.fixture(params=["lstm", "gru"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=[1, 2])
def n_layers(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def problem(kind: str, n_layers: int) -> tuple[Any, ...]:
    torch.manual_seed(0)
    mine = Memory(kind, INPUTS, WIDTH, n_layers)
    theirs = TORCHS[kind](INPUTS, WIDTH, n_layers)
    theirs.load_state_dict(mine.state_dict())
    keep = (torch.rand(LENGTH, SEQUENCES) > 0.3).float()
    return mine, theirs, torch.randn(LENGTH * SEQUENCES, INPUTS), keep, torch.randn(SEQUENCES, mine.size)


def test_begins_as_torchs_from_one_seed(kind: str, n_layers: int) -> None:
    torch.manual_seed(5)
    mine = Memory(kind, INPUTS, WIDTH, n_layers).state_dict()
    torch.manual_seed(5)
    theirs = TORCHS[kind](INPUTS, WIDTH, n_layers).state_dict()
    assert [*mine] == [*theirs]
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def loss_of(outputs: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
    return (outputs.sin() * torch.arange(outputs.numel()).reshape(outputs.shape)).sum() + memory.square().sum()


def gradients(run: Any, layers: nn.Module, inputs: torch.Tensor, memory: torch.Tensor) -> list[torch.Tensor]:
    inputs, memory = inputs.clone().requires_grad_(), memory.clone().requires_grad_()
    return [*torch.autograd.grad(loss_of(*run(inputs, memory)), [inputs, memory, *layers.parameters()])]


def test_outputs_memory_and_gradients_are_torchs(problem: tuple[Any, ...]) -> None:
    mine, theirs, inputs, keep, memory = problem
    assert 0 < keep.sum() < keep.numel()  # some episodes begin, some go on

    def run_mine(x: torch.Tensor, m: torch.Tensor) -> Any:
        return mine(x, keep, m)

    def run_theirs(x: torch.Tensor, m: torch.Tensor) -> Any:
        return step_by_step(theirs, mine, x, keep, m)

    for found, expected in zip(run_mine(inputs, memory), run_theirs(inputs, memory), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    pairs = zip(gradients(run_mine, mine, inputs, memory), gradients(run_theirs, theirs, inputs, memory), strict=True)
    for found, expected in pairs:
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_what_was_before_an_episode_has_no_effect_on_it(problem: tuple[Any, ...]) -> None:
    mine, _, inputs, keep, memory = problem
    keep = torch.ones_like(keep)
    keep[3] = 0
    changed = inputs.clone()
    changed[: 3 * SEQUENCES] += 1
    before, after = (mine(seen, keep, start)[0] for seen, start in ((inputs, memory), (changed, memory + 1)))
    assert not torch.allclose(before[: 3 * SEQUENCES], after[: 3 * SEQUENCES])
    assert torch.equal(before[3 * SEQUENCES :], after[3 * SEQUENCES :])


def func_gradient(layers: Memory, keep: torch.Tensor, memory: torch.Tensor) -> Any:
    """As an adversary inside of a loss takes it: a gradient in the inputs within one in the weights."""

    def outer(parameters: dict[str, torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
        def inner(x: torch.Tensor) -> torch.Tensor:
            fixed = {name: value.detach() for name, value in parameters.items()}
            return loss_of(*torch.func.functional_call(layers, fixed, (x, keep, memory)))

        moved = inputs + 0.1 * torch.func.grad(inner)(inputs)
        return loss_of(*torch.func.functional_call(layers, parameters, (moved.detach(), keep, memory)))

    return torch.func.grad_and_value(outer)


@pytest.mark.skipif(not compiler_available("cpu"), reason="needs a C++ compiler")
def test_compiled_as_eager_with_a_search_inside(problem: tuple[Any, ...]) -> None:
    mine, _, inputs, keep, memory = problem
    function = func_gradient(mine, keep, memory)
    parameters = dict(mine.named_parameters())
    with torch.no_grad():
        expected, value = function(parameters, inputs)
        found, same_value = compile_whole(function, torch.device("cpu"))(parameters, inputs)
    assert same_value == pytest.approx(value.item(), rel=1e-4)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-3)
    autograd = torch.autograd.grad(loss_of(*mine(inputs, keep, memory)), [*mine.parameters()])
    assert not all(torch.allclose(a, b) for a, b in zip(autograd, expected.values(), strict=True))  # the search moved
