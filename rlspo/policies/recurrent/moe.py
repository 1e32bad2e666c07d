"""Mixture-of-experts actors with memory ("MoeMlpLstmPolicy"): experts and gate see what is remembered."""

from __future__ import annotations

from rlspo.policies.moe import MoeActorCriticCnnPolicy, MoeActorCriticPolicy, MoeMultiInputActorCriticPolicy
from rlspo.policies.recurrent.policy import Recurrent


class MoeRecurrentActorCriticPolicy(Recurrent, MoeActorCriticPolicy):
    """A mixture of experts with memory for vectors ("MoeMlpLstmPolicy")."""


class MoeRecurrentActorCriticCnnPolicy(Recurrent, MoeActorCriticCnnPolicy):
    """A mixture of experts with memory for images ("MoeCnnLstmPolicy")."""


class MoeRecurrentMultiInputActorCriticPolicy(Recurrent, MoeMultiInputActorCriticPolicy):
    """A mixture of experts with memory for Dict observations ("MoeMultiInputLstmPolicy")."""
