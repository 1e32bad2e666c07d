"""Environments are found, checked, and built alike for training and evaluation."""

import datetime
import random

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.monitor import Monitor, load_results
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize, unwrap_vec_normalize

from rlspo.common.randomness import generators_kept
from rlspo.zoo.config.schema import Settings
from rlspo.zoo.envs.native import plays_atari
from rlspo.zoo.envs.recipe import EnvRecipe, _Worker, check_env_kwargs, families, find_spec, is_atari, layers
from rlspo.zoo.errors import UserError


def recipe(env_kwargs: dict | None = None, **settings) -> EnvRecipe:
    return EnvRecipe.from_settings(
        Settings(n_timesteps=1, policy="MlpPolicy", **settings),
        "Ledger-v0",
        lambda _: "file F, block B",
        env_kwargs=env_kwargs or {},
        gym_packages=("zoo_environments",),
    )


def test_unknown_environment_gets_the_nearest():
    with pytest.raises(UserError, match=r"no environment 'CartPol-v1'. Did you mean 'CartPole-v1'\?.*--gym-packages"):
        find_spec("CartPol-v1")
    with pytest.raises(UserError, match="--gym-packages: cannot import 'nowhere'"):
        find_spec("CartPole-v1", ["nowhere"])


def test_packages_register_their_environments():
    assert find_spec("Ledger-v0", ["zoo_environments"]).id == "Ledger-v0"
    assert find_spec("zoo_environments:Ledger-v0").id == "Ledger-v0"


def test_games_of_the_ale_are_known_as_such():
    pytest.importorskip("ale_py")
    assert is_atari(find_spec("ALE/Pong-v5"))
    assert is_atari(find_spec("STORI/Pong-v0"))
    assert not is_atari(find_spec("CartPole-v1"))


def test_blocks_that_serve_a_family():
    pytest.importorskip("ale_py")
    assert families(find_spec("ALE/Pong-v5")) == ["atari"]
    assert families(find_spec("STORI/Pong-v0")) == ["stori"]
    assert families(find_spec("CartPole-v1")) == []


def test_unknown_arguments_of_an_environment_are_refused():
    spec = find_spec("Ledger-v0", ["zoo_environments"])
    check_env_kwargs(spec, {"pay": 1, "max_episode_steps": 5}, "--env-kwargs")
    with pytest.raises(UserError, match=r"--env-kwargs: there is no key 'pya'. Did you mean 'pay'\?"):
        check_env_kwargs(spec, {"pya": 1}, "--env-kwargs")


def test_environment_that_cannot_be_made_says_why(monkeypatch):
    def broken(**kwargs):
        raise gym.error.DependencyNotInstalled('run `pip install "thing"`')

    monkeypatch.setitem(gym.registry, "Broken-v0", gym.envs.registration.EnvSpec("Broken-v0", broken))
    with pytest.raises(UserError, match=r"Broken-v0 needs something that is not installed. run `pip install .thing.`"):
        EnvRecipe("Broken-v0").probe()
    with pytest.raises(UserError, match=r"cannot be made with env_kwargs {'nonsense': 1}. TypeError"):
        EnvRecipe("Pendulum-v1", env_kwargs={"nonsense": 1}).probe()


def native(env_id: str, env_kwargs: dict | None = None, **settings) -> EnvRecipe:
    block = Settings(n_timesteps=1, policy="MlpPolicy", **settings)
    return EnvRecipe.from_settings(block, env_id, lambda _: "file F, block B", env_kwargs=env_kwargs or {}, vec_env="native")


def test_copies_that_step_as_one_are_seeded_and_their_episodes_written(tmp_path):
    def returns(folder):
        env = native("rlspo/LotSizing-v0", {"instance": "2x1"}).build(3, 7, True, tmp_path / folder)
        env.reset()
        rewards = [env.step(np.zeros((3, 1), dtype=int))[1] for _ in range(200)]
        env.close()
        return np.sum(rewards), load_results(str(tmp_path / folder))

    (total, episodes), (again, _) = returns("a"), returns("b")
    assert total == again
    assert set(episodes.l) == {100} and len(episodes) == 6
    assert episodes.r.sum() == pytest.approx(total, rel=1e-5)


