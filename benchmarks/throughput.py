"""Training speed of rlspo against SB3: the same environments and hyperparameters, in turn, in one run.

    python benchmarks/throughput.py                          # all cases, prints a table
    python benchmarks/throughput.py --cases hopper cartpole --repeats 5 --json speed.json
    python benchmarks/throughput.py --eager                  # rlspo without compiling, as in short runs and without g++
    python benchmarks/throughput.py --device cuda

Both libraries train with one thread (``--threads``) on copies of the same environments. Each repeat runs both, and the one
that ran last goes first in the next; a case's figures are medians over the repeats, its ratio the median of the repeats'
ratios. rlspo is compiled as in runs of 100,000 minibatches and more, in an untimed first round that is reported apart. "BARPO"
is compared with SB3's plain PPO: ten inner steps against none. SAC does one gradient step for each step of one environment;
"sac-moe" has a mixture of four experts, of which all learn ("sac-moe-max": the best one alone), and is compared with SB3's
plain SAC. "sac-small" and "sac-hindsight" have networks of 64-64, the latter with SB3's ``HerReplayBuffer``. "pendulum-memory"
and "breakout-memory" (single frames) are compared with sb3-contrib's RecurrentPPO.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ale_py
import gymnasium as gym
import numpy as np
import stable_baselines3
import torch
from rich.console import Console
from rich.table import Table
from sb3_contrib import RecurrentPPO
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.env_util import make_atari_env, make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack

import rlspo
from rlspo.common.compilation import UPDATES_THAT_PAY_LOOPS


class Reach(gym.Env):
    """A point moves to a goal in a cube: a task for hindsight replay whose step costs next to nothing."""

    def __init__(self) -> None:
        box = gym.spaces.Box(-1, 1, (3,), np.float32)
        self.action_space = box
        self.observation_space = gym.spaces.Dict(observation=box, achieved_goal=box, desired_goal=box)

    def _seen(self) -> dict[str, np.ndarray]:
        return {"observation": self.place.copy(), "achieved_goal": self.place.copy(), "desired_goal": self.goal.copy()}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        super().reset(seed=seed)
        self.place, self.goal = self.np_random.uniform(-1, 1, (2, 3)).astype(np.float32)
        return self._seen(), {}

    def compute_reward(self, achieved: Any, desired: Any, info: Any) -> np.ndarray:
        return -(np.linalg.norm(achieved - desired, axis=-1) > 0.2).astype(np.float32)

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        self.place = np.clip(self.place + 0.1 * action, -1, 1).astype(np.float32)
        return self._seen(), float(self.compute_reward(self.place, self.goal, {})), False, False, {}


def pendulum_without_velocity(**settings: Any) -> gym.Env:
    """Where it is, not how fast: a task for memory."""
    env = gym.make("Pendulum-v1", **settings).unwrapped
    low, high = env.observation_space.low[:2], env.observation_space.high[:2]
    return gym.wrappers.TransformObservation(env, lambda seen: seen[:2], gym.spaces.Box(low, high, dtype=np.float32))


gym.register("Reach-v0", Reach, max_episode_steps=50)
gym.register("PendulumWithoutVelocity-v0", pendulum_without_velocity, max_episode_steps=200)


@dataclass(frozen=True)
class Case:
    """One comparison.

    :param env: environment id
    :param n_envs: copies side by side
    :param n_steps: per copy and rollout
    :param batch_size: of minibatches
    :param rollouts: timed in each repeat
    """

    env: str
    n_envs: int
    n_steps: int
    batch_size: int
    rollouts: int
    n_epochs: int = 10
    policy: str = "MlpPolicy"
    agent: str = "PPO"
    ours: dict[str, Any] = field(default_factory=dict)
    both: dict[str, Any] = field(default_factory=dict)
    frames: int = 4

    @property
    def peer(self) -> str:
        """SB3's agent that it is compared with."""
        return "SAC" if self.agent == "SAC" else "RecurrentPPO" if "Lstm" in self.policy else "PPO"

    @property
    def settings(self) -> dict[str, Any]:
        """Of both agents."""
        if self.peer == "SAC":
            return {"batch_size": self.batch_size, "learning_starts": 100, "buffer_size": 100_000, **self.both}
        return {**self.both, "n_steps": self.n_steps, "batch_size": self.batch_size, "n_epochs": self.n_epochs}

    def make_env(self) -> VecEnv:
        if self.env.startswith("ALE/"):
            # SB3's AtariWrapper skips the frames
            env = make_atari_env(self.env, self.n_envs, seed=0, env_kwargs={"frameskip": 1})
            return VecFrameStack(env, self.frames)
        return make_vec_env(self.env, self.n_envs, seed=0)

    @property
    def steps(self) -> int:
        return self.rollouts * self.n_steps * self.n_envs


