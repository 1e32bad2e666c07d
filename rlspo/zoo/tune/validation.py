"""The best trials and the untuned settings, trained again on seeds that the search has never used."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from rlspo.zoo.files import write_text
from rlspo.zoo.statistics import Estimate, mean_gain, mean_interval
from rlspo.zoo.tune.study import MAX_ATTEMPTS, Study, settings_of
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


@dataclass(frozen=True)
class Judgement:
    """A candidate on fresh seeds.

    :param scores: the interquartile mean of each seed's fresh episodes, by seed
    :param mean: over the seeds, with Student's interval
    :param gain: over the default settings on the same seeds, with Welch's interval; None for these themselves
    :param failures: seeds whose training failed, and why
    :param missing: seeds that are still to be trained, because their processes were killed
    """

    candidate: Candidate
    scores: dict[int, float]
    mean: Estimate
    gain: Estimate | None
    failures: dict[int, str]
    missing: tuple[int, ...]


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
    store = _Store(study)
    # Seed by seed, so that an interruption leaves all candidates with the same seeds.
    waiting = deque((each, seed) for seed in seeds for each in chosen if store.read(each, seed) is None)
    attempts: Counter[tuple[str, int]] = Counter()
    failures: dict[tuple[str, int], str] = {}

    def next_job() -> tuple[tuple[Candidate, int], Job] | None:
        if not waiting:
            return None
        candidate, seed = waiting.popleft()
        attempts[candidate.name, seed] += 1
        return (candidate, seed), Job(base, candidate.overrides, (seed,), study.settings.judging)

    for worker, message in Pool(n_workers).run(next_job):
        candidate, seed = worker.key
        match message:
            case Progress(_, steps):
                progressed(candidate, seed, min(steps / study.settings.n_timesteps, 0.99))  # until it is judged
            case Evaluated():
                worker.answer(True)
            case Outcome():
                store.write(candidate, message)
                worker.answer(True)
                progressed(candidate, seed, 1.0)
            case Failed(reason):
                failures[candidate.name, seed] = reason
            case Died() if attempts[candidate.name, seed] < MAX_ATTEMPTS:
                waiting.appendleft((candidate, seed))
    return list(_judgements(store, chosen, seeds, failures))


def _judgements(
    store: _Store, chosen: list[Candidate], seeds: tuple[int, ...], failures: dict[tuple[str, int], str]
) -> Iterator[Judgement]:
    reference: dict[int, float] = {}
    for candidate in chosen:
        found = {seed: store.read(candidate, seed) for seed in seeds}
        scores = {seed: score for seed, score in found.items() if score is not None}
        if candidate.name == DEFAULT:
            reference = scores
        failed = {seed: reason for (name, seed), reason in failures.items() if name == candidate.name}
        both = [seed for seed in scores if seed in reference]
        gain = None
        if candidate.name != DEFAULT and both:
            gain = mean_gain([scores[seed] for seed in both], [reference[seed] for seed in both])
        yield Judgement(
            candidate,
            scores,
            mean_interval(list(scores.values())) if scores else Estimate(math.nan, math.nan, math.nan),
            gain,
            failed,
            missing=tuple(seed for seed in seeds if seed not in scores and seed not in failed),
        )


class _Store:
    """One file for each candidate and seed, which says for which study and settings it holds."""

    def __init__(self, study: Study) -> None:
        self.folder = study.folder.validation
        self.study = study.settings.plain()
        self.folder.mkdir(exist_ok=True)

    def read(self, candidate: Candidate, seed: int) -> float | None:
        """The score, if it is there and is that of these very settings."""
        file = self._file(candidate, seed)
        if not file.is_file():
            return None
        stored = json.loads(file.read_text(encoding="utf-8"))
        return float(stored["score"]) if stored.get("of") == self._fingerprint(candidate) else None

    def write(self, candidate: Candidate, outcome: Outcome) -> None:
        """Keep what came of a seed."""
        data = {"of": self._fingerprint(candidate), "settings": candidate.overrides, **outcome.plain()}
        write_text(self._file(candidate, outcome.seed), json.dumps(data) + "\n")

    def _file(self, candidate: Candidate, seed: int) -> Path:
        return self.folder / f"{candidate.name.replace(' ', '_')}_seed_{seed}.json"

    def _fingerprint(self, candidate: Candidate) -> str:
        everything = json.dumps([self.study, candidate.overrides], sort_keys=True)
        return hashlib.sha256(everything.encode()).hexdigest()[:16]
