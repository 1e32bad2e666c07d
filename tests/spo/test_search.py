"""The search against distributions that were enumerated."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from rlspo.spo.search import search
from tests.spo.trees import Tree

DEPTH = 4
PARTICLES = 512


def found(tree: Tree, roots: int = 256, known: bool = False, gamma: float = 1.0, temperature: float = 1.0, **settings):
    """The mean of the weights of each first action over ``roots`` searches."""
    generator = torch.Generator().manual_seed(0)
    result = search(
        tree.simulator(),
        tree.roots(roots),
        np.zeros(roots, np.int64),
        tree.propose(generator),
        tree.value(known),
        **{"n_particles": PARTICLES, "depth": DEPTH, **settings},
        temperature=temperature,
        gamma=gamma,
        generator=generator,
    )
    share = [(result.weights * (result.actions == action)).sum(dim=1).mean().item() for action in range(tree.n_actions)]
    return np.array(share), result


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return 0.5 * float(np.abs(one - other).sum())


WAYS = [
    *({"resample_period": period, "as_published": published} for period, published in itertools.product(range(1, 5), (0, 1))),
    {"ess_threshold": 0.5},
    {"ess_threshold": 1.0, "as_published": True},
]


@pytest.mark.parametrize("resampling", ["multinomial", "systematic", "residual"])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_search_finds_the_enumerated_distribution(way, resampling):
    tree = Tree.random(seed=0)
    share, _ = found(tree, resampling=resampling, **way)
    assert distance(share, tree.exact(DEPTH, 1.0, 1.0)) < 0.01


@pytest.mark.parametrize("period", [1, 2, 4])
@pytest.mark.parametrize("outcomes", [1, 2])
@pytest.mark.parametrize("gamma", [1.0, 0.7])
def test_it_does_with_ends_values_discounting_and_chance(period, outcomes, gamma):
    tree = Tree.random(seed=1, n_outcomes=outcomes, ends=0.2)
    share, _ = found(tree, known=True, gamma=gamma, temperature=1.3, resample_period=period)
    assert distance(share, tree.exact(DEPTH, 1.3, gamma, known=True)) < 0.01
