"""The report after training: which radius, and what it holds."""

import json

import pytest
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from rlspo import BARPO, PPO
from rlspo.attacks import ATTACKS
from rlspo.zoo.envs.recipe import EnvRecipe
from rlspo.zoo.evaluate.attack_report import evaluate_attacked, radius
from tests.spaces import SpacesEnv

SMALL = {"n_steps": 16, "batch_size": 16, "device": "cpu", "seed": 0}


def test_radius_is_the_one_asked_for_then_the_agents_own_then_the_usual():
    robust = BARPO("MlpPolicy", "CartPole-v1", epsilon=0.2, **SMALL)
    plain = PPO("MlpPolicy", "CartPole-v1", **SMALL)
    assert radius(robust, 0.5) == 0.5
    assert radius(robust, None) == 0.2
    assert radius(BARPO("MlpPolicy", "CartPole-v1", epsilon=0, **SMALL), None) == 0.075
    assert radius(plain, None) == 0.075


@pytest.mark.parametrize(("scaled", "expected", "units"), [(True, 1 / 255, "of the full range"), (False, 1.0, "grey levels")])
def test_an_image_changes_by_one_grey_level(scaled, expected, units):
    model = PPO("CnnPolicy", SpacesEnv("image"), policy_kwargs={"normalize_images": scaled}, **SMALL)
    assert radius(model, None) == pytest.approx(expected)
    report = evaluate_attacked(model, DummyVecEnv([lambda: SpacesEnv("image")]), 1, radius(model, None), seed=0)
    assert units in report.units


def test_a_vecnormalize_that_scales_rewards_alone_leaves_raw_units():
    env = VecNormalize(DummyVecEnv([SpacesEnv]), norm_obs=False)
    report = evaluate_attacked(
        PPO("MlpPolicy", env, **SMALL), VecNormalize(DummyVecEnv([SpacesEnv]), norm_obs=False), 1, 0.1, 0
    )
    assert report.units == "in raw units of the observation"


def test_the_report_says_which_norm_the_ball_has():
    robust = BARPO("MlpPolicy", SpacesEnv(), norm="l2", **SMALL)
    assert evaluate_attacked(robust, DummyVecEnv([SpacesEnv]), 1, 0.1, seed=0).norm == "l2"


def test_every_attack_is_evaluated_over_as_many_episodes(workplace):
    recipe = EnvRecipe("Ledger-v0", gym_packages=("zoo_environments",), env_kwargs={"pay": 2.0})
    model = PPO("MlpPolicy", recipe.build(1, 0, True), normalize_observations=True, **SMALL)
    report = evaluate_attacked(model, recipe.build(2, 5, training=False), n_episodes=3, epsilon=0.1, seed=5)
    assert list(report.returns) == ["natural", *ATTACKS]
    assert all(returns.tolist() == [20, 20, 20] for returns in report.returns.values())
    assert report.units == "standard deviations of the observation"
    report.write(workplace / "report.json", about={"env": "Ledger-v0"})
    written = json.loads((workplace / "report.json").read_text())
    assert written["env"] == "Ledger-v0"
    assert written["attack"] == {"epsilon": 0.1, "units": report.units, "norm": "linf", "inner_steps": 10}
    assert written["summary"]["mad"] == {"mean": 20.0, "std": 0.0}


def test_observations_that_cannot_be_shifted_leave_the_natural_return():
    recipe = EnvRecipe("Halls-v0", gym_packages=("zoo_environments",))
    model = PPO("MlpPolicy", recipe.build(1, 0, True), **SMALL)
    report = evaluate_attacked(model, recipe.build(1, 5, training=False), n_episodes=2, epsilon=0.1, seed=5)
    assert list(report.returns) == ["natural"]
    assert "Discrete" in report.skipped


def test_statistics_of_vecnormalize_come_from_the_agent():
    recipe = EnvRecipe("Ledger-v0", gym_packages=("zoo_environments",), normalize={})
    model = PPO("MlpPolicy", recipe.build(1, 0, True), **SMALL).learn(64)
    env = recipe.build(1, 5, training=False)
    evaluate_attacked(model, env, n_episodes=1, epsilon=0.1, seed=5)
    assert env.obs_rms.mean == pytest.approx(model.get_vec_normalize_env().obs_rms.mean)
    assert env.obs_rms.count > 60
