"""Samplers and pruners of Optuna, with every option that matters set, so that its versions 4 and 5 behave alike."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

SAMPLERS = ("tpe", "gp", "cmaes", "random")
PRUNERS = ("median", "quartile", "hyperband", "wilcoxon", "none")


def make_sampler(name: str, n_startup_trials: int, study_seed: int, position: int) -> BaseSampler:
    """The sampler for one trial.

    Every trial has a sampler of its own, seeded by the study's seed and the trial's place in it: a study that was
    interrupted goes on as it would have gone on.

    :param name: one of :data:`SAMPLERS`
    :param n_startup_trials: random trials before the sampler learns from them
    :param study_seed: of the study
    :param position: how many trials came before
    """
    seed = int(np.random.SeedSequence([study_seed, position]).generate_state(1)[0])
    makers: dict[str, Callable[[], BaseSampler]] = {
        "tpe": lambda: optuna.samplers.TPESampler(
            n_startup_trials=n_startup_trials,
            n_ei_candidates=24,
            multivariate=True,
            group=False,
            constant_liar=True,
            seed=seed,
        ),
        "gp": lambda: optuna.samplers.GPSampler(n_startup_trials=n_startup_trials, deterministic_objective=False, seed=seed),
        "cmaes": lambda: optuna.samplers.CmaEsSampler(
            n_startup_trials=n_startup_trials,
            independent_sampler=optuna.samplers.RandomSampler(seed=seed + 1),
            warn_independent_sampling=False,
            seed=seed,
        ),
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return makers[name]()


class PercentilePruner(BasePruner):
    """Gives up a trial that is below a percentile of the complete trials at the same step, twice in a row.

    Optuna's own compares the best that a trial has shown at any step so far: one good evaluation of the first seed would
    protect all others. Twice in a row, because single evaluations are noisy.

    The complete trials are those that were not pruned, so the median rises as they come, until only the best few pass it at
    every step, and where all reach the same return, noise decides. The lower quartile gives up what is really behind.

    :param warm_up: steps at the beginning at which nothing is pruned
    :param percent: 50 for the median, 25 for the lower quartile
    """

    def __init__(self, warm_up: int, percent: float) -> None:
        self.warm_up, self.percent = warm_up, percent

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        """Whether to give the trial up."""
        last_two = sorted(trial.intermediate_values)[-2:]
        if len(last_two) < 2 or last_two[0] < self.warm_up:
            return False
        complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        return all(self._below(complete, trial, step) for step in last_two)

    def _below(self, complete: list[optuna.trial.FrozenTrial], trial: optuna.trial.FrozenTrial, step: int) -> bool:
        others = [other.intermediate_values[step] for other in complete if step in other.intermediate_values]
        return bool(others) and bool(trial.intermediate_values[step] < np.percentile(others, self.percent))


def make_pruner(name: str, checkpoints: int, n_seeds: int) -> BasePruner:
    """The pruner of a study, whose steps are the checkpoints of the first seed, then those of the second, and so on.

    For ``"wilcoxon"`` the steps are the fresh episodes of the first seed, then those of the second.

    :param name: one of :data:`PRUNERS`
    :param checkpoints: evaluations in one training
    :param n_seeds: trainings in one trial
    """
    # What an agent returns in the first third of a training says little about its end.
    warm_up = checkpoints // 3
    makers: dict[str, Callable[[], BasePruner]] = {
        "median": lambda: PercentilePruner(warm_up, 50),
        "quartile": lambda: PercentilePruner(warm_up, 25),
        "hyperband": lambda: optuna.pruners.HyperbandPruner(
            min_resource=max(warm_up, 1), max_resource=checkpoints * n_seeds, reduction_factor=3, bootstrap_count=0
        ),
        "wilcoxon": lambda: optuna.pruners.WilcoxonPruner(p_threshold=0.1, n_startup_steps=2),
        "none": optuna.pruners.NopPruner,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return makers[name]()
