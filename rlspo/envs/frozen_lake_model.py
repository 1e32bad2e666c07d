"""The lake: its map, the result of a decision, and the slips that may follow."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from gymnasium.envs.toy_text.frozen_lake import generate_random_map

from rlspo.envs.arguments import number, whole
from rlspo.envs.tabular import TabularModel

Array = np.ndarray
#: (probability, next cell, r^w, whether the episode terminates)
Outcome = tuple[float, int, float, bool]

MOVES = ((0, -1), (1, 0), (0, 1), (-1, 0))  # left, down, right, up: gymnasium's order
N_ACTIONS = len(MOVES)


def random_map(size: int, seed: int) -> list[str]:
    """A square map with a way to the goal over ice; each tile is ice with probability 0.8.

    :param size: rows and columns, at least 2
    :param seed: of the map alone
    """
    return generate_random_map(whole("size", size, 2), p=0.8, seed=whole("map_seed", seed, 0))


class Lake:
    """Exact dynamics of the lake. Cells are numbered row by row; the post-decision state ``n_cells`` means "over".

    :param desc: rows of S (start), F (ice), H (hole) and G (goal), all of one length, with one S and one G
    :param slip_probability: probability of a second move after the decided one, in [0, 1]
    :param slip_seed: of each tile's distribution of slip directions, drawn from Dirichlet(1, 1, 1, 1)
    :raises ValueError: for an invalid map, for a goal that cannot be reached over ice, and for numbers out of range
    """

    def __init__(self, desc: Sequence[str], slip_probability: float, slip_seed: int) -> None:
        self.desc = _checked(desc)
        self.slip_probability = number("slip_probability", slip_probability, 0.0, 1.0)
        self.rows, self.columns = len(self.desc), len(self.desc[0])
        self.n_cells = self.over = self.rows * self.columns
        tiles = "".join(self.desc)
        self.start, self.goal = tiles.index("S"), tiles.index("G")
        self.holes = np.array([tile == "H" for tile in tiles])
        generator = np.random.default_rng(whole("slip_seed", slip_seed, 0))
        self.slip_directions = generator.dirichlet(np.ones(N_ACTIONS), self.n_cells)

    def move(self, cell: int, direction: int) -> int:
        """The neighbouring cell, or the same one at the border."""
        return _move(cell, direction, self.rows, self.columns)

    def reward(self, cell: int) -> float:
        """1 / (1 + Manhattan distance to the goal), less 1 / (rows + columns) for a hole."""
        (row, column), (goal_row, goal_column) = divmod(cell, self.columns), divmod(self.goal, self.columns)
        near = 1.0 / (1 + abs(row - goal_row) + abs(column - goal_column))
        return near - bool(self.holes[cell]) / (self.rows + self.columns)

    def decide(self, cell: int, action: int) -> tuple[int, float]:
        """f and r^x: the post-decision state and the part of the reward that is known with it."""
        # Any action in a hole ends the episode; at the goal it is over already.
        if self.holes[cell] or cell == self.goal:
            return self.over, 0.0
        intended = self.move(cell, action)
        return intended, self.reward(intended)

    def chance(self, post: int, cell: int) -> list[Outcome]:
        """Outcomes that may follow the post-decision state.

        :param cell: the cell before the decision, where the agent stays when the episode is over
        """
        if post == self.over:
            return [(1.0, cell, 0.0, True)]
        if post == self.goal:
            return [(1.0, post, 0.0, True)]
        outcomes: list[Outcome] = [(1.0 - self.slip_probability, post, 0.0, False)]
        for direction, chance in enumerate(self.slip_directions[post].tolist()):
            slid = self.move(post, direction)
            outcomes.append((self.slip_probability * chance, slid, self.reward(slid), slid == self.goal))
        return [outcome for outcome in outcomes if outcome[0] > 0.0]

    def transitions(self, cell: int, action: int) -> tuple[int, float, list[Outcome]]:
        """All possible results of one step.

        :return: the post-decision state, r^x, and for each outcome its probability, the next cell, r^w, and whether the
            episode terminates
        """
        post, reward = self.decide(cell, action)
        return post, reward, self.chance(post, cell)

    @cached_property
    def model(self) -> TabularModel:
        """The lake as arrays: states are cells, post-decision states are cells and "over"."""
        decisions = [[self.decide(cell, action) for action in range(N_ACTIONS)] for cell in range(self.n_cells)]
        transition = np.zeros((self.n_cells + 1, self.n_cells))
        reward = np.zeros(self.n_cells + 1)
        for post in range(self.n_cells):
            for probability, cell, earned, terminated in self.chance(post, post):
                reward[post] += probability * earned
                transition[post, cell] += probability * (not terminated)
        return TabularModel(
            post=np.array([[post for post, _ in row] for row in decisions]),
            decision_reward=np.array([[reward for _, reward in row] for row in decisions]),
            transition=transition,
            chance_reward=reward,
            start=np.eye(self.n_cells)[self.start],
        )


def _move(cell: int, direction: int, rows: int, columns: int) -> int:
    row, column = divmod(cell, columns)
    down, right = MOVES[direction]
    return min(max(row + down, 0), rows - 1) * columns + min(max(column + right, 0), columns - 1)


def _checked(desc: Sequence[str]) -> list[str]:
    form = "it must be a list of rows of one length, of the letters S, F, H and G, with one S and one G"
    if isinstance(desc, str) or not desc or not all(isinstance(row, str) for row in desc):
        raise ValueError(f'desc is {desc!r}; {form}, as in ["SFF", "FHG"].')
    rows = list(desc)
    tiles = "".join(rows)
    if len({len(row) for row in rows}) > 1 or set(tiles) - set("SFHG") or tiles.count("S") != 1 or tiles.count("G") != 1:
        raise ValueError(f"desc is {rows}; {form}.")
    reached, frontier = {tiles.index("S")}, [tiles.index("S")]
    while frontier:
        cell = frontier.pop()
        neighbours = {_move(cell, direction, len(rows), len(rows[0])) for direction in range(N_ACTIONS)}
        fresh = {neighbour for neighbour in neighbours - reached if tiles[neighbour] != "H"}
        reached |= fresh
        frontier += fresh
    if tiles.index("G") not in reached:
        raise ValueError(f"desc is {rows}; there is no way over ice from S to G: turn a hole (H) in between into ice (F).")
    return rows
