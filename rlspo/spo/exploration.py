"""Root noise: first actions that the policy rarely takes, with importance weights that keep the search unbiased."""

from __future__ import annotations

import math
from typing import Any

import torch
from gymnasium import spaces

from rlspo.common.errors import check_number
from rlspo.policies import Categorical, MultiCategorical

Tensor = torch.Tensor


class RootNoise:
    """Draws first actions from the mixture ``(1 - f) pi + f noise``.

    For discrete actions the noise has Dirichlet probabilities, drawn anew in each state; for bounded Box actions it is
    uniform. The search corrects for it by log pi - log((1 - f) pi + f noise), at most -log(1 - f). The paper omits this
    correction.

    :param fraction: f, from 0 to 0.99
    :param alpha: of the Dirichlet distribution; below 1 most of the probability is on few actions (0.03 to 1)
    :param space: of actions
    :raises ValueError: for an action space without such noise, and for a fraction or an ``alpha`` out of range
    """

    def __init__(self, fraction: float, alpha: float, space: spaces.Space) -> None:
        check_number("fraction", fraction, maximum=0.99)
        check_number("alpha", alpha, positive=True)
        self.fraction, self.alpha, self.space = fraction, alpha, space
        bounded = isinstance(space, spaces.Box) and space.is_bounded()
        if not bounded and not isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
            raise ValueError(f"root_noise is {fraction}, but actions of {space} have no noise to draw from. Use root_noise=0.")

    def squashed(self) -> RootNoise:
        """The same for a policy whose actions lie in [-1, 1], whatever the bounds of the environment's."""
        return RootNoise(self.fraction, self.alpha, spaces.Box(-1.0, 1.0, self.space.shape))

    def __call__(self, distribution: Any, n_particles: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """First actions and their log-probability corrections.

        :param distribution: pi at ``B * N`` rows; rows of the same root are adjacent
        :return: ``(B * N, *action_shape)`` and ``(B * N,)``
        """
        own = distribution.sample(generator)
        if self.fraction == 0.0:
            return own, torch.zeros(len(own), device=own.device)
        noise, log_density = self._noise(own, n_particles, generator)
        rare = torch.rand(len(own), generator=generator, device=own.device) < self.fraction
        actions = torch.where(rare.reshape(-1, *[1] * (own.dim() - 1)), noise, own)
        log_prob = distribution.log_prob(actions)
        parts = log_prob + math.log1p(-self.fraction), log_density(actions) + math.log(self.fraction)
        return actions, log_prob - torch.logaddexp(*parts)

    def _noise(self, like: Tensor, n_particles: int, generator: torch.Generator | None) -> tuple[Tensor, Any]:
        """Noisy actions for all rows, and their log-density."""
        if isinstance(self.space, spaces.Box):
            low, high = (torch.as_tensor(end.reshape(-1), device=like.device) for end in (self.space.low, self.space.high))
            drawn = low + (high - low) * torch.rand(like.shape, generator=generator, device=like.device)
            log_density = -torch.log(high - low).sum()
            inside = lambda actions: ((actions >= low) & (actions <= high)).all(dim=-1)  # noqa: E731
            return drawn, lambda actions: torch.where(inside(actions), log_density, -torch.inf)
        space: Any = self.space
        sizes = (int(space.n),) if isinstance(space, spaces.Discrete) else tuple(map(int, space.nvec))
        roots = len(like) // n_particles
        logits = torch.cat([self._log_dirichlet(roots, size, generator, like.device) for size in sizes], dim=-1)
        logits = logits.repeat_interleave(n_particles, dim=0)
        noise = Categorical(logits) if isinstance(space, spaces.Discrete) else MultiCategorical(logits, sizes)
        return noise.sample(generator), noise.log_prob

    def _log_dirichlet(self, rows: int, size: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
        gamma = torch._standard_gamma(torch.full((rows, size), self.alpha, device=device), generator=generator)
        return (gamma / gamma.sum(dim=-1, keepdim=True)).clamp(min=1e-30).log()
