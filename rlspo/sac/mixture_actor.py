"""SB3's actor of SAC with several experts and a gate."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN, Actor
from torch import nn

from rlspo.policies.mixtures import SquashedGaussianMixture
from rlspo.policies.moe import routing
from rlspo.policies.moe.settings import MoeSettings

Tensor = torch.Tensor


class MixtureActor(Actor):
    """From features to a mixture of squashed Gaussians; the experts share the hidden layers.

    All arguments of SB3's ``Actor``, and

    :param moe: more than one expert
    """

    def __init__(self, *args: Any, moe: MoeSettings, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        plain: Any = self.mu
        self.moe = moe
        heads: list[Any] = [nn.Linear(plain.in_features, moe.n_experts * plain.out_features) for _ in range(2)]
        self.mu, self.log_std = heads
        with torch.no_grad():
            heads[0].bias.add_(moe.initial_spread * torch.randn_like(heads[0].bias))
        width = plain.in_features if moe.gate == "latent" else self.features_dim
        self.gate = routing.make_gate(moe, width, self.activation_fn)

    def mixture_at(self, features: Tensor) -> SquashedGaussianMixture:
        """The mixture, ``(B, K, A)``, at features ``(B, features_dim)``."""
        return self.mixture_of(self.latent_pi(features), features)

    def mixture_of(self, latent: Tensor, features: Tensor) -> SquashedGaussianMixture:
        """The same, after the hidden layers that all experts share, ``(B, latent_dim)``."""
        heads: Any = (self.mu, self.log_std)
        mean, log_std = (head(latent).unflatten(-1, (self.moe.n_experts, -1)) for head in heads)
        gate = self.gate((latent if self.moe.gate == "latent" else features).detach())
        return SquashedGaussianMixture.of(gate, mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX))

    # For code written against SB3.

    def _mixture(self, obs: PyTorchObs) -> SquashedGaussianMixture:
        return self.mixture_at(self.extract_features(obs, self.features_extractor))

    def forward(self, obs: PyTorchObs, deterministic: bool = False) -> Tensor:
        """Actions, ``(B, A)``."""
        mixture = self._mixture(obs)
        return mixture.mode() if deterministic else mixture.sample()

    def action_log_prob(self, obs: PyTorchObs) -> tuple[Tensor, Tensor]:
        """Actions that a gate's draw of experts gives, ``(B, A)``, with log pi, ``(B,)``."""
        mixture = self._mixture(obs)
        expert: Any = mixture.expert(mixture.sample_with_expert()[1])
        raw = expert.raw(expert.draw_noise())
        return expert.squash(raw), mixture.log_prob_of_raw(raw)

    def get_action_dist_params(self, obs: PyTorchObs) -> Any:
        """There are none that one Gaussian would have.

        :raises TypeError: always
        """
        raise TypeError("A mixture has no mean and log_std of its own; policy.distribution_of(inputs) gives all of it.")
