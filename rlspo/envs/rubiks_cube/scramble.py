"""Random scrambles that do not undo themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlspo.envs.arguments import whole
from rlspo.envs.rubiks_cube.geometry import FACES, MOVES, opposite

Array = np.ndarray
#: Pads shorter scrambles in a batch.
NO_MOVE = len(MOVES)


def _followers() -> tuple[Array, Array]:
    """The faces that may be turned after each face (last row: at the start), ``(7, 6)``, and their number, ``(7,)``.

    No face is turned twice in a row, and of two opposite faces, whose turns commute, the first in ``FACES`` comes first:
    so no two scrambles differ only in the order of commuting turns, and none undoes a turn at once.
    """
    faces = range(len(FACES))
    allowed = [[face for face in faces if face != last and not (face == opposite(last) and face < last)] for last in faces]
    allowed.append([*faces])
    return np.array([np.resize(row, len(FACES)) for row in allowed]), np.array([len(row) for row in allowed])


_FOLLOWERS, _COUNTS = _followers()


def depth_range(value: Any) -> tuple[int, int]:
    """``scramble_depth`` as a range (lowest, highest).

    :raises ValueError: if it is neither a number of at least 1 nor a range of such numbers
    """
    if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str):
        if len(value) != 2:
            raise ValueError(f"scramble_depth is {value!r}; it must be a number of turns, or the least and the most of them.")
        low = whole("the least scramble_depth", value[0], 1)
        return low, whole("the most scramble_depth", value[1], low)
    depth = whole("scramble_depth", value, 1)
    return depth, depth


def random_scrambles(generator: np.random.Generator, depths: Array) -> Array:
    """Scrambles of ``depths``, ``(n,)``, turns: ``(n, max(depths))`` numbers of moves, padded with ``NO_MOVE``."""
    n, longest = len(depths), int(depths.max())
    chances, turns = generator.random((n, longest)), generator.integers(3, size=(n, longest))
    last = np.full(n, len(FACES))
    moves = np.full((n, longest), NO_MOVE)
    for step in range(longest):
        last = _FOLLOWERS[last, (chances[:, step] * _COUNTS[last]).astype(np.int64)]
        moves[:, step] = 3 * last + turns[:, step]
    moves[np.arange(longest) >= depths[:, None]] = NO_MOVE
    return moves


def given_moves(value: Any) -> Array:
    """Moves given by the user, as numbers ``(k,)``.

    :param value: a text such as ``"R U2 F'"``, or a list of such names or of numbers from 0 to 17
    :raises ValueError: for an invalid move
    """
    listed = value.split() if isinstance(value, str) else value
    if not isinstance(listed, Sequence | np.ndarray):
        raise ValueError(f'moves is {value!r}; it must be a text such as "R U2 F\'", or a list of moves.')
    numbers = []
    for move in listed:
        if isinstance(move, str) and move not in MOVES:
            raise ValueError(f"{move!r} is among the moves; they must be of {', '.join(MOVES)}.")
        numbers.append(MOVES.index(move) if isinstance(move, str) else whole("a move", move, 0, len(MOVES) - 1))
    return np.array(numbers, dtype=np.int64)
