"""A gradient step of SPO: the usual step, then the target average's step towards the new parameters."""

from __future__ import annotations

from typing import Any

import torch

from rlspo.common.compilation import mark_static
from rlspo.common.update import State, Update
from rlspo.spo.losses import LOWEST_RAW

Tensor = torch.Tensor


class TargetUpdate(Update):
    """An :class:`~rlspo.common.update.Update` with an exponential moving average of the parameters.

    :param target: vector of the average, as long as the parameters; written to
    :param tau: step of the average towards the parameters, unless ``scalars`` contains it
    """

    def __init__(self, *args: Any, target: Tensor, tau: float, **kwargs: Any) -> None:
        self.target, self.tau = mark_static(target), torch.tensor(tau, device=target.device)
        super().__init__(*args, **kwargs)

    def target_parameters(self) -> dict[str, Tensor]:
        """The average as parameters by name, with the running statistics of the trained network."""
        return {**self.vector.named(self.target), **self.statistics.read()}

    def _step(
        self, state: State, data: dict[str, Any], indices: Tensor, scalars: dict[str, Tensor], noise: Any, policy_noise: Any
    ) -> Tensor:
        report = super()._step(state, data, indices, scalars, noise, policy_noise)
        self._follow(state.weights, scalars)
        return report

    def _step_outside(self, gradient: Tensor, report: Tensor, scalars: dict[str, Tensor]) -> None:
        super()._step_outside(gradient, report, scalars)
        self._follow(self.vector.weights, scalars)

    def _follow(self, weights: Tensor, scalars: dict[str, Tensor]) -> None:
        if "raw_multipliers" in self.vector.names:  # an optimiser of only some layers does not contain them
            self.vector.named(weights)["raw_multipliers"].clamp_(min=LOWEST_RAW)
        self.target.lerp_(weights, scalars.get("tau", self.tau))
