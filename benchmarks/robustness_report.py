"""From the result files of ``robustness.py`` to a CSV, a Markdown table and a picture."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
MEASURES = ("natural", "random", "critic", "mad", "worst")
LABELS = {
    "ppo": "PPO",
    "arpo": "ARPO",
    "arpo-guided": "ARPO, guided",
    "barpo": "BARPO, unguided",
    "barpo-guided": "BARPO, guided",
}
TRIALS = {
    "barpo": "Langevin, unguided",
    "barpo-guided": "Langevin, guided",
    "barpo-pgd": "pgd, unguided",
    "barpo-pgd-guided": "pgd, guided",
    "barpo-power": "power, unguided",
    "barpo-power-guided": "power, guided",
}
RESAMPLES = 2_000


def read(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Result files by agent, in the order of the labels."""
    cells: dict[str, list[dict[str, Any]]] = {}
    for file in sorted(folder.glob("*.json")):
        cell = json.loads(file.read_text())
        cells.setdefault(cell["agent"], []).append(cell)
    return {agent: cells[agent] for agent in [*LABELS, *TRIALS] if agent in cells}


def seed_means(cells: list[dict[str, Any]], measure: str) -> np.ndarray:
    """One number per seed: the mean over episodes; for ``worst`` the lowest of the attacks' means."""
    if measure == "worst":
        return np.min([seed_means(cells, attack) for attack in ("random", "critic", "mad")], axis=0)
    return np.array([np.mean(cell["returns"][measure]) for cell in cells])


def interval(cells: list[dict[str, Any]], measure: str) -> tuple[float, float]:
    """95 % bootstrap interval of the mean over seeds; seeds and, within them, episodes are drawn again."""
    rng = np.random.default_rng(0)
    attacks = ("random", "critic", "mad") if measure == "worst" else (measure,)
    draws = []
    for _ in range(RESAMPLES):
        means = []
        for index in rng.integers(len(cells), size=len(cells)):
            episodes = [np.asarray(cells[index]["returns"][attack]) for attack in attacks]
            means.append(min(float(rng.choice(values, len(values)).mean()) for values in episodes))
        draws.append(np.mean(means))
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def report(env: str, steps: int) -> None:
    """Write ``zoo/results/robustness_ENV_STEPS.csv``, the docs' tables and picture, and print the tables."""
    name = f"robustness_{env}_{steps}"
    everything = read(ROOT / "zoo" / "results" / name)
    docs = ROOT / "docs"
    (docs / "_results").mkdir(exist_ok=True)
    rows = summary(everything)
    with (ROOT / "zoo" / "results" / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for labels, file_name in ((LABELS, name), (TRIALS, "robustness_trials")):
        table = markdown(rows, {agent: label for agent, label in labels.items() if agent in everything})
        (docs / "_results" / f"{file_name}.md").write_text(table)
        print(table)
    picture(
        rows,
        {agent: everything[agent] for agent in LABELS if agent in everything},
        docs / "_static" / f"{name}.png",
        f"{env}, {steps:.0e} steps".replace("e+0", "e"),
    )


def summary(agents: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per agent and measure."""
    return [
        {
            "agent": agent,
            "seeds": len(cells),
            "measure": measure,
            "mean": round(float(seed_means(cells, measure).mean()), 1),
            "low": round(bounds[0], 1),
            "high": round(bounds[1], 1),
            "per_seed": " ".join(f"{value:.0f}" for value in seed_means(cells, measure)),
        }
        for agent, cells in agents.items()
        for measure in MEASURES
        for bounds in [interval(cells, measure)]
    ]


def markdown(rows: list[dict[str, Any]], labels: dict[str, str]) -> str:
    """The table, one agent to a line: mean over seeds, interval, and each seed's worst-of-three."""
    lines = [
        "| agent | seeds | natural | random | critic | MAD | worst of three | worst, per seed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for agent, label in labels.items():
        mine = {row["measure"]: row for row in rows if row["agent"] == agent}
        cells = [f"{mine[m]['mean']:.0f} ({mine[m]['low']:.0f} to {mine[m]['high']:.0f})" for m in MEASURES]
        lines.append(f"| {label} | {mine['natural']['seeds']} | {' | '.join(cells)} | {mine['worst']['per_seed']} |")
    return "\n".join(lines) + "\n"


def picture(rows: list[dict[str, Any]], agents: dict[str, Any], file: Path, title: str) -> None:
    """Bars per agent and measure with intervals; hatches keep them apart in black and white."""
    fig, axes = plt.subplots(figsize=(9, 4))
    shown = {"natural": ("#4477aa", ""), "random": ("#66ccee", ".."), "critic": ("#ccbb44", "xx"), "mad": ("#ee6677", "//")}
    for offset, (measure, (colour, hatch)) in enumerate(shown.items()):
        mine = [next(row for row in rows if row["agent"] == agent and row["measure"] == measure) for agent in agents]
        means = np.array([row["mean"] for row in mine])
        errors = np.abs(np.array([[row["low"], row["high"]] for row in mine]).T - means)
        places = np.arange(len(agents)) + (offset - 1.5) * 0.2
        label = {"natural": "no attack", "mad": "MAD attack"}.get(measure, f"{measure} attack")
        style = {"color": colour, "hatch": hatch, "edgecolor": "black", "linewidth": 0.6, "capsize": 2}
        axes.bar(places, means, 0.2, yerr=errors, label=label, error_kw={"linewidth": 0.8}, **style)
        for index, agent in enumerate(agents):
            seeds = seed_means(agents[agent], measure)
            axes.plot([places[index]] * len(seeds), seeds, "k.", markersize=3)
    axes.set_xticks(np.arange(len(agents)), [LABELS[agent] for agent in agents])
    axes.set_ylabel("return, mean of 50 episodes")
    axes.set_title(f"{title}: bars are means over seeds with 95 % intervals, dots are seeds", fontsize=10)
    axes.legend(ncols=4, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.1), frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    fig.tight_layout()
    fig.savefig(file, dpi=130)
    plt.close(fig)
