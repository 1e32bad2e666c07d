"""Drawing for pictures of environments: a canvas that is drawn large and shrunk, so that edges are smooth.

Pillow is imported when the first picture is asked for.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import gymnasium as gym
import numpy as np

Array = np.ndarray
Colour = str
Point = tuple[float, float]

INK = "#22313f"
FAINT = "#8796a5"
PAPER = "#ffffff"
#: Factor by which the canvas is drawn larger.
SCALE = 3


def check_render_mode(mode: str | None, *modes: str) -> None:
    """Check that an environment has a render mode and that it can be drawn here.

    :param modes: those of the environment, besides None
    :raises ValueError: for another
    """
    if mode is not None and mode not in modes:
        raise ValueError(f"render_mode is {mode!r}; it must be {', '.join(map(repr, modes))} or None.")


class Canvas:
    """A canvas to draw on, in pixels of the finished picture.

    :param width: in pixels
    :param height: in pixels
    :param paper: background
    """

    def __init__(self, width: int, height: int, paper: Colour = PAPER) -> None:
        from PIL import Image, ImageDraw

        self.size = (width, height)
        self._image = Image.new("RGB", (width * SCALE, height * SCALE), paper)
        self._draw = ImageDraw.Draw(self._image)

    def box(
        self, x: float, y: float, width: float, height: float, fill: Colour | None, edge: Colour | None = None, **style: float
    ) -> None:
        """A rectangle by its upper left corner; nothing where it has no size.

        :param style: ``radius`` of the corners and ``line``, the width of the edge
        """
        if min(width, height) * SCALE < 1:
            return
        corners = [x * SCALE, y * SCALE, (x + width) * SCALE - 1, (y + height) * SCALE - 1]
        line = round(style.get("line", 1.5) * SCALE)
        self._draw.rounded_rectangle(corners, style.get("radius", 0) * SCALE, fill, edge, line if edge else 0)

    def disc(self, centre: Point, radius: float, fill: Colour | None, edge: Colour | None = None, line: float = 1.5) -> None:
        """A circle."""
        self._draw.ellipse(_around(centre, radius), fill, edge, round(line * SCALE) if edge else 0)

    def dashed_circle(self, centre: Point, radius: float, colour: Colour, line: float = 2, dashes: int = 10) -> None:
        """A circle of dashes."""
        for dash in range(dashes):
            begin = 360 * dash / dashes
            self._draw.arc(_around(centre, radius), begin, begin + 220 / dashes, colour, round(line * SCALE))

    def polygon(self, points: list[Point], fill: Colour) -> None:
        """A filled polygon."""
        self._draw.polygon([(x * SCALE, y * SCALE) for x, y in points], fill)

    def line(self, begin: Point, end: Point, colour: Colour, width: float = 2) -> None:
        """A straight line."""
        self._draw.line([c * SCALE for c in (*begin, *end)], colour, round(width * SCALE))

    def arrow(self, begin: Point, end: Point, colour: Colour, width: float = 3) -> None:
        """A straight arrow; nothing where both ends are one point."""
        (x0, y0), (x1, y1) = begin, end
        length = math.hypot(x1 - x0, y1 - y0)
        if length == 0:
            return
        along, head = ((x1 - x0) / length, (y1 - y0) / length), 3.2 * width
        neck = (x1 - head * along[0], y1 - head * along[1])
        side = (-along[1] * head * 0.55, along[0] * head * 0.55)
        self.line(begin, neck, colour, width)
        self.polygon([end, (neck[0] + side[0], neck[1] + side[1]), (neck[0] - side[0], neck[1] - side[1])], colour)

    def text(self, place: Point, words: str, size: float, colour: Colour = INK, anchor: str = "lm") -> float:
        """A line of text.

        :param anchor: Pillow's, ``"lm"`` for left and middle, ``"mm"`` for the centre
        :return: where the words end, if they begin at ``place``
        """
        font = _font(size * SCALE)
        self._draw.text((place[0] * SCALE, place[1] * SCALE), words, colour, font, anchor)
        return place[0] + float(self._draw.textlength(words, font=font)) / SCALE

    def pixels(self) -> Array:
        """The finished picture, ``(height, width, 3)`` bytes."""
        from PIL import Image

        return np.asarray(self._image.resize(self.size, Image.Resampling.LANCZOS))


@functools.lru_cache(maxsize=32)
def _font(size: float) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _around(centre: Point, radius: float) -> list[float]:
    return [
        (centre[0] - radius) * SCALE,
        (centre[1] - radius) * SCALE,
        (centre[0] + radius) * SCALE,
        (centre[1] + radius) * SCALE,
    ]


def no_render_mode(*modes: str) -> None:
    """Warn that ``render`` returns nothing without a render mode."""
    choice: Any = " or ".join(f"render_mode={mode!r}" for mode in modes)
    gym.logger.warn(f"render() does nothing: make the environment with {choice}.")
