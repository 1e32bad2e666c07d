"""How far a study is, how long it has taken, and about how long it will take."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.table import Table

from rlspo.zoo.cli import terminal
from rlspo.zoo.config.atomic import read_whole
from rlspo.zoo.evaluate.statistics import Estimate
from rlspo.zoo.tune.report import interval_text
from rlspo.zoo.tune.settings import StudyFolder
from rlspo.zoo.tune.storage import check_name, open_journal
from rlspo.zoo.tune.study import check_settings, counted_trials, outcomes_of
from rlspo.zoo.tune.task import Task

#: The share of its training that a trial has behind it when it ends, on average, once trials may be pruned: for estimates.
_KEPT = 0.6


@dataclass(frozen=True)
class Standing:
    """How far a study is.

    :param trials: done, and in all
    :param fresh: trainings on fresh seeds: done, and in all
    :param spent: seconds of training that lie behind it, about
    :param left: seconds of training that lie before it, about, in one process; None where nobody knows how fast it is
    :param finished: whether nothing is left to do
    :param result: what came out, in words; empty as long as it is not finished
    """

    name: str
    trials: tuple[int, int]
    fresh: tuple[int, int]
    spent: float
    left: float | None
    finished: bool = False
    result: str = ""


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
        waiting = [] if study is None else study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        trials += [trial for trial in waiting if outcomes_of(trial)]  # begun, stopped, and to go on
        found = [read_whole(file) for file in folder.validation.glob("*.json")]
        fresh = [float(each.get("seconds", 0.0)) for each in found if each is not None]
        seconds = [outcome.seconds for trial in trials for outcome in outcomes_of(trial).values()]
        seconds += fresh
        average = sum(seconds) / len(seconds) if seconds else None
        return cls(trials, [_trained(trial, args) for trial in trials], len(fresh), average)

    @property
    def spent(self) -> float:
        """Seconds of training done so far."""
        return (sum(self.trained) + self.fresh) * (self.seconds or 0.0)


def of_task(task: Task, rate: float | None) -> Standing:
    """How far a study is.

    :param rate: steps that one process trains in a second, as long as no training is finished; None if nobody knows
    :raises UserError: if it began with other settings
    """
    study = _study(task.name, task.folder)
    if study is not None:
        check_settings(study, task.settings())
    work = _Work.of(task.name, task.folder, task.args)
    done = sum(trial.state.is_finished() for trial in work.trials)
    return _finished(task, work, done) or _unfinished(task, work, done, rate)


def _finished(task: Task, work: _Work, done: int) -> Standing | None:
    """How a study ended; None if it has not."""
    args = task.args
    report = read_whole(task.folder.report)
    if report is None or done < args.n_trials:
        return None
    try:
        seeds = [len(each["scores"]) + len(each["failures"]) for each in report["validation"]]
        had = (sum(report["trials"].values()), report.get("top", 0), min(seeds, default=0))
        result = _result(report)
    except (KeyError, TypeError, AttributeError, IndexError):  # a damaged report is made again
        return None
    if any(one < wanted for one, wanted in zip(had, (args.n_trials, args.top, args.validation_seeds), strict=True)):
        return None
    return Standing(task.name, (done, done), (sum(seeds), sum(seeds)), work.spent, 0.0, True, result)


def _unfinished(task: Task, work: _Work, done: int, rate: float | None) -> Standing:
    """How far a study is that is not over."""
    args = task.args
    seconds = work.seconds or (task.plan.config.settings.n_timesteps / rate if rate else None)
    startup = max(min(args.n_startup_trials, args.n_trials) - done, 0)
    later = max(args.n_trials - done, 0) - startup
    kept = 1.0 if args.pruner == "none" else _KEPT
    begun = sum(trained for trial, trained in zip(work.trials, work.trained, strict=True) if not trial.state.is_finished())
    fresh = (args.top + max(len(task.references), 1)) * args.validation_seeds
    validated = min(work.fresh, fresh)
    left = max((startup + later * kept) * args.n_seeds - begun, 0) + fresh - validated
    return Standing(
        task.name, (done, args.n_trials), (validated, fresh), work.spent, None if seconds is None else left * seconds
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
    console = terminal.wide()
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
    return terminal.duration(seconds) if seconds else ""


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
    storage = open_journal(folder.journal)
    check_name(storage, name, folder)
    known = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage) if known else None


def _trained(trial: FrozenTrial, args: argparse.Namespace) -> float:
    """Trainings that a trial has behind it, the last one in part."""
    if trial.state == TrialState.COMPLETE:
        return float(args.n_seeds)
    whole = float(len(outcomes_of(trial)))  # where a trial goes on after a stop, and for Wilcoxon, whose steps are episodes
    return whole if args.pruner == "wilcoxon" else max(len(trial.intermediate_values) / args.n_evaluations, whole)
