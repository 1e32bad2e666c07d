"""What a study is: settings that must not change while it lasts, and the folder of what it leaves."""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlspo.zoo.config.atomic import write_text
from rlspo.zoo.tune.training import EvaluationProtocol

#: Distance between the seeds of the trials and those of the validation.
VALIDATION_OFFSET = 10_000


@dataclass(frozen=True)
class StudySettings:
    """What makes two calls of ``rlspo tune`` calls for the same study.

    :param algo: the agent
    :param env: the environment
    :param n_timesteps: of one training
    :param seed: of the study
    :param n_seeds: trainings in one trial; their seeds are the same in every trial
    :param sampler: by name
    :param pruner: by name
    :param n_startup_trials: random trials at the beginning, never pruned
    :param space: fingerprint of the search space
    :param block: the settings that are not searched, as the agent's file and the flags give them
    :param protocol: how a training is evaluated
    :param references: settings that are known, by name; None where there are none
    """

    algo: str
    env: str
    n_timesteps: int
    seed: int
    n_seeds: int
    sampler: str
    pruner: str
    n_startup_trials: int
    space: str
    block: dict[str, Any]
    protocol: EvaluationProtocol
    references: dict[str, dict[str, Any]] | None = None

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the trainings of a trial."""
        return tuple(range(self.seed, self.seed + self.n_seeds))

    def validation_seeds(self, number: int) -> tuple[int, ...]:
        """Seeds that no trial has used."""
        first = self.seed + VALIDATION_OFFSET
        return tuple(range(first, first + number))

    def plain(self) -> dict[str, Any]:
        """Plain data; what a study does not have is left out, so that studies from before it existed compare."""
        data = asdict(self)
        data["judging"] = data.pop("protocol")  # as it is called in the files of studies
        if self.references is None:
            del data["references"]
        return data


@dataclass(frozen=True)
class StudyFolder:
    """Where everything that a study leaves lies.

    :param path: the folder
    """

    path: Path

    def identity(self) -> str:
        """A name that the folder keeps under another path and on a machine of another name; made at first."""
        file = self.path / "identity.txt"
        if not file.is_file():
            write_text(file, uuid.uuid4().hex + "\n")
        return file.read_text(encoding="utf-8").strip()

    @property
    def journal(self) -> Path:
        """All trials, unless they are kept elsewhere; ``optuna-dashboard`` opens it."""
        return self.path / "journal.log"

    @property
    def base(self) -> Path:
        """The settings that the study began from, as they stood in the agent's file then."""
        return self.path / "base.yml"

    @property
    def space(self) -> Path:
        """The search space that the study began with."""
        return self.path / "space.yml"

    @property
    def references(self) -> Path:
        """The known settings that the study began with."""
        return self.path / "references.yml"

    @property
    def validation(self) -> Path:
        """One file for each candidate and fresh seed."""
        return self.path / "validation"

    @property
    def failures(self) -> Path:
        """What Python said where trainings failed, one file for each trial."""
        return self.path / "failures"

    def keep_traceback(self, number: int, trace: str) -> None:
        """Write down where the training of a trial failed; empty where the reason says it all."""
        if trace:
            with contextlib.suppress(OSError):  # of a full disk; the reason is in the journal
                self.failures.mkdir(exist_ok=True)
                (self.failures / f"trial_{number}.txt").write_text(trace, encoding="utf-8")

    @property
    def trials(self) -> Path:
        """All trials as a table."""
        return self.path / "trials.csv"

    @property
    def report(self) -> Path:
        """The report: validation, the best settings, versions."""
        return self.path / "report.json"

    @property
    def best(self) -> Path:
        """The winner, as a block of a file of hyperparameters."""
        return self.path / "best.yml"
