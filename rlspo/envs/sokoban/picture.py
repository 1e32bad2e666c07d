"""Pictures of Sokoban: brick walls, boxes of wood, red targets and a green player."""

from __future__ import annotations

import itertools

import numpy as np

from rlspo.envs.drawing import FAINT, INK, Canvas
from rlspo.envs.sokoban.level import BOX, TARGET, is_solved

FLOOR, FLOOR_EDGE, BRICK, MORTAR = "#f1e9da", "#e6dcc9", "#a2553f", "#7c3d2c"
WOOD, WOOD_EDGE, HOME, HOME_EDGE = "#e0a33a", "#8a5a17", "#d9534a", "#8f231d"
RED, GREEN, GREEN_EDGE = "#d1343e", "#3fa45b", "#1f6d38"


def draw_level(planes: np.ndarray) -> np.ndarray:
    """The level as a picture, ``(height, width, 3)`` bytes, about 420 pixels wide."""
    _, rows, columns = planes.shape
    tile = max(16, 420 // max(rows, columns))
    width, height = max(220, tile * columns), tile * rows
    left = (width - tile * columns) / 2
    canvas = Canvas(width, height + 30)
    for row in range(rows):
        for column in range(columns):
            x, y = left + column * tile, row * tile
            wall, target, box, player = planes[:, row, column]
            if wall:
                _bricks(canvas, x, y, tile)
                continue
            canvas.box(x, y, tile, tile, FLOOR, FLOOR_EDGE, line=1)
            if target:
                middle = (x + tile / 2, y + tile / 2)
                canvas.disc(middle, 0.2 * tile, None, RED, tile / 16)
                canvas.disc(middle, 0.08 * tile, RED)
            if box:
                _crate(canvas, x, y, tile, *((HOME, HOME_EDGE) if target else (WOOD, WOOD_EDGE)))
            if player:
                if target:
                    canvas.disc((x + tile / 2, y + tile / 2), 0.44 * tile, None, RED, tile / 16)
                _player(canvas, x, y, tile)
    on = int((planes[BOX] & planes[TARGET]).sum())
    words = "solved" if is_solved(planes) else f"{on} of {int(planes[BOX].sum())} boxes on targets"
    canvas.text((left + 6, height + 15), words, 15, INK if is_solved(planes) else FAINT)
    return canvas.pixels()


def _bricks(canvas: Canvas, x: float, y: float, tile: float) -> None:
    """Three rows of bricks, the middle one shifted by half a brick."""
    canvas.box(x, y, tile, tile, MORTAR)
    course, joint = tile / 3, max(1.0, tile / 28)
    for i in range(3):
        ends = [0.0, 0.5, 1.0] if i % 2 == 0 else [0.0, 0.25, 0.75, 1.0]
        for begin, end in itertools.pairwise(ends):
            canvas.box(
                x + begin * tile + joint / 2, y + i * course + joint / 2, (end - begin) * tile - joint, course - joint, BRICK
            )


def _crate(canvas: Canvas, x: float, y: float, tile: float, fill: str, edge: str) -> None:
    a, b, thick = 0.12 * tile, 0.88 * tile, tile / 14
    canvas.box(x + a, y + a, b - a, b - a, fill, edge, radius=tile / 16, line=thick)
    c, d = 0.24 * tile, 0.76 * tile
    canvas.line((x + c, y + c), (x + d, y + d), edge, thick)
    canvas.line((x + c, y + d), (x + d, y + c), edge, thick)


def _player(canvas: Canvas, x: float, y: float, tile: float) -> None:
    """A body, a head and two eyes."""
    middle = x + tile / 2
    canvas.box(middle - 0.24 * tile, y + 0.5 * tile, 0.48 * tile, 0.38 * tile, GREEN, GREEN_EDGE, radius=0.14 * tile)
    canvas.disc((middle, y + 0.34 * tile), 0.21 * tile, GREEN, GREEN_EDGE)
    for side in (-0.08, 0.08):
        canvas.disc((middle + side * tile, y + 0.32 * tile), 0.045 * tile, "#ffffff")
