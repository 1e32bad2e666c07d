"""What holds for every perturbed game: seeds, independence, truth in the info, copies, silence."""

from __future__ import annotations

import copy
import pickle
import random
import sys
import warnings
from functools import partial
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.atari_wrappers import AtariWrapper, EpisodicLifeEnv
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from rlspo.envs.stori import Stori, wrap
from tests.envs.stori.games import CALM, CROP, Spy, play, raw, same, stori

NOISES: dict[str, dict[str, Any]] = {
    "replace": {"type": "1", "effect": "replace", "probability": 0.5},
    "permute": {"type": "1", "effect": "permute", "probability": 0.5},
    "reward noise": {"type": "2.1", "effect": "reward_noise", "probability": 0.5},
    "repeat": {"type": "2.1", "effect": "repeat", "probability": 0.5},
    "rewind": {"type": "2.1", "effect": "rewind", "probability": 0.3},
    "disc": {"type": "3.2", "effect": "crop", "mode": "disc", "probability": 0.5},
    "noise": {"type": "3.2", "effect": "noise", "probability": 0.5},
    "walk": {
        "type": "2.2",
        "schedule": "random_walk",
        "period": 20,
        "base": {"type": "1", "effect": "sticky", "probability": 0.5},
        "concept": {"type": "3.2", "effect": "box"},
    },
}


@pytest.mark.parametrize("noise", NOISES)
def test_the_same_seed_is_the_same_course_and_another_is_not(noise: str) -> None:
    def course(env: Any, seed: int) -> list[Any]:
        told = play(env, 40, seed)
        return [*told, env.step(0)[4]["stori"]]

    settings = {"repeat_action_probability": 0.25, "noop_max": 5, "max_num_frames_per_episode": 100}
    used = stori("Breakout", NOISES[noise], **settings)
    first = course(used, 0)
    assert same(first, course(stori("Breakout", NOISES[noise], **settings), 0))
    # Also of one that has played already, in the middle of an episode.
    assert same(first, course(used, 0))
    assert not same(first, course(used, 1))


def test_the_noise_is_independent_of_the_games_own_chance() -> None:
    """Other probabilities leave the random starts and sticky actions of a seed as they were."""
    rams = []
    for probability in (0.0, 0.5):
        env = stori("Breakout", {**CROP, "probability": probability}, repeat_action_probability=0.25, noop_max=30)
        play(env, 40)
        rams.append(env.unwrapped.ale.getRAM())
    assert np.array_equal(*rams)


@pytest.mark.parametrize("noise", NOISES)
def test_global_generators_are_left_alone(noise: str) -> None:
    np.random.seed(3)
    random.seed(3)
    before = np.random.get_state()[1].copy(), random.getstate()  # type: ignore[index, union-attr]
    first = play(stori("Breakout", NOISES[noise]), 20)
    assert np.array_equal(np.random.get_state()[1], before[0]) and random.getstate() == before[1]  # type: ignore[index]
    np.random.seed(4)
    random.seed(4)
    assert same(first, play(stori("Breakout", NOISES[noise]), 20))


def disc() -> Any:
    return stori("Pong", NOISES["disc"])


def masks_of(env: Any, reset: Any) -> list[bytes]:
    seen = [np.array(reset)] + [np.array(env.step(np.zeros(4, int))[0]) for _ in range(6)]
    return [b"".join((step[copy] != 0).any(axis=-1).tobytes() for step in seen) for copy in range(4)]


def test_workers_are_independent_and_alike_in_every_kind_of_vector() -> None:
    dummy = DummyVecEnv([disc] * 4)
    dummy.seed(0)
    told = masks_of(dummy, dummy.reset())
    assert len(set(told)) == 4
    processes = SubprocVecEnv([disc] * 4, start_method="fork")
    try:
        processes.seed(0)
        assert masks_of(processes, processes.reset()) == told
    finally:
        processes.close()
    shared = gym.vector.AsyncVectorEnv([disc] * 4, shared_memory=True, context="fork")
    try:
        assert masks_of(shared, shared.reset(seed=0)[0]) == told
    finally:
        shared.close()


def test_unseeded_workers_differ_too() -> None:
    processes = SubprocVecEnv([disc] * 4, start_method="fork")
    try:
        assert len(set(masks_of(processes, processes.reset()))) == 4
    finally:
        processes.close()


def test_infos_of_vectors_hold_those_of_their_games() -> None:
    env = gym.make_vec("STORI/Pong-v0", 2, "sync", type=1, probability=1)
    env.reset(seed=0)
    info = env.step(np.array([2, 3]))[4]["stori"]
    assert info["executed_action"].shape == info["perturbed"].shape == (2,) and info["type"].tolist() == ["1", "1"]


