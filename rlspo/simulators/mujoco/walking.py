"""The locomotion tasks: HalfCheetah, Swimmer, Hopper, Walker2d, Ant."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from rlspo.simulators.mujoco.task import Constants, Score, Task, between, lengths, never, sum_of_squares


class HalfCheetah(Task):
    """Forward velocity less control cost; never ends."""

    #: Coordinates that the observation may leave out.
    position_size = 1

    def observe(self, now: SimpleNamespace) -> np.ndarray:
        start = self.position_size if self.env._exclude_current_positions_from_observation else 0
        return np.concatenate([now.qpos[:, start:], self.velocities(now)], axis=1)

    def velocities(self, now: SimpleNamespace) -> np.ndarray:
        return now.qvel

    def score(self, then: SimpleNamespace, now: SimpleNamespace, actions: np.ndarray, model: Constants) -> Score:
        forward = self.env._forward_reward_weight * ((now.qpos[:, 0] - then.qpos[:, 0]) / model.dt)
        cost = self.env._ctrl_cost_weight * sum_of_squares(actions)
        rewards = forward - cost
        return Score(rewards, {"reward_forward": forward, "reward_ctrl": -cost}, never(rewards))

    def facts(self, then: SimpleNamespace, now: SimpleNamespace, model: Constants) -> dict[str, np.ndarray]:
        x = now.qpos[:, 0]
        return {"x_position": x, "x_velocity": (x - then.qpos[:, 0]) / model.dt}


class Swimmer(HalfCheetah):
    """As HalfCheetah, in the plane."""

    position_size = 2

    def facts(self, then: SimpleNamespace, now: SimpleNamespace, model: Constants) -> dict[str, np.ndarray]:
        return positions(now) | velocities(now.qpos, then.qpos, model)


class Hopper(HalfCheetah):
    """Forward velocity and a bonus for being healthy, less control cost; ends when unhealthy, if configured so."""

    def velocities(self, now: SimpleNamespace) -> np.ndarray:
        return np.clip(now.qvel, -10, 10)

    def healthy(self, now: SimpleNamespace) -> np.ndarray:
        env = self.env
        (low_z, high_z), (low_angle, high_angle) = env._healthy_z_range, env._healthy_angle_range
        upright = between(low_z, now.qpos[:, 1], high_z) & between(low_angle, now.qpos[:, 2], high_angle)
        return np.asarray(upright & self.in_range(now))

    def in_range(self, now: SimpleNamespace) -> np.ndarray:
        low, high = self.env._healthy_state_range
        return np.asarray(between(low, np.concatenate([now.qpos[:, 2:], now.qvel], axis=1), high).all(axis=1))

    def score(self, then: SimpleNamespace, now: SimpleNamespace, actions: np.ndarray, model: Constants) -> Score:
        env, healthy = self.env, self.healthy(now)
        forward = env._forward_reward_weight * ((now.qpos[:, 0] - then.qpos[:, 0]) / model.dt)
        survive = healthy * env._healthy_reward
        cost = env._ctrl_cost_weight * sum_of_squares(actions)
        terms = {"reward_forward": forward, "reward_ctrl": -cost, "reward_survive": survive}
        return Score(forward + survive - cost, terms, ~healthy & bool(env._terminate_when_unhealthy))

    def facts(self, then: SimpleNamespace, now: SimpleNamespace, model: Constants) -> dict[str, np.ndarray]:
        risen = now.qpos[:, 1] - self.env.init_qpos[1]
        return {**super().facts(then, now, model), "z_distance_from_origin": risen}


class Walker2d(Hopper):
    """As Hopper, without a range for the other coordinates."""

    def in_range(self, now: SimpleNamespace) -> np.ndarray:
        return np.ones(len(now.qpos), bool)


class Ant(Task):
    """Forward velocity of the main body and a bonus for being healthy, less the costs of controls and contacts."""

    before = ("xpos",)
    after = ("xpos", "cfrc_ext")

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.body = env.model.body(env._main_body).id

    def observe(self, now: SimpleNamespace) -> np.ndarray:
        parts = [now.qpos[:, 2 if self.env._exclude_current_positions_from_observation else 0 :], now.qvel]
        if self.env._include_cfrc_ext_in_observation:
            parts.append(self.contact_forces(now)[:, 1:].reshape(len(now.qpos), -1))
        return np.concatenate(parts, axis=1)

    def contact_forces(self, now: SimpleNamespace) -> np.ndarray:
        return np.clip(now.cfrc_ext, *self.env._contact_force_range)

    def healthy(self, now: SimpleNamespace) -> np.ndarray:
        low, high = self.env._healthy_z_range
        finite = np.isfinite(now.qpos).all(axis=1) & np.isfinite(now.qvel).all(axis=1)
        return np.asarray(finite & (low <= now.qpos[:, 2]) & (now.qpos[:, 2] <= high))

    def score(self, then: SimpleNamespace, now: SimpleNamespace, actions: np.ndarray, model: Constants) -> Score:
        env, healthy = self.env, self.healthy(now)
        forward = (now.xpos[:, self.body, 0] - then.xpos[:, self.body, 0]) / model.dt * env._forward_reward_weight
        survive = healthy * env._healthy_reward
        control = env._ctrl_cost_weight * sum_of_squares(actions)
        contact = env._contact_cost_weight * sum_of_squares(self.contact_forces(now))
        terms = {"reward_forward": forward, "reward_ctrl": -control, "reward_contact": -contact, "reward_survive": survive}
        return Score(forward + survive - (control + contact), terms, ~healthy & bool(env._terminate_when_unhealthy))

    def facts(self, then: SimpleNamespace, now: SimpleNamespace, model: Constants) -> dict[str, np.ndarray]:
        return positions(now) | velocities(now.xpos[:, self.body], then.xpos[:, self.body], model)


def positions(now: SimpleNamespace) -> dict[str, np.ndarray]:
    """Where the robot is in the plane, for the info."""
    x, y = now.qpos[:, 0], now.qpos[:, 1]
    return {"x_position": x, "y_position": y, "distance_from_origin": lengths(now.qpos[:, :2])}


def velocities(after: np.ndarray, before: np.ndarray, model: Constants) -> dict[str, np.ndarray]:
    """Mean velocity in the plane over a step, for the info.

    :param after: positions, ``(n, 2 or more)``
    :param before: the same before the step
    """
    return {f"{axis}_velocity": (after[:, i] - before[:, i]) / model.dt for i, axis in enumerate("xy")}
