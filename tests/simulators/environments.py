"""Small environments to simulate."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

from rlspo.simulators import Outcome, Simulator


class Drift(gym.Env[Any, Any]):
    """x of two numbers in float32: x' = 0.9 x + action; pays the first one; over beyond 1.5.

    :param device: where the array form computes; None for NumPy
    """

    def __init__(self, device: str | None = None, space: spaces.Space | None = None) -> None:
        self.observation_space: Any = space or spaces.Box(-5, 5, (2,), np.float32)
        self.action_space: Any = spaces.Box(-1, 1, (2,), np.float32)
        self.device = device

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self._seen(), {}

    def _seen(self) -> Any:
        if isinstance(self.observation_space, spaces.Dict):
            return {"x": self.x.copy(), "image": self._image()}
        return self.x.copy()

    def _image(self) -> Any:
        return np.full((36, 36, 1), int(abs(self.x[0]) * 100) % 256, np.uint8)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.x = np.float32(0.9) * self.x + np.asarray(action, np.float32)
        return self._seen(), float(self.x[0]), bool(abs(self.x[1]) > 1.5), False, {}

    def array_form(self) -> DriftForm:
        return DriftForm(self.device, isinstance(self.observation_space, spaces.Dict))


class DriftForm:
    """:class:`Drift` for many states."""

    stochastic = False

    def __init__(self, device: str | None, pictures: bool) -> None:
        self.device = None if device is None else torch.device(device)
        self.pictures = pictures

    def capture(self, env: Any) -> dict[str, Any]:
        x = env.unwrapped.x[None].copy()
        return {"x": x if self.device is None else torch.as_tensor(x, device=self.device)}

    def restore(self, env: Any, states: dict[str, Any]) -> None:
        env.x = np.array(states["x"].cpu() if self.device else states["x"])[0]

    def generator(self, env: Any) -> None:
        return None

    def step(self, states: dict[str, Any], actions: Any, generator: Any) -> Any:
        x = states["x"] * 0.9 + (actions.astype(np.float32) if self.device is None else actions.float())
        seen = {"x": x, "image": self._images(x)} if self.pictures else x
        return {"x": x}, seen, x[:, 0] * 1.0, abs(x[:, 1]) > 1.5, abs(x[:, 1]) > np.inf

    def _images(self, x: Any) -> Any:
        shade = (np.abs(x[:, 0]) * np.float32(100)).astype(int) % 256
        return np.broadcast_to(shade[:, None, None, None], (len(x), 36, 36, 1)).astype(np.uint8)


class Noisy(Drift):
    """:class:`Drift` with noise from its generator."""

    def step(self, action: Any) -> Any:
        return super().step(np.asarray(action) + self.np_random.normal(size=2) * 0.1)

    def array_form(self) -> Any:
        return NoisyForm(None, False)


class NoisyForm(DriftForm):
    """:class:`Noisy` for many states."""

    stochastic = True

    def generator(self, env: Any) -> Any:
        return env.np_random

    def step(self, states: dict[str, Any], actions: Any, generator: Any) -> Any:
        return super().step(states, actions + generator.normal(size=(len(actions), 2)) * 0.1, generator)


PICTURES = spaces.Dict({"x": spaces.Box(-5, 5, (2,), np.float32), "image": spaces.Box(0, 255, (36, 36, 1), np.uint8)})


def follow(simulator: Simulator, env: Any, states: Any, actions: list[Any]) -> list[Outcome]:
    """Step states of one along actions."""
    outcomes = []
    for action in actions:
        outcomes.append(simulator.step(states, np.asarray(action)[None]))
        states = outcomes[-1].states
    return outcomes
