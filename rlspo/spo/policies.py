"""The policies of SPO: actor and critic, their slowly moving averages, and the multipliers of the bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.type_aliases import Schedule
from torch import nn
from torch.nn import functional as F

from rlspo.common.errors import check_number
from rlspo.policies import (
    ActorCriticCnnPolicy,
    ActorCriticPolicy,
    Distribution,
    Gaussian,
    MultiInputActorCriticPolicy,
)
from rlspo.policies.moe import MoeActorCriticCnnPolicy, MoeActorCriticPolicy, MoeMultiInputActorCriticPolicy
from rlspo.spo.losses import raw_of

Tensor = torch.Tensor
#: Added to the standard deviation, which must not vanish.
LEAST_STD = 1e-3


class SPOPolicy(ActorCriticPolicy):
    """Mixin for SB3's actor-critic policies that adds the other quantities that SPO learns.

    All arguments of the policy, and:

    :param state_dependent_std: for Box actions and one expert, the actor outputs the spread too (``softplus``); False: one
        spread for all states, as in PPO
    :param initial_std: standard deviation initial value for Box actions, where it depends on the state; in units of the action
    :param initial_multiplier: of the bound on the divergence (on the means of Gaussians)
    :param initial_spread_multiplier: of the bound on the spread of Gaussians; high, because fitting a weighted sample of few
        actions shrinks the spread
    :param dual_lr_scale: learning rate of the multipliers, in units of the policy's
    """

    target: Tensor

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *args: Any,
        state_dependent_std: bool = True,
        initial_std: float = 0.7,
        initial_multiplier: float = 1.0,
        initial_spread_multiplier: float = 100.0,
        dual_lr_scale: float = 10.0,
        **kwargs: Any,
    ) -> None:
        self.state_dependent_std = state_dependent_std
        self.initial_std = check_number("initial_std", initial_std, positive=True)
        self.initial_multiplier = check_number("initial_multiplier", initial_multiplier, positive=True)
        self.initial_spread_multiplier = check_number("initial_spread_multiplier", initial_spread_multiplier, positive=True)
        self.dual_lr_scale = check_number("dual_lr_scale", dual_lr_scale, positive=True)
        super().__init__(observation_space, action_space, lr_schedule, *args, **kwargs)
        if self.log_std_init != 0.0 and self.bounds_spread and self.state_dependent_std:
            raise ValueError(
                f"log_std_init is {self.log_std_init}, and the spread of this policy depends on the state. Give initial_std="
                f"{math.exp(self.log_std_init):.3g}, which is the same at first, or state_dependent_std=False."
            )

    def _get_constructor_parameters(self) -> dict[str, Any]:
        names = (
            "state_dependent_std",
            "initial_std",
            "initial_multiplier",
            "initial_spread_multiplier",
            "dual_lr_scale",
        )
        return {**super()._get_constructor_parameters(), **{name: getattr(self, name) for name in names}}

    @property
    def bounds_spread(self) -> bool:
        """Whether mean and spread have separate bounds for each dimension: for Gaussians of one expert."""
        return isinstance(self.action_dist, DiagGaussianDistribution) and getattr(self, "n_experts", 1) == 1

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        self.register_buffer("target", self._learned())

    def _learned(self) -> Tensor:
        """All learned parameters, as one vector."""
        learned = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        return torch.cat([parameter.detach().reshape(-1) for parameter in learned])

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As PyTorch's. The average of a policy with frozen or replaced layers has other parameters and starts anew."""
        anew = "target" in state_dict and state_dict["target"].shape != self.target.shape
        found = super().load_state_dict({**state_dict, "target": self.target} if anew else state_dict, *args, **kwargs)
        if anew:
            self.target.copy_(self._learned())
        return found

    def _add_parts(self) -> None:
        super()._add_parts()
        if self.bounds_spread and self.state_dependent_std:
            mean: Any = self.action_net
            self.action_net = nn.Linear(mean.in_features, 2 * mean.out_features)
            if self.ortho_init:
                self.init_weights(self.action_net, gain=0.01)
            del self.log_std
        size = math.prod(self.action_space.shape or ()) if self.bounds_spread else 1
        first = [raw_of(self.initial_multiplier)] * size
        if self.bounds_spread:
            first += [raw_of(self.initial_spread_multiplier)] * size
        self.raw_multipliers = nn.Parameter(torch.tensor(first))

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """The multipliers have their own learning rate, and their gradients are clipped separately."""
        first, *others = super()._parameter_groups()
        rest = {**first, "params": [p for p in first["params"] if p is not self.raw_multipliers]}
        return [rest, *others, {"params": [self.raw_multipliers], "lr_scale": self.dual_lr_scale, "clip_apart": True}]

    def _distribution(self, latent: Tensor) -> Distribution:
        if not (self.bounds_spread and self.state_dependent_std):
            return super()._distribution(latent)
        mean, raw = self.action_net(latent).chunk(2, dim=-1)
        return Gaussian(mean, torch.log(F.softplus(raw + raw_of(self.initial_std)) + LEAST_STD))

    def _get_action_dist_from_latent(self, latent_pi: Tensor) -> Any:
        if not (self.bounds_spread and self.state_dependent_std):
            return super()._get_action_dist_from_latent(latent_pi)
        gaussian: Any = self._distribution(latent_pi)
        kind: Any = self.action_dist
        return kind.proba_distribution(gaussian.mean, gaussian.log_std)


class SPOMlpPolicy(SPOPolicy):
    """For vectors ("MlpPolicy")."""


class SPOCnnPolicy(SPOPolicy, ActorCriticCnnPolicy):
    """For images ("CnnPolicy")."""


class SPOMultiInputPolicy(SPOPolicy, MultiInputActorCriticPolicy):
    """For Dict observations ("MultiInputPolicy")."""


class MoeSPOMlpPolicy(SPOPolicy, MoeActorCriticPolicy):
    """A mixture of experts for vectors ("MoeMlpPolicy")."""


class MoeSPOCnnPolicy(SPOPolicy, MoeActorCriticCnnPolicy):
    """A mixture of experts for images ("MoeCnnPolicy")."""


class MoeSPOMultiInputPolicy(SPOPolicy, MoeMultiInputActorCriticPolicy):
    """A mixture of experts for Dict observations ("MoeMultiInputPolicy")."""
