"""Evaluating agents under attack."""

from rlspo.attacks.evaluation import ATTACKS, attacked_evaluation

__all__ = ["ATTACKS", "attacked_evaluation"]
