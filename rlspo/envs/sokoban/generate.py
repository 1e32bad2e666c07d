"""Solvable levels, generated backwards: from solved ones, by pulling the boxes away.

A pull is a push played backwards, so the pulls in reverse solve the level.
"""

from __future__ import annotations

import numpy as np

from rlspo.envs.arguments import whole
from rlspo.envs.sokoban.level import BOX, DIRECTIONS, PLAYER, TARGET, WALL, reachable

Array = np.ndarray
#: Range of the probability that an inner cell is a wall, drawn for each level.
WALLS = (0.05, 0.35)
#: Number of pulls per box.
PULLS = 16
#: Number of attempts before giving up.
TRIES = 1000


def most_boxes(rows: int, columns: int) -> int:
    """The largest number of boxes that leaves space to move them."""
    return (rows - 2) * (columns - 2) // 4


def random_level(generator: np.random.Generator, rows: int, columns: int, n_boxes: int) -> Array:
    """A level with a solution, with no box on a target, ``(4, rows, columns)`` uint8.

    Random walls, boxes on random targets; then random pulls. The state with the boxes farthest from their start (by Manhattan
    distance) is used.

    :param generator: of random numbers
    :param rows: at least 5, the outer walls included
    :param columns: at least 5
    :param n_boxes: from 1 to :func:`most_boxes`
    :raises ValueError: for numbers out of range
    :raises RuntimeError: if no level was found, usually because of too many boxes
    """
    rows, columns = whole("rows", rows, 5), whole("columns", columns, 5)
    n_boxes = whole("n_boxes", n_boxes, 1, most_boxes(rows, columns))
    for _ in range(TRIES):
        walls = _room(generator, rows, columns)
        cells = np.flatnonzero(walls.ravel() == 0)
        if len(cells) < 2 * n_boxes + 2:
            continue
        targets, *rest = np.split(generator.permutation(cells), [n_boxes])
        found = _pulled(generator, walls, targets.tolist(), int(rest[0][0]))
        if found is not None:
            planes = np.zeros((4, rows * columns), np.uint8)
            planes[WALL] = walls.ravel()
            planes[TARGET, targets] = 1
            planes[BOX, found[0]] = 1
            planes[PLAYER, found[1]] = 1
            return planes.reshape(4, rows, columns)
    raise RuntimeError(f"No level with {n_boxes} boxes was found on {rows} x {columns}; ask for fewer boxes or more room.")


def _room(generator: np.random.Generator, rows: int, columns: int) -> Array:
    """Walls, ``(rows, columns)``: scattered at random, and all but the largest connected area filled."""
    walls = np.ones((rows, columns), np.uint8)
    walls[1:-1, 1:-1] = generator.random((rows - 2, columns - 2)) < generator.uniform(*WALLS)
    left = set(np.flatnonzero(walls.ravel() == 0).tolist())
    largest: set[int] = set()
    while len(left) > len(largest):
        room = reachable(walls, min(left))
        left -= room
        largest = max(largest, room, key=len)
    filled = np.ones(rows * columns, np.uint8)
    filled[[*largest]] = 0
    return filled.reshape(rows, columns)


def _pulled(generator: np.random.Generator, walls: Array, targets: list[int], player: int) -> tuple[list[int], int] | None:
    """Boxes and player after the best of many random pulls, or None if all boxes were never off the targets."""
    columns = walls.shape[1]
    steps = [down * columns + right for down, right in DIRECTIONS]
    boxes, taken = [*targets], walls.copy()
    flat = taken.ravel()
    flat[boxes] = 1
    on_target = set(targets)
    best, best_distance = None, 0
    for chance in generator.random(PULLS * len(targets)):
        room = reachable(taken, player)
        pulls = [
            (number, step)
            for number, box in enumerate(boxes)
            for step in steps
            if box + step in room and not flat[box + 2 * step]
        ]
        if not pulls:
            break
        number, step = pulls[int(chance * len(pulls))]
        flat[boxes[number]] = 0
        boxes[number] += step
        flat[boxes[number]] = 1
        player = boxes[number] + step
        if on_target.isdisjoint(boxes):
            distance = sum(_distance(box, home, columns) for box, home in zip(boxes, targets, strict=True))
            if distance > best_distance:
                best, best_distance = ([*boxes], player), distance
    if best is None:
        return None
    # The player may start anywhere that can be reached from its last position.
    boxes, player = best
    taken = walls.copy()
    taken.ravel()[boxes] = 1
    choices = sorted(reachable(taken, player))
    return boxes, choices[int(generator.integers(len(choices)))]


def _distance(one: int, other: int, columns: int) -> int:
    (i, j), (k, m) = divmod(one, columns), divmod(other, columns)
    return abs(i - k) + abs(j - m)
