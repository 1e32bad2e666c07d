"""A gradient step of SPO: the engine's, followed by the target's step towards the new parameters."""

from __future__ import annotations

from typing import Any

import torch

from rlspo.common.compilation import stays
from rlspo.common.update import Update
from rlspo.spo.losses import LOWEST_RAW

Tensor = torch.Tensor


class TargetUpdate(Update):
    """An :class:`~rlspo.common.update.Update` with an exponential moving average of the parameters.

    :param target: vector of the average, as long as the parameters; written to
    :param tau: how far the average goes towards the parameters at a step
    :param n_duals: how many of the last parameters are dual variables, which have a lowest value
    """

    def __init__(self, *args: Any, target: Tensor, tau: float, n_duals: int, **kwargs: Any) -> None:
        self.target, self.tau, self.n_duals = stays(target), tau, n_duals
        super().__init__(*args, **kwargs)

    def target_parameters(self) -> dict[str, Tensor]:
        """The average as parameters by name."""
        return self.flat.named(self.target)

    def _step(self, values: Tensor, *given: Any) -> Tensor:
        report = super()._step(values, *given)
        values[-self.n_duals :].clamp_(min=LOWEST_RAW)
        self.target.lerp_(values, self.tau)
        return report

    def _step_outside(self, *given: Any) -> None:
        super()._step_outside(*given)
        self.flat.values[-self.n_duals :].clamp_(min=LOWEST_RAW)
        self.target.lerp_(self.flat.values, self.tau)
