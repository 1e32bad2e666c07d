"""What the search does with what its workers tell, without any worker."""

import itertools
from dataclasses import dataclass, field

import pytest
from optuna.trial import TrialState

from rlspo.zoo.tune.search import Search
from rlspo.zoo.tune.training import EvaluationProtocol, Outcome
from rlspo.zoo.tune.workers import Died, Evaluated, Failed, Finished

from .conftest import outcome


class Log:
    def __init__(self):
        self.lines = []

    def began(self, number):
        self.lines.append(f"{number} began")

    def progressed(self, number, share):
        self.lines.append(f"{number} {share:.2f}")

    def ended(self, number, text, counts):
        self.lines.append(f"{number} {text}{'' if counts else ' (again)'}")


@dataclass
class FakeWorker:
    key: object
    answers: list[bool] = field(default_factory=list)

    def answer(self, go_on):
        self.answers.append(go_on)


@pytest.fixture
def search(open_study):
    return Search(open_study(n_startup_trials=1), base={}, n_trials=3, watcher=Log())


def play(search, messages):
    """One trial whose worker tells this; gives the worker and the trial as stored."""
    running, job = search._next()
    worker = FakeWorker(running)
    for message in messages:
        if False not in worker.answers or isinstance(message, Finished):  # a worker that is told to stop does
            search._handle(worker, message)
    return worker, job, search.study.frozen(running.trial)


def whole(first, second):
    """Both seeds: an evaluation half-way, and the fresh one."""
    return [
        message
        for seed, value in enumerate((first, second))
        for message in (Evaluated(seed, 0, value / 2), outcome(seed, value))
    ]


def test_reported_is_the_mean_over_seeds_at_the_same_checkpoint(search):
    worker, job, trial = play(search, [*whole(8.0, 4.0), Finished()])
    assert job.seeds == (0, 1)
    # Seed 0 half-way and at its end; then the mean of both seeds half-way and at the end.
    assert trial.intermediate_values == {0: 4.0, 1: 8.0, 2: 3.0, 3: 6.0}
    assert trial.value == 6.0
    assert worker.answers == [True] * 4


def test_the_wilcoxon_pruner_gets_episodes_of_shared_seeds(open_study):
    search = Search(open_study(pruner="wilcoxon"), base={}, n_trials=3, watcher=Log())
    _, _, trial = play(search, [*whole(8.0, 4.0), Finished()])
    assert trial.intermediate_values == {**dict.fromkeys(range(4), 8.0), **dict.fromkeys(range(4, 8), 4.0)}


def test_a_slow_learner_survives_the_wilcoxon_pruner_and_a_bad_seed_does_not(open_study):
    search = Search(open_study(pruner="wilcoxon", n_startup_trials=1, n_seeds=2), base={}, n_trials=3, watcher=Log())
    play(search, [*whole(60.0, 60.0), Finished()])
    slow = [Evaluated(0, 0, -500.0), outcome(0, 120.0), Evaluated(1, 0, -500.0), outcome(1, 120.0), Finished()]
    assert play(search, slow)[2].value == 120.0
    worker, _, trial = play(search, [Evaluated(0, 0, 500.0), outcome(0, 1.0), Finished()])
    assert (trial.state, worker.answers) == (TrialState.PRUNED, [True, False])


@pytest.mark.parametrize("pruner", ["median", "hyperband", "wilcoxon"])
def test_the_first_trials_are_never_given_up(open_study, pruner):
    search = Search(open_study(pruner=pruner, n_startup_trials=2), base={}, n_trials=3, watcher=Log())
    play(search, [*whole(8.0, 8.0), Finished()])
    worker, _, _ = play(search, [*whole(-100.0, -100.0), Finished()])
    assert worker.answers == [True] * 4


