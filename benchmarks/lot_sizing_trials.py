"""Single trial runs by which the settings of lot sizing were chosen: quick, on the vectorised environment, few seeds.

    python benchmarks/lot_sizing_trials.py run --only 32-envs --seeds 1    # trains what is missing
    python benchmarks/lot_sizing_trials.py report                         # the docs' table from what is there

Each trial changes some settings of the agent's block; a million steps on a published instance take three minutes. They are too
few for a comparison of agents: that is zoo/grids/lot_sizing.yml.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from sb3_contrib import MaskablePPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecNormalize

import rlspo
from rlspo.common.vector_env import GymnasiumVecEnv

ROOT = Path(__file__).resolve().parents[1]
RESULTS, TABLE = ROOT / "zoo" / "results" / "lot_sizing_trials", ROOT / "docs" / "_results" / "lot_sizing_trials.md"
STEPS, EVERY = 1_000_000, 50_000
BASE: dict[str, Any] = {
    "n_envs": 32,
    "n_steps": 64,
    "batch_size": 512,
    "n_epochs": 6,
    "learning_rate": 7e-4,
    "gamma": 0.97,
    "ent_coef": [0.1, 0.8],
    "critics_learn": 3.0,
}
PPO: dict[str, Any] = {"agent": "PPO", "ent_coef": 0.001}
JOINT: dict[str, Any] = {"ratio": "joint", "ent_coef": 0.001}
#: The same trials for PPO with and without masks.
OF_BOTH: dict[str, dict[str, Any]] = {
    "32-envs": {},
    "8-envs": {"n_envs": 8, "n_steps": 256},
    "64-envs": {"n_envs": 64, "n_steps": 32},
    "no-entropy": {"ent_coef": 0.0},
    "entropy-0.005": {"ent_coef": 0.005},
    "entropy-0.02-falling": {"ent_coef": [0.02, 0.8]},
    "10-epochs": {"n_epochs": 10},
    "rate-3e-4": {"learning_rate": 3e-4},
    "gamma-0.985": {"gamma": 0.985},
    "clip-0.1": {"clip_range": 0.1},
}
#: What each trial changes of ``BASE``; an entropy of two numbers falls from the first to 0 over the second share of training.
TRIALS: dict[str, dict[str, Any]] = {
    "pdppo-32-envs": {},
    "pdppo-entropy-0.05": {"ent_coef": [0.05, 0.8]},
    "pdppo-entropy-0.01-constant": {"ent_coef": 0.01},
    "pdppo-64-envs-entropy-0.05": {"n_envs": 64, "n_steps": 32, "ent_coef": [0.05, 0.8]},
    "pdppo-64-envs-10-epochs": {"n_envs": 64, "n_steps": 32, "n_epochs": 10},
    "pdppo-component-credit": {"credit": "component"},
    "pdppo-component-credit-entropy-0.05": {"credit": "component", "ent_coef": [0.05, 0.8]},
    "pdppo-component-credit-entropy-0.2": {"credit": "component", "ent_coef": [0.2, 0.8]},
    "pdppo-joint-ratio": JOINT,
    "pdppo-joint-ratio-entropy-0.005": {**JOINT, "ent_coef": 0.005},
    **{f"ppo-{name}": {**PPO, **changes} for name, changes in OF_BOTH.items()},
    **{f"maskable-{name}": {**PPO, "agent": "MaskablePPO", **changes} for name, changes in OF_BOTH.items()},
}


def run(trial: str, instance: str, seed: int, folder: Path) -> dict[str, Any]:
    """Train, and evaluate the deterministic policy on 100 episodes at every 50,000 steps."""
    torch.set_num_threads(1)
    settings = {**BASE, **TRIALS[trial]}
    make = {"instance": str(folder / f"published_{instance}.json")}
    env = gym.make_vec("rlspo/LotSizing-v0", num_envs=settings.pop("n_envs"), **make)
    agent, critics = settings.pop("agent", "PDPPO"), settings.pop("critics_learn")
    policy: dict[str, Any] = {"net_arch": [128, 128]}
    if agent == "PDPPO":
        policy |= {"vf_lr_scale": critics, "post_vf_lr_scale": critics}
    if isinstance(settings["ent_coef"], list):
        begin, share = settings["ent_coef"]
        settings["ent_coef"] = LinearSchedule(begin, 0.0, share)
    settings["learning_rate"] = LinearSchedule(settings["learning_rate"], 0.0, 1.0)
    curve = Curve(make)
    callbacks: list[BaseCallback] = [curve]
    if agent == "MaskablePPO":
        normalized = VecNormalize(GymnasiumVecEnv(env), norm_obs=False, gamma=settings["gamma"])
        callbacks.append(Entropy(settings.pop("ent_coef")))
        model: Any = MaskablePPO("MlpPolicy", normalized, seed=seed, device="cpu", policy_kwargs=policy, **settings)
    else:
        model = getattr(rlspo, agent)(
            "MlpPolicy", env, seed=seed, device="cpu", policy_kwargs=policy, normalize_rewards=True, **settings
        )
    model.learn(STEPS, callback=callbacks)
    returns = evaluate(model, make)
    return {
        "trial": trial,
        "instance": instance,
        "seed": seed,
        "curve": curve.points,
        "mean": float(returns.mean()),
        "std": float(returns.std()),
    }


class Curve(BaseCallback):
    """Evaluates at regular steps."""

    def __init__(self, make: dict[str, Any]) -> None:
        super().__init__()
        self.make, self.points = make, []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        if self.num_timesteps >= len(self.points) * EVERY:
            self.points.append((self.num_timesteps, round(float(evaluate(self.model, self.make).mean()))))


class Entropy(BaseCallback):
    """Sets the coefficient of the entropy, which sb3-contrib's agents take as a number only."""

    def __init__(self, ent_coef: float | LinearSchedule) -> None:
        super().__init__()
        self.ent_coef = ent_coef

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        remaining = 1 - self.num_timesteps / STEPS
        coefficient = self.ent_coef(remaining) if callable(self.ent_coef) else self.ent_coef
        vars(self.model)["ent_coef"] = coefficient


