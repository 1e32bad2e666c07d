"""Evaluating agents under attack."""

from rlspo.attacks.attacks import ATTACKS, Attack, CriticAttack, MADAttack, RandomAttack
from rlspo.attacks.evaluation import attacked_evaluation

__all__ = ["ATTACKS", "Attack", "CriticAttack", "MADAttack", "RandomAttack", "attacked_evaluation"]
