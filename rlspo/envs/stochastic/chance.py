"""Counter-based random numbers: a function of a key and a count, for many rows at once.

A captured state with key and count reproduces the stream exactly, and another key gives a branch its own random numbers. The
function is the finaliser of splitmix64.
"""

from __future__ import annotations

import math

import numpy as np

Array = np.ndarray
_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def mixed(words: Array) -> Array:
    """Each 64-bit word hashed to another one, so that neighbouring words become unrelated.

    :param words: ``uint64``, at least one dimension
    """
    words = (words ^ (words >> np.uint64(30))) * _FIRST
    words = (words ^ (words >> np.uint64(27))) * _SECOND
    return words ^ (words >> np.uint64(31))


def derived(keys: Array, numbers: Array | int) -> Array:
    """Keys of streams within streams.

    :param keys: ``uint64``, ``(n,)``
    :param numbers: of the inner stream, one for all or ``(n,)``
    """
    return mixed(keys + _STEP * (np.atleast_1d(numbers).astype(np.uint64) + np.uint64(1)))


class Chance:
    """Draws for ``n`` rows, with the method names of :class:`numpy.random.Generator`; the first dimension of results is the
    row.

    :param keys: one for each row, ``uint64``, ``(n,)``
    :param stream: which of a key's streams
    """

    def __init__(self, keys: Array, stream: int) -> None:
        self._keys, self._stream, self._drawn = keys, stream, 0

    def random(self, *shape: int) -> Array:
        """Uniform in [0, 1), ``(n, *shape)``."""
        count = math.prod(shape)
        if not self._drawn:
            # Computed on first use, because most hooks draw nothing.
            self._keys = derived(self._keys, self._stream)
        places = np.arange(self._drawn + 1, self._drawn + count + 1, dtype=np.uint64) * _STEP
        self._drawn += count
        words = mixed(self._keys[:, None] + places)
        return ((words >> np.uint64(11)) * 2.0**-53).reshape(len(self._keys), *shape)

    def normal(self, *shape: int, scale: float = 1.0) -> Array:
        """Of mean 0 and standard deviation ``scale``, ``(n, *shape)``."""
        # Box and Muller's; 1 - u is never 0.
        radius = np.sqrt(-2.0 * np.log(1.0 - self.random(*shape)))
        return radius * np.cos(2.0 * np.pi * self.random(*shape)) * scale

    def integers(self, n: int, *shape: int) -> Array:
        """0 to ``n - 1``, ``(n_rows, *shape)``."""
        return (self.random(*shape) * n).astype(np.int64)
