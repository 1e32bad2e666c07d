"""How an adversary searches its ball; all maximise, and all are pure functions of their arguments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from rlspo.adversary.ball import Ball
from rlspo.adversary.objectives import Objective
from rlspo.common.errors import check_choice
from rlspo.common.trees import Tensor, tree_map

SOLVERS = ("pgd", "langevin", "random")


@dataclass(frozen=True)
class Solver:
    """A search for the worst input in a ball.

    :param kind: ``"pgd"``: ``steps`` steepest-ascent steps (sign gradient in linf), each projected back into the ball,
        from a random point within one step of the centre; ``"langevin"``: the same from a random corner at that distance,
        with Gaussian noise sqrt(2 * step_size * temperature) / (i + 2) added to the gradient of step i (SGLD as in Zhang
        et al. 2020, appendix C); ``"random"``: a random corner, no gradient
    :param steps: gradient steps; more finds a stronger perturbation and costs time in proportion
    :param step_size: length of a step in units of the radius; None: 1 / steps
    :param temperature: of the Langevin noise; small (1e-5) when training, 1 when attacking, as published
    """

    kind: str = "pgd"
    steps: int = 10
    step_size: float | None = None
    temperature: float = 1e-5

    def __post_init__(self) -> None:
        check_choice("solver", self.kind, SOLVERS)
        if not isinstance(self.steps, int) or isinstance(self.steps, bool) or self.steps < 1:
            raise ValueError(f"adversary_steps is {self.steps!r}; it must be a whole number of at least 1.")

    def draw(self, ball: Ball, like: Any, generator: torch.Generator) -> dict[str, Any]:
        """The random numbers of one search: ``start`` in the unit ball, and for Langevin ``steps`` normal ones."""
        noise = {"start": ball.draw(like, generator)}
        if self.kind == "langevin":

            def normal(tensor: Tensor) -> Tensor:
                shape = (self.steps, *tensor.shape)
                return torch.randn(shape, generator=generator, device=tensor.device)

            noise["steps"] = tree_map(normal, like)
        return noise

    def __call__(self, objective: Objective, clean: Any, ball: Ball, noise: dict[str, Any]) -> Any:
        """The perturbed inputs, detached.

        :param objective: to be maximised, summed over the batch (observations do not interact)
        :param clean: centre of the ball, network inputs ``(B, *shape)`` or a dictionary of these
        :param ball: feasible set
        :param noise: from :meth:`draw`
        """
        if self.kind == "random":
            return detach(ball.shift(clean, ball.steepest(noise["start"])))
        size = 1 / self.steps if self.step_size is None else self.step_size
        # Steps of radius / steps that start farther out could not reach the opposite corner any more.
        start = noise["start"] if self.kind == "pgd" else ball.steepest(noise["start"])
        inputs = ball.shift(clean, tree_map(lambda unit: size * unit, start))
        for step in range(self.steps):
            gradient = torch.func.grad(lambda x: objective(x).sum())(inputs)
            if self.kind == "langevin":
                spread = torch.sqrt(2 * size * ball.radius * self.temperature) / (step + 2)
                gradient = tree_map(lambda g, xi, step=step, spread=spread: g + spread * xi[step], gradient, noise["steps"])
            direction = ball.steepest(gradient)
            moved = tree_map(lambda x, d: x + size * ball.radius * d, inputs, direction)
            inputs = ball.project(moved, clean)
        return detach(inputs)


def detach(inputs: Any) -> Any:
    """Cut the gradient of one tensor or of a dictionary of them."""
    return tree_map(lambda tensor: tensor.detach(), inputs)
