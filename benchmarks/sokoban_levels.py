"""Lengths of the shortest solutions of Sokoban's random levels: python benchmarks/sokoban_levels.py."""

import argparse

import gymnasium as gym
import numpy as np

import rlspo  # noqa: F401  registers the environment
from rlspo.envs.sokoban import solve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--levels", type=int, default=1000)
    parser.add_argument("--boxes", type=int, default=2)
    given = parser.parse_args()
    env = gym.make("rlspo/Sokoban-v0", n_boxes=given.boxes, render_mode="ansi")
    lengths = []
    for seed in range(given.levels):
        env.reset(seed=seed)
        solution = solve(env.render())
        assert solution is not None
        lengths.append(len(solution))
    quantiles = np.quantile(lengths, (0.1, 0.5, 0.9))
    print(f"{given.levels} levels of {given.boxes} boxes: 10 %, 50 % and 90 % of the lengths: {quantiles}")


if __name__ == "__main__":
    main()
