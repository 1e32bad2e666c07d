"""The picture of a run: returns over training, as seen by the evaluations and by training itself."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

_WINDOW = 20  # episodes in the moving average of training returns
_TRAINING, _EVALUATION = "#8a94a6", "#c2410c"


def training_returns(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Episodes of all training environments in the order in which they ended.

    :param folder: that holds ``k.monitor.csv``
    :return: steps over all environments at the end of each episode, and its return; both ``(n_episodes,)``
    """
    rows: list[tuple[float, int, float]] = []
    for file in folder.glob("*.monitor.csv"):
        with file.open(newline="", encoding="utf-8") as lines:
            next(lines, None)  # a comment with the start time
            rows += [(float(row["t"]), int(row["l"]), float(row["r"])) for row in csv.DictReader(lines)]
    rows.sort()
    table = np.array(rows, dtype=float).reshape(-1, 3)
    return table[:, 1].cumsum(), table[:, 2]


def draw(run_folder: Path, title: str, file: Path) -> bool:
    """Draw the learning curve of a run.

    :param run_folder: holds ``evaluations.npz``, ``k.monitor.csv``, or both
    :param file: the PNG file to write
    :return: False if there is nothing to draw yet
    """
    steps, returns = training_returns(run_folder)
    evaluations = run_folder / "evaluations.npz"
    if len(steps) == 0 and not evaluations.is_file():
        return False
    figure = Figure(figsize=(7.2, 4.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if len(steps):
        _draw_training(axes, steps, returns)
    if evaluations.is_file():
        _draw_evaluations(axes, evaluations)
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel("environment steps")
    axes.set_ylabel("return of an episode")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="best")
    figure.savefig(file)
    return True


def _draw_training(axes: Axes, steps: np.ndarray, returns: np.ndarray) -> None:
    """Single episodes as dots, and their moving average over the last episodes as a line."""
    axes.plot(steps, returns, ".", color=_TRAINING, markersize=2, alpha=0.35, rasterized=True)
    window = min(_WINDOW, len(returns))
    smooth = np.convolve(returns, np.ones(window) / window, mode="valid")
    label = f"training, mean of {window} episodes" if window > 1 else "training"
    axes.plot(steps[window - 1 :], smooth, color=_TRAINING, linewidth=1.3, label=label)


def _draw_evaluations(axes: Axes, file: Path) -> None:
    """Mean of each evaluation, and the span between its worst and best episode."""
    with np.load(file) as data:
        steps, results = data["timesteps"], data["results"]
    mean = results.mean(axis=1)
    axes.fill_between(steps, results.min(axis=1), results.max(axis=1), color=_EVALUATION, alpha=0.15, linewidth=0)
    label = f"evaluation, mean and span of {results.shape[1]} episodes"
    axes.plot(steps, mean, "o-", color=_EVALUATION, markersize=3, linewidth=1.5, label=label)
