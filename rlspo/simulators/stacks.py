"""Layers for stacks of the last observations."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rlspo.common.trees import tree_map
from rlspo.simulators.base import Array, Layer, Outcome
from rlspo.simulators.layers import flat, row, unflat


class FramesLayer(Layer):
    """``FrameStackObservation``: the last observations, along the axis after the batch."""

    def capture(self, wrapper: Any) -> dict[str, np.ndarray]:
        frames = [*wrapper.obs_queue]
        if isinstance(frames[0], dict):
            spaces = wrapper.env.observation_space.spaces
            stacks = {key: row([frame[key] for frame in frames], space.dtype) for key, space in spaces.items()}
            return flat("frames", stacks)
        return {"frames": row(frames, wrapper.env.observation_space.dtype)}

    def restore(self, wrapper: Any, memory: dict[str, np.ndarray]) -> None:
        frames = unflat("frames", memory)
        wrapper.obs_queue.clear()
        for age in range(wrapper.stack_size):
            one = {k: v[0, age].copy() for k, v in frames.items()} if isinstance(frames, dict) else frames[0, age].copy()
            wrapper.obs_queue.append(one)

    def after(self, memory: dict[str, Array], outcome: Outcome) -> tuple[dict[str, Array], Outcome]:
        new = flat("frames", outcome.observations)
        memory = {name: _pushed(frames, new[name]) for name, frames in memory.items()}
        return memory, outcome._replace(observations=unflat("frames", memory))


def _pushed(frames: Array, newest: Array) -> Array:
    """``frames``, ``(n, stack, ...)``, without the oldest and with the newest, in their own type."""
    return _cat([frames[:, 1:], _as(newest, frames)[:, None]], 1)


def _as(array: Array, like: Array) -> Array:
    return array.to(like.dtype) if isinstance(array, torch.Tensor) else array.astype(like.dtype, copy=False)


def _cat(parts: list[Array], axis: int) -> Array:
    return torch.cat(parts, axis) if isinstance(parts[0], torch.Tensor) else np.concatenate(parts, axis)


class VecFramesLayer(Layer):
    """SB3's ``VecFrameStack``, which stacks along an existing axis of the observations."""

    def capture(self, wrapper: Any) -> dict[str, np.ndarray]:
        return flat("stack", tree_map(lambda part: part.stacked_obs.copy(), _parts(wrapper)))

    def restore(self, wrapper: Any, memory: dict[str, np.ndarray]) -> None:
        def put(part: Any, stack: np.ndarray) -> None:
            part.stacked_obs = stack.copy()

        tree_map(put, _parts(wrapper), unflat("stack", memory))

    def after(self, memory: dict[str, Array], outcome: Outcome) -> tuple[dict[str, Array], Outcome]:
        def push(part: Any, stack: Array, newest: Array) -> Array:
            axis = 1 if part.channels_first else stack.ndim - 1
            kept = [slice(None)] * axis + [slice(newest.shape[axis], None)]
            return _cat([stack[tuple(kept)], _as(newest, stack)], axis)

        stacked = tree_map(push, _parts(self.wrapper), unflat("stack", memory), outcome.observations)
        return flat("stack", stacked), outcome._replace(observations=stacked)


def _parts(wrapper: Any) -> Any:
    """SB3's stacks of observations: one, or one per key of a dictionary."""
    return getattr(wrapper.stacked_obs, "sub_stacked_observations", wrapper.stacked_obs)
