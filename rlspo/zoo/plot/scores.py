"""Final scores: chosen from the runs, and put on a common scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rlspo.common.errors import did_you_mean
from rlspo.zoo.errors import UserError
from rlspo.zoo.evaluate.worst import WORST
from rlspo.zoo.plot.runs import LAST, NATURAL, Run

#: Agent and environment, to the score of each run.
Table = dict[str, dict[str, np.ndarray]]


@dataclass(frozen=True)
class Scores:
    """The scores of some evaluations.

    :param tables: by evaluation
    :param attacks: which evaluations are attacks
    :param notes: what the user should know about the choice
    """

    tables: dict[str, Table]
    attacks: frozenset[str]
    notes: list[str]

    @property
    def agents(self) -> list[str]:
        """Agents of all evaluations, in order."""
        return list(dict.fromkeys(agent for table in self.tables.values() for agent in table))

    @property
    def envs(self) -> list[str]:
        """Environments of all evaluations and agents, in order."""
        return list(dict.fromkeys(env for table in self.tables.values() for envs in table.values() for env in envs))

    def panel_titles(self) -> list[str]:
        """Titles of panels with one evaluation each: their names, or the environment where there is only a natural one."""
        if list(self.tables) == [NATURAL]:
            return [self.envs[0] if len(self.envs) == 1 else f"{len(self.envs)} environments"]
        return [self.title(name) for name in self.tables]

    def title(self, evaluation: str) -> str:
        """The name of an evaluation in words."""
        if evaluation == NATURAL:
            return "no attack" if self.attacks & self.tables.keys() or WORST in self.tables else NATURAL
        if evaluation == WORST:
            return "worst attack"
        name = evaluation.upper() if evaluation == "mad" else evaluation
        return f"{name} attack" if evaluation in self.attacks and "attack" not in name else name


def collect(runs: Sequence[Run], wanted: Sequence[str]) -> Scores:
    """Choose the evaluations, and collect the scores of the runs.

    :param wanted: evaluations to take; empty for all after training, or else the last one during it
    :raises UserError: for an evaluation that no run has, or runs without any
    """
    chosen = _chosen(runs, wanted)
    gathered: dict[str, dict[str, dict[str, list[float]]]] = {name: {} for name in chosen}
    left_out = []
    for run in runs:
        names = [name for name in chosen if math.isfinite(run.scores.get(name, math.nan))]
        for name in names:
            gathered[name].setdefault(run.agent, {}).setdefault(run.env, []).append(run.scores[name])
        if not names:
            left_out.append(f"{run.source} ({run.agent}, {run.env}, {run.name})")
    if not any(gathered.values()):
        raise UserError(f"None of the scores is a finite number: {', '.join(chosen)}.")
    tables = {
        name: {agent: {env: np.array(values) for env, values in envs.items()} for agent, envs in table.items()}
        for name, table in gathered.items()
    }
    notes = [f"Left out, without these scores: {', '.join(left_out)}."] if left_out else []
    if LAST in chosen:
        notes += _unequal_ends(runs)
    return Scores(tables, frozenset().union(*(run.attacks for run in runs)), notes)


def _unequal_ends(runs: Sequence[Run]) -> list[str]:
    """Notes on environments whose last evaluations are after different numbers of steps."""
    ends: dict[str, list[float]] = {}
    for run in runs:
        if run.evaluations is not None:
            ends.setdefault(run.env, []).append(float(run.evaluations.steps[-1]))
    return [
        f"{env}: the last evaluations lie between {min(steps):,.0f} and {max(steps):,.0f} steps."
        for env, steps in ends.items()
        if min(steps) < 0.95 * max(steps)
    ]


def _chosen(runs: Sequence[Run], wanted: Sequence[str]) -> list[str]:
    """The evaluations to draw, by name."""
    there = list(dict.fromkeys(name for run in runs for name in run.scores))
    if not there:
        raise UserError(
            f"None of the {len(runs)} runs has a final score: a report of `rlspo train`, an evaluation of `rlspo benchmark`, "
            "or evaluations during training. Training episodes can be drawn: --kind curves --metric train"
        )
    for name in wanted:
        if name not in there:
            raise UserError(f"--evaluations: no run has a score {name!r}. {did_you_mean(name, there)}")
    if wanted:
        return list(dict.fromkeys(wanted))
    after_training = [name for name in there if name not in (LAST, WORST)]
    agents = {run.agent for run in runs}
    if after_training and {run.agent for run in runs if run.scores.keys() & {*after_training}} == agents:
        return after_training
    return [LAST] if LAST in there else after_training


def shared(scores: Scores, kind: str) -> Scores:
    """The comparable scores: of each evaluation, those in environments where every agent has scores.

    :param kind: of picture, for the message
    :raises UserError: if there is nothing left
    """
    tables: dict[str, Table] = {}
    lost: set[str] = set()
    for name, table in scores.tables.items():
        envs = list(dict.fromkeys(env for each in table.values() for env in each))
        common = [env for env in envs if all(env in each for each in table.values())]
        lost |= {*envs} - {*common}
        if common:
            tables[name] = {agent: {env: each[env] for env in common} for agent, each in table.items()}
    if not tables:
        there = "; ".join(f"{agent}: {', '.join(each)}" for agent, each in next(iter(scores.tables.values())).items())
        raise UserError(f"--kind {kind} compares agents in the same environments, and these share none: {there}")
    notes = [f"Left out, because not every agent has runs there: {', '.join(sorted(lost))}."] if lost else []
    return replace(scores, tables=tables, notes=[*scores.notes, *notes])


def normalised(scores: Scores, ranges: Mapping[str, tuple[float, float]]) -> Scores:
    """Scores on a scale on which 0 and 1 mean the same in every environment.

    :param ranges: returns that count as 0 and as 1; for other environments, their lowest and highest score
    """
    spans = {}
    for env in scores.envs:
        values = np.concatenate([envs[env] for table in scores.tables.values() for envs in table.values() if env in envs])
        spans[env] = ranges.get(env, (float(values.min()), float(values.max())))

    def scaled(env: str, values: np.ndarray) -> np.ndarray:
        low, high = spans[env]
        return (values - low) / (high - low) if high > low else np.full(len(values), 0.5)

    tables = {
        name: {agent: {env: scaled(env, values) for env, values in envs.items()} for agent, envs in table.items()}
        for name, table in scores.tables.items()
    }
    return replace(scores, tables=tables)
