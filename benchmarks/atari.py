"""Atari games played together against SB3's ``make_atari_env`` and ale_py's vectorised games: games alone, and PPO on them.

    python benchmarks/atari.py                              # Breakout, 1, 8 and 32 copies, and PPO with 8
    python benchmarks/atari.py --envs 8 --no-ppo
    python benchmarks/atari.py --json benchmarks/results/atari.json

All are stepped in turn with the same random actions, and agents train in turn; figures are medians over the turns, with the
middle half. PPO has rl-zoo3's settings for Atari; rlspo's is compiled, with ``precision="auto"``, on as many threads as SB3's.
Run it on a quiet machine.
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

import ale_py
import gymnasium as gym
import numpy as np
import stable_baselines3
import torch
from ale_py.vector_env import AtariVectorEnv
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv, VecFrameStack
from stepping import step_in_turn, summary

import rlspo
from rlspo.common.checked_env import look_into
from rlspo.common.vector_env import GymnasiumVecEnv
from rlspo.envs.atari import make_atari_vec_env

GAME, ROM = "BreakoutNoFrameskip-v4", "breakout"


def sb3s(n_envs: int, vec_env_cls: Any = None) -> VecEnv:
    return VecFrameStack(make_atari_env(GAME, n_envs, seed=0, vec_env_cls=vec_env_cls), 4)


def in_processes(n_envs: int) -> VecEnv:
    return sb3s(n_envs, SubprocVecEnv)


def rlspos(n_envs: int) -> VecEnv:
    """What agents make of SB3's."""
    env = sb3s(n_envs)
    look_into(env)
    return env


def ales(n_envs: int) -> VecEnv:
    """Its own pipeline: other resets, and a lost life ends the game."""
    env = AtariVectorEnv(ROM, n_envs, autoreset_mode="SameStep", episodic_life=True)
    return GymnasiumVecEnv(env)


def together(n_envs: int) -> VecEnv:
    return make_atari_vec_env(GAME, n_envs, seed=0)


FORMS: dict[str, Callable[[int], VecEnv]] = {
    "sb3": sb3s,
    "sb3, processes": in_processes,
    "ale_py": ales,
    "together": together,
}


def step_alone(n_envs: int, turns: int, steps: int) -> dict[str, Any]:
    """Decision steps per second of each form; one is four frames."""
    envs = {name: form(n_envs) for name, form in FORMS.items()}
    actions = np.random.default_rng(0).integers(4, size=(steps, n_envs))
    return step_in_turn(envs, actions, turns)


def train_ppo(n_envs: int, threads: int, turns: int) -> dict[str, Any]:
    """Steps per second of PPO, acting and learning included, and ratios within a turn."""
    settings: dict[str, Any] = {"n_steps": 128, "batch_size": 256, "n_epochs": 4, "seed": 0, "device": "cpu"}
    torch.set_num_threads(threads)
    agents: dict[str, Any] = {"sb3": stable_baselines3.PPO("CnnPolicy", sb3s(n_envs), **settings)}
    for name, form in {"one by one": rlspos, "together": together}.items():
        agents[name] = rlspo.PPO("CnnPolicy", form(n_envs), compile=True, precision="auto", **settings)
    steps = settings["n_steps"] * n_envs
    for agent in agents.values():
        agent.learn(steps)
    speeds: dict[str, list[float]] = {name: [] for name in agents}
    for turn in range(turns):
        for name in sorted(agents, reverse=turn % 2 == 1):
            start = time.perf_counter()
            agents[name].learn(2 * steps, reset_num_timesteps=False)
            speeds[name].append(2 * steps / (time.perf_counter() - start))

    def ratio(other: str) -> float:
        return round(statistics.median(a / b for a, b in zip(speeds["together"], speeds[other], strict=True)), 2)

    return {
        "threads": threads,
        "steps_per_second": {name: summary(found) for name, found in speeds.items()},
        "together_over_one_by_one": ratio("one by one"),
        "together_over_sb3": ratio("sb3"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100, help="of each copy in a turn")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="of PyTorch, for PPO")
    parser.add_argument("--no-ppo", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    gym.register_envs(ale_py)
    torch.set_num_threads(1)
    found: dict[str, Any] = {
        "versions": {
            "rlspo": rlspo.__version__,
            "stable_baselines3": stable_baselines3.__version__,
            "ale_py": ale_py.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "machine": {"processor": torch.cpu.get_capabilities()["cpu_name"], "cores": os.cpu_count()},
        "environments": {},
        "ppo": {},
    }
    for n_envs in args.envs:
        speeds = step_alone(n_envs, args.turns, args.steps)
        found["environments"][f"{GAME} x {n_envs}"] = speeds
        print(f"{GAME} x {n_envs}:", ", ".join(f"{name} {speed['median']}" for name, speed in speeds.items()), flush=True)
    for threads in [] if args.no_ppo else args.threads:
        found["ppo"][f"{GAME} x 8, {threads} thread(s)"] = trained = train_ppo(8, threads, args.turns)
        print(f"PPO, {GAME} x 8:", json.dumps(trained, indent=1), flush=True)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
