"""Plans on the published lot-sizing instances: costs by kind, and the use of machines.

    python benchmarks/lot_sizing_plans.py           # after rlspo benchmark zoo/grids/lot_sizing.yml

Agents are those of the grid, from ``logs/benchmark/lot_sizing``, deterministic, as far as they exist; rules are those of
``lot_sizing_rules.py``. All play the same episodes. Writes a row for each seed
to ``zoo/results/lot_sizing/plans.csv`` and means over seeds to ``docs/_results/lot_sizing_plans.md``.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

import rlspo  # noqa: F401  (registers the environments)
from rlspo.envs.lot_sizing import load_instance
from rlspo.envs.lot_sizing.rules import RollingHorizon, Rule, StaticAssignment
from rlspo.zoo.runs.saved_agent import find_agent

ROOT = Path(__file__).resolve().parents[1]
ROWS = ROOT / "zoo" / "results" / "lot_sizing" / "plans.csv"
TABLE = ROOT / "docs" / "_results" / "lot_sizing_plans.md"
INSTANCES = ("20x10", "25x15")
AGENTS = ("pdppo", "pdppo-joint-credit", "ppo", "maskable-ppo")
RULES: dict[str, Callable[[Any], Rule]] = {"static assignment": StaticAssignment, "rolling horizon, search": RollingHorizon}
SEED = 4000
COSTS = ("setups", "lost sales", "holding")
#: Shares of all periods of all machines; of the machines; of the periods in which machines work.
SHARES = ("idle", "never used", "starts another")

#: A function from an observation and the environment to actions.
Choice = Callable[[np.ndarray, Any], np.ndarray]


def by_agent(run: Path) -> Choice:
    agent = find_agent(run)
    model = agent.load("cpu")
    if agent.statistics is not None:
        raise SystemExit(f"{run}: the agent sees normalised observations, which are not made here.")
    masked = agent.algo.endswith("MaskablePPO")

    def choose(seen: np.ndarray, env: Any) -> np.ndarray:
        masks = {"action_masks": env.action_masks().copy()} if masked else {}
        return model.predict(seen, deterministic=True, **masks)[0]

    return choose


def by_rule(rule: Rule) -> Choice:
    return lambda seen, env: np.asarray(rule(env.inventory, env.setups, env.elapsed))


def plan(choose: Choice, instance: Path, episodes: int) -> dict[str, float]:
    """Means over episodes of what :data:`COSTS` and :data:`SHARES` name."""
    env: Any = gym.make("rlspo/LotSizing-v0", instance=instance).unwrapped
    costs, shares = np.zeros((episodes, 3)), np.zeros((episodes, 3))
    for episode in range(episodes):
        seen, _ = env.reset(seed=SEED + episode)
        setups, over = [env.setups.copy()], False
        while not over:
            setups.append(np.asarray(choose(seen, env)))
            seen, _, terminated, truncated, info = env.step(setups[-1])
            costs[episode] += [info["setup_cost"], info["lost_sales_cost"], info["holding_cost"]]
            over = terminated or truncated
        before, actions = np.array(setups[:-1]), np.array(setups[1:])
        works = actions > 0
        starts = works & (actions != before)
        shares[episode] = 1 - works.mean(), (~works.any(axis=0)).mean(), starts.sum() / max(works.sum(), 1)
    return dict(zip((*COSTS, *SHARES), [*costs.mean(axis=0), *shares.mean(axis=0)], strict=True))


def plans_of(instance: str, folder: Path, episodes: int) -> list[dict[str, Any]]:
    """A row for each rule and for each seed of each agent."""
    file = folder / f"published_{instance}.json"
    choices = [(title, "", by_rule(make(load_instance(file)))) for title, make in RULES.items()]
    for agent in AGENTS:
        runs = sorted((ROOT / "logs" / "benchmark" / "lot_sizing" / agent / instance).glob("seed_*/run"))
        choices += [(agent, run.parent.name.removeprefix("seed_"), by_agent(run)) for run in runs]
    rows = []
    for title, seed, choose in choices:
        found = plan(choose, file, episodes)
        rows.append({"instance": instance, "plan": title, "seed": seed, **{k: round(v, 4) for k, v in found.items()}})
        print(rows[-1], flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Means over seeds, cheapest first."""
    heads = ("instance", "who plans", "cost", *COSTS, "machines idle", "never used", "starts another item")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for instance in INSTANCES:
        plans: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            if row["instance"] == instance:
                plans.setdefault(row["plan"], []).append(row)
        means = {
            title: {name: float(np.mean([row[name] for row in found])) for name in (*COSTS, *SHARES)}
            for title, found in plans.items()
        }
        for title, mean in sorted(means.items(), key=lambda item: sum(item[1][name] for name in COSTS)):
            costs = [mean[name] for name in COSTS]
            cells = [
                f"{sum(costs):.0f}",
                *(f"{cost:.0f}" for cost in costs),
                *(f"{100 * mean[name]:.0f} %" for name in SHARES),
            ]
            lines.append(f"| {instance} | {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("../shared/data/lot_sizing"), help="of the instances")
    parser.add_argument("--episodes", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for instance in INSTANCES for row in plans_of(instance, args.folder, args.episodes)]
    with ROWS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    TABLE.write_text(table(rows), encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