# --- the info ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [{"type": "1", "effect": "replace"}, {"type": "3.2", "effect": "noise", "probability": 0.5}])
def test_every_profile_has_the_same_starts_in_all_episodes(noise: dict[str, Any]) -> None:
    def starts(profile: dict[str, Any]) -> list[int]:
        env = stori("Breakout", profile, noop_max=30)
        found = []
        for episode in range(8):
            env.reset(seed=0 if episode == 0 else None)
            found.append(env.unwrapped.ale.getEpisodeFrameNumber())
            for _ in range(5):
                env.step(2)
        return found

    calm = starts(CALM)
    assert len(set(calm)) > 3
    assert starts(noise) == calm


def test_the_info_tells_the_truth_under_wrappers_that_clip() -> None:
    profile = {"type": "2.1", "effect": "reward_scale", "scale": -3, "probability": 0.5}
    env = wrap(AtariWrapper(raw("Boxing"), noop_max=0), profile)
    clear = wrap(AtariWrapper(raw("Boxing"), clip_reward=False, noop_max=0))
    paid = 0.0
    for game in (env, clear):
        game.reset(seed=0)
    spy = Spy(env)
    for step in range(200):
        spy.paid.clear()
        action = step // 5 * 7 % 18
        _, reward, *_, info = env.step(action)
        true = clear.step(action)[1]
        told = info["stori"]
        assert set(told) == {"type", "concept", "perturbed", "executed_action", "reward"}
        assert told["reward"] == sum(spy.paid) == true and told["executed_action"] == action
        assert reward == np.sign(-3 * true if told["perturbed"] else true)
        paid += abs(true)
    assert paid > 5
    kinds = {"type": str, "concept": int, "perturbed": bool, "executed_action": int, "reward": float}
    assert {key: type(value) for key, value in told.items()} == kinds


def test_a_calm_game_says_that_nothing_was_perturbed() -> None:
    env = stori("Pong")
    assert env.reset(seed=0)[1]["stori"] == {
        "type": "3.1",
        "concept": 0,
        "perturbed": False,
        "executed_action": 0,
        "reward": 0.0,
    }
    assert env.step(3)[4]["stori"] == {"type": "3.1", "concept": 0, "perturbed": False, "executed_action": 3, "reward": 0.0}


def test_render_is_true_while_the_agent_sees_the_mask() -> None:
    env, calm = stori("Pong", CROP, render_mode="rgb_array"), stori("Pong", render_mode="rgb_array")
    for game in (env, calm):
        game.reset(seed=0)
    for _ in range(5):
        seen, true = env.step(2)[0], calm.step(2)[0]
        assert np.array_equal(env.render(), calm.render()) and not seen[:, :80].any()
        assert np.array_equal(seen[:, 80:], true[:, 80:])
        assert np.array_equal(env.get_wrapper_attr("seen")(), seen)


# --- checks and copies ------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("noise", ["replace", "repeat", "disc", "walk"])
@pytest.mark.parametrize("checks", [check_env, sb3_check_env])
def test_it_is_an_environment_for_gymnasium_and_sb3(checks: Any, noise: str) -> None:
    checks(stori("Breakout", NOISES[noise], render_mode="rgb_array"))


def copies(env: Any) -> dict[str, Any]:
    made = {
        "pickle": pickle.loads(pickle.dumps(env)),
        "cloudpickle": cloudpickle.loads(cloudpickle.dumps(env)),
        "deepcopy": copy.deepcopy(env),
    }
    # Of SB3's wrappers gymnasium knows no arguments.
    told = all(wrapper.kwargs is not None for wrapper in env.spec.additional_wrappers)
    return {**made, "spec": gym.make(env.spec)} if told else made


def calm_sb3() -> Any:
    return wrap(AtariWrapper(raw(), terminal_on_life_loss=False), "breakout-3.2C", probability=0.5)


@pytest.mark.parametrize(
    "make",
    [
        partial(stori, "Breakout", NOISES["disc"]),
        partial(gym.make, "STORI/Breakout-v0", type="3.2C", probability=0.5),
        lambda: gym.wrappers.FrameStackObservation(calm_sb3(), 4),
    ],
)
def test_copies_are_new_games_with_the_same_profile(make: Any) -> None:
    env = make()
    course = play(env, 12)
    for name, other in copies(env).items():
        assert other is not env and other.get_wrapper_attr("profile") == env.get_wrapper_attr("profile"), name
        assert other.unwrapped.ale is not env.unwrapped.ale and same(play(other, 12), course), name
    assert same(play(env, 12), course)


def test_a_copy_whose_wrapper_goes_on_after_a_lost_life_is_perturbed_from_its_first_step() -> None:
    env = wrap(EpisodicLifeEnv(raw("Breakout", frameskip=4)), NOISES["replace"], probability=1)
    play(env, 30)
    courses = [play(copy.deepcopy(env), 30) for _ in range(2)]
    assert same(*courses)
    other = copy.deepcopy(env)
    other.reset(seed=0)
    assert any(other.step(0)[4]["stori"]["perturbed"] for _ in range(10))


