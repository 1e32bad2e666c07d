"""Samplers and pruners are what their names say, on any version of Optuna, and never warn."""

import optuna
import pytest

from rlspo.zoo.tune.samplers import PRUNERS, SAMPLERS, make_pruner, make_sampler

CLASSES = {"tpe": "TPESampler", "gp": "GPSampler", "cmaes": "CmaEsSampler", "random": "RandomSampler"}
PRUNING = {
    "median": "PercentilePruner",
    "quartile": "PercentilePruner",
    "hyperband": "HyperbandPruner",
    "wilcoxon": "WilcoxonPruner",
    "none": "NopPruner",
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers(name):
    assert type(make_sampler(name, 3, 0, 0)).__name__ == CLASSES[name]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", PRUNERS)
def test_pruners(name):
    assert type(make_pruner(name, checkpoints=10, n_seeds=3)).__name__ == PRUNING[name]


def draws(study_seed, position):
    study = optuna.create_study(sampler=make_sampler("random", 3, study_seed, position))
    return study.ask().suggest_float("x", 0, 1)


def test_every_place_in_every_study_draws_its_own():
    assert draws(0, 0) == draws(0, 0)
    assert len({draws(seed, position) for seed in range(3) for position in range(3)}) == 9


def pruned(curve, others=((100.0,) * 30,) * 3, checkpoints=10, n_seeds=3, pruner="median"):
    """At which steps a pruner would give up a trial with this curve."""
    study = optuna.create_study(direction="maximize", pruner=make_pruner(pruner, checkpoints, n_seeds))
    for other in others:
        trial = study.ask()
        for step, value in enumerate(other):
            trial.report(value, step)
        study.tell(trial, other[-1])
    trial = study.ask()
    hopeless = []
    for step, value in enumerate(curve):
        trial.report(value, step)
        if trial.should_prune():
            hopeless.append(step)
    return hopeless


def test_one_good_seed_does_not_protect_the_others():
    assert pruned([102.0] * 10 + [0.0] * 20)[0] == 11
    assert pruned([102.0] * 5 + [-500.0] * 25)[0] == 6


def test_the_first_third_and_single_bad_evaluations_are_forgiven():
    assert pruned([0.0] * 3 + [101.0] * 27) == []
    assert pruned([101.0] * 4 + [0.0] + [101.0] * 25) == []
    assert pruned([0.0] * 30)[0] == 4


def test_a_training_that_leaves_checkpoints_out_is_compared_at_those_it_has():
    """A step of many environments passes several at once."""
    study = optuna.create_study(direction="maximize", pruner=make_pruner("median", 10, 1))
    trial = study.ask()
    for step in range(10):
        trial.report(10.0 * step, step)
    study.tell(trial, 90.0)
    for lag, hopeless in ((5.0, True), (-5.0, False)):
        trial, told = study.ask(), []
        for step in (1, 4, 6, 9):
            trial.report(10.0 * step - lag, step)
            told.append(trial.should_prune())
        assert told == [False, False, hopeless, hopeless]
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)


def test_the_median_is_that_of_the_same_step():
    climbing = tuple(float(step) for step in range(30))
    assert pruned([step + 1.0 for step in range(30)], others=(climbing,) * 3) == []
    assert pruned([], others=()) == []


def test_the_quartile_keeps_what_is_nearly_as_good():
    others = tuple((value,) * 30 for value in (0.0, 90.0, 100.0, 101.0, 102.0))  # lower quartile 90, median 100
    nearly, behind = [99.9] * 30, [80.0] * 30
    assert pruned(nearly, others)[0] == 4
    assert pruned(nearly, others, pruner="quartile") == []
    assert pruned(behind, others, pruner="quartile")[0] == 4
