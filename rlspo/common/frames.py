"""Images of stacked observations, each channel kept once however many rows show it.

An observation of four stacked frames shares three with the next one, and is the next observation of the row before: stored row
by row, every frame is there eight times in a replay buffer, and four times in a rollout.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from rlspo.common.compilation import mark_static

Tensor = torch.Tensor


class Planes:
    """Channels of images by place, ``(places, height, width)``, in an array that grows.

    :param planes: place 0 is black, as stacks begin with
    """

    def __init__(self, planes: Any) -> None:
        self.planes = planes


class ImageRows:
    """Images ``(rows, channels, height, width)``, read as from an array. What is read is a copy, and nothing can be written.

    :param held: their channels
    :param index: the places of each row's channels, ``(rows, channels)``; of the same kind as ``held.planes``
    """

    ndim = 4

    def __init__(self, held: Planes, index: Any) -> None:
        self.held, self.index = held, index

    @property
    def device(self) -> torch.device:
        """Where tensors of images are."""
        return self.index.device

    @property
    def shape(self) -> tuple[int, ...]:
        """``(rows, channels, height, width)``."""
        return (*self.index.shape, *self.held.planes.shape[1:])

    @property
    def dtype(self) -> Any:
        """Bytes, of NumPy or PyTorch."""
        return self.held.planes.dtype

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: Any) -> Any:
        if isinstance(rows, tuple):  # of several axes
            if not all(isinstance(part, int | np.integer | slice) for part in rows):
                raise TypeError(f"Images are read by rows, or by numbers and slices, not by {rows!r}. Read rows first.")
            first, *others = rows
            return self[first][(*others,) if not isinstance(first, slice) else (slice(None), *others)]
        return self.held.planes[self.index[rows]]

    def __setitem__(self, rows: Any, images: Any) -> None:
        raise TypeError("Images that are kept once cannot be written to row by row; add them to the buffer.")

    def cpu(self) -> Tensor:
        """All rows, as a tensor."""
        return self[:].cpu()


class Shifts:
    """By how many channels stacks move on from one observation to the next, those that were found last first.

    :param channels: of an observation
    """

    def __init__(self, channels: int) -> None:
        self.sizes = [size for size in range(1, channels) if channels % size == 0]

    def __iter__(self) -> Iterator[int]:
        return iter([*self.sizes])

    def found(self, size: int) -> None:
        """Try this one first from now on."""
        self.sizes.remove(size)
        self.sizes.insert(0, size)


class Frames:
    """The images of a replay buffer's rows. A channel stays as long as a row shows it.

    Rows are read as they were written, for any images; those that move on like stacks take the least memory.

    :param rows: of the buffer
    :param shape: of an observation, ``(channels, height, width)`` bytes
    :param device: of the images
    """

    def __init__(self, rows: int, shape: tuple[int, ...], device: torch.device) -> None:
        channels = shape[0]
        self.held = Planes(zeros((places_for(rows, channels), *shape[1:]), np.uint8, device))
        self.observations = ImageRows(self.held, zeros((rows, channels), np.int64, device))
        self.next_observations = ImageRows(self.held, zeros((rows, channels), np.int64, device))
        self._shifts = Shifts(channels)
        self._places = np.zeros((rows, 2 * channels), np.int64)  # both indices, for counting
        self._shown = np.zeros(len(self.held.planes), np.int64)
        #: Places that have been used, the black one among them.
        self.used = 1
        self._free: list[int] = []
        #: By environment: its last observation and the places of its channels.
        self._last: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def write(self, row: int, env: int, observation: np.ndarray, next_observation: np.ndarray) -> None:
        """Let a row show these observations instead of those that it showed, ``(channels, height, width)``."""
        before = self._last.get(env)
        self._release(self._places[row])
        here = self._placed(observation, before)
        there = self._placed(next_observation, (observation, here))
        self._last[env] = (next_observation.copy(), there)
        self._places[row] = [*here, *there]
        np.add.at(self._shown, there, 1)  # once more for being the last
        if before is not None:
            self._release(before[1])
        for rows, places in ((self.observations, here), (self.next_observations, there)):
            rows.index[row] = torch.from_numpy(places)

    def _placed(self, observation: np.ndarray, before: tuple[np.ndarray, np.ndarray] | None) -> np.ndarray:
        """The places of an observation's channels, of which those that ``before`` shows are there already."""
        places = None if before is None else self._moved(observation, *before)
        if places is None:
            places = np.array([self._stored(plane) for plane in observation])
        np.add.at(self._shown, places, 1)
        return places

    def _moved(self, observation: np.ndarray, before: np.ndarray, places: np.ndarray) -> np.ndarray | None:
        if np.array_equal(observation, before):
            return places
        for size in self._shifts:
            if np.array_equal(observation[:-size], before[size:]):
                self._shifts.found(size)
                return np.array([*places[size:], *(self._stored(plane) for plane in observation[-size:])])
        return None

    def _stored(self, plane: np.ndarray) -> int:
        if not plane.any():
            return 0
        if self._free:
            place = self._free.pop()
        else:
            place, self.used = self.used, self.used + 1
            if place == len(self.held.planes):
                self._grow()
        self.held.planes[place] = torch.from_numpy(np.array(plane))
        return place

    def _grow(self) -> None:
        """Make room for more: images are no stacks, or begin anew more often than was planned for. On a CPU, where room costs
        nothing until it is used, there is enough for any images then."""
        planes, rows = self.held.planes, self.observations.index
        more = len(planes) // 2 + 1
        if planes.device.type == "cpu":
            more = max(more, 2 * rows.numel() + 2 * rows.shape[1] - len(planes))
        check_room(
            (len(planes) + more) * planes[0].numel(), planes.device, f"{rows.shape[0]:,} rows of images that share little"
        )
        self.held.planes = zeros((len(planes) + more, *planes.shape[1:]), np.uint8, planes.device)
        self.held.planes[: len(planes)] = planes
        self._shown = np.append(self._shown, np.zeros(more, np.int64))

    def _release(self, places: np.ndarray) -> None:
        """One row fewer shows these."""
        np.subtract.at(self._shown, places, 1)
        self._free += [int(place) for place in np.unique(places) if place and not self._shown[place]]

    def to(self, device: torch.device) -> None:
        """Move everything to another device."""
        self.held.planes = mark_static(self.held.planes.to(device))
        for rows in (self.observations, self.next_observations):
            rows.index = mark_static(rows.index.to(device))

    def filled(self) -> Tensor:
        """The channels, from the first place to the last one used."""
        return self.held.planes[: self.used].clone().cpu()

    def refill(self, planes: Tensor, rows: int) -> None:
        """Take back what :meth:`filled` gave, once the indices of the first ``rows`` rows are there.

        :raises ValueError: where rows show what is not there
        """
        while len(self.held.planes) < len(planes):
            self._grow()
        self.held.planes[: len(planes)] = planes.to(self.held.planes.device)
        self.used = len(planes)
        shown = torch.cat([self.observations.index[:rows], self.next_observations.index[:rows]], dim=1).cpu().numpy()
        if shown.size and not 0 <= shown.min() <= shown.max() < self.used:
            raise ValueError(f"Rows show images from {shown.min()} to {shown.max()}, of {self.used}.")
        self._places[:rows] = shown
        self._shown += np.bincount(self._places.ravel(), minlength=len(self._shown))
        self._free = [place for place in range(1, self.used) if not self._shown[place]]