def test_hyperband_compares_with_the_first_trials_too(open_study):
    """It keeps what a trial has shown when it is asked about it, and only then."""
    protocol = EvaluationProtocol(checkpoints=10, episodes=1, final_episodes=4)
    settings = {"pruner": "hyperband", "n_startup_trials": 9, "n_seeds": 3, "n_timesteps": 100, "protocol": protocol}
    search = Search(open_study(**settings), base={}, n_trials=20, watcher=Log())
    for number in range(18):
        value = 100.0 if number < 9 else -100.0 - number  # each worse than the one before
        seeds = [[*(Evaluated(seed, place, value) for place in range(9)), outcome(seed, value)] for seed in range(3)]
        play(search, [*itertools.chain(*seeds), Finished()])
    states = [trial.state for trial in search.study.trials]
    assert states == [TrialState.COMPLETE] * 9 + [TrialState.PRUNED] * 9


def test_an_evaluation_counts_for_its_checkpoint(open_study):
    """Not for the next in line: a step of many environments passes several."""
    protocol = EvaluationProtocol(checkpoints=10, episodes=1, final_episodes=4)
    study = open_study(n_seeds=2, n_timesteps=100, protocol=protocol)
    search = Search(study, base={}, n_trials=3, watcher=Log())
    first = Outcome(0, 9.0, [9.0] * 4, [(32, 2.0), (64, 5.0), (96, 8.0)], seconds=0.1)
    told = [Evaluated(0, 2, 2.0), Evaluated(0, 5, 5.0), Evaluated(0, 8, 8.0), first]
    _, _, died = play(search, [*told, Died(-9)])
    assert died.intermediate_values == {2: 2.0, 5: 5.0, 8: 8.0, 9: 9.0}
    _, job, again = play(search, [Evaluated(1, 2, 4.0), outcome(1, 11.0), Finished()])
    assert job.seeds == (1,)
    assert again.intermediate_values == {2: 2.0, 5: 5.0, 8: 8.0, 9: 9.0, 12: 3.0, 19: 10.0}


def test_what_is_told_again_after_an_interruption_is_what_was_told_before(open_study):
    """Returns of one thousandth, too."""
    search = Search(open_study(pruner="wilcoxon"), base={}, n_trials=3, watcher=Log())
    tiny = Outcome(0, 2e-4, [1.23456789e-4, 2.3456789e-4, 1e-4, 3e-4], [(10, 1e-4)], seconds=0.1)
    _, _, died = play(search, [tiny, Died(-9)])
    running, _ = search._next()
    assert search.study.frozen(running.trial).intermediate_values == died.intermediate_values
    assert [*died.intermediate_values.values()] == tiny.returns


def test_a_hopeless_trial_is_stopped_between_seeds(search):
    play(search, [*whole(8.0, 8.0), Finished()])
    worker, _, trial = play(search, [Evaluated(0, 0, 1.0), outcome(0, 1.0), Finished()])
    assert worker.answers == [True, False]
    assert trial.state == TrialState.PRUNED
    assert search.watcher.lines[-1] == "1 pruned in seed 1 of 2"


def test_after_the_last_seed_nothing_is_pruned(search):
    play(search, [*whole(8.0, 8.0), Finished()])
    # Better half-way and after one seed; the second seed ruins it at the very end.
    messages = [Evaluated(0, 0, 9.0), outcome(0, 9.0), Evaluated(1, 0, 9.0), outcome(1, -50.0), Finished()]
    worker, _, trial = play(search, messages)
    assert worker.answers == [True] * 4
    assert trial.state == TrialState.COMPLETE
    assert trial.value == -20.5


def test_failures_and_deaths(search):
    _, _, failed = play(search, [Failed("ValueError: no", "traceback")])
    assert failed.state == TrialState.FAIL
    _, _, died = play(search, [outcome(0, 5.0), Died(-9)])
    assert died.state == TrialState.FAIL
    assert search.watcher.lines[-1] == "1 its process was killed; queued again (again)"
    _, job, again = play(search, [*whole(5.0, 7.0)[2:], Finished()])
    assert job.seeds == (1,)  # what the killed process had finished is kept
    assert again.value == 6.0
    assert again.intermediate_values == {0: 2.5, 1: 5.0, 2: 3.0, 3: 6.0}
    assert len(search.study.trials) == 2


def test_it_stops_at_the_number_of_trials_asked_for(search):
    for _ in range(3):
        play(search, [*whole(1.0, 1.0), Finished()])
    assert search._next() is None
