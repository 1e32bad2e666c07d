"""Gymnasium's CartPole and Pendulum in array form: much faster than deep copies, with the same numbers (rewards to 1e-9)."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control import CartPoleEnv, PendulumEnv

from rlspo.simulators.arrays import ArrayForm

Array = np.ndarray
#: New states, observations, rewards, terminated, truncated.
Step = tuple[dict[str, Array], Array, Array, Array, Array]


class _Form:
    """Common parts of the two: a vector of numbers as the state, deterministic steps.

    :param env: its constants are read at each step
    """

    device = None
    stochastic = False

    def __init__(self, env: Any) -> None:
        self.env = env

    #: Attributes for state, random numbers and rendering; all others are constants of the rules.
    moving = frozenset(
        {"state", "steps_beyond_terminated", "last_u", "np_random", "_np_random", "_np_random_seed", "screen", "clock", "surf"}
        | {"isopen", "render_mode", "action_space", "observation_space", "spec", "screen_dim", "screen_width", "screen_height"}
    )

    def capture(self, env: Any) -> dict[str, Array]:
        if env is not self.env:
            here, there = self._constants(self.env), self._constants(env)
            other = [name for name in here if here[name] != there.get(name)]
            if other:
                differences = ", ".join(f"{name} = {there.get(name)} instead of {here[name]}" for name in other)
                raise ValueError(f"This simulator cannot capture an environment with {differences}; make one for it.")
        if getattr(env, "state", None) is None:
            raise gym.error.ResetNeeded("The environment has no state before reset(); call reset() before capture(env).")
        return {"state": np.array(env.state, np.float64)[None]}

    def restore(self, env: Any, states: dict[str, Array]) -> None:
        env.state = states["state"][0].copy()

    def _constants(self, env: Any) -> dict[str, Any]:
        return {name: value for name, value in vars(env).items() if name not in self.moving}

    def generator(self, env: Any) -> np.random.Generator:
        return env.np_random  # only resets draw from it


class CartPoleForm(_Form):
    """The pole on a cart (Barto, Sutton and Anderson 1983)."""

    def restore(self, env: Any, states: dict[str, Array]) -> None:
        super().restore(env, states)
        env.steps_beyond_terminated = None

    def step(
        self, states: dict[str, Array], actions: Array, generator: Any
    ) -> tuple[dict[str, Array], Array, Array, Array, Array]:
        env = self.env
        x, x_dot, theta, theta_dot = states["state"].T
        force = np.where(actions == 1, env.force_mag, -env.force_mag)
        cosine, sine = np.cos(theta), np.sin(theta)
        temp = (force + env.polemass_length * np.square(theta_dot) * sine) / env.total_mass
        theta_acc = (env.gravity * sine - cosine * temp) / (
            env.length * (4.0 / 3.0 - env.masspole * np.square(cosine) / env.total_mass)
        )
        x_acc = temp - env.polemass_length * theta_acc * cosine / env.total_mass
        if env.kinematics_integrator == "euler":
            x, theta = x + env.tau * x_dot, theta + env.tau * theta_dot
            x_dot, theta_dot = x_dot + env.tau * x_acc, theta_dot + env.tau * theta_acc
        else:
            x_dot, theta_dot = x_dot + env.tau * x_acc, theta_dot + env.tau * theta_acc
            x, theta = x + env.tau * x_dot, theta + env.tau * theta_dot
        new = np.stack([x, x_dot, theta, theta_dot], axis=1)
        fell = (np.abs(x) > env.x_threshold) | (np.abs(theta) > env.theta_threshold_radians)
        stands, falls = (0.0, -1.0) if env._sutton_barto_reward else (1.0, 1.0)
        return {"state": new}, new.astype(np.float32), np.where(fell, falls, stands), fell, np.zeros(len(new), bool)


class PendulumForm(_Form):
    """The pendulum swing-up task."""

    def step(
        self, states: dict[str, Array], actions: Array, generator: Any
    ) -> tuple[dict[str, Array], Array, Array, Array, Array]:
        env = self.env
        angle, speed = states["state"].T
        # The torque is a float32 where the action is one, and so are its square and its share of the acceleration.
        torque = np.clip(actions, -env.max_torque, env.max_torque)[:, 0]
        upright = ((angle + np.pi) % (2 * np.pi)) - np.pi
        costs = upright**2 + 0.1 * speed**2 + 0.001 * (torque**2)
        pull = 3 * env.g / (2 * env.l) * np.sin(angle) + 3.0 / (env.m * env.l**2) * torque
        speed = np.clip(speed + pull * env.dt, -env.max_speed, env.max_speed)
        angle = angle + speed * env.dt
        seen = np.stack([np.cos(angle), np.sin(angle), speed], axis=1).astype(np.float32)
        never = np.zeros(len(seen), bool)
        return {"state": np.stack([angle, speed], axis=1)}, seen, -costs, never, never


FORMS: dict[type, Any] = {CartPoleEnv: CartPoleForm, PendulumEnv: PendulumForm}


def classic_form(env: Any) -> ArrayForm | None:
    """The array form of gymnasium's CartPole and Pendulum; None for all others, including subclasses."""
    kind = FORMS.get(type(env))
    return None if kind is None else kind(env)
