"""Environment steps per second of MuJoCo's simulator, against gymnasium's own step and a loop of set-state and step, in turn.

    python benchmarks/simulators.py                                          # all tasks, about a minute, prints a table
    python benchmarks/simulators.py --envs HalfCheetah-v5 --states 128 --rounds 9 --json simulators.json

Each round runs all of them, every other round in reverse; rates are medians over the rounds and ratios the medians of the
rounds' ratios. Gymnasium's step plays on with random actions; the others start from states of such play: the simulator
branches them off eight captured ones, steps them, and branches anew, and the loop puts positions and velocities into the
environment before each step, which costs it the solver's warm start and what lags behind.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np

import rlspo
from rlspo.simulators.mujoco import SIMULATED, MujocoCore

#: Steps of play before the first captured state, and between two of them.
WARM_UP, APART = 10, 3
ROOTS = 8


def rate(run: Callable[[], int], seconds: float) -> float:
    """Steps per second of calls that go on for about ``seconds``; each returns how many steps it made."""
    steps, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        steps += run()
    return steps / elapsed


def played(env: Any, n: int) -> None:
    """``n`` steps with random actions."""
    for _ in range(n):
        if env.step(env.action_space.sample())[2]:
            env.reset()


def contestants(env_id: str, sizes: list[int], threads: list[int]) -> dict[str, Callable[[], int]]:
    """Everything that is measured on one task, by name."""
    env, played_env = gym.make(env_id).unwrapped, gym.make(env_id).unwrapped
    for seed, one in enumerate((env, played_env)):
        one.reset(seed=seed)
        one.action_space.seed(seed)
    cores = {count: MujocoCore(env, count) for count in threads}
    first = cores[threads[0]]
    parts = []
    for root in range(ROOTS):
        played(env, APART if root else WARM_UP)
        parts.append(first.capture(env))
    roots = first.join(parts)
    actions = np.stack([env.action_space.sample() for _ in range(max(sizes))])
    qpos, qvel = (roots.rows[:, first._parts[name]] for name in ("qpos", "qvel"))

    def env_step() -> int:
        for action in actions[:10]:
            if played_env.step(action)[2]:
                played_env.reset()
        return 10

    def loop(n: int) -> int:
        for row in range(n):
            env.set_state(qpos[row % ROOTS], qvel[row % ROOTS])
            env.step(actions[row])
        return n

    def simulator(core: MujocoCore, n: int) -> int:
        core.step(core.select(roots, np.arange(n) % ROOTS), actions[:n], np.ones(n, bool))
        return n

    runs: dict[str, Callable[[], int]] = {"env.step": env_step}
    for n in sizes:
        runs[f"loop {n}"] = lambda n=n: loop(n)
        for count, core in cores.items():
            runs[f"simulator {n} {count}"] = lambda core=core, n=n: simulator(core, n)
    return runs


def measure(env_id: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each number of states."""
    runs = contestants(env_id, args.states, args.threads)
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for turn in range(args.rounds):
        for name in list(runs) if turn % 2 == 0 else reversed(list(runs)):
            rates[name].append(rate(runs[name], args.seconds))

    def ratio(name: str, other: str) -> float:
        return round(statistics.median(a / b for a, b in zip(rates[name], rates[other], strict=True)), 2)

    rows = []
    for n in args.states:
        row: dict[str, Any] = {"env": env_id, "states": n}
        row["env_step"], row["loop"] = (round(statistics.median(rates[name])) for name in ("env.step", f"loop {n}"))
        for threads in args.threads:
            name = f"simulator {n} {threads}"
            row[f"simulator_{threads}"] = round(statistics.median(rates[name]))
            row[f"over_env_step_{threads}"] = ratio(name, "env.step")
            row[f"over_loop_{threads}"] = ratio(name, f"loop {n}")
        rows.append(row)
    return rows


def cells(row: dict[str, Any], threads: list[int]) -> str:
    """A line of the table."""
    simulators = [
        f"{row[f'simulator_{count}']:,} ({row[f'over_env_step_{count}']}x, {row[f'over_loop_{count}']}x)" for count in threads
    ]
    return " | ".join(
        ["", row["env"], str(row["states"]), f"{row['env_step']:,}", f"{row['loop']:,}", *simulators, ""]
    ).strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=list(SIMULATED), choices=SIMULATED, metavar="ENV")
    parser.add_argument("--states", nargs="+", type=int, default=[1, 8, 64, 512], help="batch sizes")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="upper limits of the simulator")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.1, help="for each measurement")
    parser.add_argument("--json", type=Path, help="where to save the results")
    args = parser.parse_args()
    heads = [f"simulator, {count} thread{'s' * (count > 1)} (over env.step, over loop)" for count in args.threads]
    print(" | ".join(["", "env", "states", "env.step, steps/s", "set-state loop, steps/s", *heads, ""]).strip())
    print("|---" * (4 + len(heads)) + "|")
    rows = []
    for env_id in args.envs:
        for row in measure(env_id, args):
            rows.append(row)
            print(cells(row, args.threads), flush=True)
    if args.json:
        versions = {"rlspo": rlspo.__version__, "mujoco": mujoco.__version__, "gymnasium": gym.__version__}
        about = {"versions": {**versions, "python": platform.python_version()}, "rounds": args.rounds, "seconds": args.seconds}
        args.json.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
