"""Learning curves: a panel for each environment, a line for each agent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from rlspo.zoo.errors import UserError
from rlspo.zoo.plot import style
from rlspo.zoo.plot.lines import Along, Line, axis_of, line_of
from rlspo.zoo.plot.picture import Options, Picture
from rlspo.zoo.plot.runs import LearningCurve, Measure, Run

#: Points of the moving mean, unless another number is asked for.
WINDOWS = {"eval": 1, "train": 20}
_HEIGHT = 4.3  # inches of a single panel
_MARKS = 8  # on a line, at most
_COLUMNS = {"time": "seconds", "episodes": "episode"}
_MEASURES = {"return": "return", "length": "length of an episode", "success": "success rate"}
_NAMES = {"steps": "steps", "time": "wall time", "episodes": "numbers of episodes"}


def draw(runs: Sequence[Run], options: Options) -> Picture:
    """Draw the learning curves of runs.

    :raises UserError: if none of them has the curve that was asked for
    """
    metric = options.metric or _metric_of(runs, options.measure)
    window = options.smooth or WINDOWS[metric]
    groups, left_out = _grouped(runs, metric, options)
    lines = {
        env: {agent: line_of(curves, options.along, window) for agent, curves in agents.items()}
        for env, agents in groups.items()
    }
    notes = [f"Left out, without {_wanted(metric, options)}: {', '.join(left_out)}."] if left_out else []
    for env, agents in lines.items():
        notes += [f"{agent} on {env}: {_ends(line)}" for agent, line in agents.items() if not line.whole.all()]
    rows = [
        _row(env, agent, row, options.along)
        for env, agents in lines.items()
        for agent, line in agents.items()
        for row in line.rows()
    ]
    figure, axes = style.panels(list(lines), 7.4, _HEIGHT)
    looks = style.looks(list(dict.fromkeys(agent for agents in lines.values() for agent in agents)))
    unit, unit_name = _unit(lines, options.along)
    for panel, agents in zip(axes, lines.values(), strict=True):
        _draw_panel(panel, agents, looks, unit)
        if options.returns is not None:
            panel.set_ylim(*options.returns)
        panel.set_xlabel(unit_name)
        if options.along != "time":
            style.steps_axis(panel)
    axes[0].set_ylabel(f"{_MEASURES[options.measure]} in {'evaluation' if metric == 'eval' else 'training'}")
    style.entitle(figure, axes, options.title)
    style.caption(figure, _caption([line for agents in lines.values() for line in agents.values()], metric, window))
    height = _HEIGHT if len(axes) == 1 else 0.78 * _HEIGHT
    for panel, agents in zip(axes, lines.values(), strict=True):
        differ = len({line.total for line in agents.values()}) > 1
        ends = []
        for agent, line in agents.items():
            last = np.flatnonzero(~np.isnan(line.values))[-1]
            name = f"{agent} ({line.total})" if differ else agent
            low, high = panel.get_ylim()
            end = float(line.values[last])
            name += " (below)" if end < low else " (above)" if end > high else ""
            ends.append((line.x[last] / unit, min(max(end, low), high), name, looks[agent].colour))
        style.label_ends(panel, ends, height)
    return Picture(figure, rows, notes)


def _row(env: str, agent: str, numbers: Mapping[str, Any], along: Along) -> dict[str, Any]:
    """A point of a line, with the name of the x-axis."""
    step, x, *others = numbers.items()
    place = {} if along == "steps" else {_COLUMNS[along]: x[1]}
    return {"env": env, "agent": agent, step[0]: step[1], **place, **dict(others)}


def _metric_of(runs: Sequence[Run], measure: Measure) -> str:
    """Evaluations where there are any, since they measure the agent as it will be used; else training episodes."""
    return "eval" if any(run.evaluated(measure) is not None for run in runs) else "train"


def _grouped(
    runs: Sequence[Run], metric: str, options: Options
) -> tuple[dict[str, dict[str, list[LearningCurve]]], list[str]]:
    """Curves by environment and agent, and the runs that have none."""
    groups: dict[str, dict[str, list[LearningCurve]]] = {}
    left_out = []
    for run in runs:
        curve = (run.evaluated if metric == "eval" else run.trained)(options.measure)
        if curve is not None and options.least is not None and _reach(curve) < options.least:
            curve = None
        if curve is not None and options.last is not None:
            curve = curve.until(options.last)
        if curve is None or np.isnan(axis_of(curve, options.along)).any() or np.isnan(curve.values).all():
            left_out.append(f"{run.source} ({run.agent}, {run.env}, {run.name})")
        else:
            groups.setdefault(run.env, {}).setdefault(run.agent, []).append(curve)
    if not groups:
        raise UserError(
            f"None of the {len(runs)} runs has {_wanted(metric, options)}. {_hint(metric, options.measure)}; "
            "final scores: --kind bars"
        )
    return groups, left_out


def _reach(curve: LearningCurve) -> float:
    """Steps until the next value would have come: training ends somewhere after the last one."""
    return float(2 * curve.steps[-1] - (curve.steps[-2] if len(curve.steps) > 1 else 0))


def _wanted(metric: str, options: Options) -> str:
    """What a run must have to be drawn, in words."""
    curve = "evaluations during training" if metric == "eval" else "training episodes"
    wanted = [f"with {_NAMES[options.along]}"] if options.along != "steps" else []
    wanted += ["that report success"] if options.measure == "success" else []
    wanted += [f"until {options.least:,} steps"] if options.least is not None else []
    wanted += [f"before {options.last:,} steps"] if options.last is not None else []
    return " ".join([curve, *wanted])


def _hint(metric: str, measure: Measure) -> str:
    """A hint: what could be drawn instead."""
    other = {"eval": "Training episodes: --metric train", "train": "Evaluations: --metric eval"}[metric]
    if measure != "success":
        return other
    return (
        "The environment must put is_success into its infos; for training episodes, the settings also need "
        f"monitor_kwargs: {{info_keywords: [is_success]}}. {other}"
    )


def _draw_panel(axes: Axes, lines: Mapping[str, Line], looks: Mapping[str, style.Look], unit: float) -> None:
    """The lines of one environment."""
    for number, (agent, line) in enumerate(lines.items()):
        look, x = looks[agent], line.x / unit
        axes.fill_between(x, line.low, line.high, color=look.colour, alpha=0.16 if line.total > 1 else 0.08, linewidth=0)
        every = max(1, math.ceil(len(x) / _MARKS))
        style_of: dict[str, Any] = {"color": look.colour, "linewidth": 1.7, "zorder": 3 + number}
        if not line.whole.all():
            axes.plot(x, line.values, linestyle=look.dashes, alpha=0.35, **style_of)
        axes.plot(
            x,
            np.where(line.whole, line.values, np.nan),
            linestyle=look.dashes,
            marker=look.marker,
            markersize=5.5,
            markeredgecolor="white",
            markeredgewidth=0.7,
            markevery=(min(number * every // max(len(lines), 1), len(x) - 1), every),
            **style_of,
        )
    axes.set_xlim(0, 1.01 * max(line.x[-1] for line in lines.values()) / unit)
    axes.margins(y=0.06)


def _unit(lines: Mapping[str, Mapping[str, Line]], along: Along) -> tuple[float, str]:
    """The unit of the x-axis, and its name."""
    if along != "time":
        return 1.0, {"steps": "environment steps", "episodes": "training episodes"}[along]
    longest = max(float(line.x[-1]) for agents in lines.values() for line in agents.values())
    for seconds, name in ((3600.0, "hours"), (60.0, "minutes")):
        if longest > 2 * seconds:
            return seconds, f"wall time, {name}"
    return 1.0, "wall time, seconds"


def _ends(line: Line) -> str:
    """A note that some runs are shorter than others."""
    whole = line.steps[line.whole]
    if len(whole) == 0:
        return f"its {line.total} runs have no steps in common; the line is drawn faint."
    return f"all {line.total} runs cover {whole[0]:,.0f} to {whole[-1]:,.0f} steps; the rest is drawn faint."


def _caption(lines: Sequence[Line], metric: str, window: int) -> str:
    """The caption: what lines and bands show."""
    counts = sorted({line.total for line in lines})
    parts = []
    if counts[-1] > 1:
        several = [count for count in counts if count > 1]
        number = f"{several[0]}" if len(several) == 1 else f"{several[0]} to {several[-1]}"
        parts.append(f"Lines: interquartile mean of {number} runs; bands: 95 % bootstrap intervals.")
    if counts[0] == 1:
        parts.append("Single runs: bands are one standard deviation of their episodes.")
    if window > 1:
        parts.append(f"Moving mean of {window} {'evaluations' if metric == 'eval' else 'episodes'}.")
    if not all(line.whole.all() for line in lines):
        parts.append("Faint: only some of the runs.")
    return " ".join(parts)
