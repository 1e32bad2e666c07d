"""The search: trials given to workers, pruned across steps and seeds, and their results stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from optuna.trial import Trial, TrialState

from rlspo.zoo.tune.study import Study
from rlspo.zoo.tune.training import Outcome
from rlspo.zoo.tune.workers import Died, Evaluated, Failed, Finished, Job, Message, Pool, Progress, Worker


class Watcher(Protocol):
    """Whoever shows the search to the user."""

    def began(self, number: int) -> None:
        """A trial has begun."""

    def progressed(self, number: int, share: float) -> None:
        """A trial has this share of its steps behind it."""

    def ended(self, number: int, text: str, counts: bool) -> None:
        """A trial is over; ``text`` says how, and ``counts`` whether it will not be done again."""


@dataclass
class _Running:
    """A trial under way.

    :param values: evaluations by seed and checkpoint
    :param pruned: whether its worker was told to stop
    """

    trial: Trial
    seeds: tuple[int, ...]
    values: dict[int, list[float]] = field(default_factory=dict)
    pruned: bool = False


class Search:
    """Runs trials until a study has as many as it should.

    :param study: asked and told here only
    :param base: what ``rlspo train`` would have parsed
    :param n_trials: of the whole study, those of earlier calls included
    :param watcher: shows what happens
    """

    def __init__(self, study: Study, base: dict[str, Any], n_trials: int, watcher: Watcher) -> None:
        self.study, self.base, self.n_trials, self.watcher = study, base, n_trials, watcher

    def run(self, n_workers: int) -> None:
        """Run what is missing, in ``n_workers`` processes."""
        pool = Pool(n_workers)
        try:
            for worker, message in pool.run(self._next):
                self._handle(worker, message)
        except BaseException:
            for trial in self.study.trials:
                if trial.state == TrialState.RUNNING and trial.user_attrs.get("owner") == self.study.owner:
                    self.study.interrupted(trial.number, "the study was stopped")
            raise

    def _next(self) -> tuple[_Running, Job] | None:
        """A trial and what its worker has to do."""
        if len(self.study.trials) >= self.n_trials:
            return None
        trial, chosen, done = self.study.ask()
        settings = self.study.settings
        running = _Running(trial, settings.seeds)
        for seed, outcome in done.items():
            for value in _instances(outcome):
                self._prune(running, seed, value)
        missing = tuple(seed for seed in settings.seeds if seed not in done)
        self.watcher.began(trial.number)
        return running, Job(self.base, chosen, missing, settings.judging)

    def _handle(self, worker: Worker, message: Message) -> None:
        running: _Running = worker.key
        number = running.trial.number
        match message:
            case Progress(seed, steps):
                share = running.seeds.index(seed) + min(steps / self.study.settings.n_timesteps, 1.0)
                self.watcher.progressed(number, share / len(running.seeds))
            case Evaluated(seed, _, value):
                running.pruned = self._prune(running, seed, value)
                worker.answer(not running.pruned)
            case Outcome():
                self.study.keep(running.trial, message)
                # After the last seed there is nothing left to save.
                running.pruned = self._prune(running, message.seed, message.score) and message.seed != running.seeds[-1]
                worker.answer(not running.pruned)
            case Finished():
                self.watcher.ended(number, self._finish(running), counts=True)
            case Failed(reason, trace):
                self.study.folder.keep_traceback(number, trace)
                self.study.tell_failed(running.trial, reason)
                self.watcher.ended(number, f"failed: {reason}", counts=True)
            case Died(code):
                again = self.study.interrupted(number, f"its process ended with exit code {code}")
                text = "its process was killed; " + ("queued again" if again else "given up")
                self.watcher.ended(number, text, counts=not again)

    def _finish(self, running: _Running) -> str:
        if running.pruned:
            self.study.tell_pruned(running.trial)
            seeds = len(running.values)
            return f"pruned in seed {seeds} of {len(running.seeds)}"
        return f"{self.study.tell_complete(running.trial):,.1f}"

    def _prune(self, running: _Running, seed: int, value: float) -> bool:
        """Report one evaluation; True if the trial is hopeless.

        Steps count through the checkpoints of the first seed, then of the second, and so on. The value reported is the mean
        over the seeds so far at the same checkpoint, so that more seeds make it less noisy and every step compares across
        trials. The Wilcoxon pruner pairs single evaluations with those of the best trial, and gets them singly.
        """
        values = running.values.setdefault(seed, [])
        values.append(value)
        checkpoint = len(values) - 1
        if self.study.settings.pruner != "wilcoxon":
            same = [others[checkpoint] for others in running.values.values() if len(others) > checkpoint]
            value = float(np.mean(same))
        step = running.seeds.index(seed) * self.study.settings.judging.checkpoints + checkpoint
        running.trial.report(value, step)
        return bool(running.trial.should_prune())


def _instances(outcome: Outcome) -> list[float]:
    """Evaluations of a seed that is done: those on the way, and the fresh one."""
    return [*(value for _, value in outcome.curve), outcome.score]
