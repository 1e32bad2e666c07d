"""Type 3.2: rectangles of the screen painted over to hide objects."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np

from rlspo.envs.stori.effects import Moment
from rlspo.envs.stori.modes import Moded

Colour = tuple[int, int, int]
BLACK: Colour = (0, 0, 0)


class Area(NamedTuple):
    """A rectangle of the screen of 160 by 210 pixels, and its colour.

    :param left: first column, from 0
    :param right: last column, inclusive
    :param top: first row, from 0
    :param bottom: last row, inclusive
    :param colour: in RGB
    """

    left: int
    right: int
    top: int
    bottom: int
    colour: Colour = BLACK

    @property
    def pixels(self) -> tuple[slice, slice]:
        """Its index into a screen: rows, columns."""
        return np.s_[self.top : self.bottom + 1, self.left : self.right + 1]

    @property
    def row(self) -> np.ndarray:
        """A row of it, ``(3 width,)``, bytes."""
        return np.tile(np.array(self.colour, np.uint8), self.right + 1 - self.left)


def grey(colour: Colour) -> int:
    """The emulator's grey value of a colour.

    >>> grey((110, 156, 66))
    132
    """
    red, green, blue = colour
    return round(0.2989 * red + 0.587 * green + 0.114 * blue)


class Blackout(Moded):
    """Parts of the screen are painted over, mostly in the surrounding colour.

    :param mode: a name of :attr:`modes`, or its published number
    """

    #: The areas that each mode hides, by its name.
    parts: ClassVar[dict[str, tuple[Area, ...]]]

    def __init__(self, game: str, mode: Any, fidelity: str = "exact") -> None:
        super().__init__(game, mode, fidelity)
        self.areas = self.parts[self.mode]
        self._grey = [(area.pixels, grey(area.colour)) for area in self.areas]
        # Rows of bytes instead of pixels: by far the fastest in NumPy.
        self._colours = [
            (np.s_[area.top : area.bottom + 1, 3 * area.left : 3 * area.right + 3], area.row) for area in self.areas
        ]

    def screen(self, screen: np.ndarray, open: bool, now: Moment) -> None:
        if not open:
            return
        now.perturbed = True
        flat = screen.reshape(len(screen), -1)
        for pixels, paint in self._colours if screen.ndim == 3 else self._grey:
            flat[pixels] = paint
