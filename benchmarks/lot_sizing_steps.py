"""How many steps an agent needs to reach PPO's final return, from the learning curves of the lot-sizing grid.

    python benchmarks/lot_sizing_steps.py

PPO's final return is the mean over seeds of its last five evaluations during training. An agent has reached it where the mean
over its seeds of the same moving average, of five evaluations, first does; so both are averages of equally many episodes.
Curves are flat at the end, so the steps to within 2 % of it are reported too.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
CURVES = ROOT / "zoo" / "results" / "lot_sizing_seeds" / "curves.csv"
WINDOW = 5


def curves() -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
    """Steps and the moving average of the returns, a row for each seed, by environment and agent."""
    points: dict[tuple[str, str], dict[str, list[tuple[int, float]]]] = defaultdict(lambda: defaultdict(list))
    with CURVES.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            points[row["env"], row["agent"]][row["seed"]].append((int(row["step"]), float(row["mean"])))
    found = {}
    for key, seeds in points.items():
        length = min(len(curve) for curve in seeds.values())
        returns = np.array([[value for _, value in sorted(curve)[:length]] for curve in seeds.values()])
        steps = np.array([step for step, _ in sorted(next(iter(seeds.values())))[:length]])
        smooth = np.stack([np.convolve(row, np.ones(WINDOW) / WINDOW, mode="valid") for row in returns])
        found[key] = steps[WINDOW - 1 :], smooth
    return found


def steps_to(level: float, steps: np.ndarray, returns: np.ndarray) -> int | None:
    """The step at which the mean over seeds first reaches ``level``; None if it never does."""
    reached = np.flatnonzero(returns.mean(axis=0) >= level)
    return int(steps[reached[0]]) if len(reached) else None


def main() -> None:
    by_pair = curves()
    lines = [
        "| instance | PPO's final return | agent | seeds | steps to it | share of PPO's run | steps to within 2 % |",
        "|---|---|---|---|---|---|---|",
    ]
    for env in dict.fromkeys(env for env, _ in by_pair):
        if (env, "ppo") not in by_pair:
            continue
        ppo_steps, ppo = by_pair[env, "ppo"]
        final = ppo[:, -1].mean()
        for (where, agent), (steps, returns) in by_pair.items():
            if where != env:
                continue
            there, near = (steps_to(level, steps, returns) for level in (final, 1.02 * final))
            share = "" if there is None else f"{100 * there / ppo_steps[-1]:.0f} %"
            at, close = ("not reached" if step is None else f"{step:,}" for step in (there, near))
            lines.append(f"| {env} | {final:.0f} | {agent} | {len(returns)} | {at} | {share} | {close} |")
    table = "\n".join(lines) + "\n"
    (ROOT / "docs" / "_results" / "lot_sizing_steps.md").write_text(table, encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
