"""From how many updates on compiling pays: what ``compile="auto"`` goes by.

    python benchmarks/compile_point.py                          # prints a table
    python benchmarks/compile_point.py --cases sac --json compile_point.json

For cases of ``throughput.py``, one thread: the time of an update, eager and compiled, in turn; and the seconds that compiling
takes in a new process, with an empty cache on disk and with that of the process before. Compiling pays after

    seconds of compiling / (eager seconds - compiled seconds)

updates. ``auto`` is where ``compile="auto"`` begins to compile.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import ale_py
import gymnasium as gym
import torch
from rich.console import Console
from rich.table import Table
from throughput import CASES, Case, Stopwatch, timed

import rlspo
from rlspo.common.compilation import should_compile

PLAIN = ["hopper", "cartpole", "halfcheetah", "hopper-barpo", "pendulum-memory", "breakout"]
DEFAULT = [*PLAIN, "sac", "sac-small", "sac-hindsight", "sac-moe"]


class Timed:
    """An agent whose updates are timed."""

    def __init__(self, case: Case, compiled: bool) -> None:
        own: dict[str, Any] = {"policy": case.policy, **case.ours, **case.settings, "device": "cpu", "seed": 0}
        self.model = getattr(rlspo, case.agent)(env=case.make_env(), compile=compiled, **own)
        self.rollout = case.n_steps * case.n_envs
        self.updates = self.rollout if case.agent == "SAC" else case.n_epochs * self.rollout // case.batch_size
        self.model.train = self.watch = Stopwatch(self.model.train)

    def first(self) -> float:
        """Seconds in the first rollout's updates; SAC's first steps are without."""
        timed(self.model, self.rollout)
        return self.watch.seconds

    def update(self, rollouts: int) -> float:
        """Seconds of one update."""
        self.watch.seconds = 0.0
        timed(self.model, rollouts * self.rollout)
        return self.watch.seconds / (rollouts * self.updates)


def measure(name: str, repeats: int, cache: str, alone: bool) -> dict[str, float]:
    """Seconds of compiling and of an update, in a process of their own.

    :param alone: measure compiling only
    """
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
    torch.set_num_threads(1)
    gym.register_envs(ale_py)
    case = CASES[name]
    compiled = Timed(case, True)
    first = compiled.first()
    found = {"compile_s": first - compiled.update(1) * compiled.updates}
    if not alone:
        eager = Timed(case, False)
        eager.first()
        both = [(eager.update(case.rollouts), compiled.update(case.rollouts)) for _ in range(repeats)]
        found["eager_ms"], found["compiled_ms"] = (1e3 * statistics.median(side) for side in zip(*both, strict=True))
        found["auto"] = begins(compiled.model)
    return found


def begins(model: Any) -> int:
    """The number of updates from which ``compile="auto"`` compiles for this agent."""
    low, high = 1, 1_000_000
    while low < high:
        middle = (low + high) // 2
        pays = should_compile("auto", middle, model.device, model.policy, model.gain_of_compiling)[0]
        low, high = (low, middle) if pays else (middle + 1, high)
    return low


def row(name: str, repeats: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as cache:
        found = []
        for alone in (True, False):
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                found.append(pool.submit(measure, name, repeats, cache, alone).result())
    saved = (found[1]["eager_ms"] - found[1]["compiled_ms"]) / 1e3
    cold, warm = (max(one["compile_s"], 0.0) for one in found)
    return {
        "case": name,
        "agent": CASES[name].agent,
        "eager_ms": round(found[1]["eager_ms"], 2),
        "compiled_ms": round(found[1]["compiled_ms"], 2),
        "compile_s": round(cold, 1),
        "compile_again_s": round(warm, 1),
        "pays_after": round(cold / saved) if saved > 0 else None,
        "pays_again_after": round(warm / saved) if saved > 0 else None,
        "auto": int(found[1]["auto"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=DEFAULT)
    parser.add_argument("--repeats", type=int, default=3, help="alternations of eager and compiled")
    parser.add_argument("--json", type=Path, help="write the results to this file too")
    args = parser.parse_args()
    rows = []
    for name in args.cases:
        rows.append(row(name, args.repeats))
        if args.json:
            machine = {"threads": 1, "processor": torch.cpu.get_capabilities()["cpu_name"], "torch": torch.__version__}
            args.json.write_text(json.dumps({"machine": machine, "results": rows}, indent=1) + "\n")
    table = Table(*rows[0])
    for one in rows:
        table.add_row(*(str(value) for value in one.values()))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
