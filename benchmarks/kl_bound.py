"""How tight the upper bound :meth:`rlspo.policies.mixtures.Mixture.kl` on the divergence is.

    python benchmarks/kl_bound.py        # a minute; writes benchmarks/results/kl_bound.json

Pairs of mixtures of four Gaussians in three dimensions, unrelated or nearly the same. The means of their experts are drawn,
in each dimension, with ``spread`` times the standard deviation of an expert. Of each pair: the bound over the divergence
(estimated with 16,000 samples), what it would still fall by if the pairing of experts were improved to the end, and how far
its gradient, with the pairing held still, is off that of the best pairing. Medians and the worst of 200 pairs; of pairs
that are nearly the same, the estimate of a divergence near 0 is noisy.
"""

from __future__ import annotations

import json
from pathlib import Path
from unittest import mock

import torch

from rlspo.policies import GaussianMixture, mixtures

RESULTS = Path(__file__).resolve().parent / "results" / "kl_bound.json"
PAIRS, EXPERTS, DIMENSIONS = 200, 4, 3
TO_THE_END = 400
Tensor = torch.Tensor
Parts = tuple[Tensor, Tensor, Tensor]


def draw(spread: float, generator: torch.Generator) -> Parts:
    """Gate, means and log standard deviations."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(PAIRS, EXPERTS, *shape, generator=generator)

    return 0.5 * normal(), spread * normal(DIMENSIONS), 0.2 * normal(DIMENSIONS)


def nearly(parts: Parts, generator: torch.Generator) -> Parts:
    """A policy after an update."""
    gate, mean, log_std = (torch.randn(part.shape, generator=generator) for part in parts)
    return parts[0] + 0.1 * gate, parts[1] + 0.1 * mean, parts[2] + 0.02 * log_std


def bound(parts: Parts, other: Parts, rounds: int) -> tuple[Tensor, Tensor]:
    """The bound and its gradient with respect to ``parts``, by pair."""
    leaves = [part.clone().requires_grad_() for part in parts]
    with mock.patch.object(mixtures, "PAIRING_ROUNDS", rounds):
        value = GaussianMixture.of(*leaves).kl(GaussianMixture.of(*other))
    gradient = torch.autograd.grad(value.sum(), leaves)
    return value.detach(), torch.cat([part.flatten(1) for part in gradient], dim=1)


def measure(spread: float, relation: str) -> dict[str, float | str]:
    generator = torch.Generator().manual_seed(0)
    one = draw(spread, generator)
    other = draw(spread, generator) if relation == "unrelated" else nearly(one, generator)
    value, gradient = bound(one, other, mixtures.PAIRING_ROUNDS)
    best_value, best_gradient = bound(one, other, TO_THE_END)
    true = GaussianMixture.of(*one).kl_monte_carlo(GaussianMixture.of(*other), 4000, generator)
    ratio = value / true.clamp(min=1e-4)
    off = (gradient - best_gradient).norm(dim=1) / best_gradient.norm(dim=1)
    return {
        "spread": spread,
        "pair": relation,
        "bound_over_divergence": round(float(ratio.median()), 2),
        "bound_over_divergence_worst": round(float(ratio.max()), 2),
        "could_still_fall_by": round(float((1 - best_value / value).median()), 3),
        "gradient_off_by": round(float(off.median()), 3),
    }


def main() -> None:
    torch.set_num_threads(1)
    rows = [measure(spread, relation) for spread in (3.0, 1.0, 0.3) for relation in ("unrelated", "nearly the same")]
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(*(f"{name} {value}" for name, value in row.items()), sep=" | ")


if __name__ == "__main__":
    main()
