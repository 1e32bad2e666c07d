"""An environment to be rendered, registered on import: one colour, episodes of known length, a window that leaves traces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np


class Lamp(gym.Env):
    """Pays 1 in each step, more for action 1 if told to, and shines in one colour; the last picture of an episode is white.

    In render mode ``human`` each picture is a line in the file ``window.txt``: what is drawn, and at which speed.

    :param colour: of the lamp
    :param length: steps of an episode
    :param prize: paid for action 1 besides
    :param fail_at: step at which it raises
    :param broken_window: raise instead of opening a window
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 20}  # noqa: RUF012
    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(
        self,
        colour: tuple[int, int, int] = (0, 0, 200),
        length: int = 10,
        prize: float = 0.0,
        fail_at: int = -1,
        broken_window: bool = False,
        render_mode: str | None = None,
    ) -> None:
        self.colour, self.length, self.prize, self.fail_at = tuple(colour), length, prize, fail_at
        self.broken_window, self.render_mode = broken_window, render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        if self.render_mode == "human" and self.broken_window:
            raise RuntimeError("the window\nis bricked up")
        self.elapsed = 0
        self._draw("reset")
        return self._observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.elapsed += 1
        if self.elapsed == self.fail_at:
            raise RuntimeError("the lamp has burnt out")
        self._draw("step")
        return self._observe(), 1.0 + self.prize * int(action), self.elapsed >= self.length, False, {}

    def render(self) -> np.ndarray:
        return np.full((300, 300, 3), 255 if self.elapsed >= self.length else self.colour, np.uint8)

    def _draw(self, what: str) -> None:
        if self.render_mode == "human":
            with Path("window.txt").open("a", encoding="utf-8") as file:
                file.write(f"{what} {self.metadata['render_fps']}\n")

    def _observe(self) -> np.ndarray:
        return self.np_random.uniform(-1, 1, 2).astype(np.float32)


if "Lamp-v0" not in gym.registry:
    gym.register("Lamp-v0", entry_point="video_environments:Lamp")
