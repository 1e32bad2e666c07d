"""Does bfloat16 learn as well as float32?

    python benchmarks/precision.py --json precision.json
    python benchmarks/precision.py --case sac --seeds 12 --jobs 2 --json precision_sac.json

``ppo`` is PPO with CnnPolicy, whose convolutions are in bfloat16, on a small image task (find the bright square: four
actions, 36 x 36 pixels, reward 1 where it is the right one). ``sac`` is SAC with its hidden layers in bfloat16 on
Pendulum-v1. Both precisions, several seeds. Prints the mean over training (area under the curve) and at the end of the mean
reward of a rollout (ppo) or the return of an episode (sac), with the difference between the precisions and its 95 % bootstrap
interval over seeds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

from rlspo import PPO, SAC


class BrightSquare(gym.Env[np.ndarray, int]):
    """Noise with one quadrant a little brighter; name the quadrant. Sixteen pictures to an episode."""

    observation_space = spaces.Box(0, 255, (1, 36, 36), np.uint8)
    action_space = spaces.Discrete(4)

    def _picture(self) -> np.ndarray:
        self.quadrant = int(self.np_random.integers(4))
        image = self.np_random.integers(0, 160, (1, 36, 36), dtype=np.uint8)
        row, column = divmod(self.quadrant, 2)
        image[:, row * 18 : row * 18 + 18, column * 18 : column * 18 + 18] += 55
        return image

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.age = 0
        return self._picture(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.age += 1
        reward = float(action == self.quadrant)
        return self._picture(), reward, self.age == 16, False, {}


class Curve(BaseCallback):
    """Mean reward of each rollout."""

    def __init__(self) -> None:
        super().__init__()
        self.rewards: list[float] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.rewards.append(float(self.model.rollout_buffer.rewards.mean()))


def ppo(precision: str, seed: int) -> list[float]:
    """Mean reward of each rollout."""
    env = make_vec_env(BrightSquare, 8, seed=seed)
    settings = {"n_steps": 64, "batch_size": 128, "n_epochs": 4, "learning_rate": 2.5e-4, "device": "cpu"}
    curve = Curve()
    PPO("CnnPolicy", env, seed=seed, precision=precision, **settings).learn(20_480, callback=curve)
    return curve.rewards


def sac(precision: str, seed: int) -> list[float]:
    """Return of each episode."""
    env: Any = make_vec_env("Pendulum-v1", 1, seed=seed)
    SAC("MlpPolicy", env, seed=seed, precision=precision, learning_rate=1e-3, device="cpu", compile=True).learn(6000)
    return [float(value) for value in env.envs[0].get_episode_rewards()]


CASES: dict[str, Callable[[str, int], list[float]]] = {"ppo": ppo, "sac": sac}


def run(case: str, precision: str, seed: int) -> list[float]:
    """The learning curve of one agent."""
    torch.set_num_threads(1)
    curve = CASES[case](precision, seed)
    print(f"{precision} seed {seed}: mean {np.mean(curve):.3f}, end {np.mean(curve[-4:]):.3f}", flush=True)
    return curve


def interval(differences: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval of the mean."""
    draws = np.random.default_rng(0).choice(differences, (10_000, len(differences))).mean(axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, default="ppo")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--jobs", type=int, default=1, help="agents trained side by side")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    precisions = ("float32", "bfloat16")
    cells = [(precision, seed) for seed in range(args.seeds) for precision in precisions]
    with ProcessPoolExecutor(args.jobs, get_context("spawn")) as pool:
        found = [*pool.map(run, [args.case] * len(cells), *zip(*cells, strict=True))]
    curves = {
        name: [curve for (precision, _), curve in zip(cells, found, strict=True) if precision == name] for name in precisions
    }
    single, half = (np.array(curves[precision]) for precision in ("float32", "bfloat16"))
    for what, part in (("area", slice(None)), ("end", slice(-4, None))):
        a, b = single[:, part].mean(axis=1), half[:, part].mean(axis=1)
        low, high = interval(b - a)
        difference = f"difference {(b - a).mean():+.3f} ({low:+.3f} to {high:+.3f})"
        print(f"{what}: float32 {a.mean():.3f}, bfloat16 {b.mean():.3f}, {difference}")
    if args.json:
        args.json.write_text(json.dumps(curves) + "\n")


if __name__ == "__main__":
    main()
