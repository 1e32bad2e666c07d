"""Pictures of the results on Atari games; called by ``stori_report.py``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from stori_results import CELLS, GAMES, PLAIN, ROOT, TYPES, Score, Scores, kept

FOLDER = ROOT / "docs" / "_static" / "stori"
#: Title to the name in the scores and the scores.
Named = Mapping[str, tuple[str, Scores]]
COLOURS = {
    "PPO": "tab:gray",
    "BARPO": "tab:purple",
    "PPO, mixture": "tab:green",
    "DreamerV3": "tab:blue",
    "STORM": "tab:orange",
}


def loss_table(agent: str, scores: Scores, skill_free: Scores) -> np.ndarray:
    """The share of its skill that an agent loses, ``(games, types without 3.1)``; NaN where it is not known."""
    columns = [kind for kind in TYPES if kind != PLAIN]
    table = np.full((len(GAMES), len(columns)), np.nan)
    for cell in CELLS:
        game, _, kind = cell.rpartition("-")
        left = kept(agent, cell, scores, skill_free)
        if kind != PLAIN and left is not None:
            # Gopher and BankHeist have one type 3.2 only, which stands in the first column of the three.
            table[list(GAMES).index(game), columns.index("3.2A" if kind == "3.2" else kind)] = 1 - left
    return table


def losses(named: Named, skill_free: Scores, folder: Path = FOLDER) -> None:
    """Heat maps game x type of what is lost against the unperturbed game."""
    figure, axes = plt.subplots(1, len(named), figsize=(4.4 * len(named), 2.9), constrained_layout=True, squeeze=False)
    columns = [kind for kind in TYPES if kind != PLAIN]
    colours = plt.get_cmap("RdBu_r").with_extremes(bad="0.9")
    for axis, (title, (agent, scores)) in zip(axes[0], named.items(), strict=True):
        table = loss_table(agent, scores, skill_free)
        image = axis.imshow(np.ma.masked_invalid(table), cmap=colours, vmin=-1, vmax=1, aspect="auto")
        for (line, column), value in np.ndenumerate(table):
            exists = f"{list(GAMES)[line]}-{columns[column]}" in CELLS or (line > 1 and columns[column] == "3.2A")
            text = f"{100 * value:.0f}" if np.isfinite(value) else "?" if exists else ""
            light = np.isfinite(value) and abs(value) > 0.6
            axis.text(column, line, text, ha="center", va="center", fontsize=9, color="white" if light else "black")
        axis.set_xticks(range(len(columns)), columns)
        axis.set_yticks(range(len(GAMES)), GAMES.values())
        axis.set_title(title, fontsize=10)
    bar = figure.colorbar(image, ax=axes[0], shrink=0.9)
    bar.set_label("lost of type 3.1 (1: all)")
    figure.suptitle(
        "Loss against type 3.1 in percent of score minus random; ?: not run, or no better than random in 3.1", fontsize=10
    )
    _save(figure, folder / "loss.png")


def returns(named: Named, skill_free: Scores, folder: Path = FOLDER) -> None:
    """Returns in every cell, one picture for each game."""
    figure, axes = plt.subplots(2, 2, figsize=(11, 6.4), constrained_layout=True)
    for axis, (game, title) in zip(axes.flat, GAMES.items(), strict=True):
        cells = [cell for cell in CELLS if cell.startswith(f"{game}-")]
        for index, (label, (agent, scores)) in enumerate(named.items()):
            offset = (index - (len(named) - 1) / 2) * 0.13
            for place, cell in enumerate(cells):
                score = scores.get((agent, cell))
                if score is not None:
                    _point(axis, place + offset, score, COLOURS[label])
        for place, cell in enumerate(cells):
            random = skill_free.get(("random", cell))
            if random is not None:
                axis.hlines(random.value, place - 0.42, place + 0.42, color="black", lw=1, ls=":")
        axis.set_xticks(range(len(cells)), [cell.rpartition("-")[2] for cell in cells])
        axis.set_xlim(-0.5, len(cells) - 0.5)
        axis.set_title(title, fontsize=10)
        axis.set_ylabel("return")
        axis.spines[["top", "right"]].set_visible(False)
        if game in ("gopher", "bankheist"):
            axis.set_yscale("symlog", linthresh=100)
            axis.set_ylim(bottom=0)
    handles = [plt.Line2D([], [], marker="o", ls="", color=COLOURS[label], label=label) for label in named]
    handles.append(plt.Line2D([], [], color="black", ls=":", label="random"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    _save(figure, folder / "returns.png")


def _point(axis: plt.Axes, place: float, score: Score, colour: str) -> None:
    axis.plot(place, score.value, "o", color=colour, ms=4)
    if score.low is not None and score.high is not None:
        axis.vlines(place, score.low, score.high, color=colour, lw=1.5)


def _save(figure: plt.Figure, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=90)
    plt.close(figure)
