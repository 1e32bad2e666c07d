"""Layers for wrappers that normalise with running statistics.

In a search the statistics are frozen: branches are normalised as the environment would do now, and do not update it. So a step
equals the real one if the statistics do not change (``VecNormalize.training`` or ``update_running_mean`` False).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rlspo.common.trees import tree_map
from rlspo.simulators.base import Array, Layer, Outcome
from rlspo.simulators.layers import flat, unflat

STATISTICS = ("mean", "var", "count")


def _captured(name: str, statistics: Any, n: int = 1) -> dict[str, np.ndarray]:
    """Running statistics, repeated in ``n`` rows."""
    values = {f"{name}.{part}": np.asarray(getattr(statistics, part)) for part in STATISTICS}
    return {key: np.repeat(value[None], n, 0) for key, value in values.items()}


def _restored(name: str, statistics: Any, memory: dict[str, np.ndarray]) -> None:
    for part in STATISTICS:
        value = memory[f"{name}.{part}"][0]
        setattr(statistics, part, value.item() if part == "count" else value.copy())


def _normalized(values: Array, memory: dict[str, Array], name: str, epsilon: float, centre: bool = True) -> Array:
    variance = memory[f"{name}.var"] + epsilon
    scale = torch.sqrt(variance) if isinstance(variance, torch.Tensor) else np.sqrt(variance)
    return (values - memory[f"{name}.mean"]) / scale if centre else values / scale


def _float32(array: Array) -> Array:
    return array.float() if isinstance(array, torch.Tensor) else array.astype(np.float32)


class ObservationScaleLayer(Layer):
    """``NormalizeObservation``."""

    def capture(self, wrapper: Any) -> dict[str, np.ndarray]:
        return _captured("obs", wrapper.obs_rms)

    def restore(self, wrapper: Any, memory: dict[str, np.ndarray]) -> None:
        _restored("obs", wrapper.obs_rms, memory)

    def after(self, memory: dict[str, Array], outcome: Outcome) -> tuple[dict[str, Array], Outcome]:
        seen = _float32(_normalized(outcome.observations, memory, "obs", self.wrapper.epsilon))
        return memory, outcome._replace(observations=seen)


class RewardScaleLayer(Layer):
    """``NormalizeReward``."""

    def capture(self, wrapper: Any) -> dict[str, np.ndarray]:
        discounted = np.asarray(wrapper.discounted_reward, np.float64).reshape(1)
        return {"discounted": discounted, **_captured("returns", wrapper.return_rms)}

    def restore(self, wrapper: Any, memory: dict[str, np.ndarray]) -> None:
        wrapper.discounted_reward = memory["discounted"].copy()
        _restored("returns", wrapper.return_rms, memory)

    def after(self, memory: dict[str, Array], outcome: Outcome) -> tuple[dict[str, Array], Outcome]:
        discounted = memory["discounted"] * self.wrapper.gamma * ~outcome.terminated + outcome.rewards
        rewards = _normalized(outcome.rewards, memory, "returns", self.wrapper.epsilon, centre=False)
        return {**memory, "discounted": discounted}, outcome._replace(rewards=rewards)


class VecNormalizeLayer(Layer):
    """SB3's ``VecNormalize``, with its clipping; the statistics are the same in every row."""

    def capture(self, wrapper: Any) -> dict[str, np.ndarray]:
        n = wrapper.num_envs
        memory = {"discounted": wrapper.returns.astype(np.float64), **_captured("returns", wrapper.ret_rms, n)}
        for name, statistics in self._statistics(wrapper).items():
            memory |= _captured(name, statistics, n)
        memory |= flat("before", tree_map(np.array, wrapper.old_obs))
        reward = wrapper.old_reward if len(wrapper.old_reward) == n else np.zeros(n, np.float32)
        return {**memory, "reward": np.array(reward)}

    def restore(self, wrapper: Any, memory: dict[str, np.ndarray]) -> None:
        wrapper.returns = memory["discounted"].copy()
        _restored("returns", wrapper.ret_rms, memory)
        for name, statistics in self._statistics(wrapper).items():
            _restored(name, statistics, memory)
        wrapper.old_obs, wrapper.old_reward = tree_map(np.array, unflat("before", memory)), memory["reward"].copy()

    def after(self, memory: dict[str, Array], outcome: Outcome) -> tuple[dict[str, Array], Outcome]:
        wrapper, rewards = self.wrapper, outcome.rewards
        over = outcome.terminated | outcome.truncated
        discounted = memory["discounted"]
        if wrapper.training:
            discounted = discounted * wrapper.gamma + rewards
        memory = {**memory, "discounted": discounted * ~over, "reward": rewards, **flat("before", outcome.observations)}
        if wrapper.norm_reward:
            scaled = _normalized(rewards, memory, "returns", wrapper.epsilon, centre=False)
            rewards = scaled.clip(-wrapper.clip_reward, wrapper.clip_reward)
        return memory, outcome._replace(observations=self._seen(memory, outcome.observations), rewards=_float32(rewards))

    def _seen(self, memory: dict[str, Array], observations: Any) -> Any:
        def normalize(name: str, array: Array) -> Array:
            clip = self.wrapper.clip_obs
            return _float32(_normalized(array, memory, name, self.wrapper.epsilon).clip(-clip, clip))

        named = self._statistics(self.wrapper)
        if not isinstance(observations, dict):
            return normalize("obs", observations) if named else observations
        return {key: normalize(f"obs.{key}", array) if f"obs.{key}" in named else array for key, array in observations.items()}

    @staticmethod
    def _statistics(wrapper: Any) -> dict[str, Any]:
        """Of the observations, by name in the memory."""
        return flat("obs", wrapper.obs_rms) if wrapper.norm_obs else {}
