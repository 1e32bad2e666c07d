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

#: By name, for agents.
LSTM_POLICIES: dict[str, type[Recurrent]] = {
    "MlpLstmPolicy": RecurrentActorCriticPolicy,
    "CnnLstmPolicy": RecurrentActorCriticCnnPolicy,
    "MultiInputLstmPolicy": RecurrentMultiInputActorCriticPolicy,
    "MoeMlpLstmPolicy": MoeRecurrentActorCriticPolicy,
    "MoeCnnLstmPolicy": MoeRecurrentActorCriticCnnPolicy,
    "MoeMultiInputLstmPolicy": MoeRecurrentMultiInputActorCriticPolicy,
}

__all__ = [
    "MoeRecurrentActorCriticCnnPolicy",
    "MoeRecurrentActorCriticPolicy",
    "MoeRecurrentMultiInputActorCriticPolicy",
    "RecurrentActorCriticCnnPolicy",
    "RecurrentActorCriticPolicy",
    "RecurrentMultiInputActorCriticPolicy",
]
