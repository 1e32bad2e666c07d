"""Performance profiles: which share of the runs scores higher than any given score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from rlspo.zoo.evaluate.statistics import performance_profile, performance_profile_band
from rlspo.zoo.plot import style
from rlspo.zoo.plot.numbers import plain
from rlspo.zoo.plot.picture import Options, Picture
from rlspo.zoo.plot.runs import Run
from rlspo.zoo.plot.scores import Table, collect, normalised, shared

_POINTS = 201
_HEIGHT = 4.2  # inches of a single panel


def draw(runs: Sequence[Run], options: Options) -> Picture:
    """Draw performance profiles of normalised scores, a panel for each evaluation."""
    scores = normalised(shared(collect(runs, options.evaluations), "profiles"), options.normalize)
    looks = style.looks(scores.agents)
    figure, axes = style.panels(scores.panel_titles(), 7.0, _HEIGHT, columns=2, sharex=True, sharey=True)
    rows: list[dict[str, Any]] = []
    every = np.concatenate([values for table in scores.tables.values() for each in table.values() for values in each.values()])
    margin = 0.03 * (float(np.ptp(every)) or 1.0)
    thresholds = np.linspace(every.min() - margin, every.max() + margin, _POINTS)
    for panel, (name, table) in zip(axes, scores.tables.items(), strict=True):
        rows += [{"evaluation": name, **row} for row in _draw_panel(panel, table, thresholds, looks)]
    axes[0].set_ylabel("share of runs that score higher")
    for panel in style.lowest(axes):
        panel.set_xlabel("normalised score")
    handles = [
        Line2D([], [], color=look.colour, linestyle=look.dashes, linewidth=1.8, marker=look.marker, markersize=5, label=agent)
        for agent, look in looks.items()
    ]
    style.legend(figure, handles)
    style.entitle(figure, axes, options.title)
    style.caption(figure, _caption(scores.envs, options.normalize))
    return Picture(figure, rows, scores.notes)


def _draw_panel(axes: Axes, table: Table, thresholds: np.ndarray, looks: Mapping[str, style.Look]) -> list[dict[str, Any]]:
    """The profiles of one evaluation, and the numbers behind them."""
    rows = []
    for number, (agent, scores) in enumerate(table.items()):
        shares, (low, high) = performance_profile(scores, thresholds), performance_profile_band(scores, thresholds)
        look = looks[agent]
        axes.plot(
            thresholds,
            shares,
            color=look.colour,
            linestyle=look.dashes,
            linewidth=1.8,
            marker=look.marker,
            markersize=5,
            markeredgecolor="white",
            markeredgewidth=0.6,
            markevery=(3 + 4 * number, 25),
            drawstyle="steps-post",
            zorder=3 + number,
        )
        axes.fill_between(thresholds, low, high, color=look.colour, alpha=0.13, linewidth=0, step="post")
        for threshold, share, below, above in zip(thresholds, shares, low, high, strict=True):
            numbers = {"score": float(threshold), "share": float(share), "low": plain(below), "high": plain(above)}
            rows.append({"agent": agent, **numbers})
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlim(thresholds[0], thresholds[-1])
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    return rows


def _caption(envs: Sequence[str], ranges: Mapping[str, tuple[float, float]]) -> str:
    """The caption: what 0, 1 and the bands are."""
    own = [env for env in envs if env not in ranges]
    parts = [f"{env}: 0 is {ranges[env][0]:g}, 1 is {ranges[env][1]:g}." for env in envs if env in ranges]
    if own:
        where = "" if len(own) == len(envs) else f" ({', '.join(own)})"
        parts.append(f"0 is the lowest, 1 the highest score of a run in its environment{where}.")
    return " ".join([*(parts if len(parts) < 4 else ["Scores are normalised in each environment."]), "Bands: 95 % intervals."])
