"""PDPPO's policies with memory ("MlpLstmPolicy"): V^x sees the post-decision state and what the critic remembers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from rlspo.pdppo.moe import MoePostDecisionCnnPolicy, MoePostDecisionMultiInputPolicy, MoePostDecisionPolicy
from rlspo.pdppo.policies import PostDecisionCnnPolicy, PostDecisionMultiInputPolicy, PostDecisionPolicy
from rlspo.policies.recurrent import Recurrent

Tensor = torch.Tensor


class RecurrentPostDecisionPolicy(Recurrent, PostDecisionPolicy):
    """Memory for vectors ("MlpLstmPolicy").

    ::

        V(h_t), V^x(h_t, s^x_t)   with   h_t = memory(h_{t-1}, s_t)

    V and V^x see, and shape, one memory of the critic; with ``shared_lstm`` they see the actor's. V^x shapes nothing that the
    actor has a part in. All arguments of :class:`~rlspo.policies.recurrent.Recurrent` and of
    :class:`~rlspo.pdppo.PostDecisionPolicy`.

    :raises ValueError: for a single critic with a memory, which has no place for post-decision states in it
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.single_critic and self.lstm_hidden_size:
            raise ValueError(
                "critics is 'single' and the policy has a memory, in which post-decision states have no place. Take "
                "critics='dual', or a policy without memory."
            )

    @property
    def n_remembered(self) -> int:
        return self.lstm_hidden_size if self.lstm_critic is not None or self.shared_lstm else 0

    def _critic_parts(self) -> list[nn.Module]:
        return [*super()._critic_parts(), *(part for part in (self.lstm_critic, self.critic) if part is not None)]

    def remembered_at(self, inputs: Any) -> Tensor:
        inputs = self._burned_in(inputs)
        if self.shared_lstm or not self.share_features_extractor:
            return self._critic_sees(inputs)[0]
        return self._critic_sees(inputs, self._features(inputs, self.features_extractor).detach())[0]

    def remembered_in(self, memory: Tensor) -> Tensor:
        layers: Any = self.lstm_critic or self.lstm_actor
        hidden: Tensor = layers.states(memory[:, -layers.size :])[0]
        return hidden[-1]


class RecurrentPostDecisionCnnPolicy(RecurrentPostDecisionPolicy, PostDecisionCnnPolicy):
    """Memory for images ("CnnLstmPolicy")."""


class RecurrentPostDecisionMultiInputPolicy(RecurrentPostDecisionPolicy, PostDecisionMultiInputPolicy):
    """Memory for Dict observations ("MultiInputLstmPolicy")."""


class MoeRecurrentPostDecisionPolicy(RecurrentPostDecisionPolicy, MoePostDecisionPolicy):
    """A mixture of experts with memory for vectors ("MoeMlpLstmPolicy")."""


class MoeRecurrentPostDecisionCnnPolicy(RecurrentPostDecisionPolicy, MoePostDecisionCnnPolicy):
    """A mixture of experts with memory for images ("MoeCnnLstmPolicy")."""


class MoeRecurrentPostDecisionMultiInputPolicy(RecurrentPostDecisionPolicy, MoePostDecisionMultiInputPolicy):
    """A mixture of experts with memory for Dict observations ("MoeMultiInputLstmPolicy")."""


#: By name, for the agent.
LSTM_POLICIES: dict[str, type[RecurrentPostDecisionPolicy]] = {
    "MlpLstmPolicy": RecurrentPostDecisionPolicy,
    "CnnLstmPolicy": RecurrentPostDecisionCnnPolicy,
    "MultiInputLstmPolicy": RecurrentPostDecisionMultiInputPolicy,
    "MoeMlpLstmPolicy": MoeRecurrentPostDecisionPolicy,
    "MoeCnnLstmPolicy": MoeRecurrentPostDecisionCnnPolicy,
    "MoeMultiInputLstmPolicy": MoeRecurrentPostDecisionMultiInputPolicy,
}
