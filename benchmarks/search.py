"""Speed of a search: model steps per second, compared with the simulator alone and with loops in Python.

    python benchmarks/search.py                       # HalfCheetah-v5 and the cube, on the CPU; about two minutes
    python benchmarks/search.py --device cuda         # the cube, whose search stays on the device
    python benchmarks/search.py --json benchmarks/results/search.json

Measured in alternation, several rounds; ratios are of medians.
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
import numpy as np
import torch
from stable_baselines3.common.env_util import make_vec_env

from rlspo import PPO
from rlspo.common.vector_env import GymnasiumVecEnv
from rlspo.simulators.mujoco import MujocoCore
from rlspo.spo import Planner

ROOTS, PARTICLES, DEPTH = 8, 16, 4


def rate(function: Callable[[], int], seconds: float) -> float:
    """Steps per second, over ``seconds`` or so."""
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        steps += function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return steps / (time.perf_counter() - start)


def alternated(ways: dict[str, Callable[[], int]], rounds: int, seconds: float) -> dict[str, float]:
    """The median rate of each way."""
    for way in ways.values():
        way()
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].append(rate(way, seconds))
    return {name: statistics.median(rates) for name, rates in found.items()}


def planned(model: Any, env: Any, threads: int | None = None, **settings: Any) -> Callable[[], int]:
    """One search from all roots.

    :param threads: of MuJoCo's physics; None: as many as there are cores
    """
    generator = torch.Generator(model.device).manual_seed(0)
    planner = Planner(model, env, temperature=1.0, gamma=0.99, generator=generator, **settings)
    if threads is not None:
        planner.simulator.core = MujocoCore(env.envs[0].unwrapped, threads)
    observations = env.reset()
    before = 0.0

    def once() -> int:
        nonlocal before
        planner.search(env, observations)
        before, taken = planner.model_steps, planner.model_steps - before
        return int(taken)

    return once


def simulated(model: Any, env: Any, roots: int, particles: int, depth: int) -> Callable[[], int]:
    """The simulator alone, with as many states, from the same roots, random actions."""
    planner = Planner(model, env, temperature=1.0, gamma=0.99, n_particles=particles, depth=depth)
    simulator, count = planner.simulator, roots * particles
    env.reset()
    roots_states = simulator.capture(env)
    actions = np.stack([model.action_space.sample() for _ in range(count)])
    actions = actions if simulator.device is None else torch.as_tensor(actions, device=simulator.device)

    def once() -> int:
        states = simulator.replicate(roots_states, particles)
        for _ in range(depth):
            states = simulator.step(states, actions).states
        return count * depth

    return once


def half_cheetah(rounds: int, seconds: float) -> dict[str, Any]:
    """The search beside the simulator, a loop of set_state and step, and a loop of deep copies of the search's own kind."""
    torch.set_num_threads(1)
    env = make_vec_env("HalfCheetah-v5", ROOTS, seed=0)
    model = PPO("MlpPolicy", env, device="cpu", seed=0)
    single: Any = gym.make("HalfCheetah-v5")
    single.reset(seed=0)
    base = single.unwrapped
    qpos, qvel = base.data.qpos.copy(), base.data.qvel.copy()

    def loop() -> int:
        for _ in range(PARTICLES * DEPTH):
            base.set_state(qpos, qvel)
            base.step(base.action_space.sample())
        return PARTICLES * DEPTH

    @torch.inference_mode()
    def loop_with_networks() -> int:
        for _ in range(PARTICLES * DEPTH):
            base.set_state(qpos, qvel)
            seen, *_ = base.step(base.action_space.sample())
            inputs = torch.as_tensor(seen[None], dtype=torch.float32)
            model.policy.distribution_of(inputs).sample()
            model.policy.values_of(inputs)
        return PARTICLES * DEPTH

    found = alternated(
        {
            "search": planned(model, env, n_particles=PARTICLES, depth=DEPTH),
            "simulator": simulated(model, env, ROOTS, PARTICLES, DEPTH),
            "set_state and step in a loop": loop,
            "the same with policy and value": loop_with_networks,
        },
        rounds,
        seconds,
    )
    scaling = {}
    for roots, particles, depth in ((1, 16, 4), (8, 16, 4), (32, 16, 4), (8, 64, 4), (8, 16, 16), (8, 256, 4)):
        many = make_vec_env("HalfCheetah-v5", roots, seed=0)
        ways = {
            "search": planned(model, many, n_particles=particles, depth=depth),
            "simulator": simulated(model, many, roots, particles, depth),
        }
        scaling[f"{roots} roots, {particles} particles, depth {depth}"] = alternated(ways, max(rounds // 2, 1), seconds / 2)
    many = make_vec_env("HalfCheetah-v5", ROOTS, seed=0)
    cores = len(os.sched_getaffinity(0))
    by_threads = {
        f"{threads} threads": planned(model, many, threads, n_particles=PARTICLES, depth=DEPTH)
        for threads in sorted({1, 2, cores})
        if threads <= cores
    }
    return {"steps_per_second": found, "scaling": scaling, "threads": alternated(by_threads, rounds, seconds)}


def cube(device: str, rounds: int, seconds: float) -> dict[str, Any]:
    """The search in the array form, on the CPU or on CUDA."""
    found = {}
    for roots, particles, depth in ((8, 16, 4), (64, 16, 4), (64, 64, 8), (256, 256, 8)):
        env = GymnasiumVecEnv(gym.make_vec("rlspo/RubiksCube-v0", num_envs=roots))
        model = PPO("MlpPolicy", env, device=device, seed=0, policy_kwargs={"net_arch": [256, 256]})
        ways = {}
        for place in dict.fromkeys(("cpu", device)):
            there = model if place == device else PPO("MlpPolicy", env, device=place, policy_kwargs={"net_arch": [256, 256]})
            ways[place] = planned(there, env, n_particles=particles, depth=depth)
        found[f"{roots} roots, {particles} particles, depth {depth}"] = alternated(ways, max(rounds // 2, 1), seconds)
    return found


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    device = torch.cuda.get_device_name() if args.device == "cuda" else platform.processor() or platform.machine()
    report: dict[str, Any] = {
        "device": device,
        "torch": torch.__version__,
        "cube": cube(args.device, args.rounds, args.seconds),
    }
    if args.device == "cpu":
        report["HalfCheetah-v5"] = half_cheetah(args.rounds, args.seconds)
    text = json.dumps(report, indent=1)
    print(text)
    if args.json is not None:
        args.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
