"""The result of a single step, without changing the environment."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

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
    """Steps the environment itself and restores all of MuJoCo's data, for any other environment. Other changes are not undone.

    :param env: the innermost environment
    """

    def __init__(self, env: Any) -> None:
        self.before = mujoco.MjData(env.model)

    def __call__(self, env: Any, action: Any) -> tuple[Any, float]:
        """Observation and reward."""
        mujoco.mj_copyData(self.before, env.model, env.data)
        observation, reward, *_ = env.step(action)
        mujoco.mj_copyData(env.data, env.model, self.before)
        return observation, float(reward)
