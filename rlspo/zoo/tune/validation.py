"""The best trials and the untuned settings, trained again on seeds that the search has never used."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from rlspo.zoo.config.atomic import read_whole, write_text
from rlspo.zoo.evaluate.statistics import Estimate, mean_gain, mean_interval
from rlspo.zoo.tune.references import DEFAULT, with_block
from rlspo.zoo.tune.study import MAX_ATTEMPTS, Study, reference_of, settings_of
from rlspo.zoo.tune.training import Outcome
from rlspo.zoo.tune.workers import Died, Evaluated, Failed, Job, Progress, at_work

_UNKNOWN = Estimate(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Candidate:
    """Settings to validate.

    :param name: ``default`` for the settings that the search began from, the name of known settings, or ``trial N``
    :param overrides: what a trial changes in those that the search began from
    :param searched: the value in the search, None where it was not a trial, or was pruned
    :param block: whole settings, where they are known ones
    """

    name: str
    overrides: dict[str, Any]
    searched: float | None = None
    block: dict[str, Any] | None = None

    @property
    def is_trial(self) -> bool:
        """Whether the search found it."""
        return self.name.startswith("trial ")


@dataclass(frozen=True)
class Validation:
    """A candidate on fresh seeds.

    :param scores: the interquartile mean of each seed's fresh episodes, by seed
    :param mean: over the seeds, with Student's interval
    :param gains: over the settings that the search began from and, for a trial, over other known ones, by their names: on
        the same seeds, with Welch's intervals
    :param failures: seeds whose training failed, and why
    :param missing: seeds that are still to be trained, because their processes were killed
    """

    candidate: Candidate
    scores: dict[int, float]
    mean: Estimate
    gains: dict[str, Estimate]
    failures: dict[int, str]
    missing: tuple[int, ...]


def candidates(study: Study, top: int) -> list[Candidate]:
    """The default, the other known settings, and the best trials, best first; settings that came up twice are taken once."""
    complete = [trial for trial in study.trials if trial.state == TrialState.COMPLETE and trial.value is not None]
    known = {reference_of(trial): trial.value for trial in complete}
    names = [DEFAULT, *(name for name in study.references if name != DEFAULT)]
    found = [Candidate(name, {}, known.get(name), study.block_of(name)) for name in names]
    best: list[Candidate] = []
    for trial in sorted(complete, key=lambda trial: -(trial.value or 0.0)):
        new = settings_of(trial) not in [{}, *(candidate.overrides for candidate in best)]
        if new and not reference_of(trial) and len(best) < top:
            best.append(Candidate(f"trial {trial.number}", settings_of(trial), trial.value))
    return [*found, *best]


def validate(
    study: Study,
    base: dict[str, Any],
    chosen: list[Candidate],
    seeds: tuple[int, ...],
    n_workers: int,
    progressed: Callable[[Candidate, int, float], None],
) -> list[Validation]:
    """Train each candidate on each fresh seed, skipping what an earlier call has done.

    :param chosen: the default first
    :param progressed: called with a candidate, a seed and the share of its steps that are done
    :return: in the order of ``chosen``
    """
    store = _Store(study)
    # Seed by seed, so that an interruption leaves all candidates with the same seeds.
    waiting = deque((each, seed) for seed in seeds for each in chosen if store.read(each, seed) is None)
    attempts: Counter[tuple[str, int]] = Counter()
    failures: dict[tuple[str, int], str] = {}

    def next_job() -> tuple[tuple[Candidate, int], Job] | None:
        if not waiting:
            return None
        study.note_versions()
        candidate, seed = waiting.popleft()
        attempts[candidate.name, seed] += 1
        own = with_block(base, candidate.block, study.settings.n_timesteps)
        return (candidate, seed), Job(own, candidate.overrides, (seed,), study.settings.protocol)

    for worker, message in at_work(n_workers, next_job):
        candidate, seed = worker.key
        match message:
            case Progress(_, steps):
                progressed(candidate, seed, min(steps / study.settings.n_timesteps, 0.99))  # until it is evaluated
            case Evaluated():
                worker.answer(True)
            case Outcome():
                store.write(candidate, replace(message, code=study.code))
                worker.answer(True)
                progressed(candidate, seed, 1.0)
            case Failed(reason):
                failures[candidate.name, seed] = reason
            case Died() if attempts[candidate.name, seed] < MAX_ATTEMPTS:
                waiting.appendleft((candidate, seed))
    return list(_validations(store, chosen, seeds, failures))


def _validations(
    store: _Store, chosen: list[Candidate], seeds: tuple[int, ...], failures: dict[tuple[str, int], str]
) -> Iterator[Validation]:
    every = {candidate.name: _known(store, candidate, seeds) for candidate in chosen}
    known = [candidate.name for candidate in chosen if not candidate.is_trial]
    for candidate in chosen:
        scores = every[candidate.name]
        failed = {seed: reason for (name, seed), reason in failures.items() if name == candidate.name}
        others = known if candidate.is_trial else [DEFAULT] if candidate.name != DEFAULT else []
        yield Validation(
            candidate,
            scores,
            mean_interval(list(scores.values())) if scores else _UNKNOWN,
            {name: _gain(scores, every[name]) for name in others},
            failed,
            missing=tuple(seed for seed in seeds if seed not in scores and seed not in failed),
        )


def _known(store: _Store, candidate: Candidate, seeds: tuple[int, ...]) -> dict[int, float]:
    """Scores of the seeds that are done."""
    found = {seed: store.read(candidate, seed) for seed in seeds}
    return {seed: score for seed, score in found.items() if score is not None}


def _gain(scores: dict[int, float], others: dict[int, float]) -> Estimate:
    """By how much scores are higher than others, on the seeds that both have; unknown where they have none."""
    both = [seed for seed in scores if seed in others]
    return mean_gain([scores[seed] for seed in both], [others[seed] for seed in both]) if both else _UNKNOWN


class _Store:
    """One file for each candidate and seed, which says for which study and settings it holds."""

    def __init__(self, study: Study) -> None:
        self.folder = study.folder.validation
        self.study = study.began
        self.folder.mkdir(exist_ok=True)

    def read(self, candidate: Candidate, seed: int) -> float | None:
        """The score, if it is there and is that of these very settings."""
        stored = read_whole(self._file(candidate, seed)) or {}
        return float(stored["score"]) if stored.get("of") == self._fingerprint(candidate) else None

    def write(self, candidate: Candidate, outcome: Outcome) -> None:
        """Keep what came of a seed."""
        data = {"of": self._fingerprint(candidate), "settings": candidate.block or candidate.overrides, **outcome.plain()}
        write_text(self._file(candidate, outcome.seed), json.dumps(data) + "\n")

    def _file(self, candidate: Candidate, seed: int) -> Path:
        return self.folder / f"{candidate.name.replace(' ', '_')}_seed_{seed}.json"

    def _fingerprint(self, candidate: Candidate) -> str:
        block = [] if candidate.block is None else [candidate.block]
        everything = json.dumps([self.study, candidate.overrides, *block], sort_keys=True)
        return hashlib.sha256(everything.encode()).hexdigest()[:16]
