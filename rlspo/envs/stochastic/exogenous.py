"""Type 2.1: noise that does not depend on the action."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlspo.common.errors import did_you_mean
from rlspo.envs.arguments import number, numbers
from rlspo.envs.stochastic.effects import Array, Effect, Now, rows
from rlspo.envs.stochastic.task import Task

#: Standard gravity in m/s^2 for a robot's weight, also in tasks without gravity.
EARTH = 9.81


class Impulse(Effect):
    """A force acts on the centre of mass of one body throughout the decision step (``xfrc_applied``).

    ``robust_force`` of Robust-Gymnasium is of this kind.

    :param magnitude: in multiples of the weight of all bodies together (9.81 m/s^2 times their mass), at least 0
    :param body: its name; None: drawn uniformly from all except body 0, the ground
    :param direction: three numbers, of any length; None: drawn uniformly from all directions
    """

    def __init__(
        self, task: Task, magnitude: float = 1.0, body: str | None = None, direction: Sequence[float] | None = None
    ) -> None:
        super().__init__(task)
        model = task.physics()
        self.force_n = number("magnitude", magnitude, 0) * EARTH * float(model.body_mass.sum())
        names = [model.body(index).name for index in range(1, model.nbody)]
        if body is not None and body not in names:
            raise ValueError(f"body is {body!r}. {did_you_mean(str(body), names)}")
        self.n_bodies = int(model.nbody)
        self.body = None if body is None else names.index(body) + 1
        self.direction: Array | None = None
        if direction is not None:
            given = np.array(numbers("direction", direction))
            if given.shape != (3,) or not given.any():
                raise ValueError(f"direction is {direction!r}; it must be three numbers, not all 0.")
            self.direction = given / np.linalg.norm(given)

    def force(self, now: Now) -> Array:
        n = len(now.open)
        found = np.zeros((n, self.n_bodies, 6))
        if self.direction is None:
            ways = now.chance.normal(3)
            ways /= np.linalg.norm(ways, axis=1, keepdims=True)
        else:
            ways = np.broadcast_to(self.direction, (n, 3))
        bodies = now.chance.integers(self.n_bodies - 1) + 1 if self.body is None else np.full(n, self.body)
        found[np.arange(n), bodies, :3] = ways * self.force_n * now.open[:, None]
        return found


class Kick(Effect):
    """Normal noise is added to the velocities of all joints before the decision step.

    :param sigma: standard deviation in rad/s or m/s, at least 0
    """

    def __init__(self, task: Task, sigma: float = 0.5) -> None:
        super().__init__(task)
        self.n_velocities = int(task.physics().nv)
        self.sigma = number("sigma", sigma, 0)

    def kick(self, now: Now) -> Array:
        return now.chance.normal(self.n_velocities, scale=self.sigma) * rows(now.open, (1,))


class RewardNoise(Effect):
    """Normal noise is added to the reward.

    Names as in Robust-Gymnasium (``noise_mu``, ``noise_sigma``).

    :param sigma: standard deviation in units of the reward, at least 0
    :param mu: mean
    """

    def __init__(self, task: Task, sigma: float = 1.0, mu: float = 0.0) -> None:
        super().__init__(task)
        self.sigma, self.mu = number("sigma", sigma, 0), number("mu", mu)

    def reward(self, rewards: Array, now: Now) -> Array:
        return np.where(now.open, rewards + self.mu + now.chance.normal(scale=self.sigma), rewards)


class RewardDrop(Effect):
    """The reward is 0."""

    draws = False

    def reward(self, rewards: Array, now: Now) -> Array:
        return np.where(now.open, 0.0, rewards)


EXOGENOUS_EFFECTS: dict[str, type[Any]] = {
    "impulse": Impulse,
    "kick": Kick,
    "reward_noise": RewardNoise,
    "reward_drop": RewardDrop,
}
