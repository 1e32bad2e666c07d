"""How close each inner solver comes to the worst corner of the ball, on a trained policy.

    python benchmarks/inner_solver.py

Trains PPO on Hopper-v5 for ``--steps``, takes its last observations, and maximises KL(pi(.|s) || pi(.|s')) in the linf ball
with ten gradients each. Eleven inputs have 2048 corners, so the worst corner is found by trying all of them; the best of 100
random corners is the baseline without gradients.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import torch

from rlspo import PPO
from rlspo.adversary import PGD, Langevin, LinfBall, Power, Solver, kl_to_clean

SOLVERS: dict[str, Solver] = {
    "power, 5 restarts x 2": Power(10, restarts=5),
    "power, 2 restarts x 5": Power(10, restarts=2),
    "power, 1 x 10": Power(10, restarts=1),
    "pgd, steps of 0.1": PGD(10),
    "pgd, steps of 0.2": PGD(10, step_size=0.2),
    "pgd, steps of 0.5": PGD(10, step_size=0.5),
    "langevin, steps of 0.1": Langevin(10),
    "langevin, steps of 0.2": Langevin(10, step_size=0.2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=102_400)
    parser.add_argument("--epsilon", type=float, default=0.075)
    parser.add_argument("--markdown", type=Path, help="write the table to this file too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = PPO("MlpPolicy", "Hopper-v5", seed=0, normalize_observations=True, normalize_rewards=True, device="cpu")
    policy = model.learn(args.steps).policy.requires_grad_(False)
    clean = policy.preprocess(torch.as_tensor(model.rollout_buffer.flat("observations"))[-512:])
    size = clean.shape[1]
    ball = LinfBall(torch.tensor(args.epsilon))
    objective = kl_to_clean(policy.distribution_of, policy.distribution_of(clean))
    corners = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=size)))
    values = torch.stack([objective(ball.shift(clean, corner.expand(len(clean), size))) for corner in corners])
    generator = torch.Generator().manual_seed(0)
    exact = values.amax(dim=0)
    best_of_100 = values[torch.randint(len(corners), (100,), generator=generator)].amax(dim=0)
    header = ["search", "of the worst corner", "of the best of 100 random corners", "states where it beats these"]
    rows = []
    for name, solver in SOLVERS.items():
        found = objective(solver(objective, clean, ball, solver.draw(ball, clean, generator)))
        shares = (found.mean() / exact.mean(), found.mean() / best_of_100.mean(), (found >= best_of_100).float().mean())
        rows.append([name, *(f"{float(share):.0%}" for share in shares)])
    rows.append(["best of 100 random corners", f"{float(best_of_100.mean() / exact.mean()):.0%}", "100%", ""])
    text = "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * 4, *rows])
    print(text)
    if args.markdown:
        args.markdown.write_text(text + "\n")


if __name__ == "__main__":
    main()
