"""The end of a grid: its files written and its tables shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from rlspo.zoo import display
from rlspo.zoo.benchmark.cells import Cell, write_json
from rlspo.zoo.benchmark.grid import Grid
from rlspo.zoo.benchmark.results import Result, read_results, write_results, write_text
from rlspo.zoo.benchmark.scores import scores_of, summarise
from rlspo.zoo.benchmark.sheets import sheets


def write(grid: Grid, complete: Sequence[Cell], total: int, folder: Path) -> dict[str, Any]:
    """Write every file of :data:`rlspo.zoo.benchmark.results.FILES` but the grid itself.

    :param complete: cells that are done
    :param total: how many cells the grid has
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
    write_text(folder / "tables.md", "\n".join([*_head(summary), *(sheet.markdown() for sheet in sheets(summary))]))
    return summary


def show(summary: Mapping[str, Any], folder: Path) -> None:
    """Print the tables, and where the files are."""
    for line in _head(summary):
        display.out().print(line, markup=False)
    console = Console(highlight=False)
    for sheet in sheets(summary):
        if sheet.brief:
            console.print(sheet.rich())
            console.print()
    display.facts([("tables", str(folder / "tables.md")), ("numbers", str(folder / "results.csv")), ("all", str(folder))])


def _about(grid: Grid, results: Sequence[Result]) -> dict[str, Any]:
    """What all numbers of the grid have in common."""
    records = [result.record for result in results]
    commits = {(record["versions"]["git"].get("rlspo") or {}).get("commit") for record in records}
    return {
        "n_timesteps": sorted({record["settings"]["settings"]["n_timesteps"] for record in records}),
        "episodes": grid.episodes,
        "model": grid.model,
        "seeds": sorted({result.cell.seed for result in results}),
        "packages": {
            package: sorted({str(record["versions"]["packages"][package]) for record in records})
            for package in ("rlspo", "stable-baselines3", "gymnasium", "torch")
        },
        "commits": sorted(commit for commit in commits if commit),
    }


def _head(summary: Mapping[str, Any]) -> list[str]:
    """What stands above the tables."""
    about, cells = summary["about"], summary["cells"]
    steps = " or ".join(f"{steps:,}" for steps in about["n_timesteps"])
    packages = ", ".join(f"{name} {' and '.join(versions)}" for name, versions in about["packages"].items())
    commits = f", commit {' and '.join(commit[:7] for commit in about['commits'])}" if about["commits"] else ""
    lines = [
        f"Seeds {', '.join(map(str, about['seeds']))}; {steps} steps of training; the {about['model']} agent, "
        f"deterministic, {about['episodes']} episodes in each evaluation.",
        f"Beside each number its {summary['confidence']:.0%} interval: a stratified bootstrap over seeds, "
        f"{summary['resamples']:,} resamples. The best is marked.",
        f"{packages}{commits}.",
        "",
    ]
    if cells["complete"] < cells["total"]:
        lines.insert(0, f"Not complete: {cells['complete']} of {cells['total']} cells.")
    return lines
