"""The images of a rollout, each channel of which is kept once: of four stacked frames, a quarter of the memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rlspo.common.compilation import mark_static
from rlspo.common.frames import ImageRows, Planes, Shifts, places_for


class RolloutImages:
    """Observations ``(n_steps, n_envs, channels, height, width)``, written step by step.

    Rows are read as they were written, for any images; those that move on like stacks take the least memory. Reading all of
    them (``numpy.asarray``) makes a copy, which cannot be written to.

    :param n_steps: of a rollout
    :param n_envs: parallel environments
    :param shape: of an observation, bytes
    """

    def __init__(self, n_steps: int, n_envs: int, shape: tuple[int, ...]) -> None:
        channels = shape[0]
        self.shape = (n_steps, n_envs, *shape)
        self.index = np.zeros((n_steps, n_envs, channels), np.int64)
        room = places_for(n_steps * n_envs, channels) + n_envs * channels  # a first step is kept whole
        self.rows = ImageRows(Planes(np.zeros((room, *shape[1:]), np.uint8)), self._flat_index)
        self._shifts = Shifts(channels)
        self._before: np.ndarray | None = None  # the last step that was written, and where its channels are
        self._places_before = self.index[0]
        self._on_device: ImageRows | None = None
        #: Places in use, the black one among them.
        self.used = 1

    @property
    def _flat_index(self) -> np.ndarray:
        return self.index.reshape(-1, self.index.shape[-1])

    def reset(self) -> None:
        """Begin a rollout."""
        self._before, self.used = None, 1

    def __setitem__(self, steps: Any, observations: np.ndarray) -> None:
        """Write a step, ``(n_envs, channels, height, width)``, or all: ``images[:] = observations``."""
        if isinstance(steps, int | np.integer):
            self._write(int(steps), observations)
            return
        if isinstance(steps, tuple):
            raise TypeError("Images of a rollout are written step by step, or all at once: observations[step] = images.")
        written = range(len(self.index))[slice(None) if steps is Ellipsis else steps]
        if len(written) == len(self.index):
            self.reset()
        for step, of_step in zip(written, np.broadcast_to(observations, (len(written), *self.shape[1:])), strict=True):
            self._write(step, of_step)

    def _write(self, step: int, observations: np.ndarray) -> None:
        observations, places = np.asarray(observations), self.index[step]
        moved, size = self._moved(observations)
        if moved.any():
            places[moved, :-size] = self._places_before[moved, size:]
            places[moved, -size:] = self._stored(observations[moved, -size:])
        if not moved.all():
            places[~moved] = self._stored(observations[~moved])
        self._before, self._places_before = observations.copy(), places.copy()

    def _moved(self, observations: np.ndarray) -> tuple[np.ndarray, int]:
        """Which environments' stacks moved on, and by how many channels."""
        if self._before is not None:
            for size in self._shifts:
                moved = (observations[:, :-size] == self._before[:, size:]).all(axis=(1, 2, 3))
                if moved.any():
                    self._shifts.found(size)
                    return moved, size
        return np.zeros(len(observations), bool), 0

    def _stored(self, images: np.ndarray) -> np.ndarray:
        """The places of images ``(n, channels, height, width)``, ``(n, channels)``."""
        seen = images.any(axis=(2, 3))
        places = np.zeros(seen.shape, np.int64)
        first, self.used = self.used, self.used + int(seen.sum())
        held = self.rows.held
        if self.used > len(held.planes):  # enough for any images; room costs nothing until it is used
            planes = np.zeros((max(self.used, self.index.size + 1), *held.planes.shape[1:]), np.uint8)
            planes[: len(held.planes)] = held.planes
            held.planes = planes
        places[seen] = np.arange(first, self.used)
        held.planes[first : self.used] = images[seen]
        return places

    def tensors(self, device: torch.device) -> ImageRows:
        """The rows, steps and environments merged, as tensors: on a CPU no copy; elsewhere the next call overwrites them."""
        planes, index = torch.from_numpy(self.rows.held.planes), torch.from_numpy(self._flat_index)
        rows, on_cpu = self._on_device, device.type == "cpu"
        if rows is None or rows.held.planes.shape != planes.shape or rows.device.type != device.type:
            parts = [part if on_cpu else mark_static(torch.empty_like(part, device=device)) for part in (planes, index)]
            self._on_device = rows = ImageRows(Planes(parts[0]), parts[1])
        if not on_cpu:
            rows.held.planes[: self.used].copy_(planes[: self.used])
            rows.index.copy_(index)
        return rows

    def __getitem__(self, steps: Any) -> np.ndarray:
        """A copy of some steps."""
        return self.rows.held.planes[self.index[steps]]

    def __getstate__(self) -> dict[str, Any]:
        """Without what shares memory with something else."""
        return {**vars(self), "rows": self.rows.held, "_on_device": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.rows = ImageRows(state["rows"], self._flat_index)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        images = self.rows.held.planes[self.index]
        images.flags.writeable = False
        return images if dtype is None else images.astype(dtype)
