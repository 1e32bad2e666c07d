"""Decision steps per second of perturbed Atari games, against the same pipelines without perturbation, in turn.

    python benchmarks/stori.py                                     # four games, every pipeline, about twelve minutes
    python benchmarks/stori.py --games breakout --pipelines sb3 --rounds 3 --copies 0
    python benchmarks/stori.py --json benchmarks/results/stori.json

Each round plays all of a game's noises in one pipeline and the pipeline alone, every other round in reverse; rates are
medians over the rounds and ratios the medians of the rounds' ratios. All play the same random actions, four
frames a decision:

bare      the emulator repeats actions itself, the last frame is shown
pooled    RGB, the brighter of the last two frames; alone, SB3's MaxAndSkipEnv makes it
gymnasium AtariPreprocessing: grey, 84 x 84
sb3       AtariWrapper: grey, 84 x 84, an episode for each life, rewards clipped

At the end copies of a game behind SB3's AtariWrapper, in one process and in several: steps of all copies together.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ale_py
import gymnasium as gym
import numpy as np
from ale_py.env import AtariEnv
from gymnasium.wrappers import AtariPreprocessing
from stable_baselines3.common.atari_wrappers import AtariWrapper, MaxAndSkipEnv
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

import rlspo
from rlspo.common.vector_env import GymnasiumVecEnv
from rlspo.envs.stori import make_game, wrap

#: Games, and the memory that a preview of each changes: ball, enemy, carrots, blocks.
GAMES = {"breakout": 2, "boxing": 2, "gopher": 4, "bank_heist": 3}
#: Share of the speed of the pipeline alone that each noise should keep.
TARGETS = {"1": 0.9, "2.1": 0.9, "2.2": 0.9, "blackout": 0.9, "crop half": 0.9, "crop disc": 0.9, "ram": 0.6}
FRAMES = 4
ALONE = "alone"

Play = Callable[[int], None]


def noises(game: str) -> dict[str, Mapping[str, Any] | str]:
    """Profiles by name. What acts with some probability acts always, and the drift comes and goes often."""
    published = game.replace("_", "")
    hidden = {"type": "3.2", "probability": 1}
    return {
        "1": f"{published}-1",
        "2.1": f"{published}-2.1",
        "2.2": {"type": "2.2", "schedule": "cyclic", "period": 10, "concept": {**hidden, "effect": "blackout", "mode": 1}},
        "blackout": {**hidden, "effect": "blackout", "mode": 1},
        "crop half": {**hidden, "effect": "crop", "mode": "left"},
        "crop disc": {**hidden, "effect": "crop", "mode": "disc"},
        "ram": {**hidden, "effect": "ram", "mode": GAMES[game]},
    }


def emulated(game: str, frameskip: int) -> AtariEnv:
    """A game without sticky actions."""
    return AtariEnv(game, frameskip=frameskip, repeat_action_probability=0.0)


def pipeline(name: str, game: str, profile: Any = None) -> gym.Env:
    """A game in a pipeline; without a profile, alone."""
    if name == "bare":
        env: gym.Env = emulated(game, FRAMES)
    elif name == "pooled":
        if profile is not None:
            return make_game(game, profile=profile, frameskip=FRAMES)
        env = MaxAndSkipEnv(emulated(game, 1), FRAMES)
    elif name == "gymnasium":
        env = AtariPreprocessing(emulated(game, 1), noop_max=0, frame_skip=FRAMES)
    else:
        env = AtariWrapper(emulated(game, 1), noop_max=0, frame_skip=FRAMES)
    return env if profile is None else wrap(env, profile)


PIPELINES = ("bare", "pooled", "gymnasium", "sb3")


def player(env: gym.Env) -> Play:
    """Plays so many decisions on, from reset to reset."""
    actions = np.random.default_rng(0).integers(env.action_space.n, size=4096).tolist()  # type: ignore[attr-defined]
    env.reset(seed=0)
    position = 0

    def play(n: int) -> None:
        nonlocal position
        for _ in range(n):
            position = (position + 1) % len(actions)
            _, _, terminated, truncated, _ = env.step(actions[position])
            if terminated or truncated:
                env.reset()

    return play


def side_by_side(env: VecEnv) -> Play:
    """Plays so many decisions on, of all copies together."""
    actions = np.random.default_rng(0).integers(env.action_space.n, size=(1024, env.num_envs))  # type: ignore[attr-defined]
    env.reset()
    position = 0

    def play(n: int) -> None:
        nonlocal position
        for _ in range(n // env.num_envs):
            position = (position + 1) % len(actions)
            env.step(actions[position])

    return play


def in_turn(players: Mapping[str, Play], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Decisions per second of each, for each round."""
    rates: dict[str, list[float]] = {name: [] for name in players}
    for play in players.values():
        play(40)
    for turn in range(rounds):
        for name in list(players) if turn % 2 == 0 else reversed(list(players)):
            played, started = 0, time.perf_counter()
            while (elapsed := time.perf_counter() - started) < seconds:
                players[name](40)
                played += 40
            rates[name].append(played / elapsed)
    return rates


