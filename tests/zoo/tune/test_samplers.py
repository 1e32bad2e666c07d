"""Samplers and pruners are what their names say, on any version of Optuna, and never warn."""

import optuna
import pytest

from rlspo.zoo.tune.samplers import PRUNERS, SAMPLERS, make_pruner, make_sampler

CLASSES = {"tpe": "TPESampler", "gp": "GPSampler", "cmaes": "CmaEsSampler", "random": "RandomSampler"}
PRUNING = {"median": "MedianPruner", "hyperband": "HyperbandPruner", "wilcoxon": "WilcoxonPruner", "none": "NopPruner"}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers(name):
    assert type(make_sampler(name, 3, 0, 0)).__name__ == CLASSES[name]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", PRUNERS)
def test_pruners(name):
    assert type(make_pruner(name, 3, checkpoints=10, n_seeds=3)).__name__ == PRUNING[name]


def draws(study_seed, position):
    study = optuna.create_study(sampler=make_sampler("random", 3, study_seed, position))
    return study.ask().suggest_float("x", 0, 1)


def test_every_place_in_every_study_draws_its_own():
    assert draws(0, 0) == draws(0, 0)
    assert len({draws(seed, position) for seed in range(3) for position in range(3)}) == 9


def test_the_median_pruner_leaves_the_first_trials_and_the_first_third_alone():
    study = optuna.create_study(direction="maximize", pruner=make_pruner("median", 2, checkpoints=6, n_seeds=1))
    for value in (10.0, 12.0):
        trial = study.ask()
        for step in range(6):
            trial.report(value, step)
            assert not trial.should_prune()
        study.tell(trial, value)
    bad = study.ask()
    pruned = []
    for step in range(4):
        bad.report(1.0, step)
        pruned.append(bad.should_prune())
    assert pruned == [False, False, True, True]
