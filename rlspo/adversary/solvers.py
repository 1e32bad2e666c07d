"""How an adversary searches its ball; all maximise, and all are pure functions of their arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from rlspo.adversary.ball import Ball
from rlspo.adversary.objectives import Objective
from rlspo.common.errors import check_choice, check_count
from rlspo.common.trees import Tensor, tree_map

SOLVERS = ("power", "pgd", "langevin", "random")


@dataclass(frozen=True)
class Solver:
    """A search for the worst input in a ball.

    :param kind: ``"power"``: jump to the boundary in the direction of the gradient, x <- s + radius * steepest(grad f(x)),
        from several random points, and keep the best end (conditional gradient ascent with unit steps: it never descends
        on a convex objective, and on a quadratic one in l2 it is power iteration); ``"pgd"``: small steepest-ascent steps
        (sign gradient in linf), each projected back into the ball, from a random point within one step of the centre;
        ``"langevin"``: the same from a random corner at that distance, with Gaussian noise
        sqrt(2 * step_size * temperature) / (i + 2) added to the gradient of step i (SGLD as in Zhang et al. 2020,
        appendix C); ``"random"``: a random corner, no gradient
    :param steps: gradients in all; more finds a stronger perturbation and costs time in proportion
    :param step_size: of ``pgd`` and ``langevin``, in units of the radius; None: 1 / steps
    :param temperature: of the Langevin noise; small (1e-5) when training, 1 when attacking, as published
    :param restarts: of ``power``; each gets ``steps // restarts`` gradients (at least one)
    """

    kind: str = "langevin"
    steps: int = 10
    step_size: float | None = None
    temperature: float = 1e-5
    restarts: int = 5

    def __post_init__(self) -> None:
        check_choice("solver", self.kind, SOLVERS)
        check_count("adversary_steps", self.steps)
        check_count("restarts", self.restarts)

    def draw(self, ball: Ball, like: Any, generator: torch.Generator) -> dict[str, Any]:
        """The random numbers of one search: ``start`` points of the unit ball, and for Langevin normal ones per step.

        :param ball: its norm shapes the unit ball
        :param like: a batch of inputs, ``(B, *shape)`` or a dictionary of these
        """
        if self.kind == "power":
            return {"start": [ball.draw(like, generator) for _ in range(min(self.restarts, self.steps))]}
        noise: dict[str, Any] = {"start": ball.draw(like, generator)}
        if self.kind == "langevin":
            noise["steps"] = [
                tree_map(lambda x: torch.randn(x.shape, generator=generator, device=x.device), like) for _ in range(self.steps)
            ]
        return noise

    def __call__(self, objective: Objective, clean: Any, ball: Ball, noise: dict[str, Any]) -> Any:
        """The perturbed inputs, detached.

        :param objective: to be maximised for each input by itself, ``(B,)``
        :param clean: centre of the ball, network inputs ``(B, *shape)`` or a dictionary of these
        :param ball: feasible set
        :param noise: from :meth:`draw`
        """
        if self.kind == "random":
            return detach(ball.shift(clean, ball.steepest(noise["start"])))
        gradient = torch.func.grad(lambda x: objective(x).sum())
        search = self._power if self.kind == "power" else self._small_steps
        return detach(search(objective, gradient, clean, ball, noise))

    def _power(self, objective: Objective, gradient: Objective, clean: Any, ball: Ball, noise: dict[str, Any]) -> Any:
        best: Any = None
        for start in noise["start"]:
            inputs = ball.shift(clean, start)
            for _ in range(self.steps // len(noise["start"])):
                inputs = ball.shift(clean, ball.steepest(gradient(inputs)))
            value = objective(inputs)
            if best is None:
                best, best_value = inputs, value
            else:
                best = tree_map(_better(value > best_value), inputs, best)
                best_value = torch.maximum(value, best_value)
        return best

    def _small_steps(self, objective: Objective, gradient: Objective, clean: Any, ball: Ball, noise: dict[str, Any]) -> Any:
        size = 1 / self.steps if self.step_size is None else self.step_size
        # Steps of radius / steps that start farther out could not reach the opposite corner any more.
        start = noise["start"] if self.kind == "pgd" else ball.steepest(noise["start"])
        inputs: Any = ball.shift(clean, tree_map(lambda unit: size * unit, start))
        for step in range(self.steps):
            slope: Any = gradient(inputs)
            if self.kind == "langevin":
                spread = torch.sqrt(2 * size * ball.radius * self.temperature) / (step + 2)
                slope = tree_map(lambda g, xi, spread=spread: g + spread * xi, slope, noise["steps"][step])
            moved: Any = tree_map(lambda x, d: x + size * ball.radius * d, inputs, ball.steepest(slope))
            inputs = ball.project(moved, clean)
        return inputs


def _better(wins: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Choose row by row: the first where ``wins`` ``(B,)``, else the second."""
    return lambda new, old: torch.where(wins.view(-1, *[1] * (new.dim() - 1)), new, old)


def detach(inputs: Any) -> Any:
    """Cut the gradient of one tensor or of a dictionary of them."""
    return tree_map(lambda tensor: tensor.detach(), inputs)
