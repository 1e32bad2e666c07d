"""Where the time goes, by a clock that the test turns."""

import pytest
import stable_baselines3 as sb3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger

import rlspo
from rlspo.zoo.cli.signals import StopSignal
from rlspo.zoo.envs.recipe import EnvRecipe
from rlspo.zoo.runs.folder import RunFolder
from rlspo.zoo.train.callbacks import Evaluate
from rlspo.zoo.train.phases import PhaseTimes, Stopwatch

STEP, EVALUATION_STEP, UPDATE = 1.0, 1e3, 1e6
ON_POLICY = {"n_steps": 16, "batch_size": 16, "n_epochs": 1}
OFF_POLICY = {"learning_starts": 8, "train_freq": 4, "buffer_size": 64, "batch_size": 4}


class Clock:
    time = 0.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock(monkeypatch) -> Clock:
    """A second for each step of training, a thousand for each of evaluation."""
    import zoo_environments

    clock = Clock()
    step = zoo_environments.Ledger.step

    def timed(self, action):
        clock.time += EVALUATION_STEP if self.pay == 2.0 else STEP
        return step(self, action)

    monkeypatch.setattr(zoo_environments.Ledger, "step", timed)
    return clock


@pytest.mark.parametrize(
    ("cls", "settings", "updates"),
    [(rlspo.PPO, ON_POLICY, 4), (rlspo.BARPO, ON_POLICY, 4), (sb3.PPO, ON_POLICY, 4), (sb3.DQN, OFF_POLICY, 14)],
    ids=["rlspo.PPO", "rlspo.BARPO", "sb3.PPO", "sb3.DQN"],
)
def test_time_of_every_agent_goes_to_the_right_phase(workplace, clock, monkeypatch, cls, settings, updates):
    recipe = EnvRecipe("Ledger-v0", gym_packages=("zoo_environments",))
    evaluation_recipe = EnvRecipe("Ledger-v0", gym_packages=("zoo_environments",), env_kwargs={"pay": 2.0})
    model: BaseAlgorithm = cls("MlpPolicy", recipe.build(1, 0, training=True), seed=0, device="cpu", **settings)
    train = model.train

    def timed_train(*args, **kwargs):
        clock.time += UPDATE
        train(*args, **kwargs)

    monkeypatch.setattr(model, "train", timed_train)
    model.set_logger(Logger(None, []))
    phases = PhaseTimes(Stopwatch(clock))
    folder = RunFolder.at(workplace / "run")
    # Evaluations at 24 and 48, within rollouts of 16, and at the end, at 64.
    evaluate = Evaluate(evaluation_recipe.build(1, 0, training=False), 24, 2, folder, StopSignal(), 0, phases.stopwatch)
    model.learn(64, callback=[phases, evaluate])
    phases.stopwatch.start(None)
    assert phases.totals() == {
        "time/collect_seconds": 64 * STEP,
        "time/update_seconds": updates * UPDATE,
        "time/evaluate_seconds": 3 * 2 * 10 * EVALUATION_STEP,
    }


def test_totals_are_logged_with_each_rollout(workplace, clock):
    logged = []

    class Notes(Logger):
        def dump(self, step: int = 0) -> None:
            logged.append((step, self.name_to_value["time/collect_seconds"], self.name_to_value["time/update_seconds"]))
            super().dump(step)

    recipe = EnvRecipe("Ledger-v0", gym_packages=("zoo_environments",))
    model = rlspo.PPO("MlpPolicy", recipe.build(2, 0, training=True), seed=0, device="cpu", **ON_POLICY)
    model.set_logger(Notes(None, []))
    model.learn(64, callback=PhaseTimes(Stopwatch(clock)))
    assert logged == [(32, 32, 0), (64, 64, 0)]


def test_a_phase_that_fails_is_counted(clock):
    stopwatch = Stopwatch(clock)
    stopwatch.start("update")
    with pytest.raises(ZeroDivisionError), stopwatch.aside("evaluate"):
        clock.time += 5
        raise ZeroDivisionError
    clock.time += 7
    stopwatch.start(None)
    clock.time += 9
    stopwatch.start("collect")
    assert stopwatch.seconds == {"collect": 0, "update": 7, "evaluate": 5}
