"""Runs to draw, with their learning curves and final scores, from run folders and tables."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rlspo.zoo.errors import UserError
from rlspo.zoo.evaluate.worst import with_worst
from rlspo.zoo.runs.evaluation_log import read_evaluations
from rlspo.zoo.runs.monitor import TrainingEpisodes, read_episodes

#: What can be drawn of an episode.
Measure = Literal["return", "length", "success"]
_IN_EVALUATIONS: dict[Measure, str] = {"return": "results", "length": "ep_lengths", "success": "successes"}
#: Name of the score that is the mean return of the last evaluation during training, for runs without an evaluation after
#: training.
LAST = "last evaluation"
NATURAL = "natural"


@dataclass(frozen=True)
class LearningCurve:
    """Returns, lengths or successes of episodes over one training run; all arrays ``(n,)``.

    :param steps: environment steps, not decreasing
    :param seconds: since training began; NaN where unknown
    :param episodes: training episodes until then; NaN where unknown
    :param values: of one episode, or the mean of some
    :param spread: standard deviation of the episodes behind each value; NaN where unknown
    """

    steps: np.ndarray
    seconds: np.ndarray
    episodes: np.ndarray
    values: np.ndarray
    spread: np.ndarray

    def until(self, last: int) -> LearningCurve | None:
        """The part up to some steps; None where nothing is left."""
        kept = self.steps <= last
        arrays = (self.steps, self.seconds, self.episodes, self.values, self.spread)
        return LearningCurve(*(array[kept] for array in arrays)) if kept.any() else None


@dataclass(frozen=True)
class Run:
    """One training run of one agent, as far as plots need it.

    :param agent: label of the line or bar that it belongs to
    :param env: the environment
    :param name: what distinguishes it from the other runs of its agent and environment, such as ``seed 0``
    :param source: the folder or file it was read from
    :param compared: the attacks on the runs that it is drawn with
    """

    agent: str
    env: str
    name: str
    source: Path
    compared: frozenset[str] = frozenset()

    @property
    def evaluations(self) -> LearningCurve | None:
        """Returns in the evaluations during training, None if there were none."""
        return self.evaluated("return")

    @property
    def training(self) -> LearningCurve | None:
        """The return of every training episode, None if there are none."""
        return self.trained("return")

    def evaluated(self, measure: Measure) -> LearningCurve | None:
        """Evaluations during training; None if there were none, or this was not recorded."""
        return None

    def trained(self, measure: Measure) -> LearningCurve | None:
        """Every training episode; None if there are none, or this was not recorded."""
        return None

    @property
    def scores(self) -> dict[str, float]:
        """Mean return of the trained agent in each evaluation after training, by its name."""
        return {}

    @property
    def attacks(self) -> frozenset[str]:
        """Which of the scores were reached under attack."""
        return frozenset()

    @property
    def radii(self) -> dict[str, str]:
        """Of each attack, with its unit; those that are not recorded are missing."""
        return {}

    @property
    def settings(self) -> dict[str, Any]:
        """All settings that runs of one agent in one environment should share, by path; empty where unknown."""
        return {}


@dataclass(frozen=True)
class TableRun(Run):
    """A run of which only rows of tables are known.

    :param recorded: its evaluations during training
    :param recorded_scores: its scores
    :param attacked: names of scores reached under attack
    """

    recorded: LearningCurve | None = None
    recorded_scores: Mapping[str, float] = field(default_factory=dict)
    attacked: frozenset[str] = frozenset()

    def evaluated(self, measure: Measure) -> LearningCurve | None:
        """As recorded; tables hold returns only."""
        return self.recorded if measure == "return" else None

    @property
    def scores(self) -> dict[str, float]:
        """As recorded, and the last value of the curve."""
        return {**with_worst(self.recorded_scores, self.attacked | self.compared), **last_of(self.recorded)}

    @property
    def attacks(self) -> frozenset[str]:
        """The evaluations under attack, as recorded."""
        return self.attacked


@dataclass(frozen=True)
class FolderRun(Run):
    """A run with its folder: of rlspo, rl-baselines3-zoo, or SB3's ``EvalCallback`` and ``Monitor``.

    :param config: settings in the folder's record, empty where there is none
    """

    config: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def evaluations(self) -> LearningCurve | None:
        """Returns in the evaluations during training, cached."""
        return self.evaluated("return")

    def evaluated(self, measure: Measure) -> LearningCurve | None:
        """From ``evaluations.npz``."""
        file, name = self.source / "evaluations.npz", _IN_EVALUATIONS[measure]
        if not file.is_file():
            return None
        seeds = self.config.get("seeds")
        steps, values = read_evaluations(file, seeds.get("seed") if isinstance(seeds, Mapping) else None, name)
        if len(steps) == 0:
            return None
        steps = steps.astype(float)
        # A return that is not finite, of an agent that diverged, is a gap in the curve.
        values = np.where(np.isfinite(values), values, np.nan).reshape(len(steps), -1)
        training = self._episodes
        return LearningCurve(
            steps, training.seconds_at(steps), training.episodes_at(steps), values.mean(axis=1), values.std(axis=1)
        )

    def trained(self, measure: Measure) -> LearningCurve | None:
        """From the monitor files."""
        training = self._episodes
        values = {"return": training.returns, "length": training.lengths, "success": training.successes}[measure]
        count = len(values)
        if count == 0 or (measure == "success" and np.isnan(values).all()):
            return None
        return LearningCurve(training.steps, training.seconds, np.arange(1.0, count + 1), values, np.zeros(count))

    @cached_property
    def scores(self) -> dict[str, float]:
        """From the evaluations of a benchmark's run, or the report after training; and the last evaluation during training."""
        returns_of, attacks, _ = self._evaluated
        means = {name: float(np.mean(returns)) for name, returns in returns_of.items()}
        return {**with_worst(means, attacks | self.compared), **last_of(self.evaluations)}

    @cached_property
    def attacks(self) -> frozenset[str]:
        """Which of these scores were reached under attack."""
        return self._evaluated[1]

    @cached_property
    def radii(self) -> dict[str, str]:
        """As the evaluations or the report say."""
        return self._evaluated[2]

    @cached_property
    def _evaluated(self) -> tuple[dict[str, list[float]], frozenset[str], dict[str, str]]:
        """Returns of single episodes by evaluation, which evaluations are attacks, and the radii of these."""
        if self.source.name == "run":  # the run folder of a benchmark
            files = sorted(self.source.parent.glob("evaluation_*.json"))
            every = {file.stem.removeprefix("evaluation_"): read_json(file) for file in files}
            evaluated = {name: data for name, data in every.items() if data.get("episodes")}
            if evaluated:
                returns = {name: [float(each["return"]) for each in data["episodes"]] for name, data in evaluated.items()}
                attacks = frozenset(name for name, data in evaluated.items() if data.get("attack"))
                return returns, attacks, {name: _radius(evaluated[name]["attack"]) for name in attacks}
        report = self.source / "report.json"
        data = read_json(report) if report.is_file() else {}
        returns, ball = data.get("returns", {}), data.get("attack", {})
        attacks = frozenset(name for name in returns if name != NATURAL)
        return returns, attacks, dict.fromkeys(attacks, _radius(ball))

    @cached_property
    def _episodes(self) -> TrainingEpisodes:
        return read_episodes(self.source)

    @property
    def settings(self) -> dict[str, Any]:
        """Of the agent and its environment, without seeds and devices; and whether it went on from a trained agent, whose run
        is then the first part of this one."""
        known = flat({key: self.config[key] for key in ("agent", "settings", "eval_env_kwargs") if key in self.config})
        return known and {**known, "trained_agent": self.config.get("trained_agent") is not None}


