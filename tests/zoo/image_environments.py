"""Small environments with images as observations, registered on import as the package of a user does it."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

IMAGE = spaces.Box(0, 255, (36, 38, 3), np.uint8)


class Camera(gym.Env[Any, Any]):
    """A picture, and a vector beside it."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012
    observation_space: spaces.Space = spaces.Dict(image=IMAGE, vector=spaces.Box(-9, 9, (2,), np.float32))
    action_space: spaces.Space = spaces.Discrete(2)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def look(self) -> Any:
        return {"image": np.full(IMAGE.shape, self.t, np.uint8), "vector": np.full(2, self.t, np.float32)}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return self.look(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return self.look(), float(self.t), False, self.t == 8, {}

    def render(self) -> Any:
        return np.zeros(IMAGE.shape, np.uint8)


class Picture(Camera):
    """The picture alone."""

    observation_space = IMAGE

    def look(self) -> Any:
        return super().look()["image"]


class Crane(Camera):
    """Moved by numbers."""

    action_space = spaces.Box(-1, 1, (1,), np.float32)


for _cls in (Camera, Picture, Crane):
    if f"{_cls.__name__}-v0" not in gym.registry:
        gym.register(f"{_cls.__name__}-v0", entry_point=f"image_environments:{_cls.__name__}")
