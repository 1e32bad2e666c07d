"""Learning curves against the exact optimum: PDPPO, PPO and SB3's PPO on lot-sizing instances small enough to be solved.

    python benchmarks/lot_sizing_exact.py train --jobs 2    # trains what is missing, a file per instance, agent and seed
    python benchmarks/lot_sizing_exact.py report            # table and picture from what is there

The points of a curve are not averages of episodes: at each point the deterministic policy is tabulated for all states and its
expected cost over initial states is computed exactly. All agents have the same settings (critics learn at the actor's rate)
and the same observations, without the time. The optimum knows the time, so it bounds them all.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecNormalize

import rlspo
from rlspo.envs.lot_sizing import load_instance
from rlspo.envs.lot_sizing.exact import ExactPlant
from rlspo.envs.lot_sizing.rules import draw_episodes
from rlspo.zoo.evaluate.statistics import mean_interval

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "zoo" / "results" / "lot_sizing_exact"
LABELS = {"pdppo": "PDPPO", "pdppo-joint": "PDPPO, joint credit", "ppo": "PPO", "sb3-ppo": "SB3's PPO"}
COLOURS = {"pdppo": "#0072b2", "pdppo-joint": "#009e73", "ppo": "#d55e00", "sb3-ppo": "#777777"}
INSTANCES = ("2x1", "3x2")
STEPS = 300_000
EVERY = 10_000
SETTINGS: dict[str, Any] = {
    "n_steps": 128,
    "batch_size": 256,
    "n_epochs": 8,
    "learning_rate": LinearSchedule(3e-3, 0.0, 1.0),
    "gamma": 0.97,
    "ent_coef": 0.01,
    "policy_kwargs": {"net_arch": [64, 64]},
}


@cache
def plant(instance: str) -> ExactPlant:
    return ExactPlant(load_instance(instance))


@cache
def optimum(instance: str) -> float:
    """The lowest expected cost of an episode."""
    return -plant(instance).finite_horizon().expected_return


def exact_cost(model: Any, instance: str) -> float:
    """The expected cost of an episode of the deterministic policy."""
    policy = plant(instance).tabulate(lambda observations: model.predict(observations, deterministic=True)[0])
    return -plant(instance).expected_return(plant(instance).evaluate(policy))


class ExactCurve(BaseCallback):
    """The exact cost of the policy, at regular steps."""

    def __init__(self, instance: str) -> None:
        super().__init__()
        self.instance = instance
        self.points: list[tuple[int, float]] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        if self.num_timesteps >= EVERY * (len(self.points) + 1):
            self.points.append((self.num_timesteps, round(exact_cost(self.model, self.instance), 3)))


def make(agent: str, instance: str, seed: int) -> Any:
    """An untrained agent."""
    env: Any = make_vec_env("rlspo/LotSizing-v0", n_envs=8, seed=seed, env_kwargs={"instance": instance})
    common = {**SETTINGS, "seed": seed, "device": "cpu"}
    if agent == "sb3-ppo":
        return stable_baselines3.PPO("MlpPolicy", VecNormalize(env, norm_obs=False, gamma=SETTINGS["gamma"]), **common)
    if agent == "ppo":
        return rlspo.PPO("MlpPolicy", env, **common, normalize_rewards=True)
    return rlspo.PDPPO("MlpPolicy", env, **common, credit="joint" if agent == "pdppo-joint" else "auto")


def file_of(instance: str, agent: str, seed: int) -> Path:
    return FOLDER / f"{instance}_{agent}_{seed}.json"


def run_one(cell: tuple[str, str, int]) -> str:
    """Train one agent on one instance with one seed, and write its result file."""
    torch.set_num_threads(1)
    instance, agent, seed = cell
    model = make(agent, instance, seed)
    curve, started = ExactCurve(instance), time.time()
    model.learn(STEPS, callback=curve)
    seconds = time.time() - started
    final = exact_cost(model, instance)
    result = {
        "instance": instance,
        "agent": agent,
        "seed": seed,
        "steps": model.num_timesteps,
        "seconds": round(seconds),
        "optimum": round(optimum(instance), 4),
        "cost": round(final, 4),
        "curve": curve.points,
        "settings": {name: str(value) for name, value in SETTINGS.items()},
        "versions": {"rlspo": rlspo.__version__, "torch": torch.__version__, "python": platform.python_version()},
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    partial = file_of(*cell).with_suffix(".part")
    partial.write_text(json.dumps(result) + "\n")
    partial.rename(file_of(*cell))
    return f"{instance} {agent} {seed}: {final:.2f}, {100 * (final / optimum(instance) - 1):.2f} % above the optimum"


def train(seeds: list[int], jobs: int) -> None:
    cells = [(instance, agent, seed) for seed in seeds for instance in INSTANCES for agent in LABELS]
    missing = [cell for cell in cells if not file_of(*cell).exists()]
    with ProcessPoolExecutor(jobs) as pool:
        for line in pool.map(run_one, missing):
            print(line, flush=True)


def perfect_information(instance: str, n_episodes: int = 20) -> str:
    """The mean cost of the best plans with known demand, with its 95 % interval: a lower bound for every policy."""
    episodes = draw_episodes(load_instance(instance), n_episodes, seed=5000)
    costs = -np.array([plant(instance).in_hindsight(episode) for episode in episodes])
    mean = mean_interval(costs)
    return f"{mean.value:.1f} ± {mean.high - mean.value:.1f}"


def report() -> None:
    """Write the docs' table and picture, and print the table."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    cells = [json.loads(file.read_text()) for file in sorted(FOLDER.glob("*.json"))]
    if not cells:
        sys.exit(f"There is nothing in {FOLDER}; train first.")
    lines = [
        "| instance | optimum | if all demand were known | agent | seeds | above the optimum, mean | worst seed "
        "| steps to 3 % above, median |",
        "|---|---|---|---|---|---|---|---|",
    ]
    figure, axes = plt.subplots(1, len(INSTANCES), figsize=(9, 3.6))
    for instance, axis in zip(INSTANCES, axes, strict=True):
        bound = perfect_information(instance)
        for agent, label in LABELS.items():
            mine = [cell for cell in cells if (cell["instance"], cell["agent"]) == (instance, agent)]
            if not mine:
                continue
            best = mine[0]["optimum"]
            above = np.array([100 * (cell["cost"] / best - 1) for cell in mine])
            reached = [next((steps for steps, cost in cell["curve"] if cost <= 1.03 * best), np.inf) for cell in mine]
            median = np.median(reached)
            steps_text = f"{median:,.0f}" if np.isfinite(median) else "not reached"
            numbers = f"{above.mean():.2f} % | {above.max():.2f} % | {steps_text}"
            lines.append(f"| {instance} | {best:.2f} | {bound} | {label} | {len(mine)} | {numbers} |")
            length = min(len(cell["curve"]) for cell in mine)
            steps = [point[0] for point in mine[0]["curve"][:length]]
            curves = np.array([[100 * (cost / best - 1) for _, cost in cell["curve"][:length]] for cell in mine])
            axis.plot(steps, curves.mean(axis=0), color=COLOURS[agent], label=label)
            axis.fill_between(steps, curves.min(axis=0), curves.max(axis=0), color=COLOURS[agent], alpha=0.18, linewidth=0)
        axis.axhline(3, color="black", linewidth=0.7, linestyle=":")
        axis.set(yscale="log", xlabel="steps", title=f"{instance}: optimal cost {best:.1f}", ylim=(0.3, 200))
        axis.xaxis.set_major_formatter(lambda steps, _: f"{steps / 1000:.0f}k")
        axis.set_yticks([1, 3, 10, 30, 100], ["1 %", "3 %", "10 %", "30 %", "100 %"])
        axis.minorticks_off()
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("exact expected cost above the optimum")
    axes[0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(ROOT / "docs" / "_static" / "lot_sizing_exact.png", dpi=130)
    table = "\n".join(lines) + "\n"
    (ROOT / "docs" / "_results" / "lot_sizing_exact.md").write_text(table)
    print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["train", "report"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="trainings that run at once")
    args = parser.parse_args()
    if args.command == "train":
        train(args.seeds, args.jobs)
    else:
        report()


if __name__ == "__main__":
    main()