def _radius(ball: Mapping[str, Any]) -> str:
    """A ball in words; of l2, which is another one, with its norm."""
    words = [str(ball.get("epsilon")), *([ball["units"]] if "units" in ball else [])]
    return " ".join([*words, "in l2"] if ball.get("norm") == "l2" else words)


def last_of(curve: LearningCurve | None) -> dict[str, float]:
    """The score that a curve ends with."""
    return {} if curve is None else {LAST: float(curve.values[-1])}


def flat(data: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested settings by path.

    >>> flat({"agent": {"gamma": 0.99, "policy_kwargs": {"net_arch": [64]}}})
    {'agent.gamma': 0.99, 'agent.policy_kwargs.net_arch': [64]}
    """
    found: dict[str, Any] = {}
    for key, value in data.items():
        found |= flat(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return found


def env_label(env_id: str) -> str:
    """The name of an environment, however a folder or an id writes it.

    >>> env_label("ALE-Pong-v5"), env_label("my_package:Maze-v0")
    ('ALE/Pong-v5', 'Maze-v0')
    """
    return re.sub("^ALE-", "ALE/", env_id.rpartition(":")[2])


def read_json(file: Path) -> dict[str, Any]:
    """The mapping in a JSON file; empty for anything else.

    :raises UserError: if it cannot be read
    """
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}") from error
    return data if isinstance(data, dict) else {}
