"""The source of an episode's demand: blocks that are drawn ahead, or a given path."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from rlspo.envs.lot_sizing.demand import Demand

Array = np.ndarray
#: Numbers of demand drawn at a time.
BLOCK = 1 << 15


class DemandStream:
    """Demand of ``n`` copies, period after period.

    Blocks drawn ahead, and the path, are part of the stream's :attr:`state`. In a search the stream acts as the environment's
    generator. With another generator the future demand is not known.

    :param demand: the distribution
    :param n: number of copies
    """

    def __init__(self, demand: Demand, n: int) -> None:
        self.demand, self.n = demand, n
        self.generator = np.random.default_rng(0)
        self._block: Array = np.zeros((0, n, demand.n_items))
        self._next = 0
        #: The demand path used instead of draws, ``(time_horizon, n_items)``, or None.
        self.path: Array | None = None

    def seed(self, generator: np.random.Generator) -> None:
        """Draw from ``generator`` from now on."""
        self.generator = generator
        self._block, self._next = self._block[:0], 0

    def __call__(self, elapsed: Array) -> Array:
        """The demand of the next period, ``(m, n_items)``.

        :param elapsed: periods since the episodes began, ``(m,)``. Blocks drawn ahead are for ``n`` copies; for another number
            they are not used
        """
        if self.path is not None and (elapsed < len(self.path)).all():
            return self.path[elapsed]
        if len(elapsed) != self.n:
            return self.demand.sample(self.generator, len(elapsed))
        if self._next == len(self._block):
            periods = max(BLOCK // (self.n * self.demand.n_items), 1)
            self._block = self.demand.sample(self.generator, periods, self.n)
            self._next = 0
        self._next += 1
        return self._block[self._next - 1]

    @property
    def bit_generator(self) -> DemandStream:
        """The object with a ``state``, like a NumPy generator's bit generator."""
        return self

    @property
    def state(self) -> dict[str, Any]:
        """State of the generator, the block drawn ahead and the path. Blocks and paths are never written to."""
        ahead = {"block": self._block, "next": self._next, "path": self.path}
        return {**self.generator.bit_generator.state, "ahead": ahead}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        state = dict(state)
        # A plain generator has drawn nothing ahead.
        ahead = state.pop("ahead", {"block": self._block[:0], "next": 0, "path": None})
        self.generator.bit_generator.state = state
        self._block, self._next, self.path = ahead["block"], ahead["next"], ahead["path"]

    def __deepcopy__(self, memo: dict[int, Any]) -> DemandStream:
        """A copy with its own generator; blocks and paths are shared, because they are never written to."""
        other = DemandStream(self.demand, self.n)
        other.generator = copy.deepcopy(self.generator, memo)
        other._block, other._next, other.path = self._block, self._next, self.path
        return other
