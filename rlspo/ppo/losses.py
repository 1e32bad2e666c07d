"""The terms of PPO's loss (arXiv 1707.06347) as functions of tensors. ``B`` is the size of the minibatch."""

from __future__ import annotations

import torch

from rlspo.policies import Distribution

Tensor = torch.Tensor


def standardize(advantages: Tensor) -> Tensor:
    """Zero mean and unit variance, over all numbers of ``(B,)`` or ``(B, K)``; a single row stays as it is."""
    if len(advantages) == 1:
        return advantages
    return (advantages - advantages.mean()) / (advantages.std() + 1e-8)


def clipped_surrogate(log_ratio: Tensor, advantages: Tensor, clip_range: Tensor) -> Tensor:
    """min(r A, clip(r, 1 - clip_range, 1 + clip_range) A), elementwise, to be maximised (eq. 7).

    :param log_ratio: log r = log pi(a|s) - log pi_old(a|s), ``(B,)``, or ``(B, K)`` for K components of the action
    :param advantages: A, what broadcasts to the same shape
    :param clip_range: a scalar
    """
    ratio = log_ratio.exp()
    return torch.minimum(advantages * ratio, advantages * torch.minimum(torch.maximum(ratio, 1 - clip_range), 1 + clip_range))


def ratio_statistics(log_ratio: Tensor, clip_range: Tensor) -> dict[str, Tensor]:
    """SB3's ``approx_kl`` and ``clip_fraction``, scalars, from log r, ``(B,)`` or ``(B, K)``."""
    ratio = log_ratio.exp()
    kl = ratio - 1 - log_ratio  # http://joschu.net/blog/kl-approx.html
    return {
        "approx_kl": kl.sum() / len(kl),  # independent parts add up
        "clip_fraction": ((ratio - 1).abs() > clip_range).float().mean(),
    }


def value_loss(values: Tensor, returns: Tensor, old_values: Tensor, clip_range_vf: Tensor | None = None) -> Tensor:
    """Mean squared error of V to the TD(lambda) returns, a scalar (eq. 9).

    :param values: V(s), ``(B,)``
    :param returns: ``(B,)``
    :param old_values: V(s) of the collecting weights, ``(B,)``
    :param clip_range_vf: how far V may move from ``old_values``, a scalar; None: without limit
    """
    if clip_range_vf is not None:
        values = old_values + torch.minimum(torch.maximum(values - old_values, -clip_range_vf), clip_range_vf)
    return (returns - values).square().mean()


def entropy_loss(distribution: Distribution, actions: Tensor) -> Tensor:
    """Minus the mean entropy, a scalar; estimated by log pi of ``actions`` where it has no closed form."""
    entropy = distribution.entropy()
    return distribution.log_prob(actions).mean() if entropy is None else -entropy.mean()
