"""Sokoban as a puzzle: planes of zeros and ones, and a player who pushes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from rlspo.envs.arguments import whole
from rlspo.envs.puzzle import Puzzle, Tensor, Tensors
from rlspo.envs.sokoban.generate import most_boxes, random_level
from rlspo.envs.sokoban.level import BOX, DIRECTIONS, PLAYER, TARGET, WALL, level_text, parse_level
from rlspo.envs.sokoban.picture import draw_level

Array = np.ndarray
#: Rewards of each step, of a box moved onto a target (negative when moved off), and of solving the level.
STEP, ON_TARGET, SOLVED = -0.1, 1.0, 10.0
#: Contents of a cell as bits, in the order of the planes; a cell is their sum.
BITS = tuple(1 << plane for plane in (WALL, TARGET, BOX, PLAYER))
_WALL, _TARGET, _BOX, _PLAYER = BITS


def one_step(front: int, behind: int) -> tuple[bool, bool, int]:
    """Whether the player moves, whether a box is pushed, and the change in the number of boxes on targets.

    :param front: contents of the cell in front of the player
    :param behind: contents of the cell behind that one
    """
    if front & _WALL:
        return False, False, 0
    if not front & _BOX:
        return True, False, 0
    if behind & (_WALL | _BOX):
        return False, False, 0
    return True, True, bool(behind & _TARGET) - bool(front & _TARGET)


class Sokoban(Puzzle):
    """The rules. States: ``cells``, their contents (:data:`BITS`), row by row, ``(n, rows * columns)`` uint8; the
    ``player``'s cell, ``(n,)`` int64; and the number of boxes that are ``left`` to move to a target, ``(n,)`` int64.

    :param size: rows and columns of levels, or one number for both, including the outer walls
    :param n_boxes: boxes of a level
    :param levels: texts of levels to draw from; they then determine ``size`` and ``n_boxes``
    """

    meaning = "up, down, left, right"
    only_begins = ("levels", "n_boxes")

    def __init__(self, size: int | Sequence[int] = 7, n_boxes: int = 2, levels: Sequence[str] | None = None) -> None:
        self.levels: Array | None = None
        if levels is None:
            self.size = _size(size)
            self.n_boxes = whole("n_boxes", n_boxes, 1, most_boxes(*self.size))
        else:
            self.levels = _same_size(levels)
            self.size = self.levels.shape[2:]
        rows, columns = self.size
        self.observation_space = spaces.Box(0, 1, (4, rows, columns), np.uint8)
        self.action_space = spaces.Discrete(len(DIRECTIONS))
        ways = torch.tensor([down * columns + right for down, right in DIRECTIONS])
        #: For each action, offsets to the player's own cell, the one in front and the one behind that.
        self._ways = ways[:, None] * torch.arange(3)
        self._bits = torch.tensor(BITS, dtype=torch.uint8)[:, None]
        # For all combinations, 16 * front + behind: whether the player moves, which bits of the three cells change, and the
        # change in the number of boxes on targets.
        met = [one_step(front, behind) for front in range(16) for behind in range(16)]
        self._key = torch.tensor([0, 16, 1])
        self._walks = torch.tensor([int(walks) for walks, _, _ in met])
        changes = [(walks * _PLAYER, walks * _PLAYER + pushes * _BOX, pushes * _BOX) for walks, pushes, _ in met]
        self._changes = torch.tensor(changes, dtype=torch.uint8)
        self._gained = torch.tensor([gained for *_, gained in met])

    def begin(self, generator: np.random.Generator, n: int, options: dict[str, Any]) -> tuple[Tensors, dict[str, Array]]:
        """A level for each state; the only option is ``level``: its rows, no larger than ``size``."""
        unknown = sorted(set(options) - {"level"})
        if unknown:
            raise ValueError(f"reset has no option {', '.join(unknown)}; it has level.")
        if "level" in options:
            planes = np.tile(parse_level(options["level"], self.size), (n, 1, 1, 1))
        elif self.levels is not None:
            planes = self.levels[generator.integers(len(self.levels), size=n)]
        else:
            planes = np.stack([random_level(generator, *self.size, self.n_boxes) for _ in range(n)])
        flat = torch.from_numpy(planes).flatten(2)
        cells = (flat * self._bits).sum(dim=1, dtype=torch.uint8)
        left = (flat[:, BOX] > flat[:, TARGET]).sum(dim=1)
        return {"cells": cells, "player": flat[:, PLAYER].argmax(dim=1), "left": left}, {}

    def step(self, states: Tensors, actions: Tensor) -> tuple[Tensors, Tensor, Tensor]:
        """Move, or push a box if the cell behind it is free; otherwise stay."""
        # index_select, unlike indexing, refuses negative numbers.
        ways, cells, player = self._ways.index_select(0, actions), states["cells"], states["player"]
        # Where that is outside of the level, a wall is in front, and cells beyond it do not matter.
        places = (player[:, None] + ways).clamp(0, cells.shape[1] - 1)
        held = cells.gather(1, places)
        key = (held * self._key).sum(dim=1)
        gained = self._gained.index_select(0, key)
        new = {
            "cells": cells.scatter(1, places, held ^ self._changes.index_select(0, key)),
            "player": player + ways[:, 1] * self._walks.index_select(0, key),
            "left": states["left"] - gained,
        }
        solved = new["left"] == 0
        return new, STEP + ON_TARGET * gained.double() + SOLVED * solved, solved

    def observe(self, states: Tensors) -> Tensor:
        """Walls, targets, boxes and the player."""
        planes = (states["cells"][:, None] & self._bits).clamp_(max=1)
        return planes.view(-1, len(BITS), *self.size)

    def draw(self, states: Tensors) -> Array:
        """The level."""
        return draw_level(self.observe(states)[0].numpy())

    def text(self, states: Tensors) -> str:
        """The level in the usual characters."""
        return level_text(self.observe(states)[0].numpy())


def _size(size: Any) -> tuple[int, int]:
    if isinstance(size, Sequence | np.ndarray) and not isinstance(size, str):
        if len(size) != 2:
            raise ValueError(f"size is {size!r}; it must be a whole number, or rows and columns.")
        return whole("the rows of size", size[0], 5), whole("the columns of size", size[1], 5)
    side = whole("size", size, 5)
    return side, side


def _same_size(levels: Sequence[str]) -> Array:
    """All levels, padded with walls to the size of the largest, ``(n, 4, rows, columns)``."""
    if isinstance(levels, str) or not len(levels):
        raise ValueError(f"levels is {levels!r}; it must be a list of levels, each a text, with one at least.")
    sizes = [parse_level(level).shape[1:] for level in levels]
    size = (max(rows for rows, _ in sizes), max(columns for _, columns in sizes))
    return np.stack([parse_level(level, size) for level in levels])
