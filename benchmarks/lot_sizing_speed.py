"""Steps per second of the lot-sizing environment: one at a time and many copies at once, in turn.

python benchmarks/lot_sizing_speed.py
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

import rlspo

ROOT = Path(__file__).resolve().parents[1]
INSTANCES = ("15x5", "25x15", "30x15")
COPIES = 256
ROUNDS = 5
SECONDS = 1.0


def rate(step: Callable[[int], Any], per_call: int) -> float:
    """Steps per second of about a second of calls."""
    calls, started = 0, time.perf_counter()
    while time.perf_counter() - started < SECONDS:
        for _ in range(20):
            step(calls)
            calls += 1
    return calls * per_call / (time.perf_counter() - started)


def measure(instance: str) -> dict[str, Any]:
    scalar = gymnasium.make("rlspo/LotSizing-v0", instance=instance).unwrapped
    vector = gymnasium.make_vec("rlspo/LotSizing-v0", num_envs=COPIES, instance=instance)
    scalar.reset(seed=0)
    vector.reset(seed=0)
    single = [scalar.action_space.sample() for _ in range(50)]
    many = [vector.action_space.sample() for _ in range(50)]

    def one(k: int) -> None:
        if scalar.step(single[k % 50])[3]:
            scalar.reset()

    pairs = [(rate(one, 1), rate(lambda k: vector.step(many[k % 50]), COPIES)) for _ in range(ROUNDS)]
    ratios = sorted(b / a for a, b in pairs)
    return {
        "instance": instance,
        "scalar": round(float(np.median([a for a, _ in pairs]))),
        "vector": round(float(np.median([b for _, b in pairs]))),
        "ratio": round(ratios[ROUNDS // 2], 1),
        "ratio_low": round(ratios[0], 1),
        "ratio_high": round(ratios[-1], 1),
    }


def main() -> None:
    rows = [measure(instance) for instance in INSTANCES]
    results = ROOT / "benchmarks" / "results" / "lot_sizing_speed.json"
    results.write_text(json.dumps({"rlspo": rlspo.__version__, "copies": COPIES, "rows": rows}, indent=2) + "\n")
    lines = [f"| instance | `gymnasium.make`, steps/s | `make_vec`, {COPIES} copies, steps/s | ratio |", "|---|---|---|---|"]
    for row in rows:
        spread = f"{row['ratio']} ({row['ratio_low']} to {row['ratio_high']})"
        lines.append(f"| {row['instance']} | {row['scalar']:,} | {row['vector']:,} | {spread} |")
    table = "\n".join(lines) + "\n"
    (ROOT / "docs" / "_results" / "lot_sizing_speed.md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
