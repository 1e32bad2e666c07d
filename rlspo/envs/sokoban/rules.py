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
#: Paid for each step, for a box that comes to a target (minus this where it leaves one), and for solving the level.
STEP, ON_TARGET, SOLVED = -0.1, 1.0, 10.0


class Sokoban(Puzzle):
    """The rules. States: ``planes``, ``(n, 4, rows, columns)`` uint8, and the ``player``'s cell, row by row, ``(n,)``.

    :param size: rows and columns of levels, or one number for both, the outer walls included
    :param n_boxes: boxes of a level
    :param levels: texts of levels to draw from instead of making them; ``size`` and ``n_boxes`` are theirs then
    """

    meaning = "up, down, left, right"

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
        self._steps = torch.tensor([down * columns + right for down, right in DIRECTIONS])

    def begin(self, generator: np.random.Generator, n: int, options: dict[str, Any]) -> tuple[Tensors, dict[str, Array]]:
        """A level each; the only option is ``level``: its rows, no larger than ``size``."""
        unknown = sorted(set(options) - {"level"})
        if unknown:
            raise ValueError(f"reset has no option {', '.join(unknown)}; it has level.")
        if "level" in options:
            planes = np.tile(parse_level(options["level"], self.size), (n, 1, 1, 1))
        elif self.levels is not None:
            planes = self.levels[generator.integers(len(self.levels), size=n)]
        else:
            planes = np.stack([random_level(generator, *self.size, self.n_boxes) for _ in range(n)])
        player = planes[:, PLAYER].reshape(n, -1).argmax(axis=1)
        return {"planes": torch.from_numpy(planes), "player": torch.from_numpy(player)}, {}

    def step(self, states: Tensors, actions: Tensor) -> tuple[Tensors, Tensor, Tensor]:
        """Walk, or push a box if the cell behind it is free; otherwise stay."""
        player, cells = states["player"], states["planes"].flatten(2).clone()
        # index_select, unlike indexing, refuses negative numbers.
        step = self._steps.index_select(0, actions)
        front = player + step
        # Where that leaves the level, a wall is in front, and what lies beyond does not count.
        ahead = torch.stack([front, (front + step).clamp(0, cells.shape[2] - 1)], dim=1)
        wall, target, box = (cells[:, plane].gather(1, ahead) for plane in (WALL, TARGET, BOX))
        blocked = (wall | box).bool()
        push = box[:, 0].bool() & ~blocked[:, 1]
        moves = push | ~blocked[:, 0]
        there = torch.where(moves, front, player)
        pushed = push[:, None].to(torch.uint8)
        cells[:, BOX].scatter_(1, ahead[:, :1], box[:, :1] ^ pushed).scatter_(1, ahead[:, 1:], box[:, 1:] | pushed)
        cells[:, PLAYER].scatter_(1, player[:, None], 0).scatter_(1, there[:, None], 1)
        solved = ~(cells[:, BOX] > cells[:, TARGET]).any(dim=1)
        gained = (target[:, 1].double() - target[:, 0].double()) * push
        rewards = STEP + ON_TARGET * gained + SOLVED * solved
        return {"planes": cells.view_as(states["planes"]), "player": there}, rewards, solved

    def observe(self, states: Tensors) -> Tensor:
        """Walls, targets, boxes and the player."""
        return states["planes"]

    def draw(self, states: Tensors) -> Array:
        """The level."""
        return draw_level(states["planes"][0].numpy())

    def text(self, states: Tensors) -> str:
        """The level in the usual characters."""
        return level_text(states["planes"][0].numpy())


def _size(size: Any) -> tuple[int, int]:
    if isinstance(size, Sequence | np.ndarray) and not isinstance(size, str):
        if len(size) != 2:
            raise ValueError(f"size is {size!r}; it must be a whole number, or rows and columns.")
        return whole("the rows of size", size[0], 5), whole("the columns of size", size[1], 5)
    side = whole("size", size, 5)
    return side, side


def _same_size(levels: Sequence[str]) -> Array:
    """All levels, filled up with walls to the size of the largest, ``(n, 4, rows, columns)``."""
    if isinstance(levels, str) or not len(levels):
        raise ValueError(f"levels is {levels!r}; it must be a list of levels, each a text, with one at least.")
    sizes = [parse_level(level).shape[1:] for level in levels]
    size = (max(rows for rows, _ in sizes), max(columns for _, columns in sizes))
    return np.stack([parse_level(level, size) for level in levels])
