"""Matrix products by oneDNN: the same numbers, and only where they are large enough."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from rlspo.common import compilation, processor
from rlspo.common.compilation import compile_whole, compiler_available

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available() or not compiler_available("cpu"), reason="needs oneDNN and a C++ compiler"
)
CPU = torch.device("cpu")


def gradient_of(layers: nn.Module) -> Callable[..., Any]:
    def loss(parameters: dict[str, Any], inputs: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layers, parameters, (inputs,)).square().mean()

    return torch.func.grad_and_value(loss)


@pytest.fixture
def exchanged(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """What was given to oneDNN: rows, inner dimension and columns of each product."""
    from rlspo.common import matrix_products

    monkeypatch.setattr(compilation, "mkl_is_slow", lambda: True)
    seen: list[tuple[int, ...]] = []
    worth_it = matrix_products._worth_it

    def noted(node: Any) -> bool:
        found = worth_it(node)
        if found:
            left, right = (part.meta["val"] for part in node.args[-2:])
            seen.append((*left.shape, right.shape[1]))
        return found

    monkeypatch.setattr(matrix_products, "_worth_it", noted)
    # torch's cache of what it compiled before would leave the pass out.
    config: Any = torch.compiler.config
    with config.patch(force_disable_caches=True):
        yield seen


def test_large_products_are_exchanged_and_give_the_same_numbers(exchanged: list[tuple[int, ...]]) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(40, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 1))
    parameters, inputs = dict(layers.named_parameters()), torch.randn(256, 40)
    function = gradient_of(layers)
    with torch.no_grad():
        expected, value = function(parameters, inputs)
        found, same_value = compile_whole(function, CPU)(parameters, inputs)
    assert same_value == pytest.approx(value.item(), rel=1e-5)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)
    # Two layers forward, the gradients of both weights, and of the first layer's output; not the last layer's one column.
    large = (256, 256, 256)
    assert sorted(exchanged) == [(256, 40, 256), (256, 256, 40), large, large, large]


def test_small_products_are_left_alone(exchanged: list[tuple[int, ...]]) -> None:
    layers = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2))
    with torch.no_grad():
        compile_whole(gradient_of(layers), CPU)(dict(layers.named_parameters()), torch.randn(64, 4))
    assert exchanged == []


def test_a_bias_that_is_one_number_is_left_alone(exchanged: list[tuple[int, ...]]) -> None:
    bias, left, right = torch.randn(1), torch.randn(200, 100), torch.randn(100, 64)
    found = compile_whole(lambda bias, left, right: left @ right + bias, CPU)(bias, left, right)
    torch.testing.assert_close(found, left @ right + bias, rtol=1e-4, atol=1e-4)


def test_other_types_are_left_alone(exchanged: list[tuple[int, ...]]) -> None:
    matrix = torch.randn(256, 256, dtype=torch.float64)
    product = compile_whole(torch.mm, CPU)(matrix, matrix)
    torch.testing.assert_close(product, matrix @ matrix)
    assert exchanged == []


@pytest.mark.parametrize("text, slow", [("vendor_id: AuthenticAMD", True), ("vendor_id: GenuineIntel", False)])
def test_mkl_is_slow_on_processors_that_are_not_intels(text: str, slow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "_about_the_processor", lambda: text)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert processor.mkl_is_slow.__wrapped__() is slow
