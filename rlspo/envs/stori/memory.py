"""The memory of a game: decimal numbers in it, and effects that react to its changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlspo.envs.stori.blackouts import Area, Colour, grey
from rlspo.envs.stori.effects import Moment
from rlspo.envs.stori.modes import Moded


def decimal(ram: np.ndarray | Sequence[int], addresses: Sequence[int]) -> int:
    """A number that is stored as two decimal digits in each byte.

    :param ram: ``(128,)``
    :param addresses: of its bytes, the highest digits first

    >>> decimal(np.array([0x12, 0x34], np.uint8), (0, 1))
    1234
    """
    value = 0
    for address in addresses:
        high, low = divmod(int(ram[address]), 16)
        value = 100 * value + 10 * high + low
    return value


def write_decimal(ale: Any, addresses: Sequence[int], value: int) -> None:
    """Store a number as :func:`decimal` reads it."""
    for address in reversed(addresses):
        value, low = divmod(value, 100)
        ale.setRAM(address, 16 * (low // 10) + low % 10)


def take_points(now: Moment, addresses: Sequence[int], points: int) -> None:
    """Subtract points from the score in the memory, without effect on the emulator's next reward."""
    write_decimal(now.ale, addresses, max(decimal(now.ale.getRAM(), addresses) - points, 0))
    now.debt += points


class Watcher(Moded):
    """An effect of type 2.1 that compares the memory before and after a frame, or acts once each time it is drawn to.

    :param mode: a name of :attr:`modes`, or its published number
    """

    def __init__(self, game: str, mode: Any, fidelity: str = "exact") -> None:
        super().__init__(game, mode, fidelity)
        self.original = fidelity == "original"
        #: The memory before the frame, if the gate is open.
        self.before = np.zeros(128, np.uint8)
        #: Areas that were restored in memory after the last frame and are missing in its picture, with their colours.
        self.missing: list[tuple[Area, Colour]] = []
        self._due = False

    def reset(self, now: Moment) -> None:
        self.missing.clear()
        self._due = False

    def draw(self, now: Moment) -> None:
        self._due = True

    def due(self, open: bool) -> bool:
        """Whether the effect acts now: once each time it is drawn to."""
        due, self._due = open and self._due, False
        return due

    def before_frame(self, open: bool, now: Moment) -> None:
        self.missing.clear()
        if open:
            self.before = now.ale.getRAM()

    def screen(self, screen: np.ndarray, open: bool, now: Moment) -> None:
        for area, instead in self.missing:
            part = screen[area.pixels]
            if screen.ndim == 3:
                part[(part == instead).all(-1)] = area.colour
            else:
                part[part == grey(instead)] = grey(area.colour)


def cleared(before: np.ndarray, after: np.ndarray, addresses: Sequence[int]) -> dict[int, int]:
    """The bits that are set before and not after, by address; addresses without any are left out."""
    lost = {address: int(before[address]) & ~int(after[address]) for address in addresses}
    return {address: bits for address, bits in lost.items() if bits}
