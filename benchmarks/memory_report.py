"""The tables of docs/recurrent.md, from the results of the memory grids as far as they have been run.

    python benchmarks/memory_report.py

Reads ``zoo/results/{memory_hopper,memory_mujoco,memory_cartpole,stori_memory,stori_ppo,stori_reference}`` and writes
``docs/_results/memory_{mujoco,cartpole,stori}.md``.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from stori_results import CELLS, RESULTS, ROOT, Score, of_grid, references

from rlspo.zoo.evaluate.statistics import interval, mean

#: Rows of the MuJoCo table: grid, environment and agents' prefix, evaluation, and what the docs call it.
MUJOCO = (
    ("memory_hopper", "hopper-without-velocities", "ppo", "natural", "Hopper without velocities (3.2)"),
    ("memory_hopper", "hopper-without-velocities", "ppo", "mad", "the same under the MAD attack, radius 0.075"),
    ("memory_hopper", "hopper-without-velocities", "barpo", "natural", "the same, BARPO"),
    ("memory_hopper", "hopper-without-velocities", "barpo", "mad", "BARPO under the MAD attack"),
    ("memory_mujoco", "HalfCheetah-3.2", "ppo", "natural", "HalfCheetah without velocities (3.2)"),
    ("memory_mujoco", "HalfCheetah-2.2", "ppo", "natural", "HalfCheetah, actuators that lose their strength (2.2)"),
    ("memory_mujoco", "Hopper-2.2", "ppo", "natural", "Hopper, the same (2.2)"),
)
HEADS = "| single observations | four stacked | memory of 64 | sb3-contrib's RecurrentPPO |"


def scores_of(grid: str) -> dict[str, dict[str, dict[str, list[float]]]]:
    """The mean return of each seed, by environment, evaluation and agent."""
    summary = json.loads((RESULTS / grid / "summary.json").read_text(encoding="utf-8"))
    return {
        env: {
            evaluation: {agent: [*found["scores"].values()] for agent, found in measure["agents"].items()}
            for evaluation, measure in measures.items()
        }
        for env, measures in summary["envs"].items()
    }


def mann_whitney(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Two-sided p value of the exact Mann-Whitney test: how often seeds that do not differ are at least as uneven."""
    together = np.array([*ours, *theirs])
    ranks = np.argsort(np.argsort(together)) + 1  # no seed of one side has the mean return of one of the other
    sums = ranks[np.array([*itertools.combinations(range(len(together)), len(ours))])].sum(axis=1)
    middle = len(ours) * (len(together) + 1) / 2
    return float(np.mean(np.abs(sums - middle) >= abs(ranks[: len(ours)].sum() - middle)))


def mujoco() -> list[str]:
    """Mean returns over seeds, with their number."""
    lines = [f"| task {HEADS}", "|---|---|---|---|---|"]
    for grid, env, agent, evaluation, name in MUJOCO:
        found = scores_of(grid)[env].get(evaluation, {})
        columns = [agent, f"{agent}-stacked", f"{agent}-memory", "recurrent-ppo" if agent == "ppo" else ""]
        cells = [f"{np.mean(found[column]):.0f} ({len(found[column])})" if column in found else "" for column in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    hopper = scores_of("memory_hopper")["hopper-without-velocities"]["natural"]
    seeds = {agent: ", ".join(f"{score:.0f}" for score in sorted(hopper[agent])) for agent in ("recurrent-ppo", "ppo-memory")}
    lines += [
        "",
        f"Hopper without velocities by seed: RecurrentPPO {seeds['recurrent-ppo']}; rlspo's memory {seeds['ppo-memory']} "
        f"(exact Mann-Whitney test, p = {mann_whitney(hopper['ppo-memory'], hopper['recurrent-ppo']):.2f}).",
    ]
    return lines


def cartpole() -> list[str]:
    """Mean returns with intervals over seeds, and how long trainings took."""
    found = scores_of("memory_cartpole")["cartpole-without-velocities"]["natural"]
    agents = ("ppo", "ppo-stacked", "ppo-memory", "recurrent-ppo")
    lines = [f"| {HEADS}", "|---|---|---|---|---|"]
    ends = [interval(found[agent], mean) for agent in agents]
    lines.append("| mean return | " + " | ".join(f"{e.value:.0f} ({e.low:.0f} to {e.high:.0f})" for e in ends) + " |")
    seconds = {
        agent: [
            json.loads(file.read_text(encoding="utf-8"))["seconds"]
            for file in (RESULTS / "memory_cartpole" / agent).rglob("cell.json")
        ]
        for agent in agents
    }
    lines.append("| seconds of training | " + " | ".join(f"{np.median(seconds[agent]):.0f}" for agent in agents) + " |")
    p_value = mann_whitney(found["ppo-memory"], found["recurrent-ppo"])
    lines += ["", f"rlspo's memory against RecurrentPPO: p = {p_value:.2f} (exact Mann-Whitney test)."]
    return lines


def stori() -> list[str]:
    """The 24 configurations: random actions, four frames, memory."""
    frames, memory = (of_grid(RESULTS / grid, CELLS, "sampled") for grid in ("stori_ppo", "stori_memory"))
    random = references()
    lines = ["| configuration | random | four frames | memory, single frames |", "|---|---|---|---|"]
    for cell in CELLS:
        row = [random.get(("random", cell)), frames.get(("ppo", cell)), memory.get(("ppo-memory", cell))]
        lines.append(f"| `{cell}` | {' | '.join(map(shown, row))} |")
    pairs = [(memory[key], frames["ppo", key[1]]) for key in memory if ("ppo", key[1]) in frames]
    lines += [
        "",
        f"{len(pairs)} of {len(CELLS)} have both; the memory is ahead in {sum(a.value > b.value for a, b in pairs)}. "
        "One seed each ranks nothing. Random: 100 episodes, with the 95 % interval.",
    ]
    return lines


def shown(score: Score | None) -> str:
    if score is None:
        return ""
    digits = 1 if abs(score.value) < 100 else 0
    ends = "" if score.low is None else f" ({score.low:.{digits}f} to {score.high:.{digits}f})"
    return f"{score.value:.{digits}f}{ends}"


def main() -> None:
    tables: dict[str, Any] = {"mujoco": mujoco(), "cartpole": cartpole(), "stori": stori()}
    for name, lines in tables.items():
        (ROOT / "docs" / "_results" / f"memory_{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print("\n".join(lines), end="\n\n")


if __name__ == "__main__":
    main()
