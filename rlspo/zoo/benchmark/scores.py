"""The statistics of a grid: one score for each training, and what the trainings of an agent come to together.

The score of a training in an evaluation is the mean return of its episodes. What is uncertain is which agent another seed
would have given, so intervals come from drawing trainings again, for each environment on its own (a stratified bootstrap), as
rliable does (arXiv 2108.13264).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from rlspo.zoo.benchmark.curves import Curve
from rlspo.zoo.benchmark.grid import AREA, Grid
from rlspo.zoo.benchmark.results import Result
from rlspo.zoo.cli import terminal
from rlspo.zoo.evaluate.statistics import (
    Estimate,
    Statistic,
    interval,
    iqm,
    mean,
    median,
    optimality_gap,
    probability_of_improvement_interval,
)
from rlspo.zoo.evaluate.worst import WORST, with_worst

CONFIDENCE = 0.95
RESAMPLES = 2000
#: How often such an interval of a mean holds it, by the number of seeds; simulated, with scores of a normal distribution.
COVERAGE = {2: 0.50, 3: 0.75, 4: 0.80, 5: 0.84, 6: 0.86, 7: 0.87, 8: 0.89, 9: 0.89}

#: Measure, environment, agent and seed, to the score.
Scores = dict[str, dict[str, dict[str, dict[int, float]]]]
STATISTICS: dict[str, Statistic] = {"mean": mean, "median": median, "iqm": iqm}


def scores_of(grid: Grid, results: Sequence[Result], curves: Sequence[Curve]) -> Scores:
    """The score of every training in every measure."""
    means: dict[tuple[str, str, int], dict[str, float]] = {}
    for result in results:
        run = result.run
        means.setdefault((run.env, run.agent, run.seed), {})[result.evaluation] = float(result.returns.mean())
    scores: Scores = {name: {} for name in (*grid.evaluations, WORST, AREA)}
    for (env, agent, seed), each in means.items():
        for name, score in with_worst(each, {*grid.attacks}).items():
            scores[name].setdefault(env, {}).setdefault(agent, {})[seed] = score
    for curve in curves:
        if not np.isfinite(curve.area):
            terminal.note(f"{curve.run.key}: an evaluation during training was not finite; it has no score 'during training'.")
            continue
        scores[AREA].setdefault(curve.run.env, {}).setdefault(curve.run.agent, {})[curve.run.seed] = curve.area
    return {name: envs for name, envs in scores.items() if envs}


def summarise(grid: Grid, scores: Scores) -> dict[str, Any]:
    """All statistics, plain: for each environment, and over all of them where ``normalize`` makes them comparable."""
    summary: dict[str, Any] = {
        "confidence": CONFIDENCE,
        "resamples": RESAMPLES,
        "attacks": grid.attacks,
        "baseline": grid.baseline,
        "envs": {},
    }
    for env in grid.envs:
        measures = {}
        for name, envs in scores.items():
            if env in envs:
                agents = {agent: envs[env][agent] for agent in grid.agents if agent in envs[env]}
                measures[name] = {
                    "agents": {agent: _describe(grid, env, seeds) for agent, seeds in agents.items()},
                    "improvement": _improvement(grid, {agent: {env: _array(seeds)} for agent, seeds in agents.items()}),
                }
        if measures:
            summary["envs"][env] = measures
    if len(grid.envs) > 1 and grid.normalize:
        overall = {name: _overall(grid, envs) for name, envs in scores.items()}
        summary["overall"] = {name: measure for name, measure in overall.items() if measure["agents"]}
    return summary


def _describe(grid: Grid, env: str, seeds: Mapping[int, float]) -> dict[str, Any]:
    """Statistics of one agent in one environment."""
    values = _array(seeds)
    found = {
        "seeds": len(values),
        "scores": {str(seed): value for seed, value in seeds.items()},
        **{name: _interval({env: values}, statistic) for name, statistic in STATISTICS.items()},
    }
    if env in grid.normalize:
        found["optimality_gap"] = _interval({env: _normalised(grid, env, values)}, _gap(grid))
    return found


def _overall(grid: Grid, envs: dict[str, dict[str, dict[int, float]]]) -> dict[str, Any]:
    """Statistics of normalised scores over all environments, of the seeds that an agent has in each: more of an easy one would
    make an agent look better."""
    agents = {}
    for agent in grid.agents:
        scores = {env: envs.get(env, {}).get(agent, {}) for env in grid.envs}
        common = [seed for seed in next(iter(scores.values())) if all(seed in each for each in scores.values())]
        if common:
            agents[agent] = {
                env: _normalised(grid, env, np.array([each[seed] for seed in common])) for env, each in scores.items()
            }
    statistics = {**STATISTICS, "optimality_gap": _gap(grid)}
    return {
        "agents": {
            agent: {
                "seeds": len(next(iter(each.values()))),
                # As rliable has it: the IQM is that of all runs, mean and median are those of the environments' means.
                **{name: _interval(each, statistic, name in ("mean", "median")) for name, statistic in statistics.items()},
            }
            for agent, each in agents.items()
        },
        "improvement": _improvement(grid, agents),
    }


def _improvement(grid: Grid, agents: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, dict[str, Any]]:
    """Probability that a training of one agent scores higher than one of another: for all pairs, or over the baseline."""
    against = list(agents) if grid.baseline is None else [name for name in agents if name == grid.baseline]
    return {
        agent: {
            other: _plain(probability_of_improvement_interval(agents[agent], agents[other], CONFIDENCE, n_resamples=RESAMPLES))
            for other in against
            if other != agent
        }
        for agent in agents
    }


def _interval(values: dict[str, np.ndarray], statistic: Statistic, of_tasks: bool = False) -> dict[str, float | None]:
    return _plain(interval(values, statistic, confidence=CONFIDENCE, n_resamples=RESAMPLES, of_tasks=of_tasks))


def _plain(estimate: Estimate) -> dict[str, float | None]:
    """As JSON has it: null for the ends of an interval that a single training does not have."""
    return {key: None if math.isnan(value) else value for key, value in asdict(estimate).items()}


def _gap(grid: Grid) -> Statistic:
    return functools.partial(optimality_gap, target=grid.target)


def _array(seeds: Mapping[int, float]) -> np.ndarray:
    return np.array(list(seeds.values()))


def _normalised(grid: Grid, env: str, values: np.ndarray) -> np.ndarray:
    low, high = grid.normalize[env]
    return (values - low) / (high - low)
