"""The end of a grid: its files written and its tables shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from rlspo.zoo.benchmark.grid import Grid
from rlspo.zoo.benchmark.grid_runs import GridRun, write_json
from rlspo.zoo.benchmark.results import Result, read_results, write_results
from rlspo.zoo.benchmark.scores import COVERAGE, scores_of, summarise
from rlspo.zoo.benchmark.tables import tables_of
from rlspo.zoo.cli import terminal
from rlspo.zoo.config.atomic import write_text


def write(grid: Grid, complete: Sequence[GridRun], total: int, folder: Path) -> dict[str, Any]:
    """Write every file of :data:`rlspo.zoo.benchmark.results.FILES`.

    :param complete: runs that are done
    :param total: how many runs the grid has
    :param folder: of the grid
    :return: the summary, plain
    """
    results, curves = read_results(complete)
    write_results(results, curves, folder)
    summary = {
        "grid": grid.name,
        "cells": {"complete": len(complete), "total": total},
        "about": _about(grid, results),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        **summarise(grid, scores_of(grid, results, curves)),
    }
    write_json(folder / "summary.json", summary)
    write_text(folder / "tables.md", "\n".join([*_head(summary), *(table.markdown() for table in tables_of(summary))]))
    return summary


def show(summary: Mapping[str, Any], folder: Path) -> None:
    """Print the tables, and where the files are."""
    for line in _head(summary):
        terminal.out().print(line, markup=False)
    console = Console(highlight=False)
    for table in tables_of(summary):
        if table.brief:
            console.print(table.rich())
            console.print()
    terminal.facts([("tables", str(folder / "tables.md")), ("numbers", str(folder / "results.csv")), ("all", str(folder))])


def _about(grid: Grid, results: Sequence[Result]) -> dict[str, Any]:
    """What all numbers of the grid have in common."""
    records = [result.record for result in results]
    return {
        "n_timesteps": sorted({record["settings"]["settings"]["n_timesteps"] for record in records}),
        "episodes": grid.episodes,
        "model": grid.model,
        "actions": _actions(grid),
        "seeds": sorted({result.run.seed for result in results}),
        "packages": {
            package: sorted({str(record["versions"]["packages"][package]) for record in records})
            for package in ("rlspo", "stable-baselines3", "gymnasium", "torch")
        },
        "commits": sorted({result.commit for result in results if result.commit}),
    }


def _actions(grid: Grid) -> str:
    """How agents act in the evaluations, in words."""
    sampled = [name for name, how in grid.evaluations.items() if not how.get("deterministic", True)]
    if not sampled:
        return "deterministic"
    return "actions sampled" if len(sampled) == len(grid.evaluations) else f"deterministic but in {' and '.join(sampled)}"


def _head(summary: Mapping[str, Any]) -> list[str]:
    """What stands above the tables."""
    about, counts = summary["about"], summary["cells"]
    steps = " or ".join(f"{steps:,}" for steps in about["n_timesteps"])
    packages = ", ".join(f"{name} {' and '.join(versions)}" for name, versions in about["packages"].items())
    commits = f", commit {' and '.join(map(_short, about['commits']))}" if about["commits"] else ""
    lines = [
        f"Seeds {', '.join(map(str, about['seeds']))}; {steps} steps of training; the {about['model']} agent, "
        f"{about['actions']}, {about['episodes']} episodes in each evaluation.",
        f"Beside each number its {summary['confidence']:.0%} interval: a stratified bootstrap over seeds, "
        f"{summary['resamples']:,} resamples. The best is marked.",
        *_narrow(summary),
        f"{packages}{commits}.",
        "",
    ]
    if counts["complete"] < counts["total"]:
        lines.insert(0, f"Not complete: {counts['complete']} of {counts['total']} runs.")
    return lines


def _short(commit: str) -> str:
    """A commit as people write it.

    >>> _short("b7cd1ac0123456789abcdef0123456789abcdef0-dirty")
    'b7cd1ac-dirty'
    """
    name, dash, state = commit.partition("-")
    return f"{name[:7]}{dash}{state}"


def _narrow(summary: Mapping[str, Any]) -> list[str]:
    """How far the intervals of few seeds can be trusted: those of the agent with the fewest."""
    parts = [measure["agents"].values() for measures in summary["envs"].values() for measure in measures.values()]
    seeds = min((agent["seeds"] for part in parts for agent in part if agent["seeds"] > 1), default=0)
    if seeds not in COVERAGE:
        return []
    return [
        f"Bootstrap intervals from {seeds} seeds are too narrow: about {COVERAGE[seeds]:.0%} of those of a mean hold it, "
        f"rather than {summary['confidence']:.0%}."
    ]