CASES = {
    "hopper": Case("Hopper-v5", 1, 2048, 64, 6),
    "halfcheetah": Case("HalfCheetah-v5", 8, 512, 64, 3),
    "cartpole": Case("CartPole-v1", 8, 256, 64, 6),
    # rl-zoo's number of epochs for Atari; sticky actions by the ALE, the rest by SB3's AtariWrapper.
    "breakout": Case("ALE/Breakout-v5", 8, 128, 256, 3, 4, "CnnPolicy", ours={"precision": "auto"}),
    "hopper-barpo": Case("Hopper-v5", 1, 2048, 64, 6, agent="BARPO"),
    "pendulum-memory": Case("PendulumWithoutVelocity-v0", 8, 128, 128, 3, policy="MlpLstmPolicy"),
    "breakout-memory": Case("ALE/Breakout-v5", 8, 128, 256, 2, 4, "CnnLstmPolicy", ours={"precision": "auto"}, frames=1),
    "sac": Case("Hopper-v5", 1, 500, 256, 3, agent="SAC"),
    "sac-bfloat16": Case("Hopper-v5", 1, 500, 256, 3, agent="SAC", ours={"precision": "auto"}),
    "sac-moe": Case("Hopper-v5", 1, 500, 256, 3, agent="SAC", ours={"policy": "MoeMlpPolicy"}),
    "sac-moe-max": Case(
        "Hopper-v5",
        1,
        500,
        256,
        3,
        agent="SAC",
        ours={"policy": "MoeMlpPolicy", "policy_kwargs": {"primitive_update": "max"}},
    ),
    "sac-small": Case("Pendulum-v1", 1, 500, 256, 3, agent="SAC", both={"policy_kwargs": {"net_arch": [64, 64]}}),
    "sac-hindsight": Case(
        "Reach-v0",
        1,
        500,
        256,
        3,
        policy="MultiInputPolicy",
        agent="SAC",
        both={"policy_kwargs": {"net_arch": [64, 64]}, "replay_buffer_class": HerReplayBuffer},
    ),
    "sac-moe-bfloat16": Case("Hopper-v5", 1, 500, 256, 3, agent="SAC", ours={"policy": "MoeMlpPolicy", "precision": "auto"}),
}
#: The cases that compare like with like; their geometric mean is the headline.
PPO_CASES = [name for name, case in CASES.items() if case.agent == case.peer == "PPO"]


def timed(model: Any, steps: int) -> float:
    """Seconds that ``steps`` more steps of training take."""
    start = time.perf_counter()
    model.learn(steps, reset_num_timesteps=False)
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def env_alone(case: Case) -> float:
    """Steps per second of the environments with random actions: what a learner that costs nothing would reach."""
    env = case.make_env()
    env.reset()
    actions = [np.stack([env.action_space.sample() for _ in range(case.n_envs)]) for _ in range(100)]
    steps = case.steps // case.n_envs
    start = time.perf_counter()
    for step in range(steps):
        env.step(actions[step % 100])
    seconds = time.perf_counter() - start
    env.close()
    return case.steps / seconds


class Stopwatch:
    """Wraps a method and adds up the seconds spent in it."""

    def __init__(self, method: Callable[..., None]) -> None:
        self.method, self.seconds = method, 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        start = time.perf_counter()
        self.method(*args, **kwargs)
        self.seconds += time.perf_counter() - start


