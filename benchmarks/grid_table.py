"""A short table of a grid's results for the docs: interquartile means over seeds with intervals, and every seed.

    python benchmarks/grid_table.py lot_sizing lot_sizing_half lot_sizing_ablation

Reads ``zoo/results/GRID/summary.json`` and writes ``docs/_results/GRID.md``; the long tables stay in ``zoo/results/GRID``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NAMES = {"natural": "return", "area_under_curve": "mean return during training"}


def table(measures: dict[str, Any]) -> list[str]:
    """Rows of agents, best first; a column for each measure."""
    first, *others = measures
    agents = measures[first]["agents"]
    ordered = sorted(agents, key=lambda agent: -agents[agent]["iqm"]["value"])
    heads = [NAMES.get(first, first), "by seed", *(NAMES.get(other, other) for other in others)]
    lines = [f"| agent | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    for agent in ordered:
        scores = agents[agent]["scores"]
        seeds = ", ".join(f"{scores[seed]:,.0f}" for seed in sorted(scores, key=int))
        cells = [interval(measures[first], agent), seeds, *(interval(measures[other], agent) for other in others)]
        lines.append(f"| {agent} | {' | '.join(cells)} |")
    return lines


def interval(measure: dict[str, Any], agent: str) -> str:
    found = measure["agents"].get(agent)
    if found is None:
        return ""
    iqm = found["iqm"]
    if iqm["low"] is None:  # of a single seed
        return f"{iqm['value']:,.0f}"
    return f"{iqm['value']:,.0f} ({iqm['low']:,.0f} to {iqm['high']:,.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grids", nargs="+", metavar="GRID")
    for grid in parser.parse_args().grids:
        summary = json.loads((ROOT / "zoo" / "results" / grid / "summary.json").read_text(encoding="utf-8"))
        about = summary["about"]
        lines = []
        for env, measures in summary["envs"].items():
            lines += [f"**{env}**", "", *table(measures), ""]
        lines.append(
            f"Interquartile means over seeds with {100 * summary['confidence']:.0f} % intervals (stratified bootstrap; of so "
            f"few seeds they are too narrow) of the last agent, deterministic, {about['episodes']} episodes each."
        )
        text = "\n".join(lines) + "\n"
        (ROOT / "docs" / "_results" / f"{grid}.md").write_text(text, encoding="utf-8")
        print(text)


if __name__ == "__main__":
    main()
