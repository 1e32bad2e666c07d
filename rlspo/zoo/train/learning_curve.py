"""The learning curve of a run: returns of the evaluations and of the training episodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from rlspo.zoo.plot import style
from rlspo.zoo.runs.evaluation_log import read_evaluations
from rlspo.zoo.runs.monitor import TrainingEpisodes, read_episodes

_WINDOW = 20  # episodes in the moving average of training returns
_TRAINING, _EVALUATION = "#8a94a6", "#c2410c"


def draw(run_folder: Path, title: str, file: Path) -> bool:
    """Draw the learning curve of a run.

    :param run_folder: holds ``evaluations.npz``, ``k.monitor.csv``, or both
    :param file: the PNG file to write
    :return: False if there is nothing to draw yet
    """
    training = read_episodes(run_folder)
    evaluations = run_folder / "evaluations.npz"
    if len(training.steps) == 0 and not evaluations.is_file():
        return False
    with style.drawing():
        figure = style.new_figure(7.2, 4.2)
        axes = figure.add_subplot()
        if len(training.steps):
            _draw_training(axes, training)
        if evaluations.is_file():
            _draw_evaluations(axes, evaluations)
        axes.set_title(title, loc="left", fontsize=style.LARGE)
        axes.set_xlabel("environment steps")
        axes.set_ylabel("return of an episode")
        axes.set_xlim(left=training.before)
        style.steps_axis(axes)
        style.plain(axes)
        axes.legend(frameon=False, fontsize=style.NORMAL, loc="best")
        style.save(figure, file)
    return True


def _draw_training(axes: Axes, training: TrainingEpisodes) -> None:
    """Single episodes as dots, and their moving average over the last episodes as a line."""
    steps, returns = training.steps, training.returns
    axes.plot(steps, returns, ".", color=_TRAINING, markersize=2, alpha=0.35, rasterized=True)
    window = min(_WINDOW, len(returns))
    smooth = np.convolve(returns, np.ones(window) / window, mode="valid")
    label = f"training, mean of {window} episodes" if window > 1 else "training"
    axes.plot(steps[window - 1 :], smooth, color=_TRAINING, linewidth=1.3, label=label)


def _draw_evaluations(axes: Axes, file: Path) -> None:
    """Mean of each evaluation, and the span between its worst and best episode."""
    steps, results = read_evaluations(file)
    mean = results.mean(axis=1)
    axes.fill_between(steps, results.min(axis=1), results.max(axis=1), color=_EVALUATION, alpha=0.15, linewidth=0)
    label = f"evaluation, mean and span of {results.shape[1]} episodes"
    axes.plot(steps, mean, "o-", color=_EVALUATION, markersize=3, linewidth=1.5, label=label)