def is_image(shape: tuple[int, ...], dtype: Any) -> bool:
    """Whether observations of this shape and type are images with the channel first, large enough for looking at each."""
    return dtype == np.uint8 and len(shape) == 3 and shape[1] * shape[2] >= 1024


def places_for(rows: int, channels: int) -> int:
    """Places to begin with: one for each row, three where frames may have colours, and some for the ends of episodes."""
    return (3 if channels % 3 == 0 else 1) * (rows + rows // 8 + 64)


def check_room(needed: int, device: torch.device, what: str) -> None:
    """
    :param needed: bytes
    :param what: needs them, in words
    :raises ValueError: if a GPU has less free
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if needed > free:
            raise ValueError(
                f"{what} need {needed / 1e9:.1f} GB, but {device} has {free / 1e9:.1f} GB left. Choose a smaller "
                "buffer_size or n_steps, or device='cpu'."
            )


def zeros(shape: tuple[int, ...], dtype: Any, device: torch.device) -> Tensor:
    """Zeros on a device, ``dtype`` of NumPy."""
    if device.type == "cpu":  # NumPy's zeros use memory only where they are written to
        return torch.from_numpy(np.zeros(shape, dtype))
    return mark_static(torch.zeros(shape, dtype=torch.from_numpy(np.zeros(0, dtype)).dtype, device=device))
