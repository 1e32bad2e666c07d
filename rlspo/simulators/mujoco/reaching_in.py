"""Changes of captured states by a wrapper that changes MuJoCo's physics: forces, velocity jumps, other models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rlspo.simulators.mujoco.core import MujocoStates
from rlspo.simulators.mujoco.physics import component


def push(states: MujocoStates, forces: np.ndarray, sign: int = 1) -> None:
    """Add to the forces on bodies (``xfrc_applied``), or subtract them again.

    :param forces: ``(n, n_bodies, 6)``
    :param sign: 1 or -1
    """
    part = component(states.origins[0].model, "XFRC_APPLIED")
    states.rows[:, part] += sign * forces.reshape(len(forces), -1)


def kick(states: MujocoStates, jumps: np.ndarray) -> None:
    """Add to the velocities of the joints (``qvel``).

    :param jumps: ``(n, n_velocities)``
    """
    states.rows[:, component(states.origins[0].model, "QVEL")] += jumps


def with_models(states: MujocoStates, levels: np.ndarray, model_at: Callable[[float], Any]) -> MujocoStates:
    """The states with other models.

    :param levels: which model each state is to have, ``(n,)``
    :param model_at: a model by its level
    """
    # Origins that an earlier step split by model are merged again: they share their environment's generator.
    first: dict[int, int] = {}
    roots = np.array([first.setdefault(id(origin.random), place) for place, origin in enumerate(states.origins)])
    pairs, origin = np.unique(np.stack([roots[states.origin], levels], axis=1), axis=0, return_inverse=True)
    origins = [states.origins[int(root)]._replace(model=model_at(float(level))) for root, level in pairs]
    return MujocoStates(states.rows, states.lagging, origins, origin.reshape(-1))
