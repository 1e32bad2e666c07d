"""Baselines on the published lot-sizing instances: rules that do not learn, and a bound on every policy.

    python benchmarks/lot_sizing_rules.py run       # plays what is missing, a file for each instance and rule
    python benchmarks/lot_sizing_rules.py report    # the docs' table from what is there

The instances are those of arXiv 2504.05150, read from ``--folder``. Rules that plan are slow and play fewer episodes; the seed
was not used to develop any rule.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rlspo.envs.lot_sizing import Instance, load_instance
from rlspo.envs.lot_sizing.bounds import perfect_information_bound
from rlspo.envs.lot_sizing.rules import (
    AlwaysIdle,
    MilpHorizon,
    ReorderPoint,
    RollingHorizon,
    StaticAssignment,
    UniformRandom,
    evaluate_rule,
)
from rlspo.zoo.evaluate.statistics import mean_interval

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "zoo" / "results" / "lot_sizing_rules"
INSTANCES = ("20x10", "25x15")
SEED = 4000
BOUND = "bound"
#: Title, episodes, and how it is made.
RULES: dict[str, tuple[str, int, Callable[[Instance], Any]]] = {
    "idle": ("always idle", 200, AlwaysIdle),
    "random": ("uniform random", 200, lambda instance: UniformRandom(instance, np.random.default_rng(0))),
    "static": ("static assignment", 200, StaticAssignment),
    "reorder": ("(s, S) reorder points", 200, lambda instance: ReorderPoint.searched(instance, seed=0)),
    "rolling": ("rolling horizon, search", 10, RollingHorizon),
    # Four periods ahead: HiGHS solves that in about two seconds, and seven blocks of these plants not in ten.
    "milp": ("rolling horizon, MILP", 3, lambda instance: MilpHorizon(instance, lengths=(1, 1, 1, 1), time_limit=2.0)),
    # HiGHS finds no bound for the whole program in minutes; the linear relaxation, with fractions of setups, is loose.
    BOUND: ("perfect information, relaxed, which no policy beats", 2, lambda instance: None),
}


def run(folder: Path) -> None:
    instances = {name: load_instance(folder / f"published_{name}.json") for name in INSTANCES}
    for name, (title, episodes, make) in RULES.items():
        for instance_name, instance in instances.items():
            file = RESULTS / f"{instance_name}_{name}.json"
            if file.exists():
                continue
            rule, started = make(instance), time.time()
            returns = (
                perfect_information_bound(instance, episodes, SEED, time_limit=900.0, relax=True)
                if name == BOUND
                else evaluate_rule(rule, instance, episodes, SEED)
            )
            result = {
                "instance": instance_name,
                "rule": name,
                "seconds_per_episode": round((time.time() - started) / episodes, 2),
                "seed": SEED,
                "returns": returns.round(2).tolist(),
            }
            RESULTS.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(result) + "\n")
            print(f"{instance_name}, {title}: {returns.mean():.0f}", flush=True)


def report() -> None:
    """Means with Student's 95 % intervals over episodes."""
    lines = [f"| rule | {' | '.join(INSTANCES)} |", "|---|" + "---|" * len(INSTANCES)]
    for name, (title, episodes, _) in RULES.items():
        cells = []
        for instance in INSTANCES:
            file = RESULTS / f"{instance}_{name}.json"
            if file.exists():
                returns = np.array(json.loads(file.read_text())["returns"])
                mean = mean_interval(returns)
                cells.append(f"{mean.value:.0f} ± {mean.high - mean.value:.0f}")
            else:
                cells.append("")
        if any(cells):
            lines.append(f"| {title}, {episodes} episodes | {' | '.join(cells)} |")
    table = "\n".join(lines) + "\n"
    (ROOT / "docs" / "_results" / "lot_sizing_rules.md").write_text(table)
    print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "report"])
    parser.add_argument("--folder", type=Path, default=Path("../shared/data/lot_sizing"))
    args = parser.parse_args()
    if args.command == "run":
        run(args.folder)
    else:
        report()


if __name__ == "__main__":
    main()
