"""Perturbing observations inside a ball: the ball, the objectives and the solvers. Used in training and in attacks."""

from rlspo.adversary.ball import NORMS, Ball, L2Ball, LinfBall
from rlspo.adversary.objectives import Objective, kl_to_clean, negative
from rlspo.adversary.perturbation import Perturbation
from rlspo.adversary.radius import ramped_radius
from rlspo.adversary.solvers import PGD, SOLVERS, Langevin, Power, RandomCorner, RandomPoint, Solver, make_solver

__all__ = [
    "NORMS",
    "PGD",
    "SOLVERS",
    "Ball",
    "L2Ball",
    "Langevin",
    "LinfBall",
    "Objective",
    "Perturbation",
    "Power",
    "RandomCorner",
    "RandomPoint",
    "Solver",
    "kl_to_clean",
    "make_solver",
    "negative",
    "ramped_radius",
]
