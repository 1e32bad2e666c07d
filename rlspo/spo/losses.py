"""The losses of SPO (arXiv 2402.07963, section 4.2 and appendix D): tensors in, scalars out."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from rlspo.policies import Distribution, Gaussian

Tensor = torch.Tensor
#: Lowest raw value of a dual variable, so that its gradient cannot vanish.
LOWEST_RAW = -18.0


def dual(raw: Tensor) -> Tensor:
    """A positive dual variable from an unbounded number."""
    return F.softplus(raw) + 1e-8


def raw_of(dual_value: float) -> float:
    """The inverse of :func:`dual`."""
    return dual_value + math.log(-math.expm1(-dual_value))


def log_likelihood(distribution: Distribution, actions: Tensor, weights: Tensor) -> Tensor:
    """Mean over states of sum_n w_n log pi(a_n | s): what the M-step maximises (eq. 11).

    :param actions: ``(B, N, *action_shape)``
    :param weights: ``(B, N)``
    """
    log_probs = torch.vmap(distribution.log_prob, in_dims=1, out_dims=1)(actions)
    return (weights * log_probs).sum(dim=-1).mean()


def gaussian_divergences(old: Gaussian, new: Gaussian) -> tuple[Tensor, Tensor]:
    """KL(old || new) of each dimension, in two parts: with only the mean changed, and with only the spread changed.

    :return: ``(B, A)`` each
    """
    moved = 0.5 * ((new.mean - old.mean) * torch.exp(-old.log_std)).square()
    narrowed = new.log_std - old.log_std
    spread = narrowed + 0.5 * (torch.exp(-2.0 * narrowed) - 1.0)
    return moved, spread.expand_as(moved)


def decoupled_likelihood(new: Gaussian, old: Gaussian, actions: Tensor, weights: Tensor) -> Tensor:
    """:func:`log_likelihood` with the new mean and the old spread, plus that with the old mean and the new spread."""
    one, other = Gaussian(new.mean, old.log_std), Gaussian(old.mean, new.log_std)
    return log_likelihood(one, actions, weights) + log_likelihood(other, actions, weights)


def penalties(divergences: Tensor, raw_multipliers: Tensor, bounds: Tensor) -> tuple[Tensor, Tensor]:
    """The Lagrangian of mean divergences with upper bounds: the policy's part, and the multipliers'.

    :param divergences: one mean for each multiplier, ``(M,)``
    :param bounds: in nats, ``(M,)``
    :return: the policy's penalty, and the loss of the multipliers, which grow while the bound is exceeded
    """
    multipliers = dual(raw_multipliers)
    return (multipliers.detach() * divergences).sum(), (multipliers * (bounds - divergences.detach())).sum()
