"""Perturbing observations inside a ball: the ball, the objectives and the solvers. Used in training and in attacks."""

from rlspo.adversary.ball import NORMS, Ball
from rlspo.adversary.objectives import Objective, kl_to_clean, negative
from rlspo.adversary.perturbation import Perturbation
from rlspo.adversary.radius import ramped_radius
from rlspo.adversary.solvers import SOLVERS, Solver, detach

__all__ = [
    "NORMS",
    "SOLVERS",
    "Ball",
    "Objective",
    "Perturbation",
    "Solver",
    "detach",
    "kl_to_clean",
    "negative",
    "ramped_radius",
]