def measure(name: str, case: Case, repeats: int, device: str, compiled: bool = True) -> dict[str, Any]:
    """Train both in turn and compare."""
    settings = {**case.settings, "device": device, "seed": 0}
    theirs: Any = RecurrentPPO if case.peer == "RecurrentPPO" else getattr(stable_baselines3, case.peer)
    theirs = theirs(case.policy, case.make_env(), **settings)
    own = {"policy": case.policy, "compile": compiled, **case.ours}
    ours = getattr(rlspo, case.agent)(env=case.make_env(), **own, **settings)
    if compiled:
        ours.update.plan(UPDATES_THAT_PAY_LOOPS)
    rollout = case.n_steps * case.n_envs
    for _ in range(2):
        timed(theirs, rollout)
    first = timed(ours, rollout)
    second = timed(ours, rollout)
    ours.train = watch = Stopwatch(ours.train)
    pairs = []
    for repeat in range(repeats):
        order = (theirs, ours) if repeat % 2 == 0 else (ours, theirs)
        seconds = {id(model): timed(model, case.steps) for model in order}
        pairs.append((seconds[id(theirs)], seconds[id(ours)]))
    for model in (theirs, ours):
        model.env.close()
    return {
        "case": name,
        "env": f"{case.env}, {case.n_envs} x {case.n_steps}, batch {case.batch_size}",
        "agent": case.agent,
        "ours": case.ours,
        "sb3_steps_per_second": round(statistics.median(case.steps / seconds for seconds, _ in pairs)),
        "rlspo_steps_per_second": round(statistics.median(case.steps / seconds for _, seconds in pairs)),
        "ratio": round(statistics.median(sb3 / mine for sb3, mine in pairs), 2),
        "ratios": [round(sb3 / mine, 2) for sb3, mine in pairs],
        "env_alone_steps_per_second": round(env_alone(case)),
        "rlspo_share_of_update": round(watch.seconds / sum(seconds for _, seconds in pairs), 2),
        "compile_seconds": round(max(first - second, 0.0), 1),
    }


def show(results: list[dict[str, Any]]) -> None:
    """Print the table."""
    header = ["SB3 steps/s", "rlspo steps/s", "ratio (each)", "env alone", "update share", "compile s"]
    table = Table("case", "environment", "rlspo agent", *header)
    for row in results:
        ratio = f"{row['ratio']:.2f} ({', '.join(map(str, row['ratios']))})"
        speeds = [f"{row[library + '_steps_per_second']}" for library in ("sb3", "rlspo")]
        rest = [f"{row['env_alone_steps_per_second']}", f"{row['rlspo_share_of_update']:.0%}", f"{row['compile_seconds']}"]
        table.add_row(row["case"], row["env"], row["agent"], *speeds, ratio, *rest)
    console = Console(width=170)
    console.print(table)
    ratios = [row["ratio"] for row in results if row["case"] in PPO_CASES]
    if len(ratios) == len(PPO_CASES):
        console.print(f"PPO: geometric mean of the ratios {statistics.geometric_mean(ratios):.2f}, smallest {min(ratios):.2f}")


def save(results: list[dict[str, Any]], args: argparse.Namespace) -> None:
    """Write the results and what they were measured with."""
    versions = {
        "rlspo": rlspo.__version__,
        "stable_baselines3": stable_baselines3.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    machine = {
        "device": args.device,
        "threads": args.threads,
        "compiled": not args.eager,
        "processor": torch.cpu.get_capabilities()["cpu_name"],
    }
    if args.device.startswith("cuda"):
        machine["gpu"] = torch.cuda.get_device_name(args.device)
    args.json.write_text(json.dumps({"versions": versions, "machine": machine, "results": results}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--repeats", type=int, default=3, help="alternations; at least 3 for figures to quote")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--eager", action="store_true", help="rlspo with compile=False")
    parser.add_argument("--json", type=Path, help="write the results to this file too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    gym.register_envs(ale_py)
    results = []
    for name in args.cases:
        results.append(measure(name, CASES[name], args.repeats, args.device, not args.eager))
        if args.json:  # after each case, so that a long run which is cut short has not run for nothing
            save(results, args)
    show(results)


if __name__ == "__main__":
    main()
