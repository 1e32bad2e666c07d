"""Policies with memory, for what a single observation does not show."""

from rlspo.policies.recurrent.moe import (
    MoeRecurrentActorCriticCnnPolicy,
    MoeRecurrentActorCriticPolicy,
    MoeRecurrentMultiInputActorCriticPolicy,
)
from rlspo.policies.recurrent.policy import Recurrent as Recurrent
from rlspo.policies.recurrent.policy import (
    RecurrentActorCriticCnnPolicy,
    RecurrentActorCriticPolicy,
    RecurrentMultiInputActorCriticPolicy,
)

__all__ = [
    "MoeRecurrentActorCriticCnnPolicy",
    "MoeRecurrentActorCriticPolicy",
    "MoeRecurrentMultiInputActorCriticPolicy",
    "RecurrentActorCriticCnnPolicy",
    "RecurrentActorCriticPolicy",
    "RecurrentMultiInputActorCriticPolicy",
]
