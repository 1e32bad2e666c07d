"""A mixture in the shape of SB3's distribution objects, for code written against SB3."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.distributions import Distribution

from rlspo.policies.mixtures import Mixture

Tensor = torch.Tensor


class SB3Mixture(Distribution):
    """What ``policy.get_distribution(obs)`` returns.

    :param mixture: at the observations
    :param generator: source of samples; None: torch's global one
    """

    def __init__(self, mixture: Mixture, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.distribution: Any = mixture
        self.generator = generator

    def proba_distribution_net(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("The networks of a mixture are its policy's.")

    def proba_distribution(self, mixture: Mixture) -> SB3Mixture:
        return SB3Mixture(mixture, self.generator)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.distribution.log_prob(x)

    def entropy(self) -> Tensor | None:
        return self.distribution.entropy()

    def sample(self) -> Tensor:
        return self.distribution.sample(self.generator)

    def mode(self) -> Tensor:
        return self.distribution.mode()

    def actions_from_params(self, mixture: Mixture, deterministic: bool = False) -> Tensor:
        return mixture.mode() if deterministic else mixture.sample(self.generator)

    def log_prob_from_params(self, mixture: Mixture) -> tuple[Tensor, Tensor]:
        actions = mixture.sample(self.generator)
        return actions, mixture.log_prob(actions)
