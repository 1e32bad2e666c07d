"""The best trials and the untuned settings, trained again on seeds that the search has never used."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.trial import TrialState

from rlspo.zoo.statistics import Estimate, difference_interval, interval, mean
from rlspo.zoo.tune.settings import StudyFolder
from rlspo.zoo.tune.study import Study, settings_of
from rlspo.zoo.tune.training import Outcome
from rlspo.zoo.tune.workers import Died, Evaluated, Failed, Job, Pool, Progress

DEFAULT = "default"


@dataclass(frozen=True)
class Candidate:
    """Settings that are to be judged.

    :param name: ``default`` for the settings that the search began from, else ``trial N``
    :param overrides: what the trial changes in them
    :param searched: the trial's value in the search, None for the default
    """

    name: str
    overrides: dict[str, Any]
    searched: float | None = None

    @property
    def stem(self) -> str:
        """Of file names."""
        return self.name.replace(" ", "_")


@dataclass(frozen=True)
class Judgement:
    """A candidate on fresh seeds.

    :param scores: the interquartile mean of each seed's fresh episodes, by seed
    :param mean: over the seeds, with a bootstrap interval
    :param gain: over the default settings on the same seeds, with an interval; None for these themselves
    :param failures: seeds whose training failed, and why
    """

    candidate: Candidate
    scores: dict[int, float]
    mean: Estimate
    gain: Estimate | None
    failures: dict[int, str]


def candidates(study: Study, top: int) -> list[Candidate]:
    """The default, and the best trials of the search, best first; settings that came up twice are taken once."""
    complete = [trial for trial in study.trials if trial.state == TrialState.COMPLETE and trial.value is not None]
    found = [Candidate(DEFAULT, {})]
    for trial in sorted(complete, key=lambda trial: -(trial.value or 0.0)):
        if len(found) <= top and settings_of(trial) not in [candidate.overrides for candidate in found]:
            found.append(Candidate(f"trial {trial.number}", settings_of(trial), trial.value))
    return found


def validate(
    study: Study,
    base: dict[str, Any],
    chosen: list[Candidate],
    seeds: tuple[int, ...],
    n_workers: int,
    progressed: Callable[[Candidate, int, float], None],
) -> list[Judgement]:
    """Train each candidate on each fresh seed, skipping what an earlier call has done.

    :param chosen: the default first
    :param progressed: called with a candidate, a seed and the share of its steps that are done
    :return: in the order of ``chosen``
    """
    folder = study.folder
    folder.validation.mkdir(exist_ok=True)
    judging = study.settings.judging
    failures: dict[tuple[str, int], str] = {}
    # Seed by seed, so that an interruption leaves all candidates with the same seeds.
    missing = iter([(each, seed) for seed in seeds for each in chosen if not _file(folder, each, seed).is_file()])

    def next_job() -> tuple[tuple[Candidate, int], Job] | None:
        for candidate, seed in missing:
            return (candidate, seed), Job(base, candidate.overrides, (seed,), judging)
        return None

    for worker, message in Pool(n_workers).run(next_job):
        candidate, seed = worker.key
        match message:
            case Progress(_, steps):
                progressed(candidate, seed, min(steps / study.settings.n_timesteps, 0.99))  # until it is judged
            case Outcome():
                _write(folder, candidate, message)
                worker.answer(True)
                progressed(candidate, seed, 1.0)
            case Failed(reason):
                failures[candidate.name, seed] = reason
            case Died(code):
                failures[candidate.name, seed] = f"its process ended with exit code {code}; the same command tries it again"
            case Evaluated():
                worker.answer(True)
    return list(_judgements(folder, chosen, seeds, failures))


def _judgements(
    folder: StudyFolder, chosen: list[Candidate], seeds: tuple[int, ...], failures: dict[tuple[str, int], str]
) -> Iterator[Judgement]:
    reference: np.ndarray | None = None
    for candidate in chosen:
        done = {seed: _file(folder, candidate, seed) for seed in seeds}
        scores = {seed: float(json.loads(file.read_text())["score"]) for seed, file in done.items() if file.is_file()}
        values = np.array(list(scores.values()))
        nothing = Estimate(float("nan"), float("nan"), float("nan"))
        centre = interval(values, mean) if len(values) else nothing
        gain = None
        if candidate.name == DEFAULT:
            reference = values
        elif reference is not None and len(reference) and len(values):
            gain = difference_interval(values, reference, mean)
        failed = {seed: reason for (name, seed), reason in failures.items() if name == candidate.name}
        yield Judgement(candidate, scores, centre, gain, failed)


def _file(folder: StudyFolder, candidate: Candidate, seed: int) -> Any:
    return folder.validation / f"{candidate.stem}_seed_{seed}.json"


def _write(folder: StudyFolder, candidate: Candidate, outcome: Outcome) -> None:
    """Whole or not at all."""
    file = _file(folder, candidate, outcome.seed)
    partial = file.with_suffix(".part")
    partial.write_text(json.dumps({"settings": candidate.overrides, **outcome.plain()}) + "\n", encoding="utf-8")
    os.replace(partial, file)
