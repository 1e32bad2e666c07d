"""Probabilities of improvement: how often a run of one agent scores higher than a run of another."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes

from rlspo.common.errors import did_you_mean
from rlspo.zoo.errors import UserError
from rlspo.zoo.evaluate.statistics import Estimate, probability_of_improvement_interval
from rlspo.zoo.plot import style
from rlspo.zoo.plot.numbers import ends
from rlspo.zoo.plot.picture import Options, Picture
from rlspo.zoo.plot.runs import Run
from rlspo.zoo.plot.scores import Table, collect, shared

_ROW = 0.34  # inches of a pair
_LEVEL = 0.05  # of the test that corresponds to an interval of 95 %


def draw(runs: Sequence[Run], options: Options) -> Picture:
    """Draw probabilities of improvement, a panel for each evaluation and a row for each pair of agents.

    :raises UserError: for a single agent, or a baseline that is not there
    """
    collected = collect(runs, options.evaluations)
    agents = collected.agents
    if len(agents) < 2:
        raise UserError(f"--kind improvement compares agents, and there is only {agents[0]}. Name more folders.")
    if options.baseline is not None and options.baseline not in agents:
        raise UserError(f"--baseline: there is no agent {options.baseline!r}. {did_you_mean(options.baseline, agents)}")
    comparable = {
        name: table
        for name, table in collected.tables.items()
        if len(table) > 1 and (options.baseline is None or options.baseline in table)
    }
    if not comparable:
        raise UserError(
            f"--kind improvement: no evaluation has two agents to compare; {', '.join(collected.tables)} has one each."
        )
    scores = shared(replace(collected, tables=comparable), "improvement")
    estimates = {name: dict(_compared(table, options.baseline)) for name, table in scores.tables.items()}
    pairs = list(dict.fromkeys(pair for found in estimates.values() for pair in found))
    height = 1.5 + _ROW * len(pairs)
    figure, axes = style.panels(scores.panel_titles(), 7.4, height, columns=2, sharex=True, sharey=True)
    for panel, (name, found) in zip(axes, estimates.items(), strict=True):
        table = scores.tables[name]
        significant = {pair for pair, estimate in found.items() if _significant(estimate, table[pair[0]], table[pair[1]])}
        _draw_panel(panel, pairs, found, significant)
    rows = [
        {"evaluation": name, "agent": ours, "over": theirs, "probability": estimate.value, **ends(estimate)}
        for name, found in estimates.items()
        for (ours, theirs), estimate in found.items()
    ]
    style.entitle(figure, axes, options.title)
    where = scores.envs[0] if len(scores.envs) == 1 else f"{len(scores.envs)} environments"
    style.caption(
        figure,
        f"Probability that a run of the first agent scores higher, over {where}; 95 % bootstrap intervals. A white point: "
        "undecided.",
    )
    return Picture(figure, rows, scores.notes)


def _compared(table: Table, baseline: str | None) -> Iterator[tuple[tuple[str, str], Estimate]]:
    """Each pair of agents, or each agent and the baseline."""
    for one, other in itertools.combinations(table, 2):
        if baseline in (None, one, other):
            pair = (one, other) if other == baseline else (other, one)
            yield pair, probability_of_improvement_interval(table[pair[0]], table[pair[1]])


def attainable(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> float:
    """The smallest two-sided p-value that a rank test of so many runs can have: that of scores which do not overlap at all.

    >>> round(attainable({"A-v0": np.zeros(3)}, {"A-v0": np.zeros(3)}), 3)
    0.1

    :param ours: scores of the runs by environment
    :param theirs: likewise, in the same environments
    """
    return 2 / math.prod(math.comb(len(ours[env]) + len(theirs[env]), len(ours[env])) for env in ours)


def _significant(estimate: Estimate, ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> bool:
    """Whether one agent is significantly better: 50 % is outside the interval, and there are enough runs for a test.

    With few runs the interval alone does not suffice: of three that all score higher than three others it has no width.
    """
    return not np.isnan(estimate.low) and not estimate.low <= 0.5 <= estimate.high and attainable(ours, theirs) <= _LEVEL


def _draw_panel(
    axes: Axes, pairs: Sequence[tuple[str, str]], found: dict[tuple[str, str], Estimate], significant: Set[tuple[str, str]]
) -> None:
    """Points with whiskers, the first pair at the top; those of significant pairs are filled."""
    axes.axvline(0.5, color=style.FAINT, linewidth=1.0, linestyle=(0, (4, 2)))
    for place, pair in enumerate(pairs):
        if pair not in found:
            continue
        estimate = found[pair]
        if not np.isnan(estimate.low):
            axes.plot([estimate.low, estimate.high], [place, place], color=style.INK, linewidth=2.0, solid_capstyle="butt")
        colour = "#0072B2" if pair in significant else "white"
        axes.plot(estimate.value, place, "o", markersize=7, markeredgecolor=style.INK, color=colour, zorder=3)
        axes.annotate(
            f"{estimate.value:.0%}", (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=style.NORMAL
        )
    axes.set_yticks(range(len(pairs)), [f"{ours} over {theirs}" for ours, theirs in pairs])
    axes.set_ylim(len(pairs) - 0.5, -0.5)
    axes.set_xlim(-0.02, 1.02)
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
