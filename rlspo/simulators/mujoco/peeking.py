"""The result of a single step, without changing the environment."""

from __future__ import annotations

import copy
from typing import Any

import mujoco
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from rlspo.simulators.alike import difference
from rlspo.simulators.mujoco.core import MujocoCore


class StepState:
    """Steps a captured state, for the environments in :data:`~rlspo.simulators.mujoco.SIMULATED`.

    :param env: the innermost environment
    """

    def __init__(self, env: Any) -> None:
        self.core = MujocoCore(env, threads=1)

    def __call__(self, env: Any, action: Any) -> tuple[np.ndarray, float]:
        """Observation and reward."""
        outcome = self.core.step(self.core.capture(env), np.asarray(action)[None], np.ones(1, bool))
        return outcome.observations[0], float(outcome.rewards[0])


class StepAndUndo:
    """Steps the environment itself, and puts back all of MuJoCo's data and all of its attributes, for any other environment.

    :param env: the innermost environment
    """

    def __init__(self, env: Any) -> None:
        self.before = mujoco.MjData(env.model)

    def __call__(self, env: Any, action: Any) -> tuple[Any, float]:
        """Observation and reward.

        :raises ValueError: where the step draws from the environment's generator: it would predict the noise
        """
        mujoco.mj_copyData(self.before, env.model, env.data)
        objects = dict(vars(env))
        values = {name: found for name, value in objects.items() for found in _copied(value)}
        drawn = copy.deepcopy(env.np_random.bit_generator.state)
        observation, reward, *_ = copy.deepcopy(env.step(action))
        mujoco.mj_copyData(env.data, env.model, self.before)
        moved = env.np_random.bit_generator.state != drawn
        env.np_random.bit_generator.state = drawn
        for name in vars(env).keys() - objects.keys():
            delattr(env, name)
        for name, value in objects.items():
            # A view of MuJoCo's data is right again, and stays a view.
            changed = name in values and difference(values[name], value)
            vars(env)[name] = values[name] if changed else value
        if moved:
            raise ValueError(
                f"{env} draws random numbers in its own step, so that step is not free of noise. Give SimulatedPostDecision a "
                "function peek=(core, action) -> (observation, reward) that leaves them out."
            )
        return observation, float(reward)


def _copied(value: Any) -> list[Any]:
    """A copy of an attribute that a step may change, or nothing."""
    fixed = mujoco.MjModel | mujoco.MjData | spaces.Space | EnvSpec | np.random.Generator
    if isinstance(value, fixed) or type(value).__module__.startswith("gymnasium."):
        return []
    try:
        return [copy.deepcopy(value)]
    except Exception:  # a window, a file
        return []
