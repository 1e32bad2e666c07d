"""Where the demand of an episode comes from: blocks that are drawn ahead, or a path that was given."""

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

    What was drawn ahead, and the path, belong to the stream's :attr:`state`. To a search the stream stands in for the
    environment's generator: who takes another one instead cannot foresee the demand.

    :param demand: the distribution
    :param n: number of copies
    """

    def __init__(self, demand: Demand, n: int) -> None:
        self.demand, self.n = demand, n
        self.generator = np.random.default_rng(0)
        self._block: Array = np.zeros((0, n, demand.n_items))
        self._next = 0
        #: What comes in place of draws, ``(time_horizon, n_items)``, or None.
        self.path: Array | None = None

    def seed(self, generator: np.random.Generator) -> None:
        """Draw from ``generator`` from now on."""
        self.generator = generator
        self._block, self._next = self._block[:0], 0

    def __call__(self, elapsed: Array) -> Array:
        """The demand of the next period, ``(m, n_items)``.

        :param elapsed: periods since the episodes began, ``(m,)``. What is drawn ahead is for ``n`` copies: for another
            number of them it is left out
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
        """What has a ``state``, as a NumPy generator's bit generator does."""
        return self

    @property
    def state(self) -> dict[str, Any]:
        """Of the generator, and of what was drawn ahead or given. Nothing writes into a block or a path."""
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
        """With a generator of its own; blocks and paths, which nothing writes into, are shared."""
        other = DemandStream(self.demand, self.n)
        other.generator = copy.deepcopy(self.generator, memo)
        other._block, other._next, other.path = self._block, self._next, self.path
        return other
