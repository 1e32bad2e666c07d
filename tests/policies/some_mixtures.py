"""Mixtures of each kind with random parameters, and what their support is."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import torch

from rlspo.policies import (
    BernoulliMixture,
    CategoricalMixture,
    GaussianMixture,
    Mixture,
    SquashedGaussianMixture,
)

Tensor = torch.Tensor
BATCH, EXPERTS, DIMENSIONS, SIZES = 5, 3, 2, (2, 3)


def numbers(*shape: int, seed: int = 0, scale: float = 1.0, device: str = "cpu") -> Tensor:
    return (scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))).to(device)


def gaussian(seed: int = 0, n_experts: int = EXPERTS, cls: Any = GaussianMixture, device: str = "cpu") -> Any:
    parts = numbers(BATCH, n_experts, 2 * DIMENSIONS + 1, seed=seed, device=device)
    return cls.of(parts[..., 0], parts[..., 1 : DIMENSIONS + 1], 0.5 * parts[..., DIMENSIONS + 1 :] - 0.5)


def squashed(seed: int = 0, n_experts: int = EXPERTS, device: str = "cpu") -> Any:
    return gaussian(seed, n_experts, SquashedGaussianMixture, device)


def categorical(seed: int = 0, n_experts: int = EXPERTS, device: str = "cpu") -> Any:
    return CategoricalMixture.of(
        numbers(BATCH, n_experts, seed=seed, device=device), numbers(BATCH, n_experts, 4, seed=seed + 50, device=device)
    )


def several(seed: int = 0, n_experts: int = EXPERTS, device: str = "cpu") -> Any:
    logits = numbers(BATCH, n_experts, sum(SIZES), seed=seed + 50, scale=1.5, device=device)
    return CategoricalMixture.of(numbers(BATCH, n_experts, seed=seed, device=device), logits, SIZES)


def binary(seed: int = 0, n_experts: int = EXPERTS, device: str = "cpu") -> Any:
    logits = numbers(BATCH, n_experts, 3, seed=seed + 50, scale=1.5, device=device)
    return BernoulliMixture.of(numbers(BATCH, n_experts, seed=seed, device=device), logits)


MAKE: dict[str, Callable[..., Any]] = {
    "gaussian": gaussian,
    "squashed": squashed,
    "categorical": categorical,
    "several": several,
    "binary": binary,
}
DISCRETE = {
    "categorical": [torch.tensor(a) for a in range(4)],
    "several": [torch.tensor(a) for a in product(*map(range, SIZES))],
    "binary": [torch.tensor(a, dtype=torch.float32) for a in product(range(2), repeat=3)],
}


def repeated(action: Tensor) -> Tensor:
    return action.expand(BATCH, *action.shape)


def enumerated(kind: str, mixture: Mixture) -> Tensor:
    """log pi of every action there is, ``(B, n_actions)``."""
    return torch.stack([mixture.log_prob(repeated(action)) for action in DISCRETE[kind]], dim=-1)


def quadrature(mixture: Any, n: int = 400) -> tuple[Tensor, Tensor]:
    """log pi on a two-dimensional grid, and the grid's weights, ``(B, n * n)`` and ``(n * n)``."""
    bounded = isinstance(mixture, SquashedGaussianMixture)
    edge = 1.0 if bounded else 12.0
    points, weights = (edge * torch.tensor(x, dtype=torch.float64) for x in np.polynomial.legendre.leggauss(n))
    grid = torch.cartesian_prod(points, points)
    log_probs = torch.stack([at_row(mixture.each(Tensor.double), row, len(grid)).log_prob(grid) for row in range(BATCH)])
    return log_probs, torch.cartesian_prod(weights, weights).prod(dim=-1)


def at_row(mixture: Any, row: int, n: int) -> Any:
    """One row of the batch, ``n`` times."""
    return mixture.each(lambda tensor: tensor[row : row + 1].expand(n, *tensor.shape[1:]))
