"""Adversarially robust policy optimisation: ARPO and BARPO."""

from rlspo.arpo.arpo import ARPO
from rlspo.arpo.barpo import BARPO

__all__ = ["ARPO", "BARPO"]
