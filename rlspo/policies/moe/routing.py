"""How the gate of a mixture learns which expert to choose, given what each expert's action is worth.

Values are ``q[b, k] = Q(s_b, a_bk)`` of one action from each expert, ``(B, K)``; they carry no gradient. All losses reach
the gate alone.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from rlspo.policies.mixtures import Mixture
from rlspo.policies.moe.settings import MoeSettings

Tensor = torch.Tensor


def make_gate(settings: MoeSettings, n_inputs: int, activation: type[nn.Module]) -> nn.Sequential:
    """From what the gate sees, ``(B, n_inputs)``, to logits, ``(B, K)``; it starts with nearly equal weights."""
    layers: list[nn.Module] = []
    for width in settings.gate_arch:
        layers += [nn.Linear(n_inputs, width), activation()]
        n_inputs = width
    head = nn.Linear(n_inputs, settings.n_experts)
    nn.init.orthogonal_(head.weight, gain=0.01)
    nn.init.zeros_(head.bias)
    return nn.Sequential(*layers, head)


def wins(values: Tensor) -> Tensor:
    """1 for the expert with the best action, ``(B, K)``; those that draw, as experts with the same choice do, share it."""
    best = (values == values.amax(dim=-1, keepdim=True)).float()
    return best / best.sum(dim=-1, keepdim=True)


def frequency(mixture: Mixture, won: Tensor, settings: MoeSettings) -> Tensor:
    """Frequency approximate gradient: regress the gate to the expert that won (arXiv 2104.09122).

    Over many draws its minimum is the share of draws that each expert wins.

    :param won: of :func:`wins`, ``(B, K)``
    """
    if settings.routing_loss == "cross_entropy":
        return -(won * mixture.log_weights).sum(dim=-1).mean()
    return (won - mixture.weights).square().sum(dim=-1).mean()


def score(mixture: Mixture, values: Tensor, index: Tensor) -> Tensor:
    """REINFORCE on the expert drawn, with the expected value as baseline.

    :param index: which expert was drawn, ``(B,)``
    """
    weights = mixture.weights.detach()
    advantage = (values - (weights * values).sum(dim=-1, keepdim=True)).gather(1, index[:, None])
    return -(mixture.log_weights.gather(1, index[:, None]) * advantage).mean()


def relaxed_choice(mixture: Mixture, noise: Tensor, temperature: float) -> Tensor:
    """A relaxed one-hot draw of an expert (Gumbel-softmax, arXiv 1611.01144), ``(B, K)``.

    :param noise: standard Gumbel, ``(B, K)``
    """
    return F.softmax((mixture.log_weights + noise) / temperature, dim=-1)


def gate_statistics(mixture: Mixture) -> dict[str, Tensor]:
    """How experts are used and how they differ, as scalars for TensorBoard.

    ``gate_entropy`` is the mean over states, ``usage_entropy`` that of the mean gate; their difference is the mutual
    information of state and expert. An expert is dead below a tenth of its fair share.
    """
    weights, count = mixture.weights.detach(), mixture.n_experts
    usage = weights.mean(dim=0)
    distances = mixture.detach().pairwise_kl()
    apart = ~torch.eye(count, dtype=torch.bool, device=weights.device)
    distances = 0.5 * (distances + distances.transpose(1, 2))
    return {
        "moe/gate_entropy": -(weights * mixture.log_weights.detach()).sum(dim=-1).mean(),
        "moe/usage_entropy": -(usage * usage.clamp(min=1e-12).log()).sum(),
        "moe/dead_experts": (usage < 0.1 / count).float().sum(),
        "moe/kl_mean": (distances * apart).sum(dim=(1, 2)).mean() / (count * (count - 1)),
        "moe/kl_min": torch.where(apart, distances, torch.inf).amin(dim=(1, 2)).mean(),
        **{f"moe/usage_{k}": usage[k] for k in range(count)},
    }


def win_statistics(values: Tensor) -> dict[str, Tensor]:
    """How often each expert's action is the best one, and by how much experts differ in value."""
    shares = wins(values).mean(dim=0)
    return {
        "moe/q_spread": (values.amax(dim=-1) - values.amin(dim=-1)).mean(),
        **{f"moe/wins_{k}": shares[k] for k in range(values.shape[1])},
    }
