"""The set of observations that an adversary may show instead of the true one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from rlspo.common.errors import check_choice
from rlspo.common.trees import Tensor, tree_map

NORMS = ("linf", "l2")


def _norm(tensor: Tensor) -> Tensor:
    """Euclidean norm of each row, with its dimensions kept for broadcasting; never zero, so that one can divide by it."""
    dimensions = tuple(range(1, tensor.dim()))
    squares = (tensor * tensor).sum(dim=dimensions, keepdim=True)
    return squares.clamp(min=1e-24).sqrt()


@dataclass(frozen=True)
class Ball:
    """All inputs within ``radius`` of a centre, per observation (and per key of a Dict observation).

    :param norm: ``"linf"``: each coordinate may change by ``radius``; ``"l2"``: the Euclidean length of the change may be
        ``radius``
    :param radius: in units of the network's input: standard deviations where the policy normalises observations, [0, 1]
        for images, raw units otherwise. A tensor without dimensions, so that a schedule does not recompile.
    :param low: lower bounds that the perturbed input must respect, broadcastable over the batch; None for none
    :param high: upper bounds, likewise
    """

    norm: str
    radius: Tensor
    low: Any = None
    high: Any = None

    def __post_init__(self) -> None:
        check_choice("norm", self.norm, NORMS)

    def steepest(self, gradient: Any) -> Any:
        """The direction of unit norm in which a linear function with this gradient grows fastest."""
        if self.norm == "linf":
            return tree_map(torch.sign, gradient)
        return tree_map(lambda g: g / _norm(g), gradient)

    def project(self, inputs: Any, centre: Any) -> Any:
        """The point of the ball around ``centre`` (and within the bounds) that ``inputs`` is clipped or scaled to."""

        def onto(point: Tensor, middle: Tensor) -> Tensor:
            change = point - middle
            if self.norm == "linf":
                change = torch.minimum(torch.maximum(change, -self.radius), self.radius)
            else:
                change = change * (self.radius / _norm(change)).clamp(max=1.0)
            return middle + change

        inside = tree_map(onto, inputs, centre)
        if self.low is None:
            return inside

        def within(point: Tensor, middle: Tensor, low: Tensor, high: Tensor) -> Tensor:
            # A true observation outside of the bounds is not moved: the point must not leave the ball.
            return torch.minimum(torch.maximum(point, torch.minimum(low, middle)), torch.maximum(high, middle))

        return tree_map(within, inside, centre, self.low, self.high)

    def shift(self, centre: Any, unit: Any) -> Any:
        """``centre`` moved by ``radius`` times a point ``unit`` of the unit ball, kept within the bounds."""
        return self.project(tree_map(lambda c, u: c + self.radius * u, centre, unit), centre)

    def draw(self, like: Any, generator: torch.Generator) -> Any:
        """Points drawn uniformly from the unit ball of this norm, shaped like ``like``."""

        def one(tensor: Tensor) -> Tensor:
            if self.norm == "linf":
                return torch.rand(tensor.shape, generator=generator, device=tensor.device) * 2 - 1
            direction = torch.randn(tensor.shape, generator=generator, device=tensor.device)
            dimension = tensor[0].numel()
            length = torch.rand(len(tensor), generator=generator, device=tensor.device) ** (1 / dimension)
            return direction / _norm(direction) * length.view(-1, *[1] * (tensor.dim() - 1))

        return tree_map(one, like)
