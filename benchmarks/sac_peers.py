"""Speed of SAC beside SB3's and sbx's (SB3 on JAX), pinned to one core and in turn.

    python benchmarks/sac_peers.py                                   # rlspo, in bfloat16 too, and SB3
    python benchmarks/sac_peers.py --sbx ~/sbx/bin/python --json sac_peers.json

``--sbx`` is a Python with sbx-rl, gymnasium and MuJoCo; it may be another environment than this one, since JAX need not be in
it. Each contender is a process of its own on the same core (Linux), trains on Hopper-v5 with the default settings (256-256
networks, one gradient step for each step), and has compiled before the first round; rounds go through them in turn, forwards
and back. Figures are environment steps per second, medians over the rounds; ratios are medians of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

CONTENDERS = ("rlspo", "rlspo-bfloat16", "sb3", "sbx")
WARM_UP = 600


def train(contender: str, steps: int) -> None:
    """Train ``steps`` steps for each line of the standard input, and print how long it took."""
    if contender == "sbx":
        from sbx import SAC  # type: ignore[import-not-found]

        model = SAC("MlpPolicy", "Hopper-v5", seed=0, learning_starts=WARM_UP // 2)
    else:
        import torch

        torch.set_num_threads(1)
        if contender == "sb3":
            from stable_baselines3 import SAC

            model = SAC("MlpPolicy", "Hopper-v5", seed=0, learning_starts=WARM_UP // 2, device="cpu")
        else:
            from rlspo import SAC

            precision = "bfloat16" if contender.endswith("bfloat16") else "float32"
            settings = {"seed": 0, "learning_starts": WARM_UP // 2, "device": "cpu", "compile": True, "precision": precision}
            model = SAC("MlpPolicy", "Hopper-v5", **settings)
    model.learn(WARM_UP)
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        model.learn(steps, reset_num_timesteps=False)
        print(time.perf_counter() - start, flush=True)


class Contender:
    """A process that waits for its turn."""

    def __init__(self, name: str, python: str, core: int, steps: int) -> None:
        self.name, self.steps = name, steps
        self.process = subprocess.Popen(
            [python, __file__, "--train", name, "--steps", str(steps)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"},
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
        while (line := self._line()) != "ready":
            if not line and self.process.poll() is not None:
                raise SystemExit(f"{name} ended before it was ready; its messages are above.")

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def turn(self) -> float:
        """Steps per second."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self.steps / float(self._line())


VERSIONS = """
import importlib.metadata, json
names = ("rlspo", "torch", "stable_baselines3", "sbx-rl", "jax", "gymnasium", "mujoco")
print(json.dumps({one.name: one.version for one in importlib.metadata.distributions() if one.name in names}))
"""


def versions(python: str) -> dict[str, str]:
    return json.loads(subprocess.check_output([python, "-c", VERSIONS], text=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sbx", help="the Python that has sbx; without it sbx is left out")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=1000, help="of a round")
    parser.add_argument("--core", type=int, default=0, help="which core all are pinned to")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--train", choices=CONTENDERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        train(arguments.train, arguments.steps)
        return
    pythons = {name: arguments.sbx if name == "sbx" else sys.executable for name in CONTENDERS}
    contenders = [Contender(name, python, arguments.core, arguments.steps) for name, python in pythons.items() if python]
    speeds: dict[str, list[float]] = {one.name: [] for one in contenders}
    for number in range(arguments.rounds):
        for one in contenders if number % 2 == 0 else reversed(contenders):
            speeds[one.name].append(one.turn())
    peers = [name for name in ("sb3", "sbx") if name in speeds]
    found = {
        name: {
            "steps_per_second": statistics.median(rounds),
            **{f"times_{peer}": statistics.median(a / b for a, b in zip(rounds, speeds[peer], strict=True)) for peer in peers},
        }
        for name, rounds in speeds.items()
    }
    table = Table("SAC, Hopper-v5", "steps/s", *(f"times {peer}" for peer in peers))
    for name, figures in found.items():
        table.add_row(name, f"{figures['steps_per_second']:.0f}", *(f"{figures[f'times_{peer}']:.2f}" for peer in peers))
    Console().print(table)
    if arguments.json:
        about = {"rounds": arguments.rounds, "steps": arguments.steps, "processor": _processor()}
        about["versions"] = {**versions(sys.executable), **(versions(arguments.sbx) if arguments.sbx else {})}
        arguments.json.write_text(json.dumps({"about": about, "results": found, "rounds": speeds}, indent=2) + "\n")


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


if __name__ == "__main__":
    main()
