"""Which colourings of a cube can be reached by turns: a cube that was taken apart or repainted may have no solution."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from rlspo.envs.rubiks_cube.geometry import CUBES, FACES, LOOKS, N_STICKERS

Array = np.ndarray
Piece = tuple[int, ...]


def _pieces() -> tuple[list[Piece], list[Piece]]:
    """The places of each corner's three stickers, clockwise as seen from outside, and of each edge's two."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, cube in enumerate(CUBES.tolist()):
        groups.setdefault((*cube,), []).append(i)
    corners: list[Piece] = []
    edges: list[Piece] = []
    for places in groups.values():
        if len(places) == 2:
            edges.append((*places,))
        elif len(places) == 3:
            a, b, c = places
            clockwise = np.linalg.det(LOOKS[[a, b, c]]) < 0
            corners.append((a, b, c) if clockwise else (a, c, b))
    return corners, edges


_CORNERS, _EDGES = _pieces()


def checked_stickers(value: Any) -> Array:
    """The colours of 54 stickers as int64, if they can be reached from the solved cube.

    The known conditions: every piece occurs once, in any orientation; the permutations of corners and edges are
    both even or both odd; the corners' twists sum to a multiple of 3 and the edges' flips to an even number.

    :raises ValueError: if they cannot, with the reason
    """
    colours = np.asarray(value)
    if colours.shape != (N_STICKERS,) or colours.dtype.kind not in "iu" or colours.min() < 0 or colours.max() >= len(FACES):
        raise ValueError(f"stickers are {value!r}; they must be {N_STICKERS} whole numbers from 0 to {len(FACES) - 1}.")
    home = np.repeat(np.arange(len(FACES)), 9)
    if (colours[4::9] != home[4::9]).any():
        raise ValueError("stickers have other colours in the middles of the faces than 0 to 5 in order: turn the whole cube.")
    counts = Counter(colours.tolist())
    if set(counts.values()) != {9}:
        raise ValueError(f"stickers have the colours {dict(sorted(counts.items()))} times; each must be there 9 times.")
    corner_order, twists = _placed(_CORNERS, colours, home, "corner")
    edge_order, flips = _placed(_EDGES, colours, home, "edge")
    if sum(twists) % 3:
        raise ValueError("stickers show a corner that was twisted by itself: no turns lead there.")
    if sum(flips) % 2:
        raise ValueError("stickers show an edge that was flipped by itself: no turns lead there.")
    if _odd(corner_order) != _odd(edge_order):
        raise ValueError("stickers show two pieces that were swapped by themselves: no turns lead there.")
    return colours.astype(np.int64)


def _placed(pieces: list[Piece], colours: Array, home: Array, kind: str) -> tuple[list[int], list[int]]:
    """The piece at each place, and its orientation."""
    known = {}
    for number, piece in enumerate(pieces):
        painted = [int(home[i]) for i in piece]
        for turn in range(len(piece)):
            known[(*painted[turn:], *painted[:turn])] = number, turn
    order, turns = [], []
    for piece in pieces:
        painted_here = (*(int(colours[i]) for i in piece),)
        if painted_here not in known:
            raise ValueError(
                f"stickers show the colours {painted_here} on one {kind}; no piece of a cube has them, in this order."
            )
        number, turn = known[painted_here]
        order.append(number)
        turns.append(turn)
    if len(set(order)) < len(order):
        raise ValueError(f"stickers show the same {kind} twice.")
    return order, turns


def _odd(order: list[int]) -> bool:
    """Whether a permutation is odd."""
    seen: set[int] = set()
    cycles = 0
    for start in order:
        cycles += start not in seen
        while start not in seen:
            seen.add(start)
            start = order[start]
    return (len(order) - cycles) % 2 == 1
