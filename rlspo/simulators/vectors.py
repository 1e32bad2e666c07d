"""Layers for vectorised environments and SB3's wrappers around them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from rlspo.common.trees import tree_map
from rlspo.simulators.base import Array, Layer, Outcome
from rlspo.simulators.layers import EpisodeLayer


def _cast(array: Array, dtype: np.dtype) -> Array:
    if isinstance(array, torch.Tensor):
        return array.to(torch.from_numpy(np.empty(0, dtype)).dtype)
    return array.astype(dtype, copy=False)


class VecEnvLayer(Layer):
    """The innermost ``VecEnv``: it returns float32 rewards, and observations in the dtype of their space."""

    def capture(self, wrapper: Any) -> dict[str, np.ndarray]:
        return {"over": np.zeros(wrapper.num_envs, bool)}

    def restore(self, wrapper: Any, memory: dict[str, np.ndarray]) -> None:
        if memory["over"].any():
            raise ValueError(
                f"The episodes of states {np.flatnonzero(memory['over']).tolist()} are over, and {type(wrapper).__name__} has "
                "no such state: it resets in the step that ends an episode. Restore states whose episodes go on."
            )

    def after(self, memory: dict[str, Array], outcome: Outcome) -> tuple[dict[str, Array], Outcome]:
        space = self.wrapper.observation_space
        types = {key: one.dtype for key, one in space.spaces.items()} if isinstance(space, spaces.Dict) else space.dtype
        seen = tree_map(_cast, outcome.observations, types)
        rewards = _cast(outcome.rewards, np.dtype(np.float32))
        over = outcome.terminated | outcome.truncated
        return {**memory, "over": over}, outcome._replace(observations=seen, rewards=rewards)


class GymnasiumVecEnvLayer(VecEnvLayer):
    """rlspo's ``GymnasiumVecEnv``: actions in the dtype of their space (integer Box actions too), unchanged observations, and
    the return and length of each episode."""

    def before(self, memory: dict[str, Array], actions: Array) -> tuple[dict[str, Array], Array]:
        return memory, _cast(actions, self.wrapper.env.action_space.dtype)

    def capture(self, wrapper: Any) -> dict[str, np.ndarray]:
        returns, lengths = wrapper._returns.astype(np.float64), wrapper._lengths.astype(np.int64)
        return {"over": wrapper.resets_next.copy(), "return": returns, "length": lengths}

    def restore(self, wrapper: Any, memory: dict[str, np.ndarray]) -> None:
        _restore_vector_env(wrapper.env, memory["over"])
        # After an episode the statistics of the next one start from 0.
        going = ~memory["over"]
        wrapper.resets_next = memory["over"].copy()
        wrapper._returns, wrapper._lengths = memory["return"] * going, memory["length"] * going

    def after(self, memory: dict[str, Array], outcome: Outcome) -> tuple[dict[str, Array], Outcome]:
        counted = {"return": memory["return"] + outcome.rewards, "length": memory["length"] + 1}
        over = outcome.terminated | outcome.truncated
        rewards = _cast(outcome.rewards, np.dtype(np.float32))
        return {**memory, **counted, "over": over}, outcome._replace(rewards=rewards)


class VectorEnvLayer(Layer):
    """Gymnasium's ``VectorEnv``."""

    def capture(self, wrapper: Any) -> dict[str, np.ndarray]:
        return {"over": ended_in(wrapper)}

    def restore(self, wrapper: Any, memory: dict[str, np.ndarray]) -> None:
        _restore_vector_env(wrapper, memory["over"])

    def after(self, memory: dict[str, Array], outcome: Outcome) -> tuple[dict[str, Array], Outcome]:
        return {"over": outcome.terminated | outcome.truncated}, outcome


def ended_in(env: Any) -> np.ndarray:
    """Which environments of gymnasium's ``VectorEnv`` only reset in the next step, as far as it reports this."""
    from gymnasium.vector import AutoresetMode

    over = getattr(env.unwrapped, "_autoreset_envs", None)
    if over is None or getattr(env.unwrapped, "autoreset_mode", None) is AutoresetMode.SAME_STEP:
        return np.zeros(env.num_envs, bool)
    return np.array(over, bool)


def _restore_vector_env(env: Any, over: np.ndarray) -> None:
    from rlspo.common.vector_env import AutoresetMode, autoreset_mode

    if over.any() and autoreset_mode(env) is not AutoresetMode.NEXT_STEP:
        raise ValueError(
            f"The episodes of states {np.flatnonzero(over).tolist()} are over, and {type(env.unwrapped).__name__} has no such "
            "state: it resets in the step that ends an episode. Restore states whose episodes go on."
        )
    if hasattr(env.unwrapped, "_autoreset_envs"):
        env.unwrapped._autoreset_envs = over.copy()


class VecMonitorLayer(EpisodeLayer):
    """SB3's ``VecMonitor``, and gymnasium's ``RecordEpisodeStatistics`` for vectors."""

    def capture(self, wrapper: Any) -> dict[str, np.ndarray]:
        return {"return": wrapper.episode_returns.copy(), "length": wrapper.episode_lengths.copy()}

    def restore(self, wrapper: Any, memory: dict[str, np.ndarray]) -> None:
        wrapper.episode_returns, wrapper.episode_lengths = memory["return"].copy(), memory["length"].copy()


class VecTransposeLayer(Layer):
    """SB3's ``VecTransposeImage``."""

    def after(self, memory: dict[str, Array], outcome: Outcome) -> tuple[dict[str, Array], Outcome]:
        seen = outcome.observations
        if not self.wrapper.skip:
            images = getattr(self.wrapper, "image_space_keys", ())
            if isinstance(seen, dict):
                seen = {key: _channels_first(array) if key in images else array for key, array in seen.items()}
            else:
                seen = _channels_first(seen)
        return memory, outcome._replace(observations=seen)


def _channels_first(images: Array) -> Array:
    return images.permute(0, 3, 1, 2) if isinstance(images, torch.Tensor) else images.transpose(0, 3, 1, 2)


class VecExtractLayer(Layer):
    """SB3's ``VecExtractDictObs``."""

    def after(self, memory: dict[str, Array], outcome: Outcome) -> tuple[dict[str, Array], Outcome]:
        return memory, outcome._replace(observations=outcome.observations[self.wrapper.key])
