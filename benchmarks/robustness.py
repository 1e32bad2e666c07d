"""Natural return and return under attack: PPO, ARPO and BARPO, with and without guidance.

    python benchmarks/robustness.py train --jobs 2          # trains what is missing, one result file per agent and seed
    python benchmarks/robustness.py report                  # CSV, Markdown table and plot from what is there

``--agents``, ``--seeds``, ``--env`` and ``--steps`` narrow or widen the grid. A run with a result file is not repeated: remove
the file after a change of the agent.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from stable_baselines3.common.callbacks import BaseCallback

ROOT = Path(__file__).resolve().parents[1]
#: Radius by environment, as in the SA-MDP family of papers (arXiv 2003.08938).
EPSILON = {"Hopper-v5": 0.075, "Walker2d-v5": 0.05, "HalfCheetah-v5": 0.15, "Ant-v5": 0.15, "Humanoid-v5": 0.075}
#: The four variants of the paper and their base; the base has the variants' normalisation and learning-rate schedule.
AGENTS = {
    "ppo": ("PPO", {}),
    "arpo": ("ARPO", {"guidance": 0.0}),
    "arpo-guided": ("ARPO", {"guidance": 1.0}),
    "barpo": ("BARPO", {"guidance": 0.0}),
    "barpo-guided": ("BARPO", {"guidance": 1.0}),
}
#: The other inner solvers, tried for the default (Langevin); not part of the main table.
TRIALS = {
    f"barpo-{solver}{name}": ("BARPO", {"solver": solver, "guidance": guidance})
    for solver in ("pgd", "power")
    for name, guidance in (("", 0.0), ("-guided", 1.0))
}
ALL = {**AGENTS, **TRIALS}
EPISODES = 50


class Curve(BaseCallback):
    """The mean return of the last 100 training episodes, about fifty times during training."""

    def __init__(self) -> None:
        super().__init__()
        self.points: list[tuple[int, float]] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        episodes = self.model.ep_info_buffer
        if episodes and self.num_timesteps // (self.model._total_timesteps // 50) >= len(self.points):
            self.points.append((self.num_timesteps, round(sum(episode["r"] for episode in episodes) / len(episodes), 1)))


def run_file(env: str, steps: int, agent: str, seed: int) -> Path:
    return ROOT / "zoo" / "results" / f"robustness_{env}_{steps}" / f"{agent}_{seed}.json"


def commit() -> str:
    """The commit of this checkout, marked where it has been changed since."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def run_one(env_id: str, steps: int, agent: str, seed: int) -> None:
    """Train one agent with one seed, evaluate it, write its result file."""
    import torch

    torch.set_num_threads(1)
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.utils import LinearSchedule

    import rlspo
    from rlspo.attacks import ATTACKS, attacked_evaluation

    name, overrides = ALL[agent]
    epsilon = EPSILON[env_id]
    settings = {
        "normalize_observations": True,
        "normalize_rewards": True,
        "learning_rate": LinearSchedule(3e-4, 0.0, 1.0),
    }
    if name != "PPO":
        settings |= {"epsilon": epsilon, **overrides}
    env = make_vec_env(env_id, n_envs=1, seed=seed)
    model = getattr(rlspo, name)("MlpPolicy", env, seed=seed, device="cpu", **settings)
    started = time.time()
    curve = Curve()
    model.learn(steps, callback=curve)
    trained = time.time()
    test_env = make_vec_env(env_id, n_envs=EPISODES // 2)
    returns = {
        attack or "natural": attacked_evaluation(model, test_env, attack, epsilon, EPISODES, steps=10, seed=1234).tolist()
        for attack in (None, *ATTACKS)
    }
    file = run_file(env_id, steps, agent, seed)
    file.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "env": env_id,
        "agent": agent,
        "seed": seed,
        "steps": model.num_timesteps,
        "epsilon": epsilon,
        "steps_per_second": round(model.num_timesteps / (trained - started)),
        "settings": model.hyperparameters(),
        "commit": commit(),
        "versions": {"rlspo": rlspo.__version__, "torch": torch.__version__, "python": platform.python_version()},
        "curve": curve.points,
        "returns": {attack: [round(value, 2) for value in values] for attack, values in returns.items()},
    }
    partial = file.with_suffix(".part")
    partial.write_text(json.dumps(result))
    partial.rename(file)
    means = ", ".join(f"{attack} {sum(values) / len(values):.0f}" for attack, values in returns.items())
    print(f"{agent} seed {seed}: {means}; {result['steps_per_second']} steps/s", flush=True)


def train(args: argparse.Namespace) -> None:
    """Do every missing run, ``--jobs`` at a time, each in its own process."""
    cells = [(agent, seed) for seed in args.seeds for agent in args.agents]
    missing = [cell for cell in cells if not run_file(args.env, args.steps, *cell).exists()]
    running: list[subprocess.Popen[bytes]] = []
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    failures = 0
    while missing or running:
        failures += sum(process.poll() not in (None, 0) for process in running)
        running = [process for process in running if process.poll() is None]
        while missing and len(running) < args.jobs:
            agent, seed = missing.pop(0)
            command = [sys.executable, __file__, "cell", "--env", args.env, "--steps", str(args.steps)]
            running.append(subprocess.Popen([*command, "--agents", agent, "--seeds", str(seed)], env=environment))
        time.sleep(1)
    if failures:
        sys.exit(f"{failures} runs failed; the same command tries them again.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["train", "cell", "report"])
    parser.add_argument("--env", default="Hopper-v5", choices=EPSILON)
    parser.add_argument("--steps", type=lambda text: int(float(text)), default=1_000_000)
    parser.add_argument("--agents", nargs="+", default=list(AGENTS), choices=ALL)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="number of parallel runs")
    args = parser.parse_args()
    if args.command == "train":
        train(args)
    elif args.command == "cell":
        run_one(args.env, args.steps, args.agents[0], args.seeds[0])
    else:
        from robustness_report import report

        report(args.env, args.steps)


if __name__ == "__main__":
    main()
