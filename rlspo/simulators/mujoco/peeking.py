"""The result of a single step, without changing the environment."""

from __future__ import annotations

import contextlib
import copy
import pickle
from typing import Any

import mujoco
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from rlspo.simulators.alike import difference
from rlspo.simulators.chance import GlobalGenerators, generators_among, set_state
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

        :raises ValueError: where the step draws random numbers: it would predict the noise
        """
        mujoco.mj_copyData(self.before, env.model, env.data)
        objects = dict(vars(env))
        values, originals = _copied(objects)
        drawn = [pickle.dumps(one) for one in originals]
        with GlobalGenerators() as watched:
            observation, reward, *_ = env.step(action)
        observation = copy.deepcopy(observation)
        mujoco.mj_copyData(env.data, env.model, self.before)
        moved = watched.drawn or [pickle.dumps(one) for one in originals] != drawn
        for one, state in zip(originals, drawn, strict=True):
            set_state(one, pickle.loads(state))
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


def _copied(attributes: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """Copies of the attributes that a step may change, and the generators in them."""
    memo: dict[int, Any] = {}
    values = {}
    for name, value in attributes.items():
        fixed = isinstance(value, mujoco.MjModel | mujoco.MjData | spaces.Space | EnvSpec)
        if fixed or type(value).__module__.startswith("gymnasium."):
            continue
        with contextlib.suppress(Exception):  # a window, a file
            values[name] = copy.deepcopy(value, memo)
    return values, generators_among(memo.get(id(memo), []))
