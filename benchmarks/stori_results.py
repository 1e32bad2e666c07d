"""The numbers behind docs/stori.md: scores of grids, of no skill and as published, joined by cell and normalised.

A cell is a game with a type, named as its profile: ``breakout-3.2A``.
"""

from __future__ import annotations

import csv
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlspo.common.errors import did_you_mean
from rlspo.zoo.evaluate.statistics import interval, mean

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "zoo" / "results"
GAMES = {"breakout": "Breakout", "boxing": "Boxing", "gopher": "Gopher", "bankheist": "BankHeist"}
TYPES = ("1", "2.1", "2.2", "3.1", "3.2A", "3.2B", "3.2C")
SHORT = ("1", "2.1", "2.2", "3.1", "3.2")
CELLS = tuple(f"{game}-{kind}" for game in GAMES for kind in (TYPES if game in ("breakout", "boxing") else SHORT))
PLAIN = "3.1"


@dataclass(frozen=True)
class Score:
    """What somebody scores in a cell.

    :param value: the mean over seeds, or over episodes of a policy that does not learn
    :param low: lower end of its interval; None where one seed says nothing of others
    :param high: upper end
    :param seeds: the mean return of each; empty where it is not known
    """

    value: float
    low: float | None = None
    high: float | None = None
    seeds: tuple[float, ...] = ()

    @classmethod
    def of_seeds(cls, scores: Mapping[int, float]) -> Score:
        """From the mean return of each seed."""
        values = [scores[seed] for seed in sorted(scores)]
        found = interval(values, mean)
        ends = (found.low, found.high) if len(values) > 1 else (None, None)
        return cls(found.value, *ends, tuple(values))


#: By agent and cell.
Scores = dict[tuple[str, str], Score]


def of_grid(folder: Path, cells: Sequence[str], evaluation: str) -> Scores:
    """What the agents of a grid score, as far as it has been run and exported.

    :param folder: with ``episodes.json``; one that does not exist holds nothing
    :param cells: that its environments are named by
    :param evaluation: its name in the grid
    :raises ValueError: for an environment with another name, which would be lost in silence, and if there are results but
        none of this evaluation
    """
    file = folder / "episodes.json"
    if not file.is_file():
        return {}
    means: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    episodes = json.loads(file.read_text(encoding="utf-8"))
    for one in episodes:
        if one["env"] not in cells:
            raise ValueError(f"{file}: there is no cell {one['env']!r}. {did_you_mean(one['env'], cells)}")
        if one["evaluation"] == evaluation:
            means[one["agent"], one["env"]][one["seed"]] = float(np.mean(one["returns"]))
    if episodes and not means:
        raise ValueError(
            f"{file}: there is no evaluation {evaluation!r} but {sorted({one['evaluation'] for one in episodes})}."
        )
    return {key: Score.of_seeds(seeds) for key, seeds in means.items()}


def about_grid(folder: Path) -> dict[str, Any]:
    """How a grid was run: ``n_timesteps``, ``episodes``, ``seeds``, ...; empty where it was not."""
    file = folder / "summary.json"
    return json.loads(file.read_text(encoding="utf-8"))["about"] if file.is_file() else {}


def published(file: Path = RESULTS / "stori_published.csv") -> Scores:
    """The digitised returns, by algorithm and cell."""
    with file.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(line for line in stream if not line.startswith("#")))
    return {
        (row["algorithm"], f"{row['game']}-{row['type']}"): Score(float(row["mean"]), float(row["low"]), float(row["high"]))
        for row in rows
    }


def references(folder: Path = RESULTS / "stori_reference") -> Scores:
    """What no skill scores, by policy and cell."""
    found: Scores = {}
    for file in sorted(folder.glob("*.json")):
        one = json.loads(file.read_text(encoding="utf-8"))
        found[one["policy"], one["cell"]] = Score(one["mean"], *one["interval"])
    return found


def kept(agent: str, cell: str, scores: Scores, skill_free: Scores) -> float | None:
    """How much of an agent's skill in the unperturbed game is left in a cell: 1 all, 0 as good as random actions there.

    ``(score - random) / (score of 3.1 - random of 3.1)``, each with the random policy in the same cell, so that noise
    that takes rewards from all, whatever they do, counts as little as may be.

    :returns: None where a number is missing, or where the agent is no better than random in the unperturbed game, so that
        there is nothing to lose: its mean is not above the interval of the random policy
    """
    plain = f"{cell.rpartition('-')[0]}-{PLAIN}"
    here, there = scores.get((agent, cell)), scores.get((agent, plain))
    random, plain_random = skill_free.get(("random", cell)), skill_free.get(("random", plain))
    if here is None or there is None or random is None or plain_random is None:
        return None
    if there.value <= (plain_random.value if plain_random.high is None else plain_random.high):
        return None
    return (here.value - random.value) / (there.value - plain_random.value)


def verdict(ours: Score | None, theirs: Score | None) -> str:
    """``better`` or ``worse`` where every seed of one is above every seed of the other, ``undecided`` where they overlap or
    where one has a single seed; ``missing`` where one is not there.
    """
    if ours is None or theirs is None:
        return "missing"
    if min(len(ours.seeds), len(theirs.seeds)) < 2:
        return "undecided"
    if min(ours.seeds) > max(theirs.seeds):
        return "better"
    return "worse" if max(ours.seeds) < min(theirs.seeds) else "undecided"


def by_chance(ours: Score, theirs: Score) -> float:
    """How likely seeds that do not differ at all come out with all of ours above all of theirs."""
    return 1.0 / math.comb(len(ours.seeds) + len(theirs.seeds), len(ours.seeds))
