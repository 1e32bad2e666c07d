"""Small environments with switches, registered on import as a user's own package would do it."""

from __future__ import annotations

import os
import signal
from typing import Any

import gymnasium as gym
import numpy as np

GREEN = (20, 200, 40)


class Ledger(gym.Env):
    """Pays the same amount in each of ten steps, and misbehaves on demand.

    :param pay: the reward, so that a return shows which arguments an environment was made with
    :param fail_at: step, over all episodes, at which it raises; 0: at a reset
    :param signal_at: step at which it sends ``number`` to its own process
    :param crash_when_drawn: end the process without a word, as a broken graphics driver does
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012
    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(
        self,
        pay: float = 1.0,
        fail_at: int = -1,
        signal_at: int = -1,
        number: int = signal.SIGINT,
        crash_when_drawn: bool = False,
        render_mode: str | None = None,
    ) -> None:
        self.pay, self.fail_at, self.signal_at, self.number = pay, fail_at, signal_at, number
        self.crash_when_drawn, self.render_mode = crash_when_drawn, render_mode
        self.total = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        if self.fail_at == 0:
            raise RuntimeError("the ledger is on fire")
        self.elapsed = 0
        return self._observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.elapsed += 1
        self.total += 1
        if self.total == self.fail_at:
            raise RuntimeError("the ledger is on fire")
        if self.total == self.signal_at:
            signal.raise_signal(self.number)
        return self._observe(), self.pay, self.elapsed >= 10, False, {}

    def render(self) -> np.ndarray:
        if self.crash_when_drawn:
            os._exit(139)
        return np.full((30, 41, 3), GREEN, np.uint8)

    def _observe(self) -> np.ndarray:
        return self.np_random.uniform(-1, 1, 2).astype(np.float32)


class Lever(Ledger):
    """Pays for action 1 only, which the observation does not show: a few updates are enough to learn it.

    :param kill_file: the first process that steps while this file exists removes it and is killed, as by a lack of memory
    """

    def __init__(self, kill_file: str = "", **others: Any) -> None:
        super().__init__(**others)
        self.kill_file = kill_file

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        if self.kill_file and os.path.exists(self.kill_file):
            os.remove(self.kill_file)
            os.kill(os.getpid(), signal.SIGKILL)
        observation, _, done, truncated, info = super().step(action)
        return observation, float(action), done, truncated, info


class Blind(Ledger):
    """Cannot be drawn."""

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()


class Halls(Ledger):
    """Shows nothing continuous: no adversary can shift it."""

    observation_space = gym.spaces.Discrete(3)

    def _observe(self) -> int:
        return int(self.np_random.integers(3))


class Shift(gym.ObservationWrapper):
    """Adds a number to every observation."""

    def __init__(self, env: gym.Env, by: float) -> None:
        super().__init__(env)
        self.by = by

    def observation(self, observation: np.ndarray) -> np.ndarray:
        return observation + np.float32(self.by)


for _cls in (Ledger, Lever, Blind, Halls):
    if f"{_cls.__name__}-v0" not in gym.registry:
        gym.register(f"{_cls.__name__}-v0", entry_point=f"zoo_environments:{_cls.__name__}")
