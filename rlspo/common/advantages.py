"""Generalised advantage estimation (Schulman et al. 2016, arXiv 1506.02438, eq. 16)."""

from __future__ import annotations

import numpy as np


def generalized_advantages(
    rewards: np.ndarray,
    values: np.ndarray,
    next_values: np.ndarray,
    continues: np.ndarray,
    gamma: float,
    gae_lambda: float,
) -> np.ndarray:
    """Advantages of a rollout.

    ::

        delta_t = r_t + gamma c_t V(s_{t+1}) - V(s_t),   A_t = delta_t + gamma lambda c_t A_{t+1}

    :param rewards: ``(n_steps, n_envs)``; including the bootstrap value of a time limit
    :param values: V(s_t), ``(n_steps, n_envs)``
    :param next_values: V of the observation after the last step, ``(n_envs,)``
    :param continues: 1 where the episode went on after step t, 0 where it ended, ``(n_steps, n_envs)``
    :param gamma: discount factor in [0, 1]
    :param gae_lambda: trade-off in [0, 1]: 0 one-step (low variance), 1 Monte Carlo (low bias)
    :return: ``(n_steps, n_envs)``, float32
    """
    following = np.concatenate([values[1:], next_values[None]])
    deltas = (rewards + gamma * continues * following - values).astype(np.float32)
    return discounted_sums(deltas, (gamma * gae_lambda * continues).astype(np.float32))


def discounted_sums(deltas: np.ndarray, decay: np.ndarray) -> np.ndarray:
    """x_t = deltas_t + decay_t x_{t+1}, with x = 0 after the last step; all ``(n_steps, n_envs)``, float32."""
    if deltas.shape[1] == 1:  # plain floats are several times faster than arrays of one element
        return _scan_single(deltas[:, 0], decay[:, 0])[:, None]
    sums = np.empty_like(deltas)
    running = np.zeros(deltas.shape[1], np.float32)
    for step in range(len(deltas) - 1, -1, -1):
        running = deltas[step] + decay[step] * running
        sums[step] = running
    return sums


def _scan_single(deltas: np.ndarray, decay: np.ndarray) -> np.ndarray:
    sums = []
    running = 0.0
    for delta, factor in zip(deltas[::-1].tolist(), decay[::-1].tolist(), strict=True):
        running = delta + factor * running
        sums.append(running)
    return np.array(sums[::-1], np.float32)
