"""How far a study is, how long it has taken, and about how long it will take."""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Table

from rlspo.zoo import display
from rlspo.zoo.statistics import Estimate
from rlspo.zoo.tune.report import interval_text
from rlspo.zoo.tune.settings import StudyFolder
from rlspo.zoo.tune.study import check_settings, counted_trials, outcomes_of
from rlspo.zoo.tune.task import Task

#: The share of its training that a trial has behind it when it ends, on average, once trials may be given up: for estimates.
_KEPT = 0.6
_WIDTH = 140  # of the table in a file


@dataclass(frozen=True)
class Standing:
    """How far a study is.

    :param trials: done, and in all
    :param fresh: trainings on fresh seeds: done, and in all
    :param spent: seconds of training that lie behind it, about
    :param left: seconds of training that lie before it, about, in one process; None where nobody knows how fast it is
    :param result: what came out, in words; empty as long as it is not finished
    """

    name: str
    trials: tuple[int, int]
    fresh: tuple[int, int]
    spent: float
    left: float | None
    result: str = ""

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return bool(self.result)


@dataclass(frozen=True)
class _Work:
    """What has been trained.

    :param trials: that count
    :param trained: trainings that each of them has behind it, the last one in part
    :param fresh: trainings on fresh seeds
    :param seconds: of one training, on average; None if none has been finished
    """

    trials: list[FrozenTrial]
    trained: list[float]
    fresh: int
    seconds: float | None

    @classmethod
    def of(cls, name: str, folder: StudyFolder, args: argparse.Namespace) -> _Work:
        """Read from the folder, without changing anything there."""
        study = _study(name, folder)
        trials = [] if study is None else counted_trials(study)
        files = list(folder.validation.glob("*.json"))
        seconds = [outcome.seconds for trial in trials for outcome in outcomes_of(trial).values()]
        seconds += [json.loads(file.read_text(encoding="utf-8"))["seconds"] for file in files]
        average = sum(seconds) / len(seconds) if seconds else None
        return cls(trials, [_trained(trial, args) for trial in trials], len(files), average)

    @property
    def spent(self) -> float:
        """Seconds."""
        return (sum(self.trained) + self.fresh) * (self.seconds or 0.0)


def of_finished(name: str, folder: StudyFolder, args: argparse.Namespace) -> Standing | None:
    """How a study ended; None if it has not."""
    if not folder.report.is_file():
        return None
    report = json.loads(folder.report.read_text(encoding="utf-8"))
    trials = sum(report["trials"].values())
    seeds = [len(each["scores"]) + len(each["failures"]) for each in report["validation"]]
    if trials < args.n_trials or not seeds or min(seeds) < args.validation_seeds:
        return None
    spent = _Work.of(name, folder, args).spent
    return Standing(name, (trials, trials), (sum(seeds), sum(seeds)), spent, 0.0, _result(report))


def of_unfinished(task: Task, rate: float | None) -> Standing:
    """How far a study is that is not over.

    :param rate: steps that one process trains in a second, as long as no training is finished; None if nobody knows
    :raises UserError: if it began with other settings
    """
    args, settings = task.args, task.settings()
    study = _study(task.name, task.folder)
    if study is not None:
        check_settings(study, settings)
    work = _Work.of(task.name, task.folder, args)
    seconds = work.seconds or (settings.n_timesteps / rate if rate else None)
    done = sum(trial.state.is_finished() for trial in work.trials)
    startup = max(min(args.n_startup_trials, args.n_trials) - done, 0)
    later = max(args.n_trials - done, 0) - startup
    begun = sum(trained for trial, trained in zip(work.trials, work.trained, strict=True) if not trial.state.is_finished())
    fresh = (args.top + max(len(task.references), 1)) * args.validation_seeds
    left = max((startup + later * _KEPT) * args.n_seeds - begun, 0) + max(fresh - work.fresh, 0)
    return Standing(
        task.name, (done, args.n_trials), (work.fresh, fresh), work.spent, None if seconds is None else left * seconds
    )


def as_data(standings: Sequence[Standing], workers: int) -> dict[str, Any]:
    """What :func:`show` shows, as plain data."""
    return {
        "studies": [
            {
                "study": each.name,
                "finished": each.finished,
                "trials": list(each.trials),
                "fresh_seeds": list(each.fresh),
                "hours": round(each.spent / 3600, 3),
                "hours_left": None if each.left is None else round(each.left / workers / 3600, 3),
                "result": each.result,
            }
            for each in standings
        ],
        "hours_left": round(_left(standings) / workers / 3600, 3),
    }


def show(standings: Sequence[Standing], workers: int) -> None:
    """Print a row for each study, and the time that is left."""
    table = Table()
    for column in ("study", "trials", "fresh seeds", "spent", "left", "result"):
        table.add_column(column, justify="left" if column in ("study", "result") else "right", no_wrap=column != "result")
    for each in standings:
        table.add_row(
            each.name,
            "{}/{}".format(*each.trials),
            "{}/{}".format(*each.fresh),
            _time(each.spent),
            "?" if each.left is None else _time(each.left / workers),
            each.result,
            style="dim" if each.finished else "",
        )
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)
    console.print(table)
    unknown = sum(each.left is None for each in standings)
    console.print(
        f"{sum(each.finished for each in standings)} of {len(standings)} studies done; about "
        f"{_left(standings) / workers / 3600:.1f} hours left in {workers} process{'es' * (workers > 1)}"
        + (f", without {unknown} of which no steps_per_second is known" if unknown else "")
    )


def _left(standings: Sequence[Standing]) -> float:
    return sum(each.left for each in standings if each.left is not None)


def _time(seconds: float) -> str:
    return display.duration(seconds) if seconds else ""


def _result(report: dict[str, Any]) -> str:
    """What came out of a study, in words."""
    best = next((each for each in report["validation"] if each["name"] == report["best"]), None)
    if best is None:
        return "nothing could be chosen"
    if not report["shown_better"]:
        return "nothing is shown to be better"
    gains = [f"{interval_text(Estimate(*gain))} over {name}" for name, gain in best["gains"].items()]
    return f"{report['best']}: {', '.join(gains)}"


def _study(name: str, folder: StudyFolder) -> optuna.Study | None:
    """The study in a folder's journal, read without changing it; None if there is none yet."""
    if not folder.journal.is_file():
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        storage = JournalStorage(JournalFileBackend(str(folder.journal)))
    known = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage) if name in known else None


def _trained(trial: FrozenTrial, args: argparse.Namespace) -> float:
    """Trainings that a trial has behind it, the last one in part."""
    if trial.state == TrialState.COMPLETE:
        return float(args.n_seeds)
    return max(len(trial.intermediate_values) / args.n_evaluations, float(len(outcomes_of(trial))))
