"""Policies with memory, for what a single observation does not show."""

from rlspo.policies.actor_critic import OWN_POLICIES, ActorCriticPolicy
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
#: Those with and without memory, by name: what takes the place of a policy of SB3 or sb3-contrib.
KNOWN_POLICIES: dict[str, type[ActorCriticPolicy]] = {
    **OWN_POLICIES,
    **LSTM_POLICIES,
}

__all__ = [
    "MoeRecurrentActorCriticCnnPolicy",
    "MoeRecurrentActorCriticPolicy",
    "MoeRecurrentMultiInputActorCriticPolicy",
    "RecurrentActorCriticCnnPolicy",
    "RecurrentActorCriticPolicy",
    "RecurrentMultiInputActorCriticPolicy",
]
