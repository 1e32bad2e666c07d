"""Two actions are equally good and everything between is worth little: which policies find both?

    python benchmarks/two_peaks.py run       # trains what is missing
    python benchmarks/two_peaks.py report    # the docs' table from what is there

One state, one action dimension: an action near -0.6 or 0.6 is worth 1. SAC's actor learns from the true worth in the place of
critics (1000 steps, entropy coefficient 0.15), PPO from rewards (60,000 steps). A peak counts as found where the gate gives a
quarter or more of its weight to experts whose modes are worth 0.8 and more. Results are in zoo/results/two_peaks.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from rlspo import PPO
from rlspo.sac.moe import MoeSACPolicy

ROOT = Path(__file__).resolve().parents[1]
RESULTS, TABLE = ROOT / "zoo" / "results" / "two_peaks", ROOT / "docs" / "_results" / "two_peaks.md"
SEEDS = range(8)
LINE = spaces.Box(-1, 1, (1,), np.float32)
#: Agent, and settings of the mixture.
TRIALS: dict[str, tuple[str, dict[str, Any]]] = {
    "SAC, one Gaussian": ("SAC", {"n_experts": 1}),
    "SAC, frequency, max, component, no spread (published)": (
        "SAC",
        {"primitive_update": "max", "entropy_of": "component", "routing_loss": "squared_error", "initial_spread": 0.0},
    ),
    "SAC, frequency, max, no spread": ("SAC", {"primitive_update": "max", "initial_spread": 0.0}),
    "SAC, frequency, max": ("SAC", {"primitive_update": "max"}),
    "SAC, frequency, all": ("SAC", {"primitive_update": "all"}),
    "SAC, marginal": ("SAC", {"routing": "marginal"}),
    "SAC, score": ("SAC", {"routing": "score"}),
    "SAC, gumbel": ("SAC", {"routing": "gumbel"}),
    "PPO, one Gaussian": ("PPO", {"n_experts": 1}),
    "PPO, frequency, all, no spread (published)": (
        "PPO",
        {"routing": "frequency", "routing_loss": "squared_error", "initial_spread": 0.0},
    ),
    "PPO, frequency, all": ("PPO", {"routing": "frequency"}),
    "PPO, frequency, max": ("PPO", {"routing": "frequency", "primitive_update": "max"}),
    "PPO, marginal": ("PPO", {"routing": "marginal"}),
    "PPO, score": ("PPO", {"routing": "score"}),
    "PPO, gumbel": ("PPO", {"routing": "gumbel"}),
}


def worth(actions: Any) -> Any:
    """1 at -0.6 and at 0.6, next to nothing in between."""
    library: Any = torch if isinstance(actions, torch.Tensor) else np
    return library.exp(-(((library.abs(actions[..., 0]) - 0.6) / 0.2) ** 2))


class Peaks(VectorEnv[Any, Any, Any]):
    """64 such bandits side by side."""

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012
    num_envs = 64
    single_observation_space = single_action_space = LINE
    observation_space = action_space = batch_space(LINE, num_envs)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return np.zeros((self.num_envs, 1), np.float32), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        seen, over = np.zeros((self.num_envs, 1), np.float32), np.ones(self.num_envs, bool)
        return seen, worth(actions), over, ~over, {"final_obs": np.array([*seen, None], object)[:-1], "_final_obs": over}


def sac(seed: int, settings: dict[str, Any]) -> Any:
    torch.manual_seed(seed)
    policy = MoeSACPolicy(LINE, LINE, lambda _: 3e-3, net_arch=[16], **settings)
    generator, inputs = torch.Generator().manual_seed(seed), torch.zeros(64, 1)
    for _ in range(1000):
        noise = policy.draw_noise(64, generator)
        loss, _, _ = policy.actor_loss(dict(policy.named_parameters()), inputs, noise, torch.tensor(0.15), worth)
        policy.actor.optimizer.zero_grad()
        loss.backward()
        policy.actor.optimizer.step()
    return policy


def ppo(seed: int, settings: dict[str, Any]) -> Any:
    kwargs = {"net_arch": [16], **settings}
    common: dict[str, Any] = {"n_steps": 16, "batch_size": 256, "n_epochs": 5, "learning_rate": 1e-3, "gamma": 0.0}
    env: gym.vector.VectorEnv = Peaks()
    model = PPO("MoeMlpPolicy", env, **common, ent_coef=0.02, seed=seed, device="cpu", compile=False, policy_kwargs=kwargs)
    return model.learn(60_000).policy


def run(trial: str, seed: int) -> dict[str, Any]:
    agent, settings = TRIALS[trial]
    policy = (sac if agent == "SAC" else ppo)(seed, settings)
    with torch.no_grad():
        found = policy.distribution_of(torch.zeros(1, 1))
    one = settings.get("n_experts") == 1
    modes, weights = (found.mode(), torch.ones(1)) if one else (found.experts.mode()[0], found.weights[0])
    good = worth(modes) > 0.8
    left, right = (float(weights[good & side].sum()) for side in (modes[:, 0] < 0, modes[:, 0] > 0))
    return {
        "trial": trial,
        "seed": seed,
        "peaks": (left > 0.25) + (right > 0.25),
        "modes": modes[:, 0].tolist(),
        "weights": weights.tolist(),
    }


def report() -> None:
    rows = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))]
    lines = ["| policy | seeds that find both | one | none |", "|---|---|---|---|"]
    for trial in TRIALS:
        counts = [sum(row["peaks"] == n for row in rows if row["trial"] == trial) for n in (2, 1, 0)]
        if any(counts):
            lines.append(f"| {trial} | {counts[0]} | {counts[1]} | {counts[2]} |")
    TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "report"])
    parser.add_argument("--only", default="", help="trials whose name contains this")
    parser.add_argument("--seeds", nargs="+", type=int, default=[*SEEDS])
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.command == "run":
        RESULTS.mkdir(parents=True, exist_ok=True)
        for trial in [name for name in TRIALS if args.only in name]:
            for seed in args.seeds:
                name = "".join(letter if letter.isalnum() else "_" for letter in trial.lower())
                file = RESULTS / f"{name}_{seed}.json"
                if not file.exists():
                    file.write_text(json.dumps(run(trial, seed)) + "\n")
    report()


if __name__ == "__main__":
    main()
