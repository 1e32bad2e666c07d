"""Environments alone, stepped in turn with the same actions: shared by the benchmarks of environments."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv


def summary(speeds: list[float]) -> dict[str, Any]:
    """The median and the middle half."""
    low, middle, high = np.quantile(speeds, (0.25, 0.5, 0.75))
    return {"median": round(float(middle)), "middle_half": [round(float(low)), round(float(high))]}


def step_in_turn(envs: dict[str, VecEnv], actions: np.ndarray, turns: int) -> dict[str, Any]:
    """Environment steps per second of each, by name, copies together; they are closed.

    :param actions: ``(steps, n_envs, ...)``, of one turn
    """
    steps, n_envs = actions.shape[:2]
    speeds: dict[str, list[float]] = {name: [] for name in envs}
    for _ in range(turns):
        for name, env in envs.items():
            env.reset()
            start = time.perf_counter()
            for action in actions:
                env.step(action)
            speeds[name].append(steps * n_envs / (time.perf_counter() - start))
    for env in envs.values():
        env.close()
    return {name: summary(found) for name, found in speeds.items()}
