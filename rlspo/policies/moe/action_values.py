"""Q(s, a) for agents that have no critic of actions: it tells which expert's action is the best."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import create_mlp
from torch import nn
from torch.nn import functional as F

Tensor = torch.Tensor


class ActionValue(nn.Module):
    """A multilayer perceptron from features and actions to Q.

    :param n_features: width of the features, ``(B, n_features)``
    :param action_space: Box, Discrete, MultiDiscrete or MultiBinary
    :param hidden: its layers
    :param activation: between them
    """

    def __init__(
        self, n_features: int, action_space: spaces.Space, hidden: Sequence[int], activation: type[nn.Module]
    ) -> None:
        super().__init__()
        self.single = isinstance(action_space, spaces.Discrete)
        self.sizes: tuple[int, ...] = ()
        if isinstance(action_space, spaces.Discrete):
            self.sizes = (int(action_space.n),)
        elif isinstance(action_space, spaces.MultiDiscrete):
            self.sizes = tuple(map(int, action_space.nvec))
        width = sum(self.sizes) if self.sizes else spaces.flatdim(action_space)
        self.net = nn.Sequential(*create_mlp(n_features + width, 1, list(hidden), activation))

    def forward(self, features: Tensor, actions: Tensor) -> Tensor:
        """Q, ``(B,)`` for actions ``(B, *shape)``; ``(B, K)`` for ``(B, K, *shape)``.

        :param features: ``(B, n_features)``
        """
        encoded = self._encoded(actions)
        if encoded.dim() == 3:
            features = features.unsqueeze(1).expand(-1, encoded.shape[1], -1)
        return self.net(torch.cat([features, encoded], dim=-1)).squeeze(-1)

    def _encoded(self, actions: Tensor) -> Tensor:
        if not self.sizes:
            return actions.float()
        if self.single:
            return F.one_hot(actions.long(), self.sizes[0]).float()
        parts = actions.long().unbind(dim=-1)
        return torch.cat([F.one_hot(part, size).float() for part, size in zip(parts, self.sizes, strict=True)], dim=-1)
