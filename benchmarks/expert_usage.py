"""How the mixtures of experts of a grid use their experts, from the agents that it trained.

    python benchmarks/expert_usage.py play moe_sac moe_ppo moe_barpo    # plays what is missing, where agents are there
    python benchmarks/expert_usage.py report                            # the docs' table from what is there

Each agent plays 4000 steps with sampled actions and as many with its deterministic ones. Results are in
zoo/results/GRID/experts, one file for each agent, environment and seed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlspo.policies.moe.routing import gate_statistics
from rlspo.zoo.experts.map import act
from rlspo.zoo.runs.saved_agent import find_agent

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "docs" / "_results" / "expert_usage.md"
GRIDS = ("moe_sac", "moe_ppo", "moe_barpo")
STEPS, SEED = 4000, 3000


def usage(run: Path) -> dict[str, Any] | None:
    """Shares of the experts, and their differences; None for an agent without experts.

    :param run: folder of a run
    """
    agent = find_agent(run)
    policy: Any = agent.load("cpu").policy
    if getattr(policy, "n_experts", 1) < 2:
        return None
    sampled, deterministic = (act(agent, STEPS, choice, SEED) for choice in (False, True))
    with torch.no_grad():
        found = gate_statistics(policy.distribution_of(torch.as_tensor(sampled.seen, dtype=torch.float32)))
    return {
        "sampled": shares(sampled),
        "deterministic": shares(deterministic),
        **{
            name.removeprefix("moe/"): float(value)
            for name, value in found.items()
            if "usage_" not in name or "entropy" in name
        },
    }


def shares(steps: Any) -> list[float]:
    return (np.bincount(steps.experts, minlength=steps.n_experts) / len(steps.experts)).tolist()


def play_all(grids: list[str]) -> None:
    for grid in grids:
        for cell in sorted((ROOT / "logs" / "benchmark" / grid).glob("*/*/seed_*/cell.json")):
            agent, env, seed = cell.parts[-4:-1]
            file = ROOT / "zoo" / "results" / grid / "experts" / f"{agent}_{env}_{seed}.json"
            if file.exists():
                continue
            found = usage(cell.parent / "run")
            if found is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(
                    json.dumps({"agent": agent, "env": env, "seed": int(seed.removeprefix("seed_")), **found}) + "\n"
                )


def report() -> None:
    """The table; experts are sorted by how often they act, as their indices have no meaning."""
    lines = [
        "| task | agent | seed | acts, sampled | acts, deterministic | mutual information of state and expert, nats "
        "| KL between experts, mean | smallest |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for grid in GRIDS:
        for file in sorted((ROOT / "zoo" / "results" / grid / "experts").glob("*.json")):
            row = json.loads(file.read_text())
            acts = [percentages(row[kind]) for kind in ("sampled", "deterministic")]
            told = row["usage_entropy"] - row["gate_entropy"]
            lines.append(
                f"| {row['env']} | {row['agent']} | {row['seed']} | {acts[0]} | {acts[1]} | {told:.2f} "
                f"| {row['kl_mean']:.1f} | {row['kl_min']:.1f} |"
            )
    TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def percentages(values: list[float]) -> str:
    return ", ".join(f"{100 * value:.0f}" for value in sorted(values, reverse=True)) + " %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["play", "report"])
    parser.add_argument("grids", nargs="*", default=list(GRIDS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.command == "play":
        play_all(args.grids)
    report()


if __name__ == "__main__":
    main()
