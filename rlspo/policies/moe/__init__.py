"""Mixture-of-experts policies: which expert acts, and how the gate learns it (arXiv 2104.09122)."""

from rlspo.policies.moe.actor_critic import MixtureOfExperts as MixtureOfExperts
from rlspo.policies.moe.actor_critic import MoeActorCriticCnnPolicy, MoeActorCriticPolicy, MoeMultiInputActorCriticPolicy
from rlspo.policies.moe.settings import MoeSettings

__all__ = [
    "MixtureOfExperts",
    "MoeActorCriticCnnPolicy",
    "MoeActorCriticPolicy",
    "MoeMultiInputActorCriticPolicy",
    "MoeSettings",
]
