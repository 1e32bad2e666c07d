"""Performance profiles: which share of the runs scores higher than any given score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from rlspo.zoo.plot import style
from rlspo.zoo.plot.picture import Options, Picture
from rlspo.zoo.plot.runs import Run
from rlspo.zoo.plot.scores import Table, collect, normalised, shared_envs
from rlspo.zoo.statistics import performance_profile, performance_profile_band

_POINTS = 201
_HEIGHT = 4.2  # inches of a single panel


def draw(runs: Sequence[Run], options: Options) -> Picture:
    """Draw performance profiles of normalised scores, a panel for each evaluation."""
    raw = collect(runs, options.evaluations)
    scores = normalised(raw, options.normalize)
    looks = style.looks(scores.agents)
    titles = [scores.title(name) for name in scores.tables]
    figure, axes = style.panels(titles, 7.0, _HEIGHT, columns=2, sharey=True)
    rows: list[dict[str, Any]] = []
    notes = scores.notes()
    used: set[str] = set()
    for panel, (name, table) in zip(axes, scores.tables.items(), strict=True):
        envs = shared_envs(table, "profiles")
        used |= {*envs}
        rows += [{"evaluation": name, **row} for row in _draw_panel(panel, table, envs, looks)]
    if left := [env for env in scores.envs if env not in used]:
        notes.append(f"Left out, because not every agent has runs there: {', '.join(left)}.")
    axes[0].set_ylabel("share of runs that score higher")
    handles = [
        Line2D([], [], color=look.colour, linestyle=look.dashes, linewidth=1.8, marker=look.marker, markersize=5, label=agent)
        for agent, look in looks.items()
    ]
    style.legend(figure, handles)
    style.entitle(figure, axes, options.title)
    style.caption(figure, _caption(sorted(used), options.normalize))
    return Picture(figure, rows, notes)


def _draw_panel(axes: Axes, table: Table, envs: list[str], looks: Mapping[str, style.Look]) -> list[dict[str, Any]]:
    """The profiles of one evaluation, and the numbers behind them."""
    every = np.concatenate([table[agent][env] for agent in table for env in envs])
    margin = 0.03 * (float(np.ptp(every)) or 1.0)
    thresholds = np.linspace(every.min() - margin, every.max() + margin, _POINTS)
    rows = []
    for number, (agent, scores) in enumerate(table.items()):
        shared = {env: scores[env] for env in envs}
        shares, (low, high) = performance_profile(shared, thresholds), performance_profile_band(shared, thresholds)
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
            markevery=(4 * number, 25),
            zorder=3 + number,
        )
        axes.fill_between(thresholds, low, high, color=look.colour, alpha=0.15, linewidth=0)
        for threshold, share, below, above in zip(thresholds, shares, low, high, strict=True):
            known = not np.isnan(below)
            rows.append(
                {
                    "agent": agent,
                    "score": float(threshold),
                    "share": float(share),
                    "low": float(below) if known else None,
                    "high": float(above) if known else None,
                }
            )
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlim(thresholds[0], thresholds[-1])
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.set_xlabel("normalised score")
    return rows


def _caption(envs: Sequence[str], ranges: Mapping[str, tuple[float, float]]) -> str:
    """What 0 and 1 are, and what the bands are."""
    own = [env for env in envs if env not in ranges]
    parts = [f"{env}: 0 is {ranges[env][0]:g}, 1 is {ranges[env][1]:g}." for env in envs if env in ranges]
    if own:
        where = "" if len(own) == len(envs) else f" ({', '.join(own)})"
        parts.append(f"0 is the lowest, 1 the highest score of a run in its environment{where}.")
    return " ".join([*(parts if len(parts) < 4 else ["Scores are normalised in each environment."]), "Bands: 95 % intervals."])
