"""Eager gradients are those of ``torch.func``."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from rlspo.common import gradients
from rlspo.common.gradients import grad, grad_and_value, searching_inputs, stop_gradient, strictly_pure

AT = {"used": torch.linspace(-1, 1, 4), "unused": torch.ones(2)}


def loss(values: dict[str, torch.Tensor]) -> tuple[torch.Tensor, Any]:
    squares = values["used"] ** 2
    return squares.sum(), ({"squares": squares}, None)


def test_values_gradients_and_all_else_are_torch_funcs() -> None:
    with torch.no_grad():
        gradient, (value, ((stats), nothing)) = grad_and_value(loss, AT)
    expected, (value_there, _) = torch.func.grad_and_value(lambda values: (loss(values)[0], ()), has_aux=True)(AT)
    torch.testing.assert_close(gradient, expected)
    assert torch.equal(value, value_there) and nothing is None
    assert not any(tensor.requires_grad for tensor in (value, stats["squares"], *gradient.values()))


def test_a_value_that_depends_on_nothing_has_no_slope() -> None:
    with torch.no_grad():
        gradient, (value, _) = grad_and_value(lambda values: (torch.ones(()), None), AT)
    assert all(not part.any() for part in gradient.values()) and value == 1


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_it_works_in_every_mode_and_within_torch_func(mode: Any) -> None:
    with mode():
        slope = grad(lambda x: (x**3).sum())
        for _ in range(3):
            torch.testing.assert_close(slope(AT["used"]), 3 * AT["used"] ** 2)

    def outer(x: torch.Tensor) -> torch.Tensor:
        inner = grad(lambda y: (y**3).sum())
        inner(x)
        return inner(x).sum()

    torch.testing.assert_close(torch.func.grad(outer)(AT["used"]), 6 * AT["used"])


def test_a_way_past_torch_is_an_error() -> None:
    """Autograd would give 0, and an adversary would search nowhere."""

    def through_numpy(x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(x.detach().numpy() ** 2).sum()

    with pytest.raises(RuntimeError):
        grad(through_numpy)(AT["used"])
    with pytest.raises(RuntimeError), strictly_pure():
        grad_and_value(lambda x: (through_numpy(x), ()), AT["used"])


def test_what_is_differentiated_once_more_keeps_its_graph() -> None:
    """A penalty on a gradient, in a loss of a user's."""

    def penalty(weights: torch.Tensor) -> tuple[torch.Tensor, Any]:
        slope = grad(lambda x: torch.tanh(x * weights).sum())
        slope(torch.ones(4))
        return slope(torch.ones(4)).pow(2).sum(), ()

    weights = torch.linspace(-1, 1, 4)
    with torch.no_grad():
        found, _ = grad_and_value(penalty, weights)
    expected, _ = torch.func.grad_and_value(penalty, has_aux=True)(weights)
    torch.testing.assert_close(found, expected)
    assert expected.any()


def test_a_compiled_function_may_be_the_first_that_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process, and in each of its threads."""
    monkeypatch.setattr(gradients, "_search", type(gradients._search)())

    @torch.compile(backend="eager", fullgraph=True)
    def slopes(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with searching_inputs():
            searching = stop_gradient(values)
        return searching, stop_gradient(values)

    def needing_gradients() -> list[bool]:
        return [each.requires_grad for each in slopes(torch.ones(2, requires_grad=True))]

    with ThreadPoolExecutor(1) as other:
        assert needing_gradients() == other.submit(needing_gradients).result() == [True, False]
