"""The tables and the picture of docs/spo.md, from zoo/results/planning/; run by ``planning.py report``."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D
from scipy import stats

ROOT = Path(__file__).resolve().parents[1]
TABLE, PICTURE = ROOT / "docs" / "_results" / "planning.md", ROOT / "docs" / "_static" / "planning.png"
TITLES = {
    "cartpole": "CartPole-v1",
    "pendulum": "Pendulum-v1",
    "halfcheetah": "HalfCheetah-v5",
    "cube": "Rubik's cube, 7 turns",
    "cube-3-to-7": "the same, trained on 3 to 7",
    "sokoban": "Sokoban, 6x6",
}
SCALED = ("halfcheetah", "cube", "sokoban")
COLOURS = {"spo": "tab:blue", "spo-deep": "tab:cyan", "one-step": "tab:orange", "ppo": "tab:gray"}
Runs = dict[tuple[str, str], list[dict[str, Any]]]


def read(folder: Path) -> Runs:
    """Runs by task and agent, in the order of their seeds."""
    runs: Runs = defaultdict(list)
    for file in sorted(folder.glob("*.json")):
        found = json.loads(file.read_text(encoding="utf-8"))
        runs[found["task"], found["agent"]].append(found)
    return runs


def score(played: dict[str, float]) -> float:
    """Percent solved where that is what counts, else the mean return."""
    return 100.0 * played["solved"] if "solved" in played else played["mean"]


def interval(values: list[float]) -> str:
    """The mean over seeds and its 95 % interval by Student's t."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:,.0f}"
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return f"{mean:,.0f} ± {half:,.0f}"


HEADER = (
    "task",
    "agent",
    "seeds",
    "real steps",
    "model steps",
    "policy alone",
    "policy alone, sampled",
    "by search",
    "budget",
)


def row(cells: list[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"


def agents_of(runs: Runs, task: str) -> list[str]:
    """Those that were run, SPO first."""
    return [agent for agent in COLOURS if runs.get((task, agent))]


def summary(runs: Runs, task: str, agent: str) -> list[str]:
    """One line of the first table; by search with the largest budget that all seeds have played."""
    done = runs[task, agent]
    largest = min(len(one["search"]) for one in done) - 1
    millions = np.mean([one["model_steps"] for one in done]) / 1e6
    cells = [TITLES[task], agent, str(len(done)), f"{done[0]['steps']:,}", f"{millions:.1f} million" if millions else "none"]
    cells += [interval([score(one[way]) for one in done]) for way in ("deterministic", "sampled")]
    if largest < 0:
        return [*cells, "", ""]
    budget = done[0]["search"][largest]
    by_search = interval([score(one["search"][largest]) for one in done])
    return [*cells, by_search, f"{budget['particles']} x {budget['depth']}"]


def sac() -> list[str]:
    """SAC's mean return on HalfCheetah at 50,000 steps, from the grid moe_sac."""
    with (ROOT / "zoo" / "results" / "moe_sac" / "curves.csv").open(encoding="utf-8") as file:
        rows = [one for one in csv.DictReader(file) if one["agent"] == "sac" and one["env"] == "HalfCheetah-v5"]
    means = [float(one["mean"]) for one in rows if int(float(one["step"])) == 50_000]
    return [TITLES["halfcheetah"], "sac (grid moe_sac)", str(len(means)), "50,000", "none", interval(means), "", "", ""]


def scaling(runs: Runs, task: str) -> list[str]:
    """What each budget reaches, a table."""
    agents = agents_of(runs, task)
    sizes = [(one["particles"], one["depth"]) for one in runs[task, agents[0]][0]["search"]]
    lines = [row([TITLES[task], "policy alone", *(f"{particles} x {depth}" for particles, depth in sizes)])]
    lines.append("|---" * (len(sizes) + 2) + "|")
    for agent in agents:
        done = runs[task, agent]
        cells = [agent, interval([score(one["deterministic"]) for one in done])]
        for index in range(len(sizes)):
            found = [score(one["search"][index]) for one in done if len(one["search"]) > index]
            cells.append(interval(found) if found else "")
        lines.append(row(cells))
    return [*lines, ""]


def report(folder: Path) -> None:
    """Write both."""
    runs = read(folder)
    lines = [row([*HEADER]), "|---" * len(HEADER) + "|"]
    for task in TITLES:
        lines += [row(summary(runs, task, agent)) for agent in agents_of(runs, task)]
        lines += [row(sac())] if task == "halfcheetah" else []
    lines += ["", "What more search adds at test time, to the same agents:", ""]
    for task in SCALED:
        lines += scaling(runs, task)
    TABLE.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    draw(runs)
    print(TABLE.read_text(encoding="utf-8"))


def draw(runs: Runs) -> None:
    """Above what search adds, below how training went."""
    figure, axes = plt.subplots(2, 3, figsize=(12, 6.4), constrained_layout=True)
    for column, task in enumerate(SCALED):
        above, below = axes[0, column], axes[1, column]
        for agent, colour in COLOURS.items():
            done = runs.get((task, agent), [])
            if not done:
                continue
            count = min(len(one["search"]) for one in done)
            budgets = [one["particles"] * one["depth"] for one in done[0]["search"][:count]]
            played = np.array([[score(one["search"][index]) for index in range(count)] for one in done])
            sizes = sorted(set(budgets))  # two shapes of one size count as one point
            table = np.stack([played[:, np.array(budgets) == size].mean(axis=1) for size in sizes], axis=1)
            above.plot(sizes, table.mean(axis=0), "o-", color=colour, label=agent, markersize=4)
            above.fill_between(sizes, table.min(axis=0), table.max(axis=0), color=colour, alpha=0.15, lw=0)
            alone = np.mean([score(one["deterministic"]) for one in done])
            above.axhline(alone, color=colour, ls=":", lw=1)
            for one in done:
                points = [(point["step"], point["train"]) for point in one["curve"] if point["train"] is not None]
                below.plot(*zip(*points, strict=True), color=colour, lw=1)
        above.set_xscale("log", base=2)
        above.set_title(TITLES[task])
        above.set_xlabel("particles x depth at test time")
        above.set_ylabel("return" if task == "halfcheetah" else "solved, %")
        below.set_xlabel("real environment steps")
        below.set_ylabel("return in training")
    lines = [Line2D([], [], color=colour, marker="o", markersize=4, label=agent) for agent, colour in COLOURS.items()]
    axes[0, 0].legend(handles=lines, frameon=False, fontsize=8, loc="upper left")
    figure.suptitle(
        "Above: by search (mean and range over seeds), dotted: by the policy alone. Below: training, SPO acting by search"
    )
    figure.savefig(PICTURE, dpi=80)
    plt.close(figure)