def test_mujocos_tasks_step_as_one(tmp_path):
    pytest.importorskip("mujoco")
    one, other = (EnvRecipe("Hopper-v5", vec_env=kind).build(3, 5, True, tmp_path / kind) for kind in ("native", "dummy"))
    np.testing.assert_array_equal(one.reset(), other.reset())
    draws = np.random.default_rng(0)
    for _ in range(60):
        actions = draws.uniform(-1, 1, (3, 3)).astype(np.float32)
        for mine, theirs in zip(one.step(actions)[:3], other.step(actions)[:3], strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-6)
    one.close(), other.close()
    ours, theirs = (load_results(str(tmp_path / kind)) for kind in ("native", "dummy"))
    assert sorted(ours.l) == sorted(theirs.l) and len(ours) > 3


WRAPPER = "stable_baselines3.common.atari_wrappers.AtariWrapper"


def atari(vec_env: str, env_id="BreakoutNoFrameskip-v4", **settings) -> EnvRecipe:
    wrapper = {WRAPPER: {"noop_max": 0}}
    block = Settings(**{"n_timesteps": 1, "policy": "CnnPolicy", "frame_stack": 4, "env_wrapper": wrapper, **settings})
    return EnvRecipe.from_settings(block, env_id, lambda _: "F", env_kwargs=block.env_kwargs, vec_env=vec_env)


def test_atari_games_are_played_together(tmp_path):
    pytest.importorskip("ale_py")
    one, other = (atari(kind).build(2, 5, True, tmp_path / kind) for kind in ("native", "dummy"))
    assert one.observation_space == other.observation_space
    np.testing.assert_array_equal(one.reset(), other.reset())
    draws = np.random.default_rng(0)
    for _ in range(250):
        actions = draws.integers(4, size=2)
        for mine, theirs in zip(one.step(actions)[:3], other.step(actions)[:3], strict=True):
            np.testing.assert_array_equal(mine, theirs)
    one.close(), other.close()
    ours, theirs = (load_results(str(tmp_path / kind)) for kind in ("native", "dummy"))
    assert len(ours) > 0
    assert sorted(zip(ours.r, ours.l, strict=True)) == sorted(zip(theirs.r, theirs.l, strict=True))


def test_only_plain_atari_games_are_played_together_by_themselves():
    pytest.importorskip("ale_py")
    sticky = {"frameskip": 1}
    assert atari("auto").decided(8).vec_env == "native"
    assert atari("auto", "ALE/Pong-v5", env_kwargs=sticky).decided(8).vec_env == "native"
    assert atari("auto").decided(1).vec_env == "dummy"
    for other in (
        atari("auto", "ALE/Pong-v5"),  # skips frames itself, and the wrapper skips frames again
        atari("auto", "ALE/Pong-v5", env_kwargs={**sticky, "mode": 0}),
        atari("auto", "STORI/Breakout-v0"),
        atari("auto", env_wrapper=None),
        atari("auto", monitor_kwargs={"allow_early_resets": False}),
        atari("auto", normalize={"norm_obs": False}),
        atari("auto", vec_env_wrapper="stable_baselines3.common.vec_env.VecMonitor"),
        atari("auto", "ALE/Pong-v5", env_kwargs=sticky, env_wrapper={WRAPPER: {"action_repeat_probability": 0.25}}),
        atari("auto", env_wrapper={WRAPPER: {"frame_skip": 0}}),
        EnvRecipe("Hopper-v5", vec_env="auto"),
    ):
        assert other.decided(8).vec_env == "dummy"
    assert atari("subproc").decided(8).vec_env == "subproc"
    with pytest.raises(UserError, match="normalize or vec_env_wrapper would see both"):
        atari("native", normalize=True).probe()


def test_copies_are_stepped_together_where_nothing_else_differs():
    pytest.importorskip("mujoco")
    assert EnvRecipe("Hopper-v5").stepped_together().vec_env == "native"
    for other in (
        EnvRecipe("CartPole-v1"),
        EnvRecipe("STORI/Hopper-v0"),
        EnvRecipe("Hopper-v5", monitor_kwargs={"allow_early_resets": False}),
        EnvRecipe("Hopper-v5", env_wrappers=((gym.wrappers.FlattenObservation, {}),)),
        EnvRecipe("Hopper-v5", vec_env="subproc"),
    ):
        assert other.stepped_together() == other


