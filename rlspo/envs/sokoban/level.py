"""Levels as arrays, and as text in the usual characters (XSB).

::

    #  wall          $  box                @  player
    .  target        *  box on a target    +  player on a target
    (space), - or _  floor
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Array = np.ndarray

#: The planes of a level, ``(4, rows, columns)``.
WALL, TARGET, BOX, PLAYER = range(4)
#: Up, down, left and right, as steps in rows and columns.
DIRECTIONS = ((-1, 0), (1, 0), (0, -1), (0, 1))
_CHARACTERS = {
    "#": (WALL,),
    ".": (TARGET,),
    "$": (BOX,),
    "*": (BOX, TARGET),
    "@": (PLAYER,),
    "+": (PLAYER, TARGET),
    " ": (),
    "-": (),
    "_": (),
}


def parse_level(text: str | Sequence[str], size: tuple[int, int] | None = None) -> Array:
    """A level as planes of zeros and ones: walls, targets, boxes and the player, ``(4, rows, columns)`` uint8.

    :param text: lines, or rows, of characters
    :param size: rows and columns to pad to with walls; None for those of the text
    :raises ValueError: for an invalid level: unknown characters, not exactly one player, unequal numbers of boxes and targets,
        a gap in the outer wall, all boxes on targets already, or more rows or columns than ``size``
    """
    rows = _rows(text)
    unknown = sorted(set("".join(rows)) - set(_CHARACTERS))
    if unknown:
        raise ValueError(f"the level has the characters {unknown}; it must be made of {', '.join(map(repr, _CHARACTERS))}.")
    here = (len(rows), max(map(len, rows)))
    size = size or here
    if here[0] > size[0] or here[1] > size[1]:
        raise ValueError(f"the level has {here[0]} rows and {here[1]} columns; there is room for {size[0]} and {size[1]}.")
    planes = np.zeros((4, *size), np.uint8)
    planes[WALL] = 1
    given = np.zeros(size, bool)
    for i, row in enumerate(rows):
        for j, character in enumerate(row):
            planes[WALL, i, j], given[i, j] = 0, True
            for plane in _CHARACTERS[character]:
                planes[plane, i, j] = 1
    _check(planes, given)
    return planes


def _rows(text: str | Sequence[str]) -> list[str]:
    rows = text.split("\n") if isinstance(text, str) else [*text]
    if not all(isinstance(row, str) for row in rows):
        raise ValueError(f"the level is {text!r}; it must be a text, or a list of rows of text.")
    rows = [row.rstrip() for row in rows]
    while rows and not rows[0]:
        rows.pop(0)
    while rows and not rows[-1]:
        rows.pop()
    if not rows:
        raise ValueError("the level is empty.")
    return rows


def _check(planes: Array, given: Array) -> None:
    targets, boxes, players = (int(planes[plane].sum()) for plane in (TARGET, BOX, PLAYER))
    if players != 1:
        raise ValueError(f"the level has {players} players (@ or +); it must have one.")
    if boxes != targets or not boxes:
        raise ValueError(f"the level has {boxes} boxes and {targets} targets; it must have as many of both, at least one.")
    if is_solved(planes):
        raise ValueError("the level has all its boxes on targets already; there is nothing to solve.")
    # Padding walls do not count: a gap that they happen to close is still a mistake.
    inside = np.pad(given, 1)
    walls = np.pad(planes[WALL] * given, 1)
    start = int(np.flatnonzero(np.pad(planes[PLAYER], 1))[0])
    if not inside.ravel()[[*reachable(walls, start)]].all():
        raise ValueError("the level has a gap in its outer wall, through which the player could leave.")


def is_solved(planes: Array) -> bool:
    """Whether all boxes are on targets."""
    return not (planes[BOX] & ~planes[TARGET]).any()


def reachable(blocked: Array, start: int) -> set[int]:
    """The cells, numbered row by row, that can be reached from ``start``; ``blocked`` is ``(rows, columns)``."""
    n_rows, n_columns = blocked.shape
    free = (blocked.ravel() == 0).tolist()
    found, ahead = {start}, [start]
    while ahead:
        row, column = divmod(ahead.pop(), n_columns)
        for down, right in DIRECTIONS:
            i, j = row + down, column + right
            cell = i * n_columns + j
            if 0 <= i < n_rows and 0 <= j < n_columns and free[cell] and cell not in found:
                found.add(cell)
                ahead.append(cell)
    return found


def level_text(planes: Array) -> str:
    """A level as text, a line for each row."""
    characters = {parts: character for character, parts in reversed(_CHARACTERS.items())}
    characters[()] = " "
    order = {frozenset(parts): character for parts, character in characters.items()}
    _, rows, columns = planes.shape
    cells = [[order[frozenset(np.flatnonzero(planes[:, i, j]).tolist())] for j in range(columns)] for i in range(rows)]
    return "".join("".join(row) + "\n" for row in cells)
