"""How far a study is, how long it has taken, and about how long it will take."""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Table

from rlspo.zoo.statistics import Estimate
from rlspo.zoo.tune.report import interval_text
from rlspo.zoo.tune.settings import StudyFolder, StudySettings
from rlspo.zoo.tune.study import counted_trials, outcomes_of
from rlspo.zoo.tune.task import Task

#: Of its training, what a trial has behind it when it ends, on average, once trials may be given up: about what studies show.
_KEPT = 0.6


@dataclass(frozen=True)
class Standing:
    """How far a study is.

    :param trials: done, and in all
    :param fresh: trainings on fresh seeds: done, and in all
    :param hours: of training that lie behind it, about, in one process
    :param left: of training that lie before it, about, in one process; None where nobody knows how fast it is
    :param result: what came out, in words; empty as long as it is not finished
    """

    name: str
    trials: tuple[int, int]
    fresh: tuple[int, int]
    hours: float
    left: float | None
    result: str = ""

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return bool(self.result)


def of_report(name: str, folder: Path, args: argparse.Namespace) -> Standing | None:
    """How a study ended; None if it has not."""
    file = StudyFolder(folder).report
    if not file.is_file():
        return None
    report = json.loads(file.read_text(encoding="utf-8"))
    trials = sum(report["trials"].values())
    validation = report["validation"]
    seeds = [len(each["scores"]) + len(each["failures"]) for each in validation]
    if trials < args.n_trials or not seeds or min(seeds) < args.validation_seeds:
        return None
    best = next((each for each in validation if each["name"] == report["best"]), None)
    result = "nothing could be chosen"
    if best is not None:
        gains = [f"{interval_text(Estimate(*gain))} over {name}" for name, gain in best["gains"].items()]
        shown = ", ".join(gains) if report["shown_better"] else "nothing is shown to be better than what it began from"
        result = f"{report['best']}: {shown}" if report["shown_better"] else shown
    return Standing(name, (trials, trials), (sum(seeds), sum(seeds)), report["seconds"] / 3600, 0.0, result)


def of_journal(task: Task, rate: float | None) -> Standing:
    """How far a study is that is not over.

    :param rate: steps that one process trains in a second, where no seed has been trained yet; None if nobody knows
    """
    args, settings = task.args, task.settings()
    trials = _trials(task)
    done = [trial for trial in trials if trial.state.is_finished()]
    validated = list(task.folder.validation.glob("*.json"))
    seconds = [outcome.seconds for trial in trials for outcome in outcomes_of(trial).values()]
    seconds += [json.loads(file.read_text(encoding="utf-8"))["seconds"] for file in validated]
    seed = sum(seconds) / len(seconds) if seconds else settings.n_timesteps / rate if rate else None
    trained = sum(_seeds(trial, settings) for trial in trials)
    fresh = (args.top + max(len(task.references), 1)) * args.validation_seeds
    startup = max(min(args.n_startup_trials, args.n_trials) - len(done), 0)
    later = max(args.n_trials - len(done), 0) - startup
    under_way = sum(_seeds(trial, settings) for trial in trials if not trial.state.is_finished())
    before = max((startup + later * _KEPT) * settings.n_seeds - under_way, 0) + max(fresh - len(validated), 0)
    return Standing(
        args.study_name,
        (len(done), args.n_trials),
        (len(validated), fresh),
        hours=0.0 if seed is None else (trained + len(validated)) * seed / 3600,
        left=None if seed is None else before * seed / 3600,
    )


def as_data(standings: Sequence[Standing], workers: int) -> dict[str, Any]:
    """What :func:`show` shows, as plain data."""
    known = [each.left for each in standings if each.left is not None]
    return {
        "studies": [
            {
                "study": each.name,
                "finished": each.finished,
                "trials": list(each.trials),
                "fresh_seeds": list(each.fresh),
                "hours": round(each.hours, 2),
                "hours_left": None if each.left is None else round(each.left / workers, 2),
                "result": each.result,
            }
            for each in standings
        ],
        "hours_left": round(sum(known) / workers, 2),
    }


def show(standings: Sequence[Standing], workers: int) -> None:
    """Print a row for each study, and the hours that are left."""
    table = Table()
    for column in ("study", "trials", "fresh seeds", "hours", "left", "result"):
        table.add_column(column, justify="left" if column in ("study", "result") else "right", no_wrap=column == "study")
    for each in standings:
        table.add_row(
            each.name,
            "{}/{}".format(*each.trials),
            "{}/{}".format(*each.fresh),
            f"{each.hours:.1f}",
            "?" if each.left is None else f"{each.left / workers:.1f}",
            each.result,
            style="dim" if each.finished else "",
        )
    known = [each.left for each in standings if each.left is not None]
    rest = len(standings) - len(known)
    console = Console(highlight=False)
    console.print(table)
    done = sum(each.finished for each in standings)
    more = f", and {rest} of unknown speed" if rest else ""
    of = f"{workers} process" + "es" * (workers > 1)
    console.print(f"{done} of {len(standings)} studies done; about {sum(known) / workers:.1f} hours left in {of}{more}")


def _trials(task: Task) -> list[FrozenTrial]:
    """The trials of a study, read without changing anything."""
    if not task.folder.journal.is_file():
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        storage = JournalStorage(JournalFileBackend(str(task.folder.journal)))
    names = optuna.get_all_study_names(storage)
    return counted_trials(optuna.load_study(study_name=task.name, storage=storage)) if task.name in names else []


def _seeds(trial: FrozenTrial, settings: StudySettings) -> float:
    """Trainings that a trial has behind it."""
    if trial.state == TrialState.COMPLETE:
        return float(settings.n_seeds)
    return max(len(trial.intermediate_values) / settings.judging.checkpoints, len(outcomes_of(trial)))
