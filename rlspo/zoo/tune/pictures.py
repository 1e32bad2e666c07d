"""Pictures of a study: its course, which parameters mattered, and where in each the good trials lie.

Drawn here, since Optuna's matplotlib plots leave out pruned and failed trials, let one bad trial flatten all others, put every
parameter in one row, cut off long names and change matplotlib's style for the whole program.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from rlspo.common.files import whole
from rlspo.zoo.cli import terminal
from rlspo.zoo.config.yaml_edit import number_text

_COMPLETE, _BEST, _PRUNED, _FAILED = "#31688e", "#c2410c", "#8a94a6", "#b91c1c"
_VALUE = "value of the trial"
_ENOUGH = 10  # complete trials, below which importances are noise
_COLUMNS = 4
_LONG = 24  # letters of all labels of a panel together, above which they are slanted
_DECADES = 1.7  # width of a range, above which powers of ten are labels enough
_FAR = 3.0  # interquartile ranges below the lower quartile: trials further down are drawn at the edge


class Nothing(Exception):
    """There is nothing that a picture could show; the text says why."""


def save_pictures(study: optuna.Study, folder: Path, trials: Sequence[FrozenTrial] | None = None) -> list[Path]:
    """Draw a study, or as much of it as there is.

    A picture for which there are too few trials is left out, with a note that says so; one that an earlier call left there
    is then removed.

    :param study: its value is maximised
    :param folder: gets ``history.png``, ``importances.png`` and ``slices.png``
    :param trials: those to be shown; None for all
    :return: the pictures drawn
    """
    shown = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()] if trials is None else trials
    drawers: dict[str, Callable[[], Figure]] = {
        "history.png": lambda: draw_history(shown),
        "importances.png": lambda: draw_importances(study),
        "slices.png": lambda: draw_slices(shown),
    }
    drawn = []
    for name, draw in drawers.items():
        file = folder / name
        try:
            with whole(file, durable=False) as partial:
                draw().savefig(partial)
            drawn.append(file)
        except Nothing as reason:
            file.unlink(missing_ok=True)
            terminal.note(f"No {name}: {reason}.")
        except Exception as error:  # of a full disk or a library: the study is what counts
            terminal.note(f"No {name}: {type(error).__name__}: {error}")
    return drawn


def draw_history(trials: Sequence[FrozenTrial]) -> Figure:
    """The value of each trial, and the best so far.

    :raises Nothing: without a complete trial
    """
    complete = _complete(trials)
    if not complete:
        raise Nothing("no trial is complete")
    figure, axes = _figure(7.2, 4.2)
    values = np.array([trial.value for trial in complete], dtype=float)
    numbers = np.array([trial.number for trial in complete])
    best = np.maximum.accumulate(values)
    end = max(trial.number for trial in trials)
    axes.step([*numbers, end], [*best, best[-1]], where="post", color=_BEST, linewidth=1.5, label="best so far", zorder=2)
    _scatter(axes, numbers, values, _floor(values), color=_COMPLETE, label="complete", zorder=3)
    for state, colour in ((TrialState.PRUNED, _PRUNED), (TrialState.FAIL, _FAILED)):
        lost = [trial.number for trial in trials if trial.state == state]
        if lost:
            _ticks(axes, lost, colour, label={TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}[state])
    axes.set_xlabel("trial")
    axes.set_ylabel(_VALUE)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(y=0.1)
    axes.set_title("course of the search", loc="left", fontsize=11)
    figure.legend(loc="outside lower center", ncols=5, frameon=False, fontsize=9, handletextpad=0.4)
    return figure


def draw_importances(study: optuna.Study) -> Figure:
    """How much each parameter had to do with a trial's being among the best.

    :raises Nothing: for too few trials, or where all are worth the same
    """
    complete = _complete(study.get_trials(deepcopy=False))
    if len(complete) < _ENOUGH:
        raise Nothing(f"importances need {_ENOUGH} complete trials, and there are {len(complete)}")
    if len({trial.value for trial in complete}) == 1:
        raise Nothing("all complete trials have the same value")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        # Chosen here: it needs no further package, and Optuna 4 and 5 have different defaults.
        importances = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    if not importances:
        raise Nothing("no parameter took more than one value")
    names, shares = zip(*sorted(importances.items(), key=lambda item: item[1]), strict=True)
    figure, axes = _figure(7.2, 1.3 + 0.3 * len(names))
    axes.barh(names, shares, color=_COMPLETE, height=0.65)
    for place, share in enumerate(shares):
        axes.annotate(f"{share:.0%}", (share, place), (4, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_xlim(0, max(shares) * 1.12)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.set_title("what sets the best trials apart", loc="left", fontsize=11)
    axes.set_xlabel(f"share of importance (PED-ANOVA, best tenth of {len(complete)} complete trials)")
    return figure


def draw_slices(trials: Sequence[FrozenTrial]) -> Figure:
    """One panel for each parameter: its values in the complete trials, and what these came to.

    :raises Nothing: without a complete trial
    """
    complete = _complete(trials)
    names = list(dict.fromkeys(name for trial in complete for name in trial.distributions))
    if not names:
        raise Nothing("no trial is complete")
    columns = min(_COLUMNS, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(2.7 * columns + 0.7, 2.3 * rows + 0.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).flatten()
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    for axes, name in zip(panels, names, strict=False):
        _draw_slice(axes, name, complete, pruned)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    for axes in panels[: len(names) : columns]:
        axes.set_ylabel(_VALUE, fontsize=9)
    handles = [
        Line2D([], [], marker="o", linestyle="", color=_COMPLETE, label="complete"),
        Line2D([], [], marker="*", linestyle="", color=_BEST, markersize=11, label="best"),
        *([Line2D([], [], marker="|", linestyle="", color=_PRUNED, markersize=8, label="pruned")] if pruned else []),
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=3, frameon=False, fontsize=9)
    return figure


def _draw_slice(axes: Axes, name: str, complete: list[FrozenTrial], pruned: list[FrozenTrial]) -> None:
    """Values of one parameter."""
    trials = [trial for trial in complete if name in trial.params]
    values = np.array([trial.value for trial in trials], dtype=float)
    places = _places(name, trials)
    distribution = trials[0].distributions[name]
    if isinstance(distribution, CategoricalDistribution):
        labels = [_label(choice) for choice in distribution.choices]
        axes.set_xticks(range(len(labels)), labels)
        axes.set_xlim(-0.6, len(labels) - 0.4)
        axes.tick_params(axis="x", labelrotation=30 if len("".join(labels)) > _LONG else 0)
        places = places + _spread(places, values)
    elif isinstance(distribution, IntDistribution | FloatDistribution):
        _draw_range(axes, distribution)
    floor = _floor(np.array([trial.value for trial in complete], dtype=float))
    _scatter(axes, places, values, floor, color=_COMPLETE, alpha=0.6, zorder=2)
    top = int(values.argmax())
    axes.scatter(places[top], values[top], marker="*", s=110, color=_BEST, edgecolors="white", linewidths=0.6, zorder=3)
    _ticks(axes, _places(name, [trial for trial in pruned if name in trial.params]), _PRUNED)
    axes.set_title(name, fontsize=9, loc="left")
    axes.tick_params(labelsize=8)
    axes.margins(y=0.12)
    _plain(axes)


def _draw_range(axes: Axes, distribution: IntDistribution | FloatDistribution) -> None:
    """The axis of numbers: all of the range, with few labels."""
    low, high = distribution.low, distribution.high
    if not distribution.log:
        margin = 0.04 * (high - low)
        axes.set_xlim(low - margin, high + margin)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=isinstance(distribution, IntDistribution)))
        return
    axes.set_xscale("log")
    decades = math.log10(high / low)
    axes.set_xlim(low / 10 ** (0.04 * decades), high * 10 ** (0.04 * decades))
    # Powers of ten, and where there are hardly any, 2 and 5 times these as well.
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if decades > _DECADES else (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(lambda value, _: number_text(float(f"{value:.3g}")))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _places(name: str, trials: Sequence[FrozenTrial]) -> np.ndarray:
    """Where the values of a parameter lie on the x-axis: choices at 0, 1, 2, ..."""
    found = []
    for trial in trials:
        distribution = trial.distributions[name]
        is_choice = isinstance(distribution, CategoricalDistribution)
        found.append(distribution.to_internal_repr(trial.params[name]) if is_choice else trial.params[name])
    return np.array(found, dtype=float)


def _spread(places: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Shifts to the side, so that points of one choice do not hide one another; the same for the same points."""
    shift = np.zeros(len(places))
    for place in np.unique(places):
        members = np.flatnonzero(places == place)
        order = members[np.argsort(values[members], kind="stable")]
        shift[order] = (np.arange(len(order)) * 0.618) % 1 * 0.4 - 0.2 if len(order) > 1 else 0.0
    return shift


