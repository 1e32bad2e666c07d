"""The tasks of balancing and reaching: InvertedPendulum, InvertedDoublePendulum, Reacher, Pusher."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from rlspo.simulators.mujoco.task import Constants, Score, Task, never, sum_of_squares


class InvertedPendulum(Task):
    """1 for each step with the pole within 0.2 rad; ends otherwise."""

    def observe(self, now: SimpleNamespace) -> np.ndarray:
        return np.concatenate([now.qpos, now.qvel], axis=1)

    def score(self, then: SimpleNamespace, now: SimpleNamespace, actions: np.ndarray, model: Constants) -> Score:
        terminated = ~np.isfinite(self.observe(now)).all(axis=1) | (np.abs(now.qpos[:, 1]) > 0.2)
        rewards = (~terminated).astype(np.int64)
        return Score(rewards, {"reward_survive": rewards}, terminated)


class InvertedDoublePendulum(Task):
    """A bonus while the tip is higher than 1 m, less penalties of its distance and of velocities; ends otherwise."""

    after = ("site_xpos", "qfrc_constraint")

    def observe(self, now: SimpleNamespace) -> np.ndarray:
        cart, angles = now.qpos[:, :1], now.qpos[:, 1:]
        force = np.clip(now.qfrc_constraint[:, :1], -10, 10)
        return np.concatenate([cart, np.sin(angles), np.cos(angles), np.clip(now.qvel, -10, 10), force], axis=1)

    def score(self, then: SimpleNamespace, now: SimpleNamespace, actions: np.ndarray, model: Constants) -> Score:
        x, y = now.site_xpos[:, 0, 0], now.site_xpos[:, 0, 2]
        terminated = y <= 1
        distance = 0.01 * x**2 + (y - 2) ** 2
        velocity = 1e-3 * now.qvel[:, 1] ** 2 + 5e-3 * now.qvel[:, 2] ** 2
        survive = self.env._healthy_reward * ~terminated
        terms = {"reward_survive": survive, "distance_penalty": -distance, "velocity_penalty": -velocity}
        return Score(survive - distance - velocity, terms, terminated)


class Reacher(Task):
    """Closeness of the fingertip to the target, less control cost; never ends."""

    after = ("xpos",)

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.tip, self.target = (env.model.body(name).id for name in ("fingertip", "target"))

    def observe(self, now: SimpleNamespace) -> np.ndarray:
        angles = now.qpos[:, :2]
        offset = now.xpos[:, self.tip] - now.xpos[:, self.target]
        return np.concatenate([np.cos(angles), np.sin(angles), now.qpos[:, 2:], now.qvel[:, :2], offset[:, :2]], axis=1)

    def score(self, then: SimpleNamespace, now: SimpleNamespace, actions: np.ndarray, model: Constants) -> Score:
        distance = -np.linalg.norm(now.xpos[:, self.tip] - now.xpos[:, self.target], axis=1) * self.env._reward_dist_weight
        control = -sum_of_squares(actions) * self.env._reward_control_weight
        rewards = distance + control
        return Score(rewards, {"reward_dist": distance, "reward_ctrl": control}, never(rewards))


class Pusher(Task):
    """Closeness of the arm to the object and of the object to the goal, less control cost; never ends."""

    after = ("xpos",)

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.arm, self.object, self.goal = (env.model.body(name).id for name in ("tips_arm", "object", "goal"))

    def observe(self, now: SimpleNamespace) -> np.ndarray:
        bodies = [now.xpos[:, body] for body in (self.arm, self.object, self.goal)]
        return np.concatenate([now.qpos[:, :7], now.qvel[:, :7], *bodies], axis=1)

    def score(self, then: SimpleNamespace, now: SimpleNamespace, actions: np.ndarray, model: Constants) -> Score:
        env, thing = self.env, now.xpos[:, self.object]
        near = -np.linalg.norm(thing - now.xpos[:, self.arm], axis=1) * env._reward_near_weight
        distance = -np.linalg.norm(thing - now.xpos[:, self.goal], axis=1) * env._reward_dist_weight
        control = -sum_of_squares(actions) * env._reward_control_weight
        rewards = distance + control + near
        return Score(rewards, {"reward_dist": distance, "reward_ctrl": control, "reward_near": near}, never(rewards))
