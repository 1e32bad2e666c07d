"""What a loss written by a user must return, and what its gradient must reach."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

Tensor = torch.Tensor


def call_loss(loss: Callable[..., Any], parameters: dict[str, Tensor], batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """``loss(parameters, batch)``, checked.

    :raises TypeError: where that is not a scalar tensor and a dictionary of such
    """
    found = loss(parameters, batch)
    if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], dict)):
        raise TypeError(_message(loss, f"returned {_described(found)}"))
    value, stats = found
    if not (isinstance(value, Tensor) and value.dim() == 0):
        raise TypeError(_message(loss, f"returned a loss that is {_described(value)}"))
    for name, number in stats.items():
        if not (isinstance(number, Tensor) and number.numel() == 1):
            raise TypeError(_message(loss, f"returned the statistic {name!r}, which is {_described(number)}"))
    return found


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return "None" if value is None else f"a {type(value).__name__}"


def _message(loss: Callable[..., Any], what: str) -> str:
    name = getattr(loss, "__qualname__", "The loss")
    return (
        f"{name} {what}; it must return a scalar tensor, of shape (), and a dictionary of scalar tensors by name for the log."
    )


def _name(loss: Callable[..., Any]) -> str:
    return getattr(loss, "__qualname__", "the loss")


def warn_of_no_gradient(loss: Callable[..., Any], gradient: dict[str, Tensor]) -> None:
    """Warn of a loss that no parameter changes."""
    if not any(bool(part.any()) for part in gradient.values()):
        warnings.warn(
            f"The gradient of {_name(loss)} is 0 in every parameter of the policy: nothing will "
            "be learned. Ask the policy with the parameters that the loss is given: self.policy.evaluate(parameters, inputs), "
            "torch.func.functional_call(layer, parameters, inputs).",
            stacklevel=2,
        )


def warn_of_untrained(policy: nn.Module, optimizer: torch.optim.Optimizer, owners: Iterable[tuple[str, Any]]) -> None:
    """Warn of parameters that look as if they were to be trained, and will not be.

    :param policy: those of its parameters that require a gradient should be in ``optimizer``
    :param owners: attributes of the agent by name, which should have no other parameters
    """
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    missing = [name for name, p in policy.named_parameters() if p.requires_grad and id(p) not in trained]
    if missing:
        warnings.warn(
            f"{len(missing)} parameters of the policy are not in its optimiser and will not be trained: {_some(missing)}. "
            "Build layers in _build_mlp_extractor, after which the optimiser is made, or set requires_grad=False.",
            stacklevel=2,
        )
    known = trained | {id(p) for p in policy.parameters()}
    apart = [
        name
        for name, value in owners
        if isinstance(value, nn.Module) and any(p.requires_grad and id(p) not in known for p in value.parameters())
    ]
    if apart:
        warnings.warn(
            f"Networks of the agent that are not part of its policy will not be trained, and not saved: {_some(apart)}. Make "
            "them layers of the policy; see the docs on your own agent.",
            stacklevel=2,
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
