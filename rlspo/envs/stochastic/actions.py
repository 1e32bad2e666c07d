"""Type 1: noise that enters through the action."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlspo.envs.arguments import number, whole
from rlspo.envs.stochastic.effects import Array, Effect, Faults, Memory, Now, rows
from rlspo.envs.stochastic.task import Task


class ActionEffect(Effect):
    """Changes actions of a Box."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        box = task.action_box()
        self.shape, self.low, self.high = box.shape, box.low, box.high
        #: Stands for no action: 0, or the nearest value within the bounds.
        self.nothing = np.clip(np.zeros(self.shape, box.dtype), box.low, box.high)


class Replace(ActionEffect):
    """The action is replaced by one that is uniform in the box."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        task.bounded_actions()

    def act(self, actions: Array, now: Now) -> Array:
        drawn = self.low + now.chance.random(*self.shape) * (self.high - self.low)
        return np.where(rows(now.open, self.shape), drawn.astype(actions.dtype), actions)


class Gaussian(ActionEffect):
    """Normal noise is added to the action, and the sum clipped to the box.

    Names as in Robust-Gymnasium (``noise_mu``, ``noise_sigma``).

    :param sigma: standard deviation, as a fraction of each entry's range, at least 0
    :param mu: mean, as a fraction of the range
    """

    def __init__(self, task: Task, sigma: float = 0.1, mu: float = 0.0) -> None:
        super().__init__(task)
        box = task.bounded_actions()
        self.sigma, self.mu = number("sigma", sigma, 0), number("mu", mu)
        self.range = box.high.astype(np.float64) - box.low

    def act(self, actions: Array, now: Now) -> Array:
        noise = (self.mu + now.chance.normal(*self.shape, scale=self.sigma)) * self.range
        moved = np.clip(actions + noise, self.low, self.high).astype(actions.dtype)
        return np.where(rows(now.open, self.shape), moved, actions)


class Sticky(ActionEffect):
    """The last executed action is repeated.

    ``repetition`` of the action noise in realworldrl_suite (``actions_prob``, ``actions_steps``).

    :param steps: duration in decision steps, at least 1
    """

    draws = False

    def __init__(self, task: Task, steps: int = 1) -> None:
        super().__init__(task)
        self.faults = Faults(1, steps)

    def start(self, n: int) -> Memory:
        return {**self.faults.start(n, ()), "last": np.zeros((n, *self.shape))}

    def act(self, actions: Array, now: Now) -> Array:
        stuck = self.faults.hit(now, ()) & (now.step > 0)
        done = np.where(rows(stuck, self.shape), now.memory["last"].astype(actions.dtype), actions)
        now.memory["last"] = done.astype(np.float64)
        return done


class Delay(ActionEffect):
    """The action that was chosen some steps ago is executed, and none (0) before there is one.

    ``actions`` of ``delay_spec`` in realworldrl_suite.

    :param steps: decision steps, at least 1
    """

    draws = False

    def __init__(self, task: Task, steps: int = 1) -> None:
        super().__init__(task)
        self.steps = whole("steps", steps, 1)

    def start(self, n: int) -> Memory:
        return {"chosen": np.broadcast_to(self.nothing.astype(np.float64), (n, self.steps, *self.shape)).copy()}

    def act(self, actions: Array, now: Now) -> Array:
        chosen = now.memory["chosen"]
        now.memory["chosen"] = np.concatenate([chosen[:, 1:], actions[:, None].astype(np.float64)], axis=1)
        return np.where(rows(now.open, self.shape), chosen[:, 0].astype(actions.dtype), actions)


class Dropout(ActionEffect):
    """Single actuators get no action (0).

    ``dropped`` of the action noise in realworldrl_suite.

    :param fraction: the probability for each actuator in a step with the gate open, in [0, 1]
    :param steps: duration in decision steps, at least 1
    """

    def __init__(self, task: Task, fraction: float = 0.2, steps: int = 1) -> None:
        super().__init__(task)
        self.faults = Faults(fraction, steps)

    def start(self, n: int) -> Memory:
        return self.faults.start(n, self.shape)

    def act(self, actions: Array, now: Now) -> Array:
        return np.where(self.faults.hit(now, self.shape), self.nothing.astype(actions.dtype), actions)


ACTION_EFFECTS: dict[str, type[Any]] = {
    "replace": Replace,
    "gaussian": Gaussian,
    "sticky": Sticky,
    "delay": Delay,
    "dropout": Dropout,
}
