"""The tasks of the humanoid: walking, and standing up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from rlspo.simulators.mujoco.task import Constants, Score, Task, between, never, sum_of_squares
from rlspo.simulators.mujoco.walking import positions, velocities


class HumanoidStandup(Task):
    """Height gained, less the costs of controls and impacts; never ends."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        names = ("cinert", "cvel", "qfrc_actuator", "cfrc_ext")
        self.observed = [name for name in names if getattr(env, f"_include_{name}_in_observation") is True]
        self.after = (*self.observed, "cfrc_ext")
        self.shown = ("ten_length", "ten_velocity")

    def observe(self, now: SimpleNamespace) -> np.ndarray:
        parts = [now.qpos[:, 2 if self.env._exclude_current_positions_from_observation else 0 :], now.qvel]
        for name in self.observed:
            # The world body is not part of the robot, and its root is not actuated.
            values = getattr(now, name)[:, 6 if name == "qfrc_actuator" else 1 :]
            parts.append(values.reshape(len(values), -1))
        return np.concatenate(parts, axis=1)

    def score(self, then: SimpleNamespace, now: SimpleNamespace, actions: np.ndarray, model: Constants) -> Score:
        env = self.env
        height = now.qpos[:, 2] / model.timestep
        control = env._ctrl_cost_weight * sum_of_squares(now.ctrl)
        impact = np.clip(env._impact_cost_weight * sum_of_squares(now.cfrc_ext), *env._impact_cost_range)
        rewards = height - control - impact + 1
        terms = {"reward_linup": height, "reward_quadctrl": -control, "reward_impact": -impact}
        return Score(rewards, terms, never(rewards))

    def facts(self, then: SimpleNamespace, now: SimpleNamespace, model: Constants) -> dict[str, np.ndarray]:
        risen = now.qpos[:, 2] - self.env.init_qpos[2]
        return {**self.place(now), "z_distance_from_origin": risen}

    def place(self, now: SimpleNamespace) -> dict[str, np.ndarray]:
        tendons = {"tendon_length": now.ten_length, "tendon_velocity": now.ten_velocity}
        return {"x_position": now.qpos[:, 0], "y_position": now.qpos[:, 1], **tendons}


class Humanoid(HumanoidStandup):
    """Forward velocity of the centre of mass and a bonus for being healthy, less the costs of controls and contacts."""

    before = ("xipos",)

    def score(self, then: SimpleNamespace, now: SimpleNamespace, actions: np.ndarray, model: Constants) -> Score:
        env, healthy = self.env, between(self.env._healthy_z_range[0], now.qpos[:, 2], self.env._healthy_z_range[1])
        velocity = (centre_of_mass(now, model) - centre_of_mass(then, model))[:, 0] / model.dt
        forward = env._forward_reward_weight * velocity
        survive = healthy * env._healthy_reward
        control = env._ctrl_cost_weight * sum_of_squares(now.ctrl)
        contact = np.clip(env._contact_cost_weight * sum_of_squares(now.cfrc_ext), *env._contact_cost_range)
        terms = {"reward_survive": survive, "reward_forward": forward, "reward_ctrl": -control, "reward_contact": -contact}
        return Score(forward + survive - (control + contact), terms, ~healthy & bool(env._terminate_when_unhealthy))

    def facts(self, then: SimpleNamespace, now: SimpleNamespace, model: Constants) -> dict[str, np.ndarray]:
        moved = velocities(centre_of_mass(now, model), centre_of_mass(then, model), model)
        return self.place(now) | positions(now) | moved


def centre_of_mass(frame: SimpleNamespace, model: Constants) -> np.ndarray:
    """In m, ``(n, 3)``."""
    masses = model.body_mass
    return np.einsum("nb,nbj->nj", masses, frame.xipos) / masses.sum(axis=1)[:, None]
