"""The cube as a puzzle: 54 stickers, 18 moves."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from rlspo.envs.puzzle import Puzzle, Tensor, Tensors
from rlspo.envs.rubiks_cube.geometry import FACES, MOVES, N_STICKERS, move_sources
from rlspo.envs.rubiks_cube.picture import cube_text, draw_cube
from rlspo.envs.rubiks_cube.reachable import checked_stickers
from rlspo.envs.rubiks_cube.scramble import NO_MOVE, depth_range, given_moves, random_scrambles

Array = np.ndarray


class Cube(Puzzle):
    """The rules. States: ``stickers``, ``(n, 54)`` int64, the colour at each place.

    :param scramble_depth: turns of a random scramble: a number, or a range (lowest, highest)
    """

    meaning = f"{', '.join(MOVES)}"
    only_begins = ("scramble_depth",)

    def __init__(self, scramble_depth: int | tuple[int, int] = (3, 7)) -> None:
        self.scramble_depth = depth_range(scramble_depth)
        self.observation_space = spaces.MultiDiscrete([len(FACES)] * N_STICKERS)
        self.action_space = spaces.Discrete(len(MOVES))
        self.solved = torch.arange(len(FACES)).repeat_interleave(9)
        self._sources = torch.from_numpy(move_sources())

    def begin(self, generator: np.random.Generator, n: int, options: dict[str, Any]) -> tuple[Tensors, dict[str, Array]]:
        """Scrambled cubes; the options are ``scramble_depth``, ``moves`` and ``stickers``, at most one of them.

        ``info["scramble_depth"]`` is the number of turns of the scramble, -1 where stickers were given.
        """
        unknown = sorted(set(options) - {"scramble_depth", "moves", "stickers"})
        if unknown:
            raise ValueError(f"reset has no option {', '.join(unknown)}; it has scramble_depth, moves and stickers.")
        if len(options) > 1:
            raise ValueError(f"reset has the options {', '.join(sorted(options))}; give one of them.")
        if "stickers" in options:
            stickers = torch.from_numpy(checked_stickers(options["stickers"])).repeat(n, 1)
            depths = np.full(n, -1)
        elif "moves" in options:
            moves = given_moves(options["moves"])
            stickers, depths = self.scrambled(np.tile(moves, (n, 1))), np.full(n, len(moves))
        else:
            low, high = depth_range(options.get("scramble_depth", self.scramble_depth))
            stickers, depths = self._random(generator, n, low, high)
        if self.is_solved(stickers).any():
            raise ValueError(f"The option {next(iter(options))} gives a solved cube: there is nothing to solve.")
        return {"stickers": stickers}, {"scramble_depth": depths}

    def _random(self, generator: np.random.Generator, n: int, low: int, high: int) -> tuple[Tensor, Array]:
        depths = generator.integers(low, high + 1, size=n)
        stickers = self.scrambled(random_scrambles(generator, depths))
        # From eight turns on, a scramble can return to the solved cube: draw it again.
        while (again := self.is_solved(stickers)).any():
            stickers[again] = self.scrambled(random_scrambles(generator, depths[again.numpy()]))
        return stickers, depths

    def scrambled(self, moves: Array) -> Tensor:
        """The solved cube after ``moves``, ``(n, k)``: ``(n, 54)``. At ``NO_MOVE`` nothing is turned."""
        table = torch.cat([self._sources, torch.arange(N_STICKERS)[None]])
        assert len(table) == NO_MOVE + 1
        stickers = self.solved.repeat(len(moves), 1)
        for column in torch.from_numpy(moves).T:
            stickers = stickers.gather(1, table.index_select(0, column))
        return stickers

    def is_solved(self, stickers: Tensor) -> Tensor:
        """Which cubes are solved, ``(n,)``."""
        return (stickers == self.solved).all(dim=1)

    def step(self, states: Tensors, actions: Tensor) -> tuple[Tensors, Tensor, Tensor]:
        """Turn a face of each cube; the reward is 1 for solving it."""
        # index_select, unlike indexing, raises for negative numbers.
        stickers = states["stickers"].gather(1, self._sources.index_select(0, actions))
        solved = self.is_solved(stickers)
        return {"stickers": stickers}, solved.double(), solved

    def observe(self, states: Tensors) -> Tensor:
        """The stickers."""
        return states["stickers"]

    def draw(self, states: Tensors) -> Array:
        """The unfolded cube."""
        return draw_cube(states["stickers"][0].tolist())

    def text(self, states: Tensors) -> str:
        """The unfolded cube, each sticker the letter of the face that it belongs to."""
        return cube_text(states["stickers"][0].tolist())
