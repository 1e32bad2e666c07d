"""SPO compared with agents that do not plan, and the gain of search at test time, for the docs.

    python benchmarks/planning.py run --only cube         # trains and plays what is missing of zoo/grids/planning.yml
    python benchmarks/planning.py report                  # the docs' table and picture from what is there

Each run is one JSON in zoo/results/planning/; existing ones are not run again. Steps are those of the real environment, and
model steps those that searches took in its copies.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import yaml
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

import rlspo
from rlspo.common.vector_env import GymnasiumVecEnv
from rlspo.spo import Planner

ROOT = Path(__file__).resolve().parents[1]
GRID, RESULTS = ROOT / "zoo" / "grids" / "planning.yml", ROOT / "zoo" / "results" / "planning"
#: Points of the learning curve.
POINTS = 10
ACTIVATIONS = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh}


def make_env(task: dict[str, Any], n_envs: int, seed: int, test: bool = False) -> VecEnv:
    """The vectorised form where there is one, else one environment beside the other."""
    kwargs = {**task.get("env_kwargs", {}), **(task.get("test_kwargs", {}) if test else {})}
    if gym.spec(task["env"]).vector_entry_point and task["env"].startswith("rlspo/"):
        env: VecEnv = GymnasiumVecEnv(gym.make_vec(task["env"], num_envs=n_envs, **kwargs))
        env.seed(seed)
        return env
    return make_vec_env(task["env"], n_envs, seed=seed, env_kwargs=kwargs)


def play(task: dict[str, Any], act: Any, episodes: int, n_envs: int, seed: int = 10_000) -> dict[str, float]:
    """Mean return of whole episodes, as many in each environment, the same for all that play."""
    env = make_env(task, n_envs, seed, test=True)
    per_env, returns, solved, steps = -(-episodes // n_envs), [], [], 0
    left = np.full(n_envs, per_env)
    observations = env.reset()
    while (left > 0).any():
        observations, _, dones, infos = env.step(act(env, observations))
        steps += int((left > 0).sum())
        for index in np.flatnonzero(dones & (left > 0)):
            left[index] -= 1
            returns.append(infos[index]["episode"]["r"])
            solved.append(float(infos[index].get("is_success", np.nan)))
    env.close()
    known = {} if np.isnan(solved).all() else {"solved": float(np.mean(solved))}
    return {"mean": float(np.mean(returns)), "std": float(np.std(returns)), "episodes": len(returns), "steps": steps, **known}


class Curve(BaseCallback):
    """Records the mean return of the last hundred training episodes, in which SPO acts by search."""

    def __init__(self, every: int) -> None:
        super().__init__()
        self.every, self.points, self.start = every, [], time.perf_counter()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        if self.num_timesteps >= (len(self.points) + 1) * self.every:
            returns = [episode["r"] for episode in self.model.ep_info_buffer or []]
            mean = float(np.mean(returns)) if returns else None
            self.points.append({"step": self.num_timesteps, "train": mean, "seconds": time.perf_counter() - self.start})


def train(name: str, task: dict[str, Any], agent: str, seed: int, compiled: bool) -> tuple[Any, dict[str, Any]]:
    """The trained agent, and how it learned and plays by its policy alone."""
    settings = dict(task["agents"][agent])
    kind, steps = getattr(rlspo, settings.pop("algo")), int(float(task["steps"]))
    if "policy_kwargs" in settings:
        policy = dict(settings["policy_kwargs"])
        if "activation_fn" in policy:
            policy["activation_fn"] = ACTIVATIONS[policy["activation_fn"]]
        settings["policy_kwargs"] = policy
    settings = {name: float(value) if name in ("learning_rate", "spread_kl") else value for name, value in settings.items()}
    env = make_env(task, task["n_envs"], seed)
    model = kind("MlpPolicy", env, seed=seed, device="cpu", compile="auto" if compiled else False, **settings)
    curve, start = Curve(steps // POINTS), time.perf_counter()
    model.learn(steps, callback=curve)
    found: dict[str, Any] = {
        "task": name,
        "agent": agent,
        "seed": seed,
        "steps": model.num_timesteps,
        "model_steps": float(getattr(model, "_model_steps", 0.0)),
        "seconds": time.perf_counter() - start,
        "torch": torch.__version__,
        "curve": curve.points,
    }
    for way in ("deterministic", "sampled"):
        act = partial(by_policy, model, way == "deterministic")
        found[way] = play(task, act, task["episodes"], min(task["episodes"], 100))
    return model, {**found, "search": []}


def by_policy(model: Any, deterministic: bool, env: VecEnv, observations: Any) -> np.ndarray:
    """Actions of the policy alone."""
    return model.predict(observations, deterministic=deterministic)[0]


def run(name: str, task: dict[str, Any], agent: str, seed: int, compiled: bool) -> None:
    """Complete a run: training, then play by search with each budget. Each result is written at once."""
    torch.set_num_threads(1)
    file = RESULTS / f"{name}_{agent}_{seed}.json"
    found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    if found is not None and len(found["search"]) == len(task["budgets"]):
        return
    print(f"{name}: {agent}, seed {seed}", flush=True)
    saved = file.with_suffix(".zip")
    if found is None or not saved.exists():
        model, found = train(name, task, agent, seed, compiled)
        model.save(saved)
        write(file, found)
    model = getattr(rlspo, task["agents"][agent]["algo"]).load(saved, device="cpu")
    for particles, depth in task["budgets"][len(found["search"]) :]:
        played = budget(task, model, particles, depth, min(task["episodes"], 100))
        found["search"].append({"particles": particles, "depth": depth, **played})
        write(file, found)
    saved.unlink()


def write(file: Path, found: dict[str, Any]) -> None:
    """As JSON, whole or not at all."""
    partial_file = file.with_suffix(".partial")
    partial_file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    partial_file.replace(file)


def budget(task: dict[str, Any], model: Any, particles: int, depth: int, n_envs: int) -> dict[str, float]:
    """Play by search with one budget."""
    generator = torch.Generator().manual_seed(0)
    planner: Planner | None = None

    def act(env: VecEnv, seen: Any) -> np.ndarray:
        nonlocal planner
        if planner is None:
            temperature = model.search_temperature() if isinstance(model, rlspo.SPO) else None
            settings = {"n_particles": particles, "depth": depth, "gamma": model.gamma, "resample_period": 4}
            planner = Planner(model, env, temperature=temperature, generator=generator, **settings)
        return planner.act(env, seen)[0]

    played = play(task, act, task["episodes"], n_envs)
    assert planner is not None
    return {**played, "model_steps": planner.model_steps, "seconds": planner.seconds}


def main() -> None:
    """Run or report, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "report"))
    parser.add_argument("--only", nargs="+", help="tasks")
    parser.add_argument("--agents", nargs="+")
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--grid", type=Path, default=GRID)
    parser.add_argument("--eager", action="store_true", help="do not compile the update")
    args = parser.parse_args()
    grid = yaml.safe_load(args.grid.read_text(encoding="utf-8"))
    if args.what == "report":
        from planning_report import report

        report(RESULTS)
        return
    RESULTS.mkdir(parents=True, exist_ok=True)
    for seed in range(max(task["seeds"] for task in grid.values())):
        for name, task in grid.items():
            for agent in task["agents"]:
                wanted = seed < task["seeds"] and (args.seeds is None or seed in args.seeds)
                if wanted and name in (args.only or grid) and agent in (args.agents or task["agents"]):
                    run(name, task, agent, seed, not args.eager)


if __name__ == "__main__":
    main()