def test_it_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        play(stori("Breakout", NOISES["walk"]), 20)
        play(wrap(AtariWrapper(raw()), NOISES["disc"]), 20)
        play(stori("Breakout", NOISES["disc"], frameskip=1, gate="frame"), 20)
        play(stori("Breakout", CALM, frameskip=1), 20)
    out, error = capfd.readouterr()
    # The emulator itself says its name when it is loaded first.
    assert not out and all("A.L.E" in line or "Stella" in line for line in error.splitlines())


def test_chance_for_each_frame_is_warned_of_where_it_was_not_asked_for() -> None:
    with pytest.warns(UserWarning, match="A decision step of .* is a single frame"):
        stori("Pong", CROP, frameskip=1)
    with pytest.warns(UserWarning, match="single frame"):
        wrap(raw(), CROP)


# --- what cannot be perturbed -----------------------------------------------------------------------------------------


def test_what_is_no_atari_game_is_rejected() -> None:
    import ale_py

    with pytest.raises(TypeError, match="is no Atari game of ale_py"):
        wrap(gym.make("CartPole-v1"), CROP)
    with pytest.raises(TypeError, match="is no Atari game of ale_py"):
        wrap("Pong", CROP)  # type: ignore[arg-type]
    vector = ale_py.AtariVectorEnv("pong", num_envs=2)
    with pytest.raises(TypeError, match=r"plays many games at once.*gymnasium\.make_vec"):
        wrap(vector, CROP)  # type: ignore[arg-type]
    vector.close()


def test_a_game_is_perturbed_once() -> None:
    with pytest.raises(ValueError, match="is perturbed already; a drift"):
        wrap(stori("Pong"), CROP)


def test_a_rejected_profile_leaves_the_game_as_it_was() -> None:
    game = raw()
    with pytest.raises(ValueError, match="Did you mean 'crop'"):
        wrap(game, {**CROP, "effect": "crob"})
    wrap(AtariWrapper(game), CROP).reset()


def test_without_the_emulator_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ale_py.env", None)
    with pytest.raises(gym.error.DependencyNotInstalled, match=r"pip install ale-py opencv-python-headless"):
        gym.make("STORI/Pong-v0", type="1")


def test_pooling_needs_a_fixed_number_of_frames() -> None:
    with pytest.raises(ValueError, match=r"pool takes the last two of a fixed number of frames; frameskip is \(2, 5\)"):
        wrap(raw(frameskip=(2, 5)), CROP, pool=True)  # type: ignore[arg-type]
    env = wrap(raw(frameskip=(2, 5)), CROP)  # type: ignore[arg-type]
    env.reset(seed=0)
    assert not env.step(0)[0][:, :80].any()


def test_palette_screens_would_show_what_is_hidden() -> None:
    env = stori("Pong", CROP)
    env.reset(seed=0)
    with pytest.raises(NotImplementedError, match="getScreenRGB"):
        env.unwrapped.ale.getScreen()
    assert stori("Pong").unwrapped.ale.getScreen().shape == (210, 160)


def test_a_subclass_is_copied_as_one() -> None:
    class Own(Stori):
        pass

    env = Own(raw(frameskip=4), CROP)
    assert type(copy.deepcopy(env)) is Own


def test_no_step_before_a_reset_of_a_game_or_its_copy() -> None:
    """Their emulator knows of no episode: the game would go on unperturbed."""
    env = stori("Pong", NOISES["replace"])
    with pytest.raises(gym.error.ResetNeeded):
        wrap(env.unwrapped.__class__("pong"), NOISES["replace"]).step(0)
    env.reset(seed=0)
    env.step(0)
    for other in (copy.deepcopy(env), pickle.loads(pickle.dumps(env))):
        with pytest.raises(gym.error.ResetNeeded):
            other.step(0)
        other.reset(seed=0)
        other.step(0)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            {"repeat_action_probability": 25},
            "repeat_action_probability is 25; it must be a finite number, at least 0 and at most 1",
        ),
        ({"repeat_action_probability": "0.25"}, "repeat_action_probability is '0.25'"),
        ({"pool": "False"}, "pool is 'False'; it must be True or False"),
        ({"full_action_space": "no"}, "full_action_space is 'no'; it must be True or False"),
        ({"max_num_frames_per_episode": -1}, "max_num_frames_per_episode is -1; it must be a whole number of at least 0"),
        ({"max_num_frames_per_episode": "400"}, "max_num_frames_per_episode is '400'"),
        ({"game_mode": 99}, r"game_mode is 99 .* breakout has the modes \[0, 4, "),
        ({"game_mode": "4"}, "game_mode is '4'; it must be a whole number"),
        ({"game_difficulty": 7}, r"game_difficulty is 7; .* difficulties \[0, 1\]"),
    ],
    ids=str,
)
def test_arguments_of_the_emulator_are_checked(argument: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gym.make("STORI/Breakout-v0", type="1", **argument)
