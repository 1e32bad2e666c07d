"""The pictures of a video: one agent or several side by side, with a caption above each."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_LARGE_ENOUGH = {True: (480, 400), False: (300, 300)}  # of what an agent does: alone, and side by side; less is enlarged
_GAP = 8  # pixels between agents
BACKGROUND, HIGHLIGHT = (18, 20, 26), (255, 166, 48)
_BRIGHT, _FAINT = (255, 255, 255), (186, 192, 204)
_DIMMED = 0.4  # of the brightness, for an agent that has stopped


@dataclass(frozen=True)
class Text:
    """A part of a line of a caption.

    :param text: what is written
    :param begins: its left edge, as a share of the picture's width
    :param marked: whether it is highlighted
    """

    text: str
    begins: float = 0.0
    marked: bool = False


@dataclass(frozen=True)
class View:
    """One agent at one moment.

    :param image: what the environment draws, ``(height, width, 3)``, bytes
    :param name: the first line above it
    :param left: the second line, at its left
    :param right: the second line, at its right
    :param lines: further lines; in a video all views have the same number of them
    :param dimmed: whether the agent has stopped
    :param frame: colour of a frame around the image, as ``#rrggbb``; None for none
    """

    image: np.ndarray
    name: str = ""
    left: str = ""
    right: str = ""
    lines: tuple[tuple[Text, ...], ...] = ()
    dimmed: bool = False
    frame: str | None = None


@dataclass(frozen=True)
class Layout:
    """The positions and sizes of everything; all numbers are pixels.

    :param columns: agents in a row
    :param rows: of agents
    :param tile: width and height of an agent's picture
    :param letters: height of the letters; 0 for no text at all
    :param titled: whether there is a title above everything
    :param lines: of the caption above each agent, at least two
    """

    columns: int
    rows: int
    tile: tuple[int, int]
    letters: int
    titled: bool
    lines: int = 2

    @classmethod
    def fitting(
        cls, n_views: int, width: int, height: int, largest: tuple[int, int], captions: bool, more_lines: int = 0
    ) -> Layout:
        """The layout in which agents are seen largest.

        :param n_views: agents
        :param width: of what the environment draws
        :param height: of what the environment draws
        :param largest: width and height that the whole picture has at most, or little more
        :param captions: whether there are captions above each agent, and a title above several
        :param more_lines: of each caption, besides the two that all have
        """
        least = _LARGE_ENOUGH[n_views == 1]
        enlarged = max(1, math.ceil(max(least[0] / width, least[1] / height)))  # whole: pixels of games stay sharp
        width, height = width * enlarged, height * enlarged

        def scale(columns: int) -> float:
            rows = math.ceil(n_views / columns)
            return min(largest[0] / (columns * width), largest[1] / (rows * height))

        columns = max(range(1, n_views + 1), key=scale)
        smaller = min(1.0, scale(columns) * 0.85)  # the rest is for the captions
        tile = (max(1, round(width * smaller)), max(1, round(height * smaller)))
        letters = min(26, max(13, round(tile[0] / 24))) if captions else 0
        return cls(columns, math.ceil(n_views / columns), tile, letters, captions and n_views > 1, 2 + more_lines)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture, even as video coding wants them."""
        width = self.columns * self.tile[0] + (self.columns - 1) * _GAP
        height = self._title + self.rows * (self._caption + self.tile[1]) + (self.rows - 1) * _GAP
        return width + width % 2, height + height % 2

    def corner(self, index: int) -> tuple[int, int]:
        """Left and top edge of an agent's picture.

        :param index: of the agent: row by row, from the left
        """
        row, column = divmod(index, self.columns)
        top = self._title + row * (self._caption + self.tile[1] + _GAP) + self._caption
        return column * (self.tile[0] + _GAP), top

    @property
    def _title(self) -> int:
        """Height of the line above everything."""
        return round(2.2 * self.letters) if self.titled else 0

    @property
    def _caption(self) -> int:
        """Height of the lines above an agent."""
        return round((0.5 + 1.4 * self.lines) * self.letters)

    def picture(self, views: Sequence[View], title: str = "") -> np.ndarray:
        """All agents at one moment, as bytes ``(height, width, 3)``.

        :param views: one for each agent; those of another shape than the first are fitted to its shape
        :param title: shown above several agents
        """
        canvas = Image.new("RGB", self.size, BACKGROUND)
        draw = ImageDraw.Draw(canvas)
        if self.titled:
            width = self.size[0] - self.letters
            draw.text((self.letters // 2, self._title // 2), title, _BRIGHT, _font(title, self.letters, width), anchor="lm")
        for index, view in enumerate(views):
            image = Image.fromarray(np.ascontiguousarray(view.image))
            if image.size != self.tile:
                whole = self.tile[0] % image.width == 0 and self.tile[1] % image.height == 0
                image = image.resize(self.tile, Image.Resampling.NEAREST if whole else Image.Resampling.LANCZOS)
            if view.dimmed:
                image = image.point(_darker)
            if view.frame is not None:
                _frame(image, view.frame)
            canvas.paste(image, self.corner(index))
            if self.letters:
                self._write(draw, view, *self.corner(index))
        return np.asarray(canvas)

    def _write(self, draw: ImageDraw.ImageDraw, view: View, x: int, y: int) -> None:
        """Write the lines above an agent, whose corner is at ``(x, y)``; long ones in smaller letters."""
        margin = self.letters // 2
        width = self.tile[0] - 2 * margin
        first, second, *others = (y - round((0.95 + 1.4 * line) * self.letters) for line in reversed(range(self.lines)))
        draw.text((x + margin, first), view.name, _BRIGHT, _font(view.name, self.letters, width), anchor="lm")
        small = _font(f"{view.left}   {view.right}", round(0.9 * self.letters), width, bold=False)
        draw.text((x + margin, second), view.left, _FAINT, small, anchor="lm")
        draw.text((x + self.tile[0] - margin, second), view.right, _FAINT, small, anchor="rm")
        for height, line in zip(others, view.lines, strict=True):
            ends = [*(part.begins for part in line[1:]), 1.0]
            for part, end in zip(line, ends, strict=True):
                font = _font(
                    part.text, round(0.9 * self.letters), round((end - part.begins) * self.tile[0]) - margin, bold=False
                )
                left = x + max(margin, round(part.begins * self.tile[0]))
                draw.text((left, height), part.text, HIGHLIGHT if part.marked else _FAINT, font, anchor="lm")


def _frame(image: Image.Image, colour: str) -> None:
    """Draw a frame on an image, a fortieth of its height wide."""
    width = max(4, image.height // 40)
    ImageDraw.Draw(image).rectangle((0, 0, image.width - 1, image.height - 1), outline=colour, width=width)


def _darker(brightness: float) -> float:
    """Brightness of one pixel and colour where an agent has stopped."""
    return brightness * _DIMMED


def _font(text: str, size: int, width: int, bold: bool = True) -> ImageFont.FreeTypeFont:
    """The font in which a text is as high as asked for, or lower where it would not fit.

    :param size: height in pixels
    :param width: that the text may take, in pixels
    """
    while size > 8 and _face(size, bold).getlength(text) > width:
        size -= 1
    return _face(size, bold)


@functools.cache
def _face(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    """The font that comes with matplotlib, so that videos look alike everywhere."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)
