"""The temperature at which a search strays from the policy as far as it may."""

from __future__ import annotations

import math

import torch

from rlspo.spo.search import search_divergence

Tensor = torch.Tensor
#: Temperatures looked at, as multiples of the spread of the advantages, and halvings of the interval between them.
LOWEST, HIGHEST, ROUNDS = 1e-3, 1e3, 40


def temperature_for(advantages: Tensor, bound: float) -> float:
    """The eta at which the mean of KL(q || pi) over states is ``bound``; minimises the dual (arXiv 2402.07963, eq. 7).

    Where the bound is not reached, as with all advantages alike or a bound above log N, it is the lowest: a thousandth of
    the advantages' standard deviation.

    :param advantages: of N draws in each state, ``(B, N)``
    :param bound: in nats
    """
    spread = float(advantages.std(dim=-1, correction=0).mean())
    if spread <= 0.0:
        return 1.0
    low, high = math.log(LOWEST * spread), math.log(HIGHEST * spread)
    for _ in range(ROUNDS):
        middle = 0.5 * (low + high)
        if float(search_divergence(advantages, math.exp(middle)).mean()) > bound:
            low = middle
        else:
            high = middle
    return math.exp(high)
