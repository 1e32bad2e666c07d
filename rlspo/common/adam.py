"""Adam and AdamW as functions, for updates that are compiled as a whole."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from rlspo.common.compilation import mark_static


def step_hooks(optimizer: torch.optim.Optimizer) -> bool:
    """Whether hooks are registered on the steps of ``optimizer``, or of all optimisers."""
    own = (optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks)
    return any((*own, _global_optimizer_pre_hooks, _global_optimizer_post_hooks))


class Adam:
    """Adam (Kingma & Ba 2015) or AdamW (Loshchilov & Hutter 2019) as a function without side effects.

    The settings of the optimiser's groups (``betas``, ``eps``, ``weight_decay``) are tensors, so that changing them does not
    recompile.

    :param optimizer: one whose :meth:`kind` is not None
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        kind = self.kind(optimizer)
        assert kind is not None
        self.decoupled, self.decays = kind
        device = optimizer.param_groups[0]["params"][0].device
        self.betas = mark_static(torch.zeros(2, dtype=torch.float64, device=device))
        self.numbers = mark_static(torch.zeros(5, device=device))
        self._read: Any = None
        self.read(optimizer)

    @property
    def adds_decay(self) -> bool:
        """Whether weight decay is part of the gradient that enters the moments."""
        return self.decays and not self.decoupled

    @staticmethod
    def kind(optimizer: torch.optim.Optimizer) -> tuple[bool, bool] | None:
        """Whether weight decay is decoupled (AdamW), and whether there is any. None for another optimiser, or one with hooks
        on its steps."""
        if type(optimizer) not in (torch.optim.Adam, torch.optim.AdamW) or step_hooks(optimizer):
            return None
        alike = ("lr", "betas", "eps", "weight_decay", "amsgrad", "maximize")
        group, *others = optimizer.param_groups
        if any(other[key] != group[key] for other in others for key in alike):
            return None
        if group["amsgrad"] or group["maximize"] or isinstance(group["lr"], Tensor):
            return None
        decoupled = group.get("decoupled_weight_decay", isinstance(optimizer, torch.optim.AdamW))
        return bool(decoupled), group["weight_decay"] != 0

    @classmethod
    def of(cls, optimizer: torch.optim.Optimizer) -> Adam | None:
        """The function equivalent to ``optimizer``, or None for another optimiser."""
        return None if cls.kind(optimizer) is None else cls(optimizer)

    def read(self, optimizer: torch.optim.Optimizer) -> None:
        """Read the settings of the optimiser's groups."""
        group = optimizer.param_groups[0]
        given = (*group["betas"], group["eps"], group["weight_decay"])
        if given == self._read:
            return
        beta1, beta2, eps, weight_decay = given
        self.betas.copy_(torch.tensor([beta1, beta2], dtype=torch.float64))
        self.numbers.copy_(torch.tensor([1 - beta1, beta2, 1 - beta2, eps, weight_decay]))
        self._read = given

    def step(
        self,
        weights: Tensor,
        gradient: Tensor,
        first_moment: Tensor,
        second_moment: Tensor,
        steps: Tensor,
        rate: Tensor,
        scales: Tensor | float = 1.0,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The new weights, first moment, second moment and step count, at learning rate ``rate * scales``."""
        beta1, beta2 = self.betas.unbind()
        new1, keep2, new2, eps, weight_decay = self.numbers.unbind()
        if self.adds_decay:
            gradient = gradient + weight_decay * weights
        elif self.decays:
            weights = weights * (1 - rate * scales * weight_decay)
        steps = steps + 1
        first_moment = first_moment + new1 * (gradient - first_moment)
        second_moment = keep2 * second_moment + new2 * gradient * gradient
        step_size = _once((rate / (1 - beta1**steps)).to(weights.dtype))
        correction = _once(torch.sqrt(1 - beta2**steps).to(weights.dtype))
        weights = weights - step_size * scales * first_moment / (second_moment.sqrt() / correction + eps)
        return weights, first_moment, second_moment, steps

    def gradient(self, before: Tensor, after: Tensor, weights: Tensor | None) -> Tensor:
        """The gradient that took the first moment from ``before`` to ``after``.

        :param weights: from before the step, where :attr:`adds_decay`
        """
        gradient = before + (after - before) / self.numbers[0]
        return gradient if weights is None else gradient - self.numbers[4] * weights


def _once(number: Tensor) -> Tensor:
    """``number``, which compiled functions compute once: by themselves they would take its powers for every weight."""
    return number.as_strided(number.shape, number.stride())
