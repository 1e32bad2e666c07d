"""What the tests of STORI share: games, ways to play them, and a spy on the emulator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ale_py
import gymnasium as gym
import numpy as np
from gymnasium.wrappers import AtariPreprocessing
from stable_baselines3.common.atari_wrappers import AtariWrapper

import rlspo  # noqa: F401

assert ale_py.__version__

CALM = {"type": "3.1"}
CROP = {"type": "3.2", "effect": "crop", "mode": "left", "probability": 1}


def stori(game: str = "Pong", profile: Mapping[str, Any] = CALM, **settings: Any) -> Any:
    """``STORI/<game>-v0`` with a profile."""
    return gym.make(f"STORI/{game}-v0", profile=profile, **settings)


def raw(game: str = "Breakout", frameskip: int = 1, sticky: float = 0.0, **settings: Any) -> Any:
    """The game of ``ale_py``."""
    return gym.make(f"ALE/{game}-v5", frameskip=frameskip, repeat_action_probability=sticky, **settings)


#: Pipelines around a game, all with four frames in a decision step and reading its screen each in its way.
PIPELINES: dict[str, Callable[[], Any]] = {
    "plain": lambda: raw(frameskip=4),
    "grey": lambda: raw(frameskip=4, obs_type="grayscale"),
    "gymnasium": lambda: AtariPreprocessing(raw(), noop_max=5),
    "gymnasium RGB": lambda: AtariPreprocessing(raw(), noop_max=0, grayscale_obs=False, screen_size=64),
    "gymnasium scaled": lambda: AtariPreprocessing(raw(), noop_max=5, scale_obs=True, terminal_on_life_loss=True),
    "SB3": lambda: AtariWrapper(raw()),
    "SB3 sticky": lambda: AtariWrapper(raw(sticky=0.25), terminal_on_life_loss=False, action_repeat_probability=0.25),
}


def play(env: Any, steps: int, seed: int | None = 0, keep: Callable[[Any], Any] = np.array) -> list[Any]:
    """Play actions drawn from a fixed seed; what each reset and step returns, without the info.

    :param keep: what is kept of an observation
    """
    actions = np.random.default_rng(5)
    told: list[Any] = [keep(env.reset(seed=seed)[0])]
    for _ in range(steps):
        observation, reward, terminated, truncated, _ = env.step(int(actions.integers(env.action_space.n)))
        told += [keep(observation), float(reward), terminated, truncated]
        if terminated or truncated:
            told.append(keep(env.reset()[0]))
    return told


def same(first: Sequence[Any], second: Sequence[Any]) -> bool:
    """Whether two courses are one, bit by bit."""
    return len(first) == len(second) and all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


class Spy:
    """Stands before the emulator and notes what is played.

    :param env: perturbed
    """

    def __init__(self, env: Any) -> None:
        emulator = env.get_wrapper_attr("emulator")
        self._ale = emulator.ale
        self.indices = {action: index for index, action in enumerate(env.unwrapped._action_set)}
        self.acted: list[int] = []
        self.paid: list[float] = []
        emulator.ale = emulator.now.ale = self

    def act(self, action: Any, strength: float = 1.0) -> float:
        reward = self._ale.act(action, strength)
        self.acted.append(self.indices.get(action, action))
        self.paid.append(reward)
        return reward

    def take(self) -> list[int]:
        """Actions since the last call."""
        taken, self.acted = self.acted, []
        return taken

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ale, name)
