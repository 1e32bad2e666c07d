"""Scores without any skill on the 24 configurations of STORI: actions drawn uniformly (random), and no action (noop).

    python benchmarks/stori_reference_scores.py --workers 2    # plays what is missing of zoo/results/stori_reference/

Returns are the game's points that the agent would get in a whole episode, not clipped. Episode k is reset with seed 20000 + k
and begins after 1 to 30 frames without action, as in training; the random policy draws its actions from a generator of its own
of the same seed. An episode ends after 108,000 frames at the latest. Without any action Breakout serves no ball, and Gopher
and BankHeist never end: nothing happens in them. So where noise does not act in its place, this policy plays 7,200 frames
(two minutes; a round of Boxing has 7,141).

These policies ignore observations, so noise that only hides the screen (types 3.1 and 3.2, and drifts between them) does not
change their returns: such configurations are not played, and their files name the score that they repeat.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import time
from collections.abc import Iterator
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from scipy import stats
from stori_results import CELLS, GAMES, RESULTS

import rlspo  # noqa: F401  registers the environments
from rlspo.envs.profiles import Profile, read_profile
from rlspo.zoo.config.atomic import write_text

FOLDER = RESULTS / "stori_reference"
POLICIES = ("random", "noop")
SEED, NOOP_MAX = 20_000, 30
CAP, CAP_STILL = 108_000, 7_200  # frames
FRAMESKIP = 4


def hides_only(profile: Profile) -> bool:
    """Whether it has no effect on a policy that ignores observations."""
    return all(concept.type in ("3.1", "3.2") for concept in profile.concepts)


def interval(values: list[float]) -> tuple[float, float]:
    """95 % interval of the mean by Student's t."""
    mean, half = float(np.mean(values)), 0.0
    if np.std(values) > 0:
        half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return mean - half, mean + half


def conditions(cell: str, policy: str, episodes: int) -> dict[str, Any]:
    """All settings that determine the result of a configuration."""
    # The name of a profile has no effect.
    profile = {key: value for key, value in read_profile(cell).items() if key not in ("name", "description")}
    acts = any(concept.type == "1" for concept in Profile.from_mapping(profile).concepts)
    return {
        "cell": cell,
        "policy": policy,
        "episodes": episodes,
        "seed": SEED,
        "noop_max": NOOP_MAX,
        "frameskip": FRAMESKIP,
        "max_frames": CAP_STILL if policy == "noop" and not acts else CAP,
        "profile": profile,
    }


def play(cell: str, policy: str, episodes: int, max_frames: int) -> tuple[list[float], list[int]]:
    """Returns and lengths, in decision steps, of whole episodes."""
    # The memory is the cheapest observation, and it is not used.
    env = gym.make(
        f"STORI/{GAMES[cell.partition('-')[0]]}-v0",
        profile=cell,
        noop_max=NOOP_MAX,
        frameskip=FRAMESKIP,
        obs_type="ram",
        pool=False,
        max_num_frames_per_episode=max_frames,
        disable_env_checker=True,
    )
    assert isinstance(env.action_space, gym.spaces.Discrete)
    actions = int(env.action_space.n)
    returns, lengths = [], []
    for episode in range(episodes):
        random = np.random.default_rng(SEED + episode)
        env.reset(seed=SEED + episode)
        total, length, over = 0.0, 0, False
        while not over:
            action = int(random.integers(actions)) if policy == "random" else 0
            _, reward, terminated, truncated, _ = env.step(action)
            total, length, over = total + float(reward), length + 1, terminated or truncated
        returns.append(total)
        lengths.append(length)
    env.close()
    return returns, lengths


def write(asked: dict[str, Any]) -> str:
    """Play one cell with one policy and write its file; a line about it."""
    started = time.monotonic()
    cell, policy = asked["cell"], asked["policy"]
    returns, lengths = play(cell, policy, asked["episodes"], asked["max_frames"])
    result = {
        **asked,
        "mean": round(float(np.mean(returns)), 3),
        "interval": [round(end, 3) for end in interval(returns)],
        "mean_length": round(float(np.mean(lengths)), 1),
        "seconds": round(time.monotonic() - started, 1),
        "ale_py": version("ale-py"),
        "returns": returns,
        "lengths": lengths,
    }
    write_text(file_of(cell, policy), json.dumps(result) + "\n")
    return f"{cell}, {policy}: {result['mean']} in {result['seconds']} s"


def repeat(cell: str, policy: str) -> None:
    """Write the score of the unperturbed game for a cell that only hides the screen."""
    original = f"{cell.partition('-')[0]}-3.1"
    known = json.loads(file_of(original, policy).read_text(encoding="utf-8"))
    kept = {key: known[key] for key in ("mean", "interval", "mean_length")}
    result = {"cell": cell, "policy": policy, "repeats": original, **kept}
    write_text(file_of(cell, policy), json.dumps(result) + "\n")


def file_of(cell: str, policy: str) -> Path:
    return FOLDER / f"{cell}_{policy}.json"


def missing(cells: list[str], episodes: int) -> Iterator[dict[str, Any]]:
    """Configurations to play: without a result, or with one from other settings."""
    for cell in cells:
        for policy in POLICIES:
            asked, file = conditions(cell, policy, episodes), file_of(cell, policy)
            found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
            if {key: found.get(key) for key in asked} != asked:
                yield asked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes")
    parser.add_argument("--episodes", type=int, default=100, metavar="N", help="of each cell and policy")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="cells, such as 'boxing-*'; their 3.1 must be there")
    args = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    cells = fnmatch.filter(CELLS, args.only)
    blind = [cell for cell in cells if hides_only(Profile.from_mapping(read_profile(cell)))]
    played = [cell for cell in cells if cell not in blind or cell.endswith("-3.1")]
    with get_context("spawn").Pool(args.workers) as pool:
        for line in pool.imap_unordered(write, missing(played, args.episodes)):
            print(line, flush=True)
    for cell in set(blind) - set(played):
        for policy in POLICIES:
            repeat(cell, policy)


if __name__ == "__main__":
    main()
