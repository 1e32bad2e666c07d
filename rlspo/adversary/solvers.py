"""How an adversary searches its ball: one class for each solver, and what a solver of your own must give.

All maximise, and all are pure functions of their arguments, so that they compile as a part of the update. Gradients are
:func:`rlspo.common.gradients.grad` of a function of the inputs, so that they nest inside the gradient of a loss.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from rlspo.adversary.ball import Ball
from rlspo.adversary.objectives import Objective
from rlspo.common.choices import check_kind, make_kind
from rlspo.common.errors import check_count, check_number
from rlspo.common.gradients import grad
from rlspo.common.trees import Tensor, tree_map
from rlspo.common.withheld import Withheld


class Solver(ABC):
    """A search for the input in a ball that maximises an objective.

    *Inputs* are tensors ``(B, *shape)``, or for Dict observations dictionaries of these, which
    :func:`~rlspo.common.trees.tree_map` treats alike; a :class:`Ball` takes both.

    A solver of your own defines :meth:`__call__`, and :meth:`draw` where it is random; see :doc:`arpo_barpo`.
    """

    def draw(self, ball: Ball, like: Any, generator: torch.Generator) -> Any:
        """The random numbers of one search, tensors in lists or dictionaries; None where it needs none.

        :param ball: of the norm in use; :meth:`Ball.draw` gives points of the unit ball
        :param like: a batch of inputs, whose shape and device count
        :param generator: to draw from
        """
        return None

    @abstractmethod
    def __call__(self, objective: Objective, clean: Any, ball: Ball, noise: Any) -> Any:
        """The perturbed inputs: of the shape of ``clean``, and within the ball.

        :param objective: to be maximised for each input by itself: from inputs to ``(B,)``; of a policy with memory the mean
            of each sequence, at all of its steps
        :param clean: true inputs, the centre of the ball
        :param ball: feasible set
        :param noise: from :meth:`draw`
        """


@dataclass(frozen=True)
class Power(Solver):
    """``"power"``: jump to the boundary in the direction of the gradient, from several random points; keep the best end.

    ::

        x <- s + radius * steepest(grad f(x))

    Conditional gradient ascent (Frank and Wolfe 1956) with unit steps: it never descends on a convex objective, and on a
    quadratic one in l2 it is power iteration.

    :param steps: gradients in all; more finds a stronger perturbation and costs time in proportion
    :param restarts: starting points; each gets ``steps // restarts`` gradients (at least one)
    """

    steps: int = 10
    restarts: int = 5

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        check_count("restarts", self.restarts)

    def draw(self, ball: Ball, like: Any, generator: torch.Generator) -> list[Any]:
        return [ball.draw(like, generator) for _ in range(min(self.restarts, self.steps))]

    def __call__(self, objective: Objective, clean: Any, ball: Ball, noise: list[Any]) -> Any:
        gradient = grad(lambda x: objective(x).sum())
        best: Any = None
        for start in noise:
            inputs = ball.shift(clean, start)
            for _ in range(self.steps // len(noise)):
                inputs = ball.shift(clean, ball.steepest(gradient(inputs)))
            value = objective(inputs)
            if best is None:
                best, best_value = inputs, value
            else:
                best = tree_map(partial(_choose, value > best_value), inputs, best)
                best_value = torch.maximum(value, best_value)
        return best


@dataclass(frozen=True)
class PGD(Solver):
    """``"pgd"``, projected gradient descent (here: ascent) of Madry et al. 2018 (arXiv 1706.06083).

    ::

        x <- project(x + step_size * radius * steepest(grad f(x)))          (sign gradient in linf)

    from a random point within one step of the centre; so the boundary is reached to within one step.

    :param steps: gradients; more finds a stronger perturbation and costs time in proportion
    :param step_size: in units of the radius; None: ``1 / steps``
    """

    steps: int = 10
    step_size: float | None = None

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        _check_step_size(self.step_size)

    def draw(self, ball: Ball, like: Any, generator: torch.Generator) -> Any:
        return ball.draw(like, generator)

    def __call__(self, objective: Objective, clean: Any, ball: Ball, noise: Any) -> Any:
        gradient = grad(lambda x: objective(x).sum())
        size = self.step_size or 1 / self.steps
        # From farther out, steps of radius / steps would end farther from the opposite corner.
        inputs = ball.shift(clean, tree_map(lambda unit: size * unit, noise))
        for _ in range(self.steps):
            direction: Any = ball.steepest(gradient(inputs))
            inputs = ball.project(tree_map(lambda x, d: x + size * ball.radius * d, inputs, direction), clean)
        return inputs


@dataclass(frozen=True)
class Langevin(Solver):
    """``"langevin"``, stochastic gradient Langevin dynamics (SGLD) as in Zhang et al. 2020 (arXiv 2003.08938, appendix C).

    ::

        g_i = grad f(x) + sqrt(2 * step_size * radius * temperature) / (i + 2) * xi,     xi ~ N(0, 1)
        x <- project(x + step_size * radius * steepest(g_i)),                            i = 0, ..., steps - 1

    from a random corner at one step from the centre. The noise does not know the scale of the gradient: where that is smaller,
    the search is nearly blind, and more steps make it weaker.

    :param steps: gradients; at a small temperature more finds a stronger perturbation, and costs time in proportion
    :param step_size: in units of the radius; None: ``1 / steps``
    :param temperature: of the noise; small (1e-5) when training, 1 when attacking, as published
    """

    steps: int = 10
    step_size: float | None = None
    temperature: float = 1e-5

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        _check_step_size(self.step_size)
        check_number("temperature", self.temperature)

    def draw(self, ball: Ball, like: Any, generator: torch.Generator) -> dict[str, Any]:
        start = ball.draw(like, generator)

        def normal(x: Tensor) -> Tensor:
            return torch.randn(x.shape, generator=generator, device=x.device)

        return {"start": start, "steps": [tree_map(normal, like) for _ in range(self.steps)]}

    def __call__(self, objective: Objective, clean: Any, ball: Ball, noise: dict[str, Any]) -> Any:
        gradient = grad(lambda x: objective(x).sum())
        size = self.step_size or 1 / self.steps
        inputs = ball.shift(clean, tree_map(lambda unit: size * unit, ball.steepest(noise["start"])))
        for step in range(self.steps):
            spread = torch.sqrt(2 * size * ball.radius * self.temperature) / (step + 2)
            noisy = tree_map(lambda g, xi, spread=spread: g + spread * xi, gradient(inputs), noise["steps"][step])
            direction: Any = ball.steepest(noisy)
            inputs = ball.project(tree_map(lambda x, d: x + size * ball.radius * d, inputs, direction), clean)
        return inputs


class RandomPoint(Solver):
    """A uniform point of the ball, whatever the objective; no gradient."""

    def draw(self, ball: Ball, like: Any, generator: torch.Generator) -> Any:
        return ball.draw(like, generator)

    def __call__(self, objective: Objective, clean: Any, ball: Ball, noise: Any) -> Any:
        return ball.shift(clean, noise)


class RandomCorner(RandomPoint):
    """``"random"``: a random corner of the ball (in l2: a random point of its boundary), whatever the objective."""

    def __call__(self, objective: Objective, clean: Any, ball: Ball, noise: Any) -> Any:
        return ball.shift(clean, ball.steepest(noise))


#: The solvers that an agent's ``solver`` names.
SOLVERS: dict[str, type[Solver]] = {"power": Power, "pgd": PGD, "langevin": Langevin, "random": RandomCorner}


def make_solver(solver: str | type[Solver] | Solver, **settings: Any) -> Solver:
    """The solver of a name or a class; an object unchanged.

    >>> make_solver("pgd", steps=5, restarts=3)
    PGD(steps=5, step_size=None)

    :param solver: one of :data:`SOLVERS`, a subclass of :class:`Solver`, or an object of one
    :param settings: for the constructor (``steps``, ``step_size``, ``temperature``, ``restarts``), which gets those that it
        names
    :raises ValueError: for an unknown name
    :raises TypeError: for anything else
    """
    return make_kind("solver", solver, SOLVERS, Solver, **settings)


def check_solver(name: str, value: Any) -> None:
    """Check that ``value`` is what :func:`make_solver` takes, or was left in a file as code.

    :param name: of the setting, for messages
    """
    if not isinstance(value, Withheld):
        check_kind(name, value, SOLVERS, Solver)


def _check_step_size(size: float | None) -> None:
    if size is not None:
        check_number("step_size", size, positive=True)


def _choose(wins: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Row by row: ``new`` where ``wins`` ``(B,)``, else ``old``."""
    return torch.where(wins.view(-1, *[1] * (new.dim() - 1)), new, old)