def rows_of(rates: Mapping[str, list[float]], to: str, **where: Any) -> list[dict[str, Any]]:
    """What was measured, with ratios to one of them."""
    return [
        {
            **where,
            "name": name,
            "steps_per_second": round(statistics.median(found)),
            "ratio": round(statistics.median(a / b for a, b in zip(found, rates[to], strict=True)), 3),
        }
        for name, found in rates.items()
    ]


def noise_rows(game: str, name: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """One game in one pipeline."""
    envs = {ALONE: pipeline(name, game)}
    envs |= {noise: pipeline(name, game, profile) for noise, profile in noises(game).items() if noise in args.noises}
    rates = in_turn({noise: player(env) for noise, env in envs.items()}, args.rounds, args.seconds)
    return rows_of(rates, ALONE, game=game, pipeline=name)


def copy_rows(game: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Copies with noise of type 1, in one process and in several."""
    around = {"noop_max": 0, "frame_skip": 1}
    id = f"STORI/{game.title().replace('_', '')}-v0"

    def stacked(cls: type[VecEnv]) -> VecEnv:
        kwargs = {"env_kwargs": {"type": "1"}, "wrapper_class": AtariWrapper, "wrapper_kwargs": around}
        return make_vec_env(id, args.copies, seed=0, vec_env_cls=cls, **kwargs)  # type: ignore[arg-type]

    shared = gym.make_vec(id, args.copies, type="1", env_wrappers=[functools.partial(AtariWrapper, **around)])
    envs = {
        "DummyVecEnv": stacked(DummyVecEnv),
        "SubprocVecEnv": stacked(SubprocVecEnv),
        "shared memory": GymnasiumVecEnv(shared),
    }
    try:
        rates = in_turn({name: side_by_side(env) for name, env in envs.items()}, args.rounds, args.seconds)
    finally:
        for env in envs.values():
            env.close()
    return rows_of(rates, "DummyVecEnv", game=game, pipeline=f"{args.copies} copies")


def show(rows: list[dict[str, Any]]) -> None:
    """Lines of the table."""
    for row in rows:
        target = TARGETS.get(row["name"])
        kept = "" if target is None else f"{'at least' if row['ratio'] >= target else 'below'} {target:.0%}"
        cells = [row["game"], row["pipeline"], row["name"], f"{row['steps_per_second']:,}", f"{row['ratio']:.0%}", kept]
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="+", default=list(GAMES), choices=GAMES)
    parser.add_argument("--pipelines", nargs="*", default=list(PIPELINES), choices=PIPELINES)
    parser.add_argument("--noises", nargs="+", default=list(TARGETS), choices=TARGETS)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each measurement")
    parser.add_argument("--copies", type=int, default=8, help="of a game; 0: none are measured")
    parser.add_argument("--json", type=Path, help="where to save the results")
    args = parser.parse_args()
    print("| game | pipeline | noise | decisions/s | of the pipeline alone | target |\n|---|---|---|---|---|---|")
    rows = []
    for game in args.games:
        for name in args.pipelines:
            rows += noise_rows(game, name, args)
            show(rows[-len(args.noises) - 1 :])
    if args.copies:
        rows += copy_rows(args.games[0], args)
        show(rows[-3:])
    if args.json:
        versions = {"rlspo": rlspo.__version__, "ale_py": ale_py.__version__, "gymnasium": gym.__version__}
        about = {"versions": {**versions, "python": platform.python_version()}, "cores": os.cpu_count()}
        about |= {"rounds": args.rounds, "seconds": args.seconds, "targets": TARGETS}
        args.json.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
