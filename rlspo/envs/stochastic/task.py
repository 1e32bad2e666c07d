"""Properties of an environment that effects need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

#: Indices of velocities for tasks that do not describe their observations.
VELOCITIES = {"ReacherEnv": range(6, 8), "PusherEnv": range(7, 14), "InvertedDoublePendulumEnv": range(5, 8)}


@dataclass
class Task:
    """The properties of an environment that effects use.

    :param name: in lower case, without version, such as ``"halfcheetah"``
    :param actions: its action space
    :param observations: its observation space
    :param model: of MuJoCo; None for other environments
    :param velocities: flat indices of velocities in the observation; None if unknown
    """

    name: str
    actions: spaces.Space
    observations: spaces.Space
    model: Any = None
    velocities: list[int] | None = None

    @classmethod
    def of(cls, env: gym.Env) -> Task:
        """Read an environment, wrapped or not."""
        base: Any = env.unwrapped
        physical = all(hasattr(base, name) for name in ("model", "data", "frame_skip"))
        shape = base.observation_space.shape
        found = _velocities(base) if physical and env.observation_space.shape == shape else None
        return cls(_name(base), env.action_space, env.observation_space, base.model if physical else None, found)

    def action_box(self) -> spaces.Box:
        """
        :raises ValueError: for actions that are not vectors of real numbers
        """
        if isinstance(self.actions, spaces.Box) and np.issubdtype(self.actions.dtype, np.floating):
            return self.actions
        raise ValueError(f"it needs a Box of real numbers as the action space, and {self.name!r} has {self.actions}.")

    def bounded_actions(self) -> spaces.Box:
        """
        :raises ValueError: for actions without bounds
        """
        box = self.action_box()
        if not box.is_bounded():
            raise ValueError(
                f"it needs bounds of the actions, and {self.name!r} has {box}; gymnasium's RescaleAction gives some."
            )
        return box

    def observation_box(self) -> spaces.Box:
        """
        :raises ValueError: for observations that are not arrays of numbers
        """
        if isinstance(self.observations, spaces.Box):
            return self.observations
        raise ValueError(
            f"it needs a Box as the observation space, and {self.name!r} has {self.observations}; gymnasium's "
            "FlattenObservation makes one."
        )

    def physics(self) -> Any:
        """MuJoCo's model.

        :raises ValueError: for another environment
        """
        if self.model is None:
            raise ValueError(f"it changes MuJoCo's physics, and {self.name!r} has none.")
        return self.model

    def entries(self, name: str, given: Any) -> np.ndarray:
        """Flat indices of entries of the observation.

        :param name: of the setting
        :param given: a list of them, from 0
        :raises ValueError: for an invalid index
        """
        size = int(np.prod(self.observation_box().shape))
        found = np.asarray(given)
        if found.ndim != 1 or found.dtype.kind not in "iu" or not len(found) or found.min() < 0 or found.max() >= size:
            raise ValueError(f"{name} is {given!r}; it must be a list of whole numbers from 0 to {size - 1}.")
        return found


def _name(base: Any) -> str:
    text = type(base).__name__.removesuffix("Env") if base.spec is None else base.spec.id
    return text.rpartition("/")[2].partition("-v")[0].lower()


def _velocities(base: Any) -> list[int] | None:
    name = type(base).__name__
    if name in VELOCITIES:
        return [*VELOCITIES[name]]
    structure = getattr(base, "observation_structure", None)
    if structure is None:
        return None
    found: list[int] = []
    start = 0
    for part, size in structure.items():
        if part.startswith("skipped"):
            continue
        if part in ("qvel", "cvel", "ten_velocity"):
            found += range(start, start + int(size))
        start += int(size)
    return found if start == int(np.prod(base.observation_space.shape)) else None
