"""Pictures of the lake: the map, the last decision, and the slip after it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlspo.envs.drawing import FAINT, INK, PAPER, Canvas, Point
from rlspo.envs.frozen_lake_model import Lake

Array = np.ndarray

ICE, ICE_EDGE, WATER, WATER_EDGE = "#e4f1f8", "#c3dbe8", "#1d3f5e", "#122b42"
GOAL, START, AGENT, SLIDE, DECISION = "#bfe6c3", "#f6ead0", "#f28e2b", "#d1343e", "#3f86cf"


class Track(NamedTuple):
    """The last step of an episode and the episode's sums, for a picture.

    :param before: cell in which the last decision was made; None before the first
    :param post: post-decision state that it led to
    :param reward: of the last step
    :param steps: so far
    :param total: sum of rewards
    :param over: whether the episode has terminated
    """

    before: int | None = None
    post: int | None = None
    reward: float = 0.0
    steps: int = 0
    total: float = 0.0
    over: bool = False

    def after(self, before: int, post: int, reward: float, over: bool) -> Track:
        """The track one step later."""
        return Track(before, post, reward, self.steps + 1, self.total + reward, over)


def lake_text(lake: Lake, cell: int, track: Track) -> str:
    """The map as text: ``@`` for the agent, ``x`` for the intended cell if it slipped from there."""
    tiles = list("".join(lake.desc))
    if track.post is not None and track.post != lake.over:
        tiles[track.post] = "x"
    tiles[cell] = "@"
    rows = ["".join(tiles[row * lake.columns : (row + 1) * lake.columns]) for row in range(lake.rows)]
    return "\n".join([*rows, f"step {track.steps}, return {track.total:.2f}: {_story(lake, cell, track)}", ""])


def draw_lake(lake: Lake, cell: int, track: Track) -> Array:
    """The map as a picture, ``(height, width, 3)`` bytes, about 480 pixels wide."""
    tile = max(20, 480 // max(lake.rows, lake.columns))
    width, height = max(320, tile * lake.columns), tile * lake.rows
    left = (width - tile * lake.columns) / 2
    canvas = Canvas(width, height + 52)

    def centre(number: int) -> Point:
        row, column = divmod(number, lake.columns)
        return left + (column + 0.5) * tile, (row + 0.5) * tile

    for number, letter in enumerate("".join(lake.desc)):
        _tile(canvas, centre(number), tile, letter)
    place, thick = centre(cell), min(max(2.0, tile / 14), 4.5)
    canvas.disc(place, 0.27 * tile, AGENT, PAPER if lake.holes[cell] else INK, thick / 1.5)
    if track.before is not None and track.post is not None and track.post != lake.over:
        intended = centre(track.post)
        if cell != track.post:
            canvas.dashed_circle(intended, 0.27 * tile, AGENT, thick / 1.5)
        _between(canvas, centre(track.before), intended, DECISION, thick)
        _between(canvas, intended, place, SLIDE, thick)
    x = max(left, 8.0)
    canvas.text((x, height + 16), f"step {track.steps}   reward {track.reward:+.2f}   return {track.total:.2f}", 15)
    canvas.text((x, height + 38), _story(lake, cell, track), 14, SLIDE if cell != track.post and track.steps else FAINT)
    return canvas.pixels()


def _tile(canvas: Canvas, centre: Point, tile: float, letter: str) -> None:
    x, y = centre[0] - tile / 2, centre[1] - tile / 2
    canvas.box(x, y, tile, tile, {"G": GOAL, "S": START}.get(letter, ICE), ICE_EDGE, line=1)
    if letter == "H":
        canvas.disc(centre, 0.41 * tile, WATER, WATER_EDGE, line=2)
    elif letter == "S":
        canvas.text(centre, "S", 0.45 * tile, FAINT, "mm")
    elif letter == "G":
        pole = centre[0] - 0.16 * tile
        canvas.line((pole, y + 0.18 * tile), (pole, y + 0.84 * tile), INK, max(1.5, tile / 20))
        flag = [(pole, y + 0.18 * tile), (pole + 0.44 * tile, y + 0.33 * tile), (pole, y + 0.48 * tile)]
        canvas.polygon(flag, "#2f8f46")


def _between(canvas: Canvas, begin: Point, end: Point, colour: str, thick: float) -> None:
    """An arrow from cell to cell, slightly to the right of the line, so that opposite arrows are next to each other."""
    right, down = end[0] - begin[0], end[1] - begin[1]

    def point(along: float) -> Point:
        return begin[0] + along * right - 0.13 * down, begin[1] + along * down + 0.13 * right

    canvas.arrow(point(0.2), point(0.76), colour, thick)


def _story(lake: Lake, cell: int, track: Track) -> str:
    """A description of the last step."""
    if track.post is None:
        return "at the start"
    if track.post == lake.over:
        return "decided in a hole: over"
    if cell == lake.goal:
        return "reached the goal" if cell == track.post else "slid into the goal"
    where = " into a hole" if lake.holes[cell] else ""
    if cell != track.post:
        return f"slid{where}, away from where it meant to be"
    return "moved into a hole" if where else "stayed where it meant to be"
