"""How much the search of the MAD attack leaves on the table, on the trained agents of MuJoCo that come with rlspo.

    python benchmarks/attack_strength.py              # one JSON for each agent; what is there is kept
    python benchmarks/attack_strength.py --report     # docs/_results/attack_strength.md from these

On observations of natural episodes: the KL divergence that each search reaches, as a share of what a long one reaches
(Power, a thousand gradients from a hundred starts). Then returns: natural, under MAD with its published search (Langevin of
temperature 1), and under MAD with PGD and with Power, ten gradients each.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from robustness import EPSILON
from stable_baselines3.common.env_util import make_vec_env

import rlspo
from rlspo.adversary import PGD, Langevin, LinfBall, Power, RandomPoint, Solver
from rlspo.attacks import MADAttack, attacked_evaluation
from rlspo.zoo.evaluate.statistics import iqm

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "zoo" / "results" / "attack_strength"
SEARCHES: dict[str, Solver] = {
    "random": RandomPoint(),
    "published": Langevin(10, temperature=1.0),
    "pgd": PGD(10),
    "power": Power(10),
}
LONG = Power(1000, 100)
STATES, EPISODES, COPIES = 256, 30, 10


def inputs_of(model: Any, env_id: str) -> torch.Tensor:
    """Network inputs on the way of natural episodes, ``(STATES, n)``."""
    env = make_vec_env(env_id, 4, seed=1)
    observations, seen = env.reset(), []
    for step in range(20 * STATES // 4):
        if step % 20 == 19:
            seen.append(np.array(observations))
        observations, *_ = env.step(model.predict(observations, deterministic=True)[0])
    return model.policy.preprocess(torch.as_tensor(np.concatenate(seen)))


def shares(model: Any, inputs: torch.Tensor, epsilon: float) -> dict[str, float]:
    """Mean divergence that each search reaches, as a share of what the long one does."""
    ball, objective = LinfBall(torch.tensor(epsilon)), MADAttack().objective(model.policy, inputs)

    def reached(solver: Solver) -> float:
        noise = solver.draw(ball, inputs, torch.Generator().manual_seed(0))
        return float(objective(solver(objective, inputs, ball, noise)).mean())

    most = reached(LONG)
    return {name: reached(solver) / most for name, solver in SEARCHES.items()}


def measure(name: str) -> dict[str, Any]:
    """One agent."""
    env_id = name.partition("/")[2]
    epsilon, model = EPSILON[env_id], rlspo.load(name)
    with torch.no_grad():
        inputs = inputs_of(model, env_id)
    found: dict[str, Any] = {"agent": name, "epsilon": epsilon, "share": shares(model, inputs, epsilon), "returns": {}}
    attacks = {"natural": None, **{key: MADAttack(solver=SEARCHES[key]) for key in ("published", "pgd", "power")}}
    for key, attack in attacks.items():
        returns = attacked_evaluation(model, make_vec_env(env_id, COPIES), attack, epsilon, EPISODES)
        found["returns"][key] = [round(float(value), 1) for value in returns]
    return found


def report() -> None:
    """The table of the docs."""
    rows = [
        "| agent | radius | share: random | published | PGD | Power | return: natural | published | PGD | Power |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for file in sorted(RESULTS.glob("*.json"), key=lambda file: file.stem.rpartition("_")[::-1]):
        data = json.loads(file.read_text(encoding="utf-8"))
        reached = " | ".join(f"{100 * data['share'][name]:.0f} %" for name in SEARCHES)
        returns = " | ".join(f"{iqm(np.array(values)):,.0f} ({min(values):,.0f})" for values in data["returns"].values())
        rows.append(f"| `{data['agent']}` | {data['epsilon']} | {reached} | {returns} |")
    target = ROOT / "docs" / "_results" / "attack_strength.md"
    target.write_text("\n".join(rows) + "\n", encoding="utf-8")
    print(target.relative_to(ROOT))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("agents", nargs="*", help="such as barpo/Hopper-v5 (default: all of MuJoCo)")
    parser.add_argument("--report", action="store_true", help="only the table")
    args = parser.parse_args()
    torch.set_num_threads(1)
    known = sorted(f"{folder.parent.name}/{folder.name}" for folder in (ROOT / "zoo" / "agents").glob("*/*"))
    for name in [] if args.report else args.agents or [each for each in known if each.partition("/")[2] in EPSILON]:
        file = RESULTS / f"{name.replace('/', '_')}.json"
        if not file.is_file():
            RESULTS.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(measure(name), indent=1) + "\n", encoding="utf-8")
            print(file.relative_to(ROOT), flush=True)
    report()


if __name__ == "__main__":
    main()