def test_a_single_copy_is_a_single_environment():
    assert native("Pendulum-v1").build(1, 0, False).env_is_wrapped(Monitor) == [True]


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (native("Pendulum-v1"), "Pendulum-v1 has no vectorised form of its own. Use dummy or subproc"),
        (native("CartPole-v1", env_wrapper="gymnasium.wrappers.FlattenObservation"), "env_wrapper goes around single"),
        (native("CartPole-v1", monitor_kwargs={"allow_early_resets": False}), "monitor_kwargs .* are for single"),
        (native("CartPole-v1", {"max_episode_steps": -1}), "max_episode_steps is -1"),
    ],
)
def test_what_copies_that_step_as_one_cannot_have_is_refused(recipe, message):
    with pytest.raises(UserError, match=f"^--vec-env native: .*{message}"):
        recipe.probe()


def test_wrappers_stand_in_the_order_given():
    env = recipe(env_wrapper=[{"zoo_environments.Shift": {"by": 10.0}}, "gymnasium.wrappers.FlattenObservation"]).build(
        2, 0, True
    )
    assert (env.reset() > 8).all()
    assert env.env_is_wrapped(gym.wrappers.FlattenObservation) == [True, True]


@pytest.mark.parametrize(
    ("wrapper", "message"),
    [
        ("zoo_environments.Shiftt", r"env_wrapper: module 'zoo_environments' has no 'Shiftt'. Did you mean 'Shift'\?"),
        ({"zoo_environments.Shift": {"bye": 1.0}}, r"zoo_environments.Shift: there is no key 'bye'. Did you mean 'by'\?"),
        ({"zoo_environments.Shift": {"by": "far"}}, "zoo_environments.Shift: by is 'far', but must be a number"),
        ("zoo_environments.Shift", "zoo_environments.Shift also needs by"),
    ],
)
def test_wrapper_that_does_not_fit_is_explained(wrapper, message):
    with pytest.raises(UserError, match=f"file F, block B: {message}" if "module" in message else message):
        layers(wrapper, "env_wrapper", "env", "file F, block B")


def test_statistics_are_frozen_outside_training():
    of = recipe(normalize={"norm_reward": True, "clip_obs": 5.0}, env_kwargs={"pay": 3.0})
    training, evaluation = of.build(1, 0, training=True), of.build(1, 0, training=False)
    assert isinstance(training, VecNormalize) and isinstance(evaluation, VecNormalize)
    assert (training.training, training.norm_reward, training.clip_obs) == (True, True, 5.0)
    assert (evaluation.training, evaluation.norm_reward, evaluation.clip_obs) == (False, False, 5.0)
    evaluation.reset()
    assert evaluation.step(np.array([0]))[1] == pytest.approx(3.0)
    with pytest.raises(UserError, match=r"normalize: there is no key 'norm_ob'. Did you mean 'norm_obs'"):
        recipe(normalize={"norm_ob": True})


def test_frames_are_stacked_over_normalisation():
    env = recipe(normalize=True, frame_stack=3).build(2, 0, training=True)
    assert isinstance(env, VecFrameStack)
    assert unwrap_vec_normalize(env) is not None
    assert env.observation_space.shape == (6,)


def test_seed_sets_every_environment_apart():
    first, again, other = (recipe().build(2, seed, True).reset() for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first, other)


