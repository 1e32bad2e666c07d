"""Resampling: from weighted particles to as many of equal weight.

All three give particle n, on average, ``N * weights[n]`` copies; they differ in the variance of the number of copies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from rlspo.common.errors import check_choice

Tensor = torch.Tensor
Resampling = Callable[[Tensor, torch.Generator | None], Tensor]


def multinomial(weights: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """N independent draws, as published.

    :param weights: ``(B, N)``, each row sums to 1
    :return: indices of the particles that are copied, ``(B, N)``
    """
    return torch.multinomial(weights, weights.shape[-1], replacement=True, generator=generator)


def systematic(weights: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """One draw for a comb of N equidistant teeth: the number of copies is N times the weight, rounded up or down."""
    batch, count = weights.shape
    start = torch.rand(batch, 1, generator=generator, device=weights.device, dtype=weights.dtype)
    teeth = (start + torch.arange(count, device=weights.device)) / count
    return _find(weights.cumsum(dim=-1), teeth)


def residual(weights: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Each particle gets the integer part of N times its weight; the remaining copies are drawn by the fractions."""
    count = weights.shape[-1]
    copies = torch.floor(weights * count + 1e-6)
    filled = copies.cumsum(dim=-1)
    slots = torch.arange(count, device=weights.device, dtype=weights.dtype).expand_as(weights)
    certain = _find(filled, slots)
    # A row without fractions draws nothing; multinomial needs some weight all the same.
    fractions = (weights * count - copies).clamp(min=0.0) + 1e-12
    drawn = torch.multinomial(fractions, count, replacement=True, generator=generator)
    return torch.where(slots < filled[:, -1:], certain, drawn)


def _find(cumulated: Tensor, at: Tensor) -> Tensor:
    """The particle of each number in ``at``; rounding must not lead past the last one."""
    return torch.searchsorted(cumulated.contiguous(), at.contiguous(), right=True).clamp(max=at.shape[-1] - 1)


RESAMPLING: dict[str, Resampling] = {"multinomial": multinomial, "systematic": systematic, "residual": residual}


def check_resampling(name: str, value: Any) -> None:
    """Check that ``value`` names one of the three methods."""
    check_choice(name, value, tuple(RESAMPLING))


def effective_sample_size(weights: Tensor) -> Tensor:
    """1 / sum w^2, from 1 (one particle has all the weight) to N, ``(B,)``.

    :param weights: ``(B, N)``, each row sums to 1
    """
    return 1.0 / weights.square().sum(dim=-1)