def evaluate(model: Any, make: dict[str, Any], n_episodes: int = 100) -> np.ndarray:
    """Returns of the deterministic policy."""
    env = gym.make_vec("rlspo/LotSizing-v0", num_envs=n_episodes, **make)
    observations, info = env.reset(seed=12345)
    masks = (
        {"action_masks": np.array(info["action_mask"])} if isinstance(model, MaskablePPO) else {}
    )  # of a plant, always the same
    returns = np.zeros(n_episodes)
    for _ in range(100):
        actions, _ = model.predict(observations, deterministic=True, **masks)
        observations, rewards, *_ = env.step(actions)
        returns += rewards
    return returns


def report() -> None:
    """The table: a row for each trial."""
    rows = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))]
    lines = ["| trial | instance | mean return at the end, by seed | at half of the steps |", "|---|---|---|---|"]
    for trial in TRIALS:
        for instance in ("25x15", "20x10"):
            mine = [row for row in rows if (row["trial"], row["instance"]) == (trial, instance)]
            if mine:
                ends = ", ".join(f"{row['mean']:.0f}" for row in mine)
                halves = ", ".join(str(next(mean for step, mean in row["curve"] if step >= STEPS // 2)) for row in mine)
                lines.append(f"| {trial} | {instance} | {ends} | {halves} |")
    TABLE.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "report"])
    parser.add_argument("--only", default="", help="trials whose name contains this")
    parser.add_argument("--instances", nargs="+", default=["25x15"], choices=["25x15", "20x10"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--folder", type=Path, default=ROOT.parent / "shared" / "data" / "lot_sizing")
    args = parser.parse_args()
    if args.command == "run":
        RESULTS.mkdir(parents=True, exist_ok=True)
        for trial in [name for name in TRIALS if args.only in name]:
            for instance in args.instances:
                for seed in args.seeds:
                    file = RESULTS / f"{trial}_{instance}_{seed}.json"
                    if not file.exists():
                        file.write_text(json.dumps(run(trial, instance, seed, args.folder)) + "\n")
    report()


if __name__ == "__main__":
    main()
