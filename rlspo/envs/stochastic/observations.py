"""Type 3.2: hidden or noisy parts of the observation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlspo.envs.arguments import number
from rlspo.envs.stochastic.effects import Array, Effect, Faults, Memory, Now, rows
from rlspo.envs.stochastic.task import Task


class ObservationEffect(Effect):
    """Changes Box observations, within their bounds.

    :param indices: flat indices of the entries that may change; None: all
    """

    def __init__(self, task: Task, indices: Sequence[int] | None = None) -> None:
        super().__init__(task)
        box = task.observation_box()
        self.shape, self.low, self.high, self.dtype = box.shape, box.low, box.high, box.dtype
        self.chosen = np.ones(self.shape, bool)
        if indices is not None:
            self.chosen = np.zeros(self.shape, bool)
            self.chosen.flat[task.entries("indices", indices)] = True

    def shown(self, changed: Array, observations: Array, where: Array) -> Array:
        """``changed`` where ``where``, within the bounds, and ``observations`` elsewhere."""
        if np.issubdtype(self.dtype, np.integer):
            changed = np.rint(changed)
        return np.where(where & self.chosen, np.clip(changed, self.low, self.high).astype(observations.dtype), observations)


class DropVelocities(ObservationEffect):
    """Entries of the observation are set to 0, by default the velocities.

    :param indices: flat indices; None: all velocities, for MuJoCo tasks
    """

    draws = False

    def __init__(self, task: Task, indices: Sequence[int] | None = None) -> None:
        if indices is None and task.velocities is None:
            raise ValueError(f"which entries are velocities is not known of {task.name!r}; give their indices.")
        super().__init__(task, task.velocities if indices is None else indices)

    def observe(self, observations: Array, now: Now) -> Array:
        return self.shown(np.zeros_like(observations), observations, rows(now.open, self.shape))


class Mask(ObservationEffect):
    """Random entries show another value.

    ``dropped`` of the observation noise in realworldrl_suite (``observations_prob``, ``observations_steps``).

    :param fraction: the probability for each entry in a step with the gate open, in [0, 1]
    :param steps: duration in decision steps, at least 1
    :param value: what they show
    :param indices: flat indices of the entries that may be affected; None: all
    """

    def __init__(
        self, task: Task, fraction: float = 0.2, steps: int = 1, value: float = 0.0, indices: Sequence[int] | None = None
    ) -> None:
        super().__init__(task, indices)
        self.faults, self.value = Faults(fraction, steps), number("value", value)

    def start(self, n: int) -> Memory:
        return self.faults.start(n, self.shape)

    def observe(self, observations: Array, now: Now) -> Array:
        return self.shown(np.full(observations.shape, self.value), observations, self.faults.hit(now, self.shape))


class Freeze(ObservationEffect):
    """Random entries keep their last shown value.

    ``stuck`` of the observation noise in realworldrl_suite (``observations_prob``, ``observations_steps``).

    :param fraction: the probability for each entry in a step with the gate open, in [0, 1]
    :param steps: duration in decision steps, at least 1
    :param indices: flat indices of the entries that may be affected; None: all
    """

    def __init__(self, task: Task, fraction: float = 1.0, steps: int = 1, indices: Sequence[int] | None = None) -> None:
        super().__init__(task, indices)
        self.faults = Faults(fraction, steps)

    def start(self, n: int) -> Memory:
        return {**self.faults.start(n, self.shape), "last": np.zeros((n, *self.shape), self.dtype)}

    def observe(self, observations: Array, now: Now) -> Array:
        # A reset shows the true observation, as there is no earlier one.
        stuck = self.faults.hit(now, self.shape) & rows(now.step >= 0, self.shape)
        seen = self.shown(now.memory["last"], observations, stuck)
        now.memory["last"] = seen.astype(self.dtype)
        return seen


class Quantise(ObservationEffect):
    """Entries are rounded to multiples of a step.

    :param step: in units of the observation, above 0
    :param indices: flat indices of the entries; None: all
    """

    draws = False

    def __init__(self, task: Task, step: float = 0.1, indices: Sequence[int] | None = None) -> None:
        super().__init__(task, indices)
        self.step = number("step", step, 0)
        if self.step == 0:
            raise ValueError("step is 0; it must be above 0.")

    def observe(self, observations: Array, now: Now) -> Array:
        return self.shown(np.rint(observations / self.step) * self.step, observations, rows(now.open, self.shape))


class Noise(ObservationEffect):
    """Normal noise is added to the entries.

    Names as in Robust-Gymnasium (``noise_mu``, ``noise_sigma``).

    :param sigma: standard deviation in units of the observation, at least 0
    :param mu: mean
    :param indices: flat indices of the entries; None: all
    """

    def __init__(self, task: Task, sigma: float = 0.1, mu: float = 0.0, indices: Sequence[int] | None = None) -> None:
        super().__init__(task, indices)
        self.sigma, self.mu = number("sigma", sigma, 0), number("mu", mu)

    def observe(self, observations: Array, now: Now) -> Array:
        noise = self.mu + now.chance.normal(*self.shape, scale=self.sigma)
        return self.shown(observations + noise, observations, rows(now.open, self.shape))


OBSERVATION_EFFECTS: dict[str, type[Any]] = {
    "drop_velocities": DropVelocities,
    "mask": Mask,
    "freeze": Freeze,
    "quantise": Quantise,
    "noise": Noise,
}
