"""Bars of final scores: a panel for each environment, a group for each agent, a bar for each evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from rlspo.zoo.evaluate.statistics import Estimate, interval, iqm
from rlspo.zoo.plot import style
from rlspo.zoo.plot.numbers import ends
from rlspo.zoo.plot.picture import Options, Picture
from rlspo.zoo.plot.runs import NATURAL, Run
from rlspo.zoo.plot.scores import Scores, collect

_GROUP, _ALONE = 0.84, 0.6  # of the space between two agents, for several bars and for one
_HEIGHT = 4.2  # inches of a single panel
_LETTER = 0.085  # inches

#: Environment, agent and evaluation.
Key = tuple[str, str, str]


def draw(runs: Sequence[Run], options: Options) -> Picture:
    """Draw final scores."""
    scores = collect(runs, options.evaluations)
    estimates = {
        (env, agent, name): interval(scores.tables[name][agent][env], iqm)
        for env in scores.envs
        for agent in scores.agents
        for name in scores.tables
        if env in scores.tables[name].get(agent, {})
    }
    rows = [
        {
            "env": env,
            "agent": agent,
            "evaluation": name,
            "value": estimate.value,
            **ends(estimate),
            "runs": len(scores.tables[name][agent][env]),
            "scores": " ".join(map(repr, scores.tables[name][agent][env].tolist())),
        }
        for (env, agent, name), estimate in estimates.items()
    ]
    several = len(scores.tables) > 1
    looks = style.looks(list(scores.tables) if several else scores.agents)
    bars = len(scores.agents) * len(scores.tables)
    width = float(np.clip(1.2 + 0.45 * bars, 4.6, 9.0))
    columns = 2 if bars > 8 else 3
    figure, axes = style.panels(scores.envs, width, _HEIGHT, columns)
    for panel, env in zip(axes, scores.envs, strict=True):
        _draw_panel(panel, env, scores, estimates, looks, figure.get_figwidth() / min(columns, len(axes)))
    axes[0].set_ylabel("return")
    if several:
        handles = [Patch(label=scores.title(name), **_fill(looks[name])) for name in scores.tables]
        style.legend(figure, handles)
    elif NATURAL not in scores.tables:
        axes[0].set_ylabel(f"return, {scores.title(next(iter(scores.tables)))}")
    style.entitle(figure, axes, options.title)
    style.caption(figure, _caption(rows))
    return Picture(figure, rows, scores.notes)


def _draw_panel(
    axes: Axes,
    env: str,
    scores: Scores,
    estimates: Mapping[Key, Estimate],
    looks: Mapping[str, style.Look],
    inches: float,
) -> None:
    """The bars of one environment.

    :param inches: width of the panel
    """
    agents = [agent for agent in scores.agents if any((env, agent, name) in estimates for name in scores.tables)]
    width = _GROUP / len(scores.tables) if len(scores.tables) > 1 else _ALONE
    for place, agent in enumerate(agents):
        for number, name in enumerate(scores.tables):
            if (env, agent, name) not in estimates:
                continue
            x = place + (number - (len(scores.tables) - 1) / 2) * width
            look = looks[name if len(scores.tables) > 1 else agent]
            _draw_bar(axes, x, width * 0.94, estimates[env, agent, name], scores.tables[name][agent][env], look)
    axes.set_xticks(range(len(agents)), agents, fontsize=style.NORMAL + 1)
    if _LETTER * len("  ".join(agents)) > inches:
        axes.tick_params(axis="x", labelrotation=20)
    axes.tick_params(axis="x", length=0)
    axes.grid(visible=False, axis="x")
    axes.axhline(0, color=style.INK, linewidth=0.8)
    axes.set_xlim(-0.55, len(agents) - 0.45)


def _draw_bar(axes: Axes, x: float, width: float, estimate: Estimate, values: np.ndarray, look: style.Look) -> None:
    """A bar, its interval, and a dot for each run, side by side so that none hides another."""
    axes.bar(x, estimate.value, width, zorder=2, **_fill(look))
    if not np.isnan(estimate.low):
        below, above = estimate.value - estimate.low, estimate.high - estimate.value
        # White below black, visible on any fill.
        for colour, line, cap, over in (("white", 3.0, 3.6, 4), (style.INK, 1.3, 3.0, 5)):
            axes.errorbar(
                x,
                estimate.value,
                [[below], [above]],
                fmt="none",
                ecolor=colour,
                elinewidth=line,
                capsize=cap,
                capthick=line,
                zorder=over,
            )
    if len(values) > 1:
        order = np.argsort(np.argsort(values, kind="stable"), kind="stable")
        shift = np.where(order % 2, 1, -1) * (0.14 + 0.1 * (order // 2 % 3)) * min(width, _GROUP / 3)
        axes.scatter(x + shift, values, s=13, color="white", edgecolors=style.INK, linewidths=0.8, zorder=6)


def _fill(look: style.Look) -> dict[str, Any]:
    """Arguments for a bar and for its entry in the legend."""
    return {"facecolor": style.pale(look.colour), "hatch": look.hatch, "edgecolor": style.INK, "linewidth": 0.8}


def _caption(rows: Sequence[Mapping[str, Any]]) -> str:
    """The caption: what bars, whiskers and dots show."""
    counts = sorted({row["runs"] for row in rows})
    if counts[-1] == 1:
        return "Bars: the mean return of a single run each."
    number = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"Bars: interquartile mean of {number} runs; whiskers: 95 % bootstrap intervals; dots: runs."
