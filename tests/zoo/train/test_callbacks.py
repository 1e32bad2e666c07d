"""Saving and evaluating during training."""

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv

from rlspo import PPO
from rlspo.zoo.cli.signals import StopSignal
from rlspo.zoo.envs.recipe import EnvRecipe
from rlspo.zoo.runs.folder import RunFolder
from rlspo.zoo.train.callbacks import Evaluate, SaveBetweenRollouts, StopWhenAsked, save_model

RECIPE = EnvRecipe("Ledger-v0", gym_packages=("zoo_environments",))


@pytest.fixture
def folder(workplace):
    return RunFolder.create(workplace, "ppo", "Ledger-v0")


def agent(recipe: EnvRecipe = RECIPE, n_envs: int = 2) -> PPO:
    env = recipe.build(n_envs, 0, training=True)
    return PPO("MlpPolicy", env, n_steps=16, batch_size=16, n_epochs=1, seed=0, device="cpu")


def test_checkpoints_have_learned_from_every_step_they_count(folder):
    model = agent()
    model.learn(160, callback=SaveBetweenRollouts(50, folder))
    steps = sorted(int(file.stem.split("_")[2]) for file in folder.checkpoints.glob("rl_model_*_steps.zip"))
    assert steps == [64, 128]  # the first whole rollouts of 2 x 16 after 50 and 100 steps
    for count in steps:
        reference = agent()
        reference.learn(count)
        saved = PPO.load(folder.checkpoints / f"rl_model_{count}_steps.zip", device="cpu")
        assert saved.num_timesteps == count
        for mine, theirs in zip(saved.policy.parameters(), reference.policy.parameters(), strict=True):
            np.testing.assert_array_equal(mine.detach(), theirs.detach())


def test_evaluations_come_at_their_steps_and_once_more_at_the_end(folder):
    """The end lies half of the way to the next evaluation."""
    callback = Evaluate(RECIPE.build(1, 9, training=False), 64, 2, folder, StopSignal(), verbose=0)
    agent().learn(160, callback=callback)
    with np.load(folder.evaluations) as data:
        assert data["timesteps"].tolist() == [64, 128, 160]
        assert data["results"].shape == (3, 2)
        assert (data["results"] == 10).all()
    assert folder.best_model.is_file()


def test_an_infinite_return_is_never_the_best(folder, monkeypatch):
    """Nothing could beat it."""
    returns = iter([float("inf"), 5.0, 3.0])
    monkeypatch.setattr("stable_baselines3.common.callbacks.evaluate_policy", lambda *args, **kwargs: ([next(returns)], [1]))
    callback = Evaluate(RECIPE.build(1, 9, training=False), 64, 1, folder, StopSignal(), verbose=0)
    agent().learn(192, callback=callback)
    assert callback.best_mean_reward == 5.0
    assert PPO.load(folder.best_model, device="cpu").num_timesteps == 128


def test_last_evaluation_is_not_made_twice(folder):
    callback = Evaluate(RECIPE.build(1, 9, training=False), 64, 1, folder, StopSignal(), verbose=0)
    agent().learn(128, callback=callback)
    with np.load(folder.evaluations) as data:
        assert data["timesteps"].tolist() == [64, 128]


def test_no_final_evaluation_right_after_the_one_before(folder):
    callback = Evaluate(RECIPE.build(1, 9, training=False), 72, 1, folder, StopSignal(), verbose=0)
    agent().learn(160, callback=callback)  # 16 steps after 144
    with np.load(folder.evaluations) as data:
        assert data["timesteps"].tolist() == [72, 144]


def test_a_training_too_short_for_evaluations_is_evaluated_at_the_end(folder):
    callback = Evaluate(RECIPE.build(1, 9, training=False), 1000, 1, folder, StopSignal(), verbose=0)
    agent().learn(32, callback=callback)
    with np.load(folder.evaluations) as data:
        assert data["timesteps"].tolist() == [32]
    assert folder.best_model.is_file()


class Careless(gym.Env):
    """Draws from NumPy's global generator."""

    observation_space = gym.spaces.Box(-9, 9, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return np.random.randn(2).astype(np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.random.randn(2).astype(np.float32), np.random.rand(), self.steps == 4, False, {}


def test_evaluations_do_not_change_what_careless_environments_train_on(folder):
    seen, generators = [], []
    for callbacks in ([], [Evaluate(DummyVecEnv([Careless]), 8, 2, folder, StopSignal(), verbose=0)]):
        model = PPO("MlpPolicy", Careless(), n_steps=16, batch_size=16, n_epochs=1, seed=3, device="cpu")
        model.learn(32, callback=callbacks)
        seen.append(model.rollout_buffer.observations.copy())
        generators.append(model.randomness.state()["for_others"]["numpy"])
    np.testing.assert_array_equal(*seen)
    results = callbacks[0].evaluations_results
    assert len(results) == len({tuple(each) for each in results})  # each evaluation has draws of its own
    best = PPO.load(folder.best_model).randomness.state()["for_others"]["numpy"]
    assert best[1].tolist() == generators[1][1].tolist()  # of training, of which all came from one block of 624 numbers


def test_a_signal_ends_training_and_cuts_an_evaluation_short(folder):
    stop = StopSignal()
    stop.received = 2
    model = agent()
    model.learn(160, callback=[Evaluate(RECIPE.build(1, 9, False), 1, 5, folder, stop, 0), StopWhenAsked(stop)])
    assert model.num_timesteps == 2
    assert not folder.evaluations.exists()
    assert not folder.best_model.exists()


def test_statistics_are_saved_beside_the_model(folder):
    recipe = EnvRecipe("Ledger-v0", gym_packages=("zoo_environments",), normalize={})
    model = agent(recipe)
    model.learn(32)
    save_model(model, folder.last_model, folder)
    assert folder.statistics_of(folder.last_model).is_file()
    assert sorted(file.name for file in folder.path.iterdir()) == ["last_model.zip", "last_model_vecnormalize.pkl"]


def test_a_save_that_fails_leaves_the_old_model(folder, monkeypatch):
    model = agent()
    save_model(model, folder.best_model, folder)
    before = folder.best_model.read_bytes()

    def half_written(path, *args, **kwargs):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(model, "save", half_written)
    with pytest.raises(OSError, match="disk full"):
        save_model(model, folder.best_model, folder)
    assert folder.best_model.read_bytes() == before
    assert evaluate_policy(PPO.load(folder.best_model), RECIPE.build(1, 0, False), 1)[0] == 10
