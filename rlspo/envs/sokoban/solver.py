"""Shortest solutions by breadth-first search. For small levels: the number of states grows fast with boxes and cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlspo.envs.sokoban.level import BOX, DIRECTIONS, PLAYER, TARGET, WALL, is_solved, parse_level

Array = np.ndarray
#: The player's cell, and a bit for the cell of each box.
State = tuple[int, int]


def solve(level: Array | str | Sequence[str], max_states: int = 2_000_000) -> list[int] | None:
    """The actions of a shortest solution (fewest moves), or None if there is none.

    :param level: planes ``(4, rows, columns)``, as the environment observes them, or text, see :mod:`.level`
    :param max_states: number of states to visit before giving up
    :raises RuntimeError: if it gave up: then it is unknown whether there is a solution
    """
    planes = level if isinstance(level, np.ndarray) else parse_level(level)
    if is_solved(planes):
        return []
    columns = planes.shape[2]
    steps = [down * columns + right for down, right in DIRECTIONS]
    floor = (planes[WALL].ravel() == 0).tolist()
    targets = _bits(planes[TARGET])
    alive = _alive(floor, steps, targets)
    start: State = (int(np.flatnonzero(planes[PLAYER])[0]), _bits(planes[BOX]))
    came: dict[State, tuple[State, int] | None] = {start: None}
    layer = [start]
    while layer:
        following = []
        for state in layer:
            player, boxes = state
            for action, step in enumerate(steps):
                cell, after = player + step, boxes
                if not floor[cell]:
                    continue
                if boxes >> cell & 1:
                    beyond = cell + step
                    # A box on a dead cell can never reach a target.
                    if boxes >> beyond & 1 or not alive[beyond]:
                        continue
                    after = boxes ^ (1 << cell) | (1 << beyond)
                new = (cell, after)
                if new in came:
                    continue
                came[new] = (state, action)
                if after == targets:
                    return _way(came, new)
                following.append(new)
        if len(came) > max_states:
            raise RuntimeError(f"solve looked at more than max_states={max_states} states; give it more, or smaller levels.")
        layer = following
    return None


def _bits(plane: Array) -> int:
    return sum(1 << int(cell) for cell in np.flatnonzero(plane))


def _alive(floor: list[bool], steps: list[int], targets: int) -> list[bool]:
    """The cells from which a single box could be pushed to a target, found by pulling boxes away from the targets."""
    alive = [bool(targets >> cell & 1) for cell in range(len(floor))]
    ahead = [cell for cell, on in enumerate(alive) if on]
    while ahead:
        cell = ahead.pop()
        for step in steps:
            before, player = cell - step, cell - 2 * step
            if 0 <= player < len(floor) and floor[before] and floor[player] and not alive[before]:
                alive[before] = True
                ahead.append(before)
    return alive


def _way(came: dict[State, Any], state: State) -> list[int]:
    actions = []
    while (step := came[state]) is not None:
        state, action = step
        actions.append(action)
    return actions[::-1]
