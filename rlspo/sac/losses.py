"""The losses of SAC (arXiv 1812.05905) as functions of tensors, in the order in which a step takes them.

``B`` is the size of the minibatch; noise enters through the actions that the policy samples.
"""

from __future__ import annotations

import torch

Tensor = torch.Tensor


def critic_target(
    rewards: Tensor, dones: Tensor, discounts: Tensor, next_q: Tensor, next_log_prob: Tensor, ent_coef: Tensor
) -> Tensor:
    """y = r + gamma (1 - done) (min_i Q_target_i(s', a') - ent_coef log pi(a'|s')), ``(B,)`` (eq. 2 and 3).

    :param rewards: ``(B,)``
    :param dones: 1 where the episode ended, other than by a time limit, ``(B,)``
    :param discounts: gamma, ``(B,)``
    :param next_q: of the target critics, ``(n_critics, B)``
    :param next_log_prob: of the actions a' that the policy samples at s', ``(B,)``
    :param ent_coef: a scalar
    """
    following = next_q.amin(dim=0) - ent_coef * next_log_prob
    return (rewards + (1.0 - dones) * discounts * following).detach()


def critic_loss(q_values: Tensor, target: Tensor) -> Tensor:
    """Half the mean squared error of each critic to y, summed over critics, a scalar (eq. 5).

    :param q_values: Q_i(s, a) of the actions taken, ``(n_critics, B)``
    :param target: y, ``(B,)``
    """
    return 0.5 * (q_values - target).square().mean(dim=-1).sum()


def actor_loss(log_prob: Tensor, q_value: Tensor, ent_coef: Tensor) -> Tensor:
    """E[ent_coef log pi(a|s) - min_i Q_i(s, a)], a scalar, through actions sampled anew (eq. 7).

    :param log_prob: ``(B,)``
    :param q_value: min_i Q_i, ``(B,)``
    """
    return (ent_coef * log_prob - q_value).mean()


def temperature_loss(log_ent_coef: Tensor, log_prob: Tensor, target_entropy: Tensor) -> tuple[Tensor, Tensor]:
    """-log ent_coef E[log pi(a|s) + target entropy], as in SB3 (the paper, eq. 18, has ent_coef for its logarithm).

    :param log_ent_coef: ``(1,)``
    :param log_prob: of the actor's loss, ``(B,)``
    :param target_entropy: in nats, a scalar
    :return: the loss, ``(1,)``, and its gradient, which is the same for any coefficient, ``(1,)``
    """
    excess = (log_prob.detach() + target_entropy).mean()
    return -log_ent_coef * excess, -excess.expand_as(log_ent_coef)
