"""The pictures of environments in the docs: a few steps of random play, then render.

python benchmarks/environment_pictures.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
from PIL import Image

import rlspo  # registers the environments

STATIC = Path(__file__).resolve().parents[1] / "docs" / "_static"
PICTURES: dict[str, tuple[str, dict[str, Any], int]] = {
    "lot_sizing_plant.png": ("rlspo/LotSizing-v0", {"instance": "15x5"}, 12),
    "frozen_lake.png": ("rlspo/FrozenLakePostDecision-v0", {"size": 8, "map_seed": 3}, 6),
    "admission_control.png": ("rlspo/AdmissionControl-v0", {}, 20),
    "rubiks_cube.png": ("rlspo/RubiksCube-v0", {"scramble_depth": 5}, 0),
    "sokoban.png": ("rlspo/Sokoban-v0", {"size": (8, 9), "n_boxes": 3}, 0),
}


def main() -> None:
    print(f"rlspo {rlspo.__version__}")
    for name, (env_id, kwargs, steps) in PICTURES.items():
        env = gymnasium.make(env_id, render_mode="rgb_array", **kwargs)
        env.action_space.seed(2)
        env.reset(seed=1)
        for _ in range(steps):
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            if terminated or truncated:
                env.reset()
        frame = env.render()
        Image.fromarray(frame).save(STATIC / name, optimize=True)
        print(f"{STATIC / name}: {frame.shape[1]} x {frame.shape[0]}")


if __name__ == "__main__":
    main()
