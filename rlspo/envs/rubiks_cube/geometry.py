"""Positions of the 54 stickers in space, and the effect of face turns on them.

The axes are x to the right, y up and z towards the viewer. A place of a sticker is the centre of its little cube, each
coordinate -1, 0 or 1, and the direction that it faces. A turn rotates both; the tables are computed, not typed in.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray

#: Faces in the usual order: up, right, front, down, left, back. A sticker's number is 9 * face + 3 * row + column.
FACES = "URFDLB"
#: Colours of the faces of the solved cube.
COLOURS = ("white", "red", "green", "yellow", "orange", "blue")
N_STICKERS = 54
#: The 18 actions in their usual names: each face by a quarter clockwise, a half, and a quarter back.
MOVES = tuple(face + turn for face in FACES for turn in ("", "2", "'"))

_X, _Y, _Z = np.eye(3, dtype=np.int64)
#: For each face, seen from outside: its normal, the direction of its columns, and that of its rows.
_FRAMES = ((_Y, _X, _Z), (_X, -_Z, -_Y), (_Z, _X, -_Y), (-_Y, _X, -_Z), (-_X, _Z, -_Y), (-_Z, -_X, -_Y))


def _places() -> tuple[Array, Array]:
    """Little cube and direction of each sticker, ``(54, 3)`` both."""
    cubes, looks = [], []
    for normal, right, down in _FRAMES:
        for row in (-1, 0, 1):
            for column in (-1, 0, 1):
                cubes.append(normal + column * right + row * down)
                looks.append(normal)
    return np.array(cubes), np.array(looks)


CUBES, LOOKS = _places()
CUBES.flags.writeable = LOOKS.flags.writeable = False


def opposite(face: int) -> int:
    """The opposite face."""
    return (face + 3) % 6


def _quarter(face: int) -> Array:
    """For each place, the place that its sticker comes from in a quarter turn, clockwise as seen from outside, ``(54,)``."""
    normal = _FRAMES[face][0]
    number = {(*cube, *look): i for i, (cube, look) in enumerate(zip(CUBES.tolist(), LOOKS.tolist(), strict=True))}
    source = np.arange(N_STICKERS)
    for i in range(N_STICKERS):
        if CUBES[i] @ normal == 1:
            source[number[(*_rotated(CUBES[i], normal), *_rotated(LOOKS[i], normal))]] = i
    return source


def _rotated(vector: Array, axis: Array) -> tuple[int, ...]:
    """``vector`` turned clockwise by a quarter, looking against ``axis`` (Rodrigues' formula)."""
    return tuple((np.cross(vector, axis) + axis * (axis @ vector)).tolist())


def move_sources() -> Array:
    """Of each move and place, the place that its sticker comes from, ``(18, 54)``: ``after = before[sources[move]]``."""
    rows = []
    for face in range(len(FACES)):
        quarter = _quarter(face)
        half = quarter[quarter]
        rows += [quarter, half, half[quarter]]
    return np.array(rows)
