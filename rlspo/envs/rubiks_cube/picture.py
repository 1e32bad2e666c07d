"""Pictures of the cube: its six faces, unfolded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from rlspo.envs.drawing import FAINT, INK, Canvas
from rlspo.envs.rubiks_cube.geometry import FACES

#: White, red, green, yellow, orange, blue: the colours of the faces in their order.
PAINTS = ("#f7f7f2", "#c4262e", "#1f9d55", "#f6cf2f", "#f0801a", "#2059b5")
PLASTIC = "#20262c"
#: Position of each face in the unfolded cube, in faces: column and row.
_NET = {"U": (1, 0), "L": (0, 1), "F": (1, 1), "R": (2, 1), "B": (3, 1), "D": (1, 2)}
_CELL, _MARGIN, _GAP = 34, 14, 6


def _cells() -> Iterator[tuple[int, int, int]]:
    """Number, row and column in the unfolded cube of each sticker."""
    for face, name in enumerate(FACES):
        across, down = _NET[name]
        for i in range(9):
            yield 9 * face + i, 3 * down + i // 3, 3 * across + i % 3


def cube_text(stickers: Sequence[int]) -> str:
    """The unfolded cube as nine lines of letters."""
    rows = [[" "] * 12 for _ in range(9)]
    for number, row, column in _cells():
        rows[row][column] = FACES[stickers[number]]
    return "\n".join(" ".join(" ".join(row[k : k + 3]) for k in (0, 3, 6, 9)).rstrip() for row in rows) + "\n"


def draw_cube(stickers: Sequence[int]) -> np.ndarray:
    """The unfolded cube, about 450 pixels wide."""
    side = 3 * _CELL + _GAP
    canvas = Canvas(4 * side - _GAP + 2 * _MARGIN, 3 * side - _GAP + 2 * _MARGIN)
    for across, down in _NET.values():
        canvas.box(_MARGIN + across * side - 2, _MARGIN + down * side - 2, 3 * _CELL + 4, 3 * _CELL + 4, PLASTIC, radius=6)
    for number, row, column in _cells():
        x = _MARGIN + column * _CELL + column // 3 * _GAP
        y = _MARGIN + row * _CELL + row // 3 * _GAP
        canvas.box(x + 1.5, y + 1.5, _CELL - 3, _CELL - 3, PAINTS[stickers[number]], radius=5)
    solved = all(colour == number // 9 for number, colour in enumerate(stickers))
    right = sum(colour == number // 9 for number, colour in enumerate(stickers))
    words = "solved" if solved else f"{right} of 54 stickers at home"
    canvas.text((_MARGIN + 2 * side + 4, _MARGIN + 2 * side + 1.5 * _CELL), words, 15, INK if solved else FAINT)
    return canvas.pixels()
