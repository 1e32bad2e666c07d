"""The search: trials given to workers, pruned across steps and seeds, and their results stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from optuna.trial import Trial, TrialState

from rlspo.zoo.tune.references import with_block
from rlspo.zoo.tune.study import Study, reference_of
from rlspo.zoo.tune.training import Outcome
from rlspo.zoo.tune.workers import Died, Evaluated, Failed, Finished, Job, Message, Progress, Worker, at_work


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
    :param hopeless: what the pruner said of them
    :param pruned: whether its worker was told to stop
    """

    trial: Trial
    seeds: tuple[int, ...]
    values: dict[int, dict[int, float]] = field(default_factory=dict)
    hopeless: bool = False
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
        try:
            for worker, message in at_work(n_workers, self._next):
                self._handle(worker, message)
        except BaseException:
            for trial in self.study.trials:
                if trial.state == TrialState.RUNNING and trial.user_attrs.get("owner") == self.study.owner:
                    self.study.stopped(trial.number)
            raise

    def _next(self) -> tuple[_Running, Job] | None:
        """A trial and what its worker has to do."""
        if len(self.study.trials) >= self.n_trials:
            return None
        trial, chosen, done = self.study.ask()
        settings = self.study.settings
        running = _Running(trial, settings.seeds)
        for seed, outcome in done.items():
            for steps, value in outcome.curve:
                self._report(running, seed, settings.protocol.checkpoint(steps, settings.n_timesteps), value)
            self._report_outcome(running, outcome)
        missing = tuple(seed for seed in settings.seeds if seed not in done)
        self.watcher.began(trial.number)
        block = self.study.block_of(reference_of(self.study.frozen(trial)))
        return running, Job(with_block(self.base, block, settings.n_timesteps), chosen, missing, settings.protocol)

    def _handle(self, worker: Worker, message: Message) -> None:
        running: _Running = worker.key
        number = running.trial.number
        match message:
            case Progress(seed, steps):
                share = running.seeds.index(seed) + min(steps / self.study.settings.n_timesteps, 1.0)
                self.watcher.progressed(number, share / len(running.seeds))
            case Evaluated(seed, checkpoint, value):
                self._report(running, seed, checkpoint, value)
                running.pruned = self._hopeless(running)
                worker.answer(not running.pruned)
            case Outcome():
                self.study.keep(running.trial, message)
                # After the last seed there is nothing left to save.
                self._report_outcome(running, message)
                running.pruned = message.seed != running.seeds[-1] and self._hopeless(running)
                worker.answer(not running.pruned)
            case Finished():
                self.watcher.ended(number, self._finish(running), counts=True)
            case Failed(reason, trace):
                self.study.folder.keep_traceback(number, trace)
                self.study.tell_failed(running.trial, reason)
                self.watcher.ended(number, f"failed: {reason}", counts=True)
            case Died() as death:
                again = self.study.killed(number, death.reason)
                how = "its process was killed" if death.silent is None else death.reason
                text = f"{how}; " + ("queued again" if again else "given up")
                self.watcher.ended(number, text, counts=not again)

    def _finish(self, running: _Running) -> str:
        if running.pruned:
            self.study.tell_pruned(running.trial)
            seeds = len(running.values)
            return f"pruned in seed {seeds} of {len(running.seeds)}"
        return f"{self.study.tell_complete(running.trial):,.1f}"

    def _report(self, running: _Running, seed: int, checkpoint: int, value: float) -> None:
        """Report one evaluation: the mean over the seeds so far at the same checkpoint.

        Steps count through the checkpoints of the first seed, then of the second, and so on. More seeds make the value less
        noisy, and every step compares across trials.
        """
        running.values.setdefault(seed, {})[checkpoint] = value
        if self.study.settings.pruner != "wilcoxon":
            same = [others[checkpoint] for others in running.values.values() if checkpoint in others]
            step = running.seeds.index(seed) * self.study.settings.protocol.checkpoints + checkpoint
            running.trial.report(float(np.mean(same)), step)
            self._ask(running)

    def _report_outcome(self, running: _Running, outcome: Outcome) -> None:
        """Report what came of a seed. The Wilcoxon pruner pairs its episodes with those of the best trial: same seed, same
        environment copy, same place in line; evaluations of one learning curve would be no independent samples."""
        self._report(running, outcome.seed, self.study.settings.protocol.checkpoints - 1, outcome.score)
        if self.study.settings.pruner == "wilcoxon":
            first = running.seeds.index(outcome.seed) * len(outcome.returns)
            for place, episode in enumerate(outcome.returns):
                running.trial.report(episode, first + place)
            self._ask(running)

    def _ask(self, running: _Running) -> None:
        """Ask the pruner at every step and of every trial: Hyperband keeps for itself what each has shown at its rungs."""
        running.hopeless = running.trial.should_prune()

    def _hopeless(self, running: _Running) -> bool:
        """Whether to give a trial up; the first trials of a study never are."""
        complete = sum(trial.state == TrialState.COMPLETE for trial in self.study.trials)
        return complete >= self.study.settings.n_startup_trials and running.hopeless
