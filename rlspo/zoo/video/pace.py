"""The speed of an environment: how many steps make a second of real time, and waiting between them."""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.atari_wrappers import MaxAndSkipEnv
from stable_baselines3.common.env_util import unwrap_wrapper

from rlspo.zoo.envs.recipe import is_atari

_ATARI_FPS = 60  # frames of the console in a second
_UNKNOWN_FPS = 30  # where an environment names no speed
_UNLIMITED_FPS = 100_000


def real_time(env: gym.Env) -> float:
    """Steps of the agent in a second of the environment's own time.

    >>> real_time(gym.make("Pendulum-v1"))
    30.0

    :param env: with all its wrappers
    """
    skipper = unwrap_wrapper(env, MaxAndSkipEnv)
    skipped = skipper._skip if isinstance(skipper, MaxAndSkipEnv) else 1
    if env.spec is not None and is_atari(env.spec):
        # Its metadata say 30 however many frames it skips.
        return _ATARI_FPS / float(np.mean(env.spec.kwargs.get("frameskip", 4))) / skipped
    return float(env.metadata.get("render_fps") or _UNKNOWN_FPS) / skipped


class Pace(gym.Wrapper):
    """Limits an environment to a number of steps per second.

    :param fps: steps per second; None for real time
    """

    only_watches = True  # A search inside of it need not wait.

    def __init__(self, env: gym.Env, fps: float | None) -> None:
        super().__init__(env)
        self._seconds = 1 / (fps or real_time(env))
        self._due = 0.0
        if fps is not None:
            # Many environments limit their own speed in their windows; only this limit shall count.
            env.unwrapped.metadata = {**env.unwrapped.metadata, "render_fps": _UNLIMITED_FPS}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Wait until the next step is due, then step."""
        now = time.monotonic()
        if now < self._due:
            time.sleep(self._due - now)
        self._due = max(self._due, now) + self._seconds
        return self.env.step(action)
