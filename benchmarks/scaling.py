"""Where each library begins to lose: speed and memory of PPO, BARPO and SAC against SB3's, along five axes.

    python benchmarks/scaling.py                              # all, half an hour; resumes from the JSON
    python benchmarks/scaling.py --agents PPO --axes environments
    python benchmarks/scaling.py --json scaling.json --picture scaling.png

The task costs next to nothing, so that agents are measured. Every point is a process of its own: it compiles, trains for some
seconds untimed, and then for as many timed. rlspo and SB3 take turns. BARPO is compared with SB3's plain PPO: ten inner steps
against none. Memory is the process's largest, all of Python and PyTorch included. What fits is read off the line through
memory's two largest points. Start-up is the median of five processes. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

#: Settings of a point, where its axis says nothing else.
USUAL: dict[str, dict[str, int]] = {
    "PPO": {"environments": 8, "threads": 1, "width": 64, "batch": 64, "observation": 16},
    "SAC": {"environments": 1, "threads": 1, "width": 256, "batch": 256, "observation": 16},
}
USUAL["BARPO"] = USUAL["PPO"]
AXES = {
    "environments": [1, 4, 16, 64, 256],
    "threads": [1, 2],
    "width": [64, 256, 1024],
    "batch": [64, 256, 1024, 4096],
    "observation": [4, 64, 512, 4096],
}
PEERS = {"PPO": "PPO", "BARPO": "PPO", "SAC": "SAC"}
SECONDS = 5.0


class Drift(gym.Env):
    """Observations of noise, one array for all steps; the reward is an action."""

    def __init__(self, size: int) -> None:
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = gym.spaces.Box(-1, 1, (3,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.seen = self.np_random.standard_normal((64, *(self.observation_space.shape or ()))).astype(np.float32)
        self.steps = 0
        return self.seen[0], {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self.seen[self.steps % 64], float(action[0]), False, self.steps == 1000, {}


def measure(library: str, agent: str, point: dict[str, int]) -> dict[str, float]:
    """Steps per second and memory in this process."""
    import stable_baselines3
    import torch
    from stable_baselines3.common.env_util import make_vec_env

    import rlspo

    torch.set_num_threads(point["threads"])
    env = make_vec_env(lambda: Drift(point["observation"]), point["environments"], seed=0)
    settings: dict[str, Any] = {"batch_size": point["batch"], "policy_kwargs": {"net_arch": [point["width"]] * 2}, "seed": 0}
    if agent == "SAC":
        settings |= {"learning_starts": 100, "buffer_size": 100_000, "gradient_steps": -1}
        steps = max(50, 2 * point["environments"])
    else:
        # Rollouts of 4096 steps, or of eight steps of each environment.
        settings["n_steps"] = max(4096 // point["environments"], 8)
        steps = settings["n_steps"] * point["environments"]
    cls = getattr(rlspo if library == "rlspo" else stable_baselines3, agent if library == "rlspo" else PEERS[agent])
    model = cls("MlpPolicy", env, device="cpu", **settings, **({"compile": True} if library == "rlspo" else {}))
    model.learn(2 * steps + 200)
    taken, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        model.learn(steps, reset_num_timesteps=False)
        taken += steps
    speed = taken / (time.perf_counter() - start)
    return {"steps_per_second": round(speed, 1), "megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}


def in_a_process(library: str, agent: str, point: dict[str, int]) -> dict[str, float]:
    environment = {**os.environ, "OMP_NUM_THREADS": str(point["threads"])}
    command = [sys.executable, __file__, "--measure", json.dumps([library, agent, point])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1]}  # type: ignore[dict-item]
    return json.loads(done.stdout.splitlines()[-1])


def points(agent: str, axes: list[str]) -> list[tuple[str, dict[str, int]]]:
    """The points of an agent, by name."""
    found = {f"{axis} {value}": {**USUAL[agent], axis: value} for axis in axes for value in AXES[axis]}
    return [*found.items()]


def fits(speeds: dict[str, Any], axis: str, library: str, memory: float) -> float | None:
    """The largest value of an axis that fits into so many megabytes."""
    values = [value for value in AXES[axis] if "megabytes" in speeds.get(f"{axis} {value}", {}).get(library, {})]
    if len(values) < 2:
        return None
    (low, high), used = values[-2:], [speeds[f"{axis} {value}"][library]["megabytes"] for value in values[-2:]]
    slope = (used[1] - used[0]) / (high - low)
    return None if slope <= 0 else round(high + (memory - used[1]) / slope)


def start_up() -> dict[str, float]:
    """Seconds of importing each library, with an agent, and of ``rlspo --help``."""
    commands = {
        "import stable_baselines3": ["-c", "import stable_baselines3"],
        "import rlspo": ["-c", "import rlspo"],
        "from rlspo import PPO": ["-c", "from rlspo import PPO"],
        "rlspo --help": ["-m", "rlspo.zoo.cli", "--help"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(5):
        for name, words in commands.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *words], check=True, capture_output=True)
            seconds[name].append(time.perf_counter() - start)
    return {name: round(statistics.median(taken), 2) for name, taken in seconds.items()}


def draw(found: dict[str, Any], file: Path) -> None:
    """Speed along each axis, rlspo's beside SB3's; a ring where SB3 is faster."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    agents = [agent for agent in PEERS if agent in found["agents"]]
    figure, panels = pyplot.subplots(
        len(agents), len(AXES), figsize=(3 * len(AXES), 2.6 * len(agents)), squeeze=False, layout="constrained"
    )
    for panel, axis in zip(panels[0], AXES, strict=True):
        panel.set_title(axis)
    for row, agent in zip(panels, agents, strict=True):
        speeds = found["agents"][agent]
        for panel, (axis, values) in zip(row, AXES.items(), strict=True):
            for library, colour in (("rlspo", "#0072b2"), ("sb3", "#999999")):
                pairs = [(v, speeds.get(f"{axis} {v}", {}).get(library, {}).get("steps_per_second")) for v in values]
                pairs = [(value, speed) for value, speed in pairs if speed]
                panel.plot(*zip(*pairs, strict=True), marker="o", markersize=3, color=colour, label=library) if pairs else None
            for value in values:
                pair = speeds.get(f"{axis} {value}", {})
                both = [pair.get(library, {}).get("steps_per_second") for library in ("rlspo", "sb3")]
                if all(both) and both[0] < both[1]:
                    panel.plot(value, both[0], marker="o", markersize=9, fillstyle="none", color="#d55e00")
            panel.set(xscale="log", yscale="log", xticks=values, xticklabels=values)
            panel.minorticks_off()
            panel.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            panel.yaxis.set_major_formatter(ticker.FuncFormatter(lambda speed, _: f"{speed:,.0f}"))
            panel.grid(alpha=0.3)
        row[0].set_ylabel(f"{agent}: steps/s")
    panels[0, 0].legend(labels=["rlspo", "SB3"], frameon=False)
    figure.savefig(file, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--axes", nargs="+", choices=list(AXES), default=list(AXES))
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/scaling.json"))
    parser.add_argument("--picture", type=Path, default=Path("docs/_static/scaling.png"))
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(*json.loads(args.measure))))
        return
    found: dict[str, Any] = json.loads(args.json.read_text()) if args.json.is_file() else {"agents": {}}
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20
    found["machine"] = {
        "processor": torch.cpu.get_capabilities()["cpu_name"],
        "cores": os.cpu_count(),
        "megabytes": round(memory),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    for agent in args.agents:
        speeds = found["agents"].setdefault(agent, {})
        for name, point in points(agent, args.axes):
            for library in ("rlspo", "sb3"):
                if "steps_per_second" in speeds.setdefault(name, {}).get(library, {}):
                    continue
                peers = [other for other in PEERS if library == "sb3" and PEERS[other] == PEERS[agent]]
                before = [found["agents"].get(other, {}).get(name, {}).get("sb3", {}) for other in peers]
                same = next((each for each in before if "steps_per_second" in each), None)
                speeds[name][library] = same or in_a_process(library, agent, point)
                print(agent, name, library, speeds[name][library], flush=True)
                args.json.write_text(json.dumps(found, indent=1) + "\n")
        found["agents"][agent]["fits"] = {
            library: {axis: fits(speeds, axis, library, memory) for axis in AXES if axis != "threads"}
            for library in ("rlspo", "sb3")
        }
    found["start_up_seconds"] = start_up()
    args.json.write_text(json.dumps(found, indent=1) + "\n")
    draw(found, args.picture)


if __name__ == "__main__":
    main()