def _label(choice: object) -> str:
    """A choice as YAML writes it."""
    if choice is None or isinstance(choice, bool):
        return {True: "true", False: "false", None: "null"}[choice]
    return str(choice)


def _complete(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.state == TrialState.COMPLETE and math.isfinite(trial.value or 0.0)]


def _floor(values: np.ndarray) -> float:
    """Below this, trials are drawn at the edge: one that went astray must not press all others together.

    :param values: ``(n_trials,)``
    """
    if len(values) == 0:
        return -math.inf
    lower, upper = np.percentile(values, [25, 75])
    floor = float(lower - _FAR * (upper - lower))
    return floor if upper > lower else -math.inf


def _scatter(axes: Axes, x: np.ndarray, y: np.ndarray, floor: float, **style: Any) -> None:
    """Points, with those below the floor as arrows at it."""
    far = y < floor
    axes.scatter(x[~far], y[~far], s=22, linewidths=0, **style)
    if far.any():
        style["label"] = f"complete, below {floor:,.4g}"
        axes.scatter(x[far], np.full(far.sum(), floor), s=28, linewidths=0, marker="v", **style)


def _ticks(axes: Axes, places: Sequence[float] | np.ndarray, colour: str, label: str = "") -> None:
    """Marks at the lower edge, for trials without a value."""
    edge = axes.get_xaxis_transform()
    axes.plot(places, np.full(len(places), 0.03), "|", transform=edge, color=colour, markersize=7, label=label)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _plain(axes)
    return figure, axes


def _plain(axes: Axes) -> None:
    """Little but the data."""
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
