"""The temperature at which the divergence of a search from the policy reaches its bound."""

from __future__ import annotations

import math
from typing import Any

import torch

from rlspo.common.errors import check_number
from rlspo.spo.search import search_divergence

Tensor = torch.Tensor
#: Range of temperatures, as multiples of the spread of the advantages, and number of bisections.
LOWEST, HIGHEST, ROUNDS = 1e-3, 1e3, 40
#: Largest bound, as a share of the divergence at the lowest temperature.
REACHED = 0.9


def temperature_for(advantages: Tensor, bound: float, corrections: Tensor | float = 0.0) -> float:
    """The eta at which the mean of KL(q || pi) over states is ``bound``: the minimum of the dual (arXiv 2402.07963, eq. 7)

    ::

        g(eta) = eta bound + eta E_s log E_{a ~ pi} exp(A(s, a) / eta),      g'(eta) = bound - E_s KL(q || pi)

    found by bisection. Samples with equal advantages get equal weights. So where the policy is nearly deterministic, or
    actions make no difference in most states, the mean divergence cannot reach the bound, and the minimum is at eta = 0. There
    the smallest error of V would decide. So the bound is at most 0.9 of what the best samples of each state could reach. Where
    all advantages are equal, eta is 1.

    :param advantages: of N samples in each state, ``(B, N)``
    :param bound: in nats
    :param corrections: for samples of another distribution than the policy, see :class:`~rlspo.spo.search.Search`
    """
    spread = float(advantages.std(dim=-1, correction=0).mean())
    if spread <= 0.0:
        return 1.0
    bound = min(bound, REACHED * float(search_divergence(advantages, LOWEST * spread, corrections).mean()))
    low, high = math.log(LOWEST * spread), math.log(HIGHEST * spread)
    for _ in range(ROUNDS):
        middle = 0.5 * (low + high)
        if float(search_divergence(advantages, math.exp(middle), corrections).mean()) > bound:
            low = middle
        else:
            high = middle
    return math.exp(high)


def check_divergence(search_kl: float, n_particles: int) -> None:
    """
    :raises ValueError: for a divergence that a search with this many particles cannot reach
    """
    if n_particles > 1 and search_kl >= math.log(n_particles):
        raise ValueError(
            f"search_kl is {search_kl}, but {n_particles} particles stray at most {math.log(n_particles):.3g} nats from the "
            "policy, the logarithm of their number. Give less, or more n_particles."
        )


def check_temperature(name: str, value: Any) -> None:
    """Check that ``value`` is ``"auto"``, or a finite number above 0."""
    if value != "auto":
        check_number(name, value, positive=True)