def test_games_in_processes_are_those_of_single_environments(tmp_path):
    """Wrappers, life losses and the noise of a perturbed game included; and the statistics are the game's own."""
    pytest.importorskip("ale_py")
    settings = Settings(
        n_timesteps=1,
        policy="CnnPolicy",
        frame_stack=2,
        env_wrapper={"stable_baselines3.common.atari_wrappers.AtariWrapper": {"frame_skip": 1, "noop_max": 0}},
    )
    kwargs = {"type": "1", "probability": 0.5, "max_num_frames_per_episode": 500}
    built = [
        EnvRecipe.from_settings(settings, "STORI/Breakout-v0", lambda _: "F", env_kwargs=kwargs, vec_env=kind).build(
            2, 5, True, folder
        )
        for kind, folder in (("native", tmp_path), ("dummy", None))
    ]
    try:
        np.testing.assert_array_equal(*[env.reset() for env in built])
        draws, lives, games, paid = np.random.default_rng(0), 0, [], 0.0
        for _ in range(130):
            actions = draws.integers(4, size=2)
            ours, theirs = (env.step(actions) for env in built)
            for mine, other in zip(ours[:3], theirs[:3], strict=True):
                np.testing.assert_array_equal(mine, other)
            lives += ours[2].sum()
            for mine, other in zip(ours[3], theirs[3], strict=True):
                assert mine["stori"] == other["stori"] and ("episode" in mine) == ("episode" in other)
                paid += mine["stori"]["reward"]
                if "episode" in mine:
                    assert (mine["episode"]["r"], mine["episode"]["l"]) == (other["episode"]["r"], other["episode"]["l"])
                    games.append(mine["episode"]["l"])
                if "terminal_observation" in other:
                    np.testing.assert_array_equal(mine["terminal_observation"], other["terminal_observation"])
        assert games and lives > len(games) and paid > 0
    finally:
        for env in built:
            env.close()
    assert load_results(str(tmp_path))["l"].tolist() == games


def test_workers_seed_the_global_generators_of_their_process():
    def drawn(seed):
        with generators_kept():
            return _Worker(lambda: (random.random(), np.random.random(), float(torch.rand(()))), seed)()

    assert drawn(3) == drawn(3) != drawn(4)
    assert drawn(None) != drawn(None)


def test_a_game_registered_without_frameskip_is_played_one_by_one(monkeypatch):
    """It skips frames itself, as ale_py's games do unless told."""
    ale_py = pytest.importorskip("ale_py")
    spec = gym.envs.registration.EnvSpec("MyPong-v0", "ale_py.env:AtariEnv", kwargs={"game": "pong"})
    monkeypatch.setitem(gym.registry, "MyPong-v0", spec)
    assert ale_py is not None
    assert not plays_atari(spec, {}, [(AtariWrapper, {})])


@pytest.mark.parametrize(
    "settings",
    [
        {"vec_env_wrapper": "stable_baselines3.common.vec_env.VecNormalize"},
        {"env_wrapper": ["gymnasium.wrappers.FlattenObservation", "gymnasium.wrappers.NormalizeObservation"]},
    ],
)
def test_statistics_that_would_not_be_saved_are_refused(settings):
    with pytest.raises(UserError, match=r"(VecNormalize|NormalizeObservation) as a wrapper has statistics .* Give normalize"):
        recipe(**settings)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"levels": {0: 1.0}}, "--env-kwargs: levels: 0 is a key and must be text"),
        ({"start": datetime.date(2015, 1, 2)}, "--env-kwargs: start: 2015-01-02 is read as a date"),
        ({"starts": [datetime.date(2015, 1, 2)]}, "--env-kwargs: starts: 2015-01-02 is read as a date"),
    ],
)
def test_arguments_that_a_record_would_change_are_refused(value, message):
    with pytest.raises(UserError, match=message):
        check_env_kwargs(find_spec("Ledger-v0", ["zoo_environments"]), value, "--env-kwargs")


def test_actions_and_observations_are_rescaled_by_plain_numbers():
    env = EnvRecipe.from_settings(
        Settings(
            n_timesteps=1,
            policy="MlpPolicy",
            env_wrapper=[
                {"gymnasium.wrappers.RescaleAction": {"min_action": -1, "max_action": [1.0]}},
                {"gymnasium.wrappers.RescaleObservation": {"min_obs": -1.0, "max_obs": 1.0}},
            ],
        ),
        "Pendulum-v1",
        lambda _: "file F, block B",
    ).build(1, 0, training=True)
    assert (env.action_space.low, env.action_space.high) == (-1.0, 1.0)
    assert np.abs(env.reset()).max() <= 1.0
