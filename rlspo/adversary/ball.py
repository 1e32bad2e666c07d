"""The set of observations that an adversary may show instead of the true one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch

from rlspo.common.trees import Tensor, tree_map


@dataclass(frozen=True)
class Ball(ABC):
    """All inputs within ``radius`` of a centre, per observation (and per key of a Dict observation).

    Inputs are tensors ``(B, *shape)``, or dictionaries of these. A subclass says how a change is measured.

    :param radius: in units of the network's input: standard deviations where the policy normalises observations, [0, 1]
        for images, raw units otherwise. A tensor without dimensions, so that a schedule does not recompile.
    :param low: lower bounds that the perturbed input must respect, broadcastable over the batch; None for none
    :param high: upper bounds, likewise
    """

    radius: Tensor
    low: Any = None
    high: Any = None

    @abstractmethod
    def steepest(self, gradient: Any) -> Any:
        """The direction of unit norm in which a linear function with this gradient grows fastest."""

    @abstractmethod
    def onto(self, point: Tensor, centre: Tensor) -> Tensor:
        """One tensor: the point of the ball around ``centre`` that ``point`` is clipped or scaled to."""

    @abstractmethod
    def draw(self, like: Any, generator: torch.Generator) -> Any:
        """Points drawn uniformly from the unit ball of this norm, shaped like ``like``."""

    def project(self, inputs: Any, centre: Any) -> Any:
        """The point of the ball around ``centre`` (and within the bounds) that ``inputs`` is clipped or scaled to."""
        inside = tree_map(self.onto, inputs, centre)
        if self.low is None:
            return inside

        def within(point: Tensor, middle: Tensor, low: Tensor, high: Tensor) -> Tensor:
            # A true observation outside of the bounds is not moved: the point must not leave the ball.
            return torch.minimum(torch.maximum(point, torch.minimum(low, middle)), torch.maximum(high, middle))

        return tree_map(within, inside, centre, self.low, self.high)

    def shift(self, centre: Any, unit: Any) -> Any:
        """``centre`` moved by ``radius`` times a point ``unit`` of the unit ball, kept within the bounds."""
        return self.project(tree_map(lambda c, u: c + self.radius * u, centre, unit), centre)


class LinfBall(Ball):
    """``"linf"``: each coordinate may change by ``radius``."""

    def steepest(self, gradient: Any) -> Any:
        return tree_map(torch.sign, gradient)

    def onto(self, point: Tensor, centre: Tensor) -> Tensor:
        return centre + torch.minimum(torch.maximum(point - centre, -self.radius), self.radius)

    def draw(self, like: Any, generator: torch.Generator) -> Any:
        return tree_map(lambda x: torch.rand(x.shape, generator=generator, device=x.device) * 2 - 1, like)


class L2Ball(Ball):
    """``"l2"``: the Euclidean length of the change may be ``radius``."""

    def steepest(self, gradient: Any) -> Any:
        return tree_map(lambda g: g / _norm(g), gradient)

    def onto(self, point: Tensor, centre: Tensor) -> Tensor:
        change = point - centre
        return centre + change * (self.radius / _norm(change)).clamp(max=1.0)

    def draw(self, like: Any, generator: torch.Generator) -> Any:
        def point(x: Tensor) -> Tensor:
            direction = torch.randn(x.shape, generator=generator, device=x.device)
            # The share of the volume within a length is that length to the power of the dimension.
            length = torch.rand(len(x), generator=generator, device=x.device) ** (1 / x[0].numel())
            return direction / _norm(direction) * length.view(-1, *[1] * (x.dim() - 1))

        return tree_map(point, like)


def _norm(tensor: Tensor) -> Tensor:
    """Euclidean norm of each row, with its dimensions kept for broadcasting; never zero, so that one can divide by it."""
    dimensions = tuple(range(1, tensor.dim()))
    squares = (tensor * tensor).sum(dim=dimensions, keepdim=True)
    return squares.clamp(min=1e-24).sqrt()


#: The balls by the name of their norm.
NORMS: dict[str, type[Ball]] = {"linf": LinfBall, "l2": L2Ball}
