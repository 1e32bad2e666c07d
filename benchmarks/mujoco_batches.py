"""MuJoCo's tasks stepped together against SB3's ``DummyVecEnv`` and rlspo's faster one: environments alone, and PPO on them.

    python benchmarks/mujoco_batches.py                              # all eleven tasks, and PPO on HalfCheetah-v5
    python benchmarks/mujoco_batches.py --tasks Ant-v5 --envs 1 8 50
    python benchmarks/mujoco_batches.py --json benchmarks/results/mujoco_batches.json

The forms of a task are stepped in turn with the same random actions, and PPO trains in turn; figures are medians over the
turns, with the middle half. rlspo is compiled as in runs of 100,000 minibatches and more. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv
from stepping import step_in_turn, summary

import rlspo
from rlspo.common.checked_env import look_into
from rlspo.common.compilation import UPDATES_THAT_PAY_LOOPS
from rlspo.common.vector_env import GymnasiumVecEnv
from rlspo.envs import MujocoVectorEnv
from rlspo.simulators.mujoco import SIMULATED

Form = Callable[[str, int], VecEnv]


def sb3s(env_id: str, n_envs: int) -> VecEnv:
    return make_vec_env(env_id, n_envs, seed=0)


def rlspos(env_id: str, n_envs: int) -> VecEnv:
    """What agents make of SB3's."""
    env = sb3s(env_id, n_envs)
    look_into(env)
    return env


def together(threads: int) -> Form:
    return lambda env_id, n_envs: GymnasiumVecEnv(MujocoVectorEnv(env_id, n_envs, threads=threads))


FORMS: dict[str, Form] = {"sb3": sb3s, "dummy": rlspos, "native, 1 thread": together(1), "native, 2 threads": together(2)}


def step_alone(env_id: str, n_envs: int, turns: int, steps: int) -> dict[str, Any]:
    """Environment steps per second of each form."""
    envs = {name: form(env_id, n_envs) for name, form in FORMS.items()}
    shape = (steps, n_envs, *(envs["sb3"].action_space.shape or ()))
    actions = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    return step_in_turn(envs, actions, turns)


def train_ppo(env_id: str, n_envs: int, turns: int, rollouts: int) -> dict[str, Any]:
    """Steps per second of PPO, acting and learning included, and ratios within a turn."""
    settings: dict[str, Any] = {"n_steps": 512, "batch_size": 64, "n_epochs": 10, "seed": 0, "device": "cpu"}
    agents: dict[str, Any] = {"sb3": stable_baselines3.PPO("MlpPolicy", sb3s(env_id, n_envs), **settings)}
    for name in ("dummy", "native, 1 thread", "native, 2 threads"):
        agents[name] = rlspo.PPO("MlpPolicy", FORMS[name](env_id, n_envs), compile=True, **settings)
        agents[name].update.plan(UPDATES_THAT_PAY_LOOPS)
    steps = settings["n_steps"] * n_envs
    for agent in agents.values():
        agent.learn(2 * steps)
    speeds: dict[str, list[float]] = {name: [] for name in agents}
    for turn in range(turns):
        for name in sorted(agents, reverse=turn % 2 == 1):
            start = time.perf_counter()
            agents[name].learn(rollouts * steps, reset_num_timesteps=False)
            speeds[name].append(rollouts * steps / (time.perf_counter() - start))
    best = speeds["native, 2 threads"]
    return {
        "steps_per_second": {name: summary(found) for name, found in speeds.items()},
        "native_2_over_dummy": round(statistics.median(a / b for a, b in zip(best, speeds["dummy"], strict=True)), 2),
        "native_2_over_sb3": round(statistics.median(a / b for a, b in zip(best, speeds["sb3"], strict=True)), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(SIMULATED))
    parser.add_argument("--envs", nargs="+", type=int, default=[1, 8, 50])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=150, help="of each environment in a turn")
    parser.add_argument("--no-ppo", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {
        "versions": {
            "rlspo": rlspo.__version__,
            "stable_baselines3": stable_baselines3.__version__,
            "gymnasium": gym.__version__,
            "mujoco": mujoco.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "machine": {"processor": torch.cpu.get_capabilities()["cpu_name"], "cores": os.cpu_count()},
        "environments": {},
    }
    for env_id in args.tasks:
        for n_envs in args.envs:
            speeds = step_alone(env_id, n_envs, args.turns, args.steps)
            found["environments"][f"{env_id} x {n_envs}"] = speeds
            print(
                f"{env_id} x {n_envs}:", ", ".join(f"{name} {speed['median']}" for name, speed in speeds.items()), flush=True
            )
    if not args.no_ppo:
        found["ppo"] = {"HalfCheetah-v5 x 8": train_ppo("HalfCheetah-v5", 8, args.turns, 3)}
        print("PPO, HalfCheetah-v5 x 8:", json.dumps(found["ppo"]["HalfCheetah-v5 x 8"], indent=1))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
