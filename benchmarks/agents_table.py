"""The docs' table of the trained agents, made from their own files.

python benchmarks/agents_table.py        # docs/_results/agents.md from zoo/agents/
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
AGENTS = ROOT / "zoo" / "agents"
TARGET = ROOT / "docs" / "_results" / "agents.md"
HEAD = "| name | return | under the worst attack | seeds | steps | commit |"


def read(folder: Path, name: str) -> Any:
    """A JSON file of an agent, None where it is not there."""
    file = folder / name
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.1f}"


def interval(summary: dict[str, Any]) -> str:
    low, high = summary["iqm_interval"]
    return f"{number(summary['iqm'])} ({number(low)} to {number(high)})"


def row(folder: Path) -> str:
    """One line of the table."""
    about, evaluation, attacks, seeds = (
        read(folder, name) for name in ("agent.json", "evaluation.json", "attacks.json", "seeds.json")
    )
    worst = ""
    if attacks is not None:
        name, found = min(attacks["attacks"].items(), key=lambda each: each[1]["summary"]["iqm"])
        worst = f"{interval(found['summary'])}, `{name}` {attacks['epsilon']:g}"
    means = ", ".join(number(each["mean"]) for each in seeds["seeds"])
    commit, _, dirty = about["provenance"].get("trained_with", {}).get("commit", "").partition("-")
    commit = commit[:7] + (f"-{dirty}" if dirty else "")
    name = f"`{folder.parent.name}/{folder.name}`"
    return f"| {name} | {interval(evaluation['summary'])} | {worst} | {means} | {about['num_timesteps']:,} | {commit} |"


def table() -> str:
    """The table of all agents."""
    folders = sorted(file.parent for file in AGENTS.glob("*/*/agent.json"))
    return "\n".join([HEAD, "|---|---|---|---|---|---|", *map(row, folders)]) + "\n"


if __name__ == "__main__":
    TARGET.write_text(table(), encoding="utf-8")
    print(TARGET.relative_to(ROOT))
