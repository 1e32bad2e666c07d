"""Layers for wrappers that count steps, add up returns or require a reset. They work on any device."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from rlspo.simulators.base import Array, Layer, Outcome


def row(value: Any, dtype: Any = None) -> np.ndarray:
    """A value as an array with one row."""
    return np.asarray(value, dtype)[None]


def flat(name: str, tree: Any) -> dict[str, Array]:
    """An array, or a dictionary of arrays, as entries of a flat dictionary."""
    return {f"{name}.{key}": leaf for key, leaf in tree.items()} if isinstance(tree, dict) else {name: tree}


def unflat(name: str, memory: dict[str, Array]) -> Any:
    """The inverse of :func:`flat`."""
    if name in memory:
        return memory[name]
    return {key.removeprefix(f"{name}."): leaf for key, leaf in memory.items() if key.startswith(f"{name}.")}


class OrderLayer(Layer):
    """``OrderEnforcing``: a state exists only after a reset."""

    def capture(self, wrapper: Any) -> dict[str, np.ndarray]:
        if not wrapper.has_reset:
            raise gym.error.ResetNeeded("The environment has no state before reset(); call reset() before capture(env).")
        return {}

    def restore(self, wrapper: Any, memory: dict[str, np.ndarray]) -> None:
        wrapper._has_reset = True


class TimeLimitLayer(Layer):
    """``TimeLimit``."""

    def capture(self, wrapper: Any) -> dict[str, np.ndarray]:
        return {"elapsed": row(wrapper._elapsed_steps or 0, np.int64)}

    def restore(self, wrapper: Any, memory: dict[str, np.ndarray]) -> None:
        wrapper._elapsed_steps = int(memory["elapsed"][0])

    def after(self, memory: dict[str, Array], outcome: Outcome) -> tuple[dict[str, Array], Outcome]:
        elapsed = memory["elapsed"] + 1
        truncated = outcome.truncated | (elapsed >= self.wrapper._max_episode_steps)
        return {"elapsed": elapsed}, outcome._replace(truncated=truncated)


class EpisodeLayer(Layer):
    """Return and length of an episode; the layer of ``RecordEpisodeStatistics``."""

    def capture(self, wrapper: Any) -> dict[str, np.ndarray]:
        return {"return": row(wrapper.episode_returns, np.float64), "length": row(wrapper.episode_lengths, np.int64)}

    def restore(self, wrapper: Any, memory: dict[str, np.ndarray]) -> None:
        wrapper.episode_returns, wrapper.episode_lengths = float(memory["return"][0]), int(memory["length"][0])

    def after(self, memory: dict[str, Array], outcome: Outcome) -> tuple[dict[str, Array], Outcome]:
        counted = {"return": memory["return"] + outcome.rewards, "length": memory["length"] + 1}
        return {**memory, **counted}, outcome


class MonitorLayer(EpisodeLayer):
    """SB3's ``Monitor``. After a restore it knows the episode's return and length, but not the single rewards."""

    def capture(self, wrapper: Any) -> dict[str, np.ndarray]:
        return {
            "return": row(sum(wrapper.rewards), np.float64),
            "length": row(len(wrapper.rewards), np.int64),
            "steps": row(wrapper.total_steps, np.int64),
            "over": row(wrapper.needs_reset),
        }

    def restore(self, wrapper: Any, memory: dict[str, np.ndarray]) -> None:
        length = int(memory["length"][0])
        wrapper.rewards = [0.0] * (length - 1) + [float(memory["return"][0])] * (length > 0)
        wrapper.total_steps, wrapper.needs_reset = int(memory["steps"][0]), bool(memory["over"][0])

    def after(self, memory: dict[str, Array], outcome: Outcome) -> tuple[dict[str, Array], Outcome]:
        memory, outcome = super().after(memory, outcome)
        over = outcome.terminated | outcome.truncated
        return {**memory, "steps": memory["steps"] + 1, "over": over}, outcome
