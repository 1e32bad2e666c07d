"""What an adversary maximises: functions of the perturbed inputs alone, one value per observation ``(B,)``.

Whatever they close over (the clean policy, the parameters) is held fixed: inner problems do not shape the outer gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from rlspo.policies import Distribution

Tensor = torch.Tensor
Objective = Callable[[Any], Tensor]
Policy = Callable[[Any], Distribution]


def kl_to_clean(policy: Policy, clean: Distribution) -> Objective:
    """KL(pi(.|s) || pi(.|s')): how much the perturbation changes the policy's action distribution (the inner problem of
    BARPO).

    For a Gaussian of fixed covariance this is the objective of maximal action difference (MAD), 1/2 (mu' - mu)^T Sigma^-1 (mu'
    - mu) of Zhang et al. 2020 (arXiv 2003.08938, eq. 5). Its gradient vanishes at s' = s, so a solver has to start elsewhere.

    :param policy: inputs to pi(.|inputs), with parameters held fixed
    :param clean: pi(.|s)
    """
    fixed: Any = clean.detach()
    return lambda inputs: fixed.kl(policy(inputs))


def negative(function: Objective) -> Objective:
    """Minimise ``function`` instead: the adversary of ARPO (the PPO surrogate) and of the critic attack (the value)."""
    return lambda inputs: -function(inputs)
