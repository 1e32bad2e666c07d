"""Pictures of the plane with several goals and the paths taken."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from rlspo.envs.drawing import FAINT, INK, PAPER, Canvas, Point

Array = np.ndarray
GOAL, GOAL_EDGE, START, GRID = "#bfe6c3", "#2f8f46", "#f28e2b", "#e8edf1"
#: Colours of paths by the goal that they reach; colour of those that have reached none.
WAYS, UNDER_WAY = ("#3f86cf", "#d1343e", "#7a4fa3", "#b9770e", "#138d75", "#566573"), "#8a949c"


def draw_plane(goals: Array, ways: list[Array], half_width: float, reach: float, size: int = 440) -> Array:
    """A picture, ``(size, size, 3)`` bytes.

    :param goals: ``(n_goals, 2)``
    :param ways: paths, positions ``(n, 2)`` each; a single path is drawn with its end, several as lines
    :param half_width: of the plane
    :param reach: radius of the goals
    :param size: in pixels
    """
    canvas = Canvas(size, size, PAPER)
    unit = size / (2 * half_width)

    def at(place: Array) -> Point:
        return size / 2 + float(place[0]) * unit, size / 2 - float(place[1]) * unit

    for line in np.arange(-int(half_width), int(half_width) + 1):
        canvas.line(at(np.array([line, -half_width])), at(np.array([line, half_width])), GRID, 1)
        canvas.line(at(np.array([-half_width, line])), at(np.array([half_width, line])), GRID, 1)
    for index, goal in enumerate(goals):
        canvas.disc(at(goal), reach * unit, GOAL, GOAL_EDGE, 2)
        canvas.text(at(goal), str(index), 16, GOAL_EDGE, "mm")
    canvas.disc(at(np.zeros(2)), 5, PAPER, FAINT, 1.5)
    for way in filter(len, ways):
        distances = np.linalg.norm(goals - way[-1], axis=1)
        # positions may have been rounded
        colour = WAYS[int(distances.argmin()) % len(WAYS)] if distances.min() <= 1.01 * reach else UNDER_WAY
        for begin, end in pairwise(way):
            canvas.line(at(begin), at(end), colour, 2)
    if len(ways) == 1 and len(ways[0]):
        canvas.disc(at(ways[0][-1]), 8, START, INK, 1.5)
    return canvas.pixels()
