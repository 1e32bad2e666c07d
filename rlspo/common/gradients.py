"""Gradients of pure functions: by ``torch.func`` where they are compiled, else by autograd, which is a third faster.

A network that goes through NumPy, has an ``autograd.Function`` of the old style, or recomputes its layers
(``torch.utils.checkpoint``) can be trained too, only slower.
"""

from __future__ import annotations

import itertools
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import nn

from rlspo.common.errors import UnsupportedNetworkError
from rlspo.common.trees import nested_map, tree_leaves, tree_map

Tensor = torch.Tensor
Loss = Callable[[dict[str, Tensor]], tuple[Tensor, Any]]
#: torch's messages about operations that are not pure, and their cause in a network.
_REASONS = {
    "setup_context": "an autograd.Function without the method setup_context",
    "saved tensor hooks": "torch.utils.checkpoint, or other hooks on saved tensors",
    "Cannot access data pointer of Tensor": "a way through NumPy",
    "modified by an inplace operation": "a tensor that is written in place",
    "Cannot access storage": "a way through NumPy, or a tensor that is kept from call to call",
    "vmap": "what torch.func cannot take apart",
    "functorch": "what torch.func cannot differentiate",
}


_strictly_pure: ContextVar[bool] = ContextVar("strictly_pure", default=False)


class _Search(threading.local):
    """Whether this thread searches for inputs. Unlike a ``ContextVar``, a compiled function may set it."""

    def __init__(self) -> None:  # in each thread; an attribute that appears later would contradict a compiled function's guard
        self.on = False


_search = _Search()


class searching_inputs:
    """Context in which gradients are wanted in the inputs of networks only, whose weights are held fixed."""

    def __enter__(self) -> None:
        self.before = _search.on
        _search.on = True

    def __exit__(self, *error: object) -> None:
        _search.on = self.before


def stop_gradient(values: Tensor) -> Tensor:
    """``values`` for a part of a network that must not shape what it is computed from.

    That is a matter of learning: what searches for inputs (:class:`searching_inputs`) needs the whole gradient, or the part
    is hidden from it and looks robust.
    """
    return values if _search.on else values.detach()


def grad_and_value(function: Callable[[Any], tuple[Tensor, Any]], at: Any) -> tuple[Any, tuple[Tensor, Any]]:
    """``torch.func.grad_and_value(function, has_aux=True)(at)``, where gradients are off and nothing is compiled by autograd.

    :param function: from a tensor or a dictionary of tensors to a scalar and anything else, in tuples and dictionaries
    :return: the gradient, then both results of ``function``, all without a graph
    """
    if _needs_func():
        return torch.func.grad_and_value(function, has_aux=True)(at)
    leaves = tree_map(lambda leaf: leaf.detach().requires_grad_(), at)
    with torch.enable_grad():
        value, more = function(leaves)
    gradient: Any = tree_map(torch.zeros_like, at)
    if value.requires_grad:
        listed = torch.autograd.grad(value, tree_leaves(leaves), allow_unused=True, materialize_grads=True)
        gradient = dict(zip(leaves, listed, strict=True)) if isinstance(leaves, dict) else listed[0]
    return gradient, (value.detach(), nested_map(torch.detach, more))


def grad(function: Callable[[Any], Tensor]) -> Callable[[Any], Any]:
    """``torch.func.grad(function)``, from its second call on as :func:`grad_and_value`: the first one fails on what autograd
    would miss."""
    pure = torch.func.grad(function)
    calls = itertools.count()

    def gradient(at: Any) -> Any:
        if _needs_func() or next(calls) == 0:
            return pure(at)
        return grad_and_value(lambda inputs: (function(inputs), None), at)[0]

    return gradient


def _needs_func() -> bool:
    """Whether autograd cannot be used, or would lose what a caller differentiates once more."""
    return (
        torch.compiler.is_compiling()
        or torch.is_grad_enabled()
        or torch.is_inference_mode_enabled()
        or _strictly_pure.get()
        or torch._C._functorch.peek_interpreter_stack() is not None
    )


@contextmanager
def strictly_pure() -> Iterator[None]:
    """In it, gradients are taken by ``torch.func``, which fails where autograd would miss what a network does past torch."""
    before = _strictly_pure.set(True)
    try:
        yield
    finally:
        _strictly_pure.reset(before)


def unsupported(error: BaseException) -> str | None:
    """Which part of a network made ``torch.func`` fail, in words; None for another error."""
    return next((reason for words, reason in _REASONS.items() if words in str(error)), None)


def refuse_network(error: Exception) -> None:
    """
    :param error: of a training
    :raises UnsupportedNetworkError: instead of ``error``, where a loss or a network is not a pure function
    """
    if type(error).__module__ == "torch._dynamo.exc":
        raise UnsupportedNetworkError(
            f"The update cannot be compiled as a whole: {str(error).strip().splitlines()[0]} Neither the loss nor the policy "
            "may branch on the values of tensors (use torch.where), print, or leave torch. With compile=False errors "
            "point at the line."
        ) from error
    reason = unsupported(error) if isinstance(error, RuntimeError) else None
    if reason is not None:
        raise UnsupportedNetworkError(
            f"The loss or the policy's networks hold {reason}, which this agent's update cannot differentiate. Write that "
            "part with torch's operations, move what needs no gradient into a wrapper of the environment, or train with PPO, "
            "which takes such networks."
        ) from error


class Gradient:
    """The gradient of losses in the parameters of a module.

    :param parameters: of the module, by name; gradients are taken at their values
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self.parameters = dict(parameters)
        #: Whether autograd on the module's own parameters is needed, which cannot be compiled.
        self.by_autograd = False

    def decide(self, loss: Loss, values: dict[str, Tensor]) -> tuple[dict[str, Tensor], tuple[Tensor, Any]]:
        """As :meth:`of`, which also decides whether ``torch.func`` can be used, and warns if not."""
        try:
            return torch.func.grad_and_value(loss, has_aux=True)(values)
        except Exception as error:  # an error of the network itself is raised again just below
            self.by_autograd = True
            found = self.of(loss, values)
            what = str(error).strip().splitlines()[0]
            reason = unsupported(error) or f"what torch.func cannot differentiate ({what})"
        warnings.warn(
            f"The loss or the policy's networks hold {reason}: the gradient is taken by autograd, one operator after the "
            "other, which is slower and cannot be compiled.",
            stacklevel=2,
        )
        return found

    def of(self, loss: Loss, values: dict[str, Tensor]) -> tuple[dict[str, Tensor], tuple[Tensor, Any]]:
        """
        :param loss: function of parameters by name; returns a scalar and anything else
        :param values: of the parameters
        :return: the gradient by name, and what the loss returned
        """
        if not self.by_autograd:
            return grad_and_value(loss, values)
        leaves = {name: parameter.detach().requires_grad_() for name, parameter in self.parameters.items()}
        for parameter in self.parameters.values():
            parameter.grad = None
        with torch.enable_grad(), strictly_pure():  # an adversary inside is not to search with a gradient that misses a part
            value, more = loss(leaves)
            value.backward()
        gradient = {}
        for name, leaf in leaves.items():
            # Layers recomputed in the backward pass use the module's own parameters.
            parts = [part for part in (leaf.grad, self.parameters[name].grad) if part is not None]
            gradient[name] = torch.stack(parts).sum(0) if parts else torch.zeros_like(leaf)
            self.parameters[name].grad = None
        return gradient, (value.detach(), more)
