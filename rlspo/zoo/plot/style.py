"""How pictures look: colours for colour-blind readers, and line styles, markers and hatches for black and white."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from rlspo.zoo.config.atomic import whole

# Okabe and Ito's palette without its yellow, which is lost on white; neighbours differ in brightness too.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000", "#999999")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_HATCHES = ("", "....", "////", "xxxx", "\\\\\\\\", "++++")
INK, FAINT = "#222222", "#666666"
SMALL, NORMAL, LARGE = 8, 9, 11


@dataclass(frozen=True)
class Look:
    """One agent's or evaluation's look in all panels.

    :param colour: of line, marker and bar
    :param dashes: matplotlib's line style
    :param marker: matplotlib's marker
    :param hatch: of a bar
    """

    colour: str
    dashes: Any
    marker: str
    hatch: str


def looks(names: Sequence[str]) -> dict[str, Look]:
    """A look for each name. Colours repeat after 8, dashes after 5, hatches after 6; two looks are equal after 40."""
    return {
        name: Look(
            COLOURS[number % len(COLOURS)],
            _DASHES[number % len(_DASHES)],
            _MARKERS[number % len(_MARKERS)],
            _HATCHES[number % len(_HATCHES)],
        )
        for number, name in enumerate(names)
    }


def pale(colour: str) -> tuple[float, float, float]:
    """A lighter colour for surfaces, on which black and white marks are visible."""
    red, green, blue = to_rgb(colour)
    return (0.25 + 0.75 * red, 0.25 + 0.75 * green, 0.25 + 0.75 * blue)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, apart from matplotlib's global state.

    :param width: inches
    :param height: inches
    """
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def panels(names: Sequence[str], width: float, height: float, columns: int = 3, **share: Any) -> tuple[Figure, list[Axes]]:
    """A figure with a titled panel for each name.

    :param width: of a single panel, inches; several are narrower
    :param height: likewise
    :param columns: at most so many side by side
    :param share: matplotlib's ``sharex`` and ``sharey``
    """
    columns = min(columns, len(names))
    rows = -(-len(names) // columns)
    narrow = {1: 1.0, 2: 0.68}.get(columns, 0.56)
    figure = new_figure(width * narrow * columns, height * (1.0 if len(names) == 1 else 0.78) * rows)
    axes = list(figure.subplots(rows, columns, squeeze=False, **share).flatten())
    for each in axes[len(names) :]:
        each.set_visible(False)
    for each, name in zip(axes, names, strict=False):
        plain(each)
        each.set_title(name, loc="left", fontsize=LARGE, color=INK)
    axes = axes[: len(names)]
    for each in lowest(axes):
        each.tick_params(labelbottom=True)
    return figure, axes


def drawing() -> AbstractContextManager[None]:
    """Matplotlib's settings for drawing and saving; the caller's are restored."""
    return matplotlib.rc_context({"svg.hashsalt": "rlspo", "hatch.linewidth": 0.6, "font.size": NORMAL})


def plain(axes: Axes) -> None:
    """Minimal decoration: a faint grid, no upper and right spines."""
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=NORMAL)


def steps_axis(axes: Axes) -> None:
    """Numbers of steps as 200k and 1M."""
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def lowest(axes: Sequence[Axes]) -> Sequence[Axes]:
    """The panels with none below them, which name and number a shared x-axis."""
    place = axes[0].get_subplotspec()
    columns = 1 if place is None else place.get_gridspec().ncols
    return axes[-min(len(axes), columns) :]


def entitle(figure: Figure, axes: Sequence[Axes], title: str | None) -> None:
    """A title of the user's own: over the only panel, instead of its name, or over all.

    :param title: None for none
    """
    if title is None:
        return
    if len(axes) == 1:
        axes[0].set_title(title, parse_math=False, loc="left", fontsize=LARGE, color=INK)
    else:
        figure.suptitle(title, parse_math=False, x=0.01, ha="left", fontsize=LARGE + 1, color=INK)


def legend(figure: Figure, handles: Sequence[Artist]) -> None:
    """The legend, above the panels."""
    figure.legend(
        handles=list(handles),
        loc="outside upper right",
        ncols=5,
        frameon=False,
        fontsize=NORMAL,
        handlelength=2.6,
        handleheight=1.1,
    )


def caption(figure: Figure, text: str) -> None:
    """A caption below the picture."""
    letters = int(figure.get_figwidth() * 72 / (0.56 * SMALL))  # that fit on a line
    figure.supxlabel(textwrap.fill(text, letters), fontsize=SMALL, color=FAINT, x=0.01, ha="left", ma="left")


def label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]], row_height: float) -> None:
    """Names at the right edge, each beside the end of its line and none over another.

    :param ends: x and y of each line's last point, its name and its colour
    :param row_height: of the panel, inches
    """
    if not ends:
        return
    bottom, top = axes.get_ylim()
    wanted = np.array([(y - bottom) / (top - bottom) for _, y, _, _ in ends])
    line_height = 1.35 * NORMAL / 72 / (0.72 * row_height)  # as a share of the axes, which fill most of the panel
    for (x, y, name, colour), place in zip(ends, spread(wanted, line_height), strict=True):
        axes.annotate(
            name,
            xy=(x, y),
            xytext=(1.03, place),
            textcoords="axes fraction",
            va="center",
            fontsize=NORMAL,
            color=INK,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.8, "alpha": 0.7, "shrinkA": 1, "shrinkB": 2},
        )


def spread(wanted: np.ndarray, gap: float) -> np.ndarray:
    """Places at least a gap apart, in the same order and as near as can be to those wanted.

    >>> spread(np.array([0.5, 0.0, 0.5]), 0.2).round(2).tolist()
    [0.4, 0.0, 0.6]

    :param wanted: ``(n,)``
    :return: ``(n,)``
    """
    order = np.argsort(wanted, kind="stable")
    # Without the gaps, the places must only not decrease: neighbours in the wrong order are pooled (isotonic regression).
    pools: list[list[float]] = []
    for rank, place in enumerate(wanted[order]):
        pools.append([place - rank * gap])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    found = np.empty(len(wanted))
    found[order] = [np.mean(pool) for pool in pools for _ in pool]
    found[order] += gap * np.arange(len(wanted))
    return found


def save(figure: Figure, file: Path) -> None:
    """Write a picture whole or not at all; the same picture gives the same file.

    :param file: its suffix gives the format
    """
    kind = file.suffix.removeprefix(".")
    dateless = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
    with whole(file) as partial:
        figure.savefig(partial, format=kind, metadata=dateless)
