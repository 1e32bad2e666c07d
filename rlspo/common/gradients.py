"""The gradient of a loss: by ``torch.func`` for a pure function, else by autograd.

A network that goes through NumPy, has an ``autograd.Function`` of the old style, or recomputes its layers
(``torch.utils.checkpoint``) can be trained too, only slower.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from rlspo.common.errors import UnsupportedNetworkError

Tensor = torch.Tensor
Loss = Callable[[dict[str, Tensor]], tuple[Tensor, Any]]
#: torch's messages about operations that are not pure, and their cause in a network.
_REASONS = {
    "setup_context": "an autograd.Function without the method setup_context",
    "saved tensor hooks": "torch.utils.checkpoint, or other hooks on saved tensors",
    "Cannot access data pointer of Tensor": "a way through NumPy",
    "Cannot access storage": "a way through NumPy, or a tensor that is kept from call to call",
    "vmap": "what torch.func cannot take apart",
    "functorch": "what torch.func cannot differentiate",
}


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
        #: Whether autograd is used, which cannot be compiled.
        self.by_autograd = False

    def decide(self, loss: Loss, values: dict[str, Tensor]) -> tuple[dict[str, Tensor], tuple[Tensor, Any]]:
        """As :meth:`of`, which also decides whether autograd is needed, and warns if so."""
        try:
            return self.of(loss, values)
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
            return torch.func.grad_and_value(loss, has_aux=True)(values)
        leaves = {name: parameter.detach().requires_grad_() for name, parameter in self.parameters.items()}
        for parameter in self.parameters.values():
            parameter.grad = None
        with torch.enable_grad():
            value, more = loss(leaves)
            value.backward()
        gradient = {}
        for name, leaf in leaves.items():
            # Layers recomputed in the backward pass use the module's own parameters.
            parts = [part for part in (leaf.grad, self.parameters[name].grad) if part is not None]
            gradient[name] = torch.stack(parts).sum(0) if parts else torch.zeros_like(leaf)
            self.parameters[name].grad = None
        return gradient, (value.detach(), more)
