"""How long a policy takes to act: with NumPy on the CPU, and with PyTorch on a device.

    python benchmarks/acting.py --json acting_cpu.json
    python benchmarks/acting.py --device cuda --json acting_cuda.json

``acting_device="auto"`` lets a policy on a GPU act on the CPU where ``environments x weights`` are at most
``rlspo.common.acting.MULTIPLICATIONS_THAT_PAY``: where NumPy is still faster than asking the GPU. Milliseconds of a step, the
median of rounds in which both take turns. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env

from rlspo import PPO
from rlspo.common.acting import MULTIPLICATIONS_THAT_PAY, CopyOnCpu
from rlspo.common.collector import torch_actor

ROUNDS, STEPS = 7, 100
PROCESSOR = torch.cpu.get_capabilities()["cpu_name"]


class Space(gym.Env[np.ndarray, np.ndarray]):
    """Nothing but the spaces of a walking robot."""

    observation_space = spaces.Box(-1, 1, (17,), np.float32)
    action_space = spaces.Box(-1, 1, (6,), np.float32)


def milliseconds(act: Callable[[np.ndarray], Any], observations: np.ndarray) -> float:
    began = time.perf_counter()
    for _ in range(STEPS):
        act(observations)
    return 1000 * (time.perf_counter() - began) / STEPS


def measure(width: int, n_envs: int, device: str) -> dict[str, float]:
    policy_kwargs = {"net_arch": [width, width]}
    model: Any = PPO("MlpPolicy", make_vec_env(Space, 1), policy_kwargs=policy_kwargs, device=device, n_steps=64)
    fast = CopyOnCpu(model.policy).policy.fast_actor(model.randomness.numpy)
    actors = {"numpy": fast, "torch": torch_actor(model.policy, model.randomness.torch)}
    observations = np.random.default_rng(0).normal(size=(n_envs, 17)).astype(np.float32)
    found: dict[str, list[float]] = {name: [] for name in actors}
    for number in range(ROUNDS + 1):
        for name, act in actors.items():
            taken = milliseconds(act, observations)
            if number:  # the first one warms up
                found[name].append(taken)
    weights = sum(parameter.numel() for parameter in model.policy.parameters())
    times = {f"{name}_ms": round(statistics.median(each), 4) for name, each in found.items()}
    return {"width": width, "environments": n_envs, "multiplications": n_envs * weights, **times}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="of PyTorch")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    name = torch.cuda.get_device_name() if args.device == "cuda" else PROCESSOR
    results = []
    for width in (64, 256, 512):
        for n_envs in (1, 8, 32, 128):
            found = measure(width, n_envs, args.device)
            results.append(found)
            pays = "numpy" if found["multiplications"] <= MULTIPLICATIONS_THAT_PAY else "device"
            print(f"{width:4d} x {n_envs:3d} NumPy {found['numpy_ms']:.3f} ms, PyTorch {found['torch_ms']:.3f} ms: {pays}")
    if args.json is not None:
        machine = {"device": args.device, "name": name, "processor": PROCESSOR, "threads": args.threads}
        args.json.write_text(json.dumps({"machine": machine, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
