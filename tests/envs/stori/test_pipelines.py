"""Frame skip, pooling, grey, resizing and life-loss resets, below and above the perturbation."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import cv2
import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import AtariPreprocessing, MaxAndSkipObservation, TimeLimit
from stable_baselines3.common.atari_wrappers import AtariWrapper, EpisodicLifeEnv
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import VecEnv

from rlspo.envs.stori import wrap
from tests.envs.stori.games import CALM, CROP, PIPELINES, Spy, play, raw, same, stori

QUIET = [
    CALM,
    {"type": "1", "effect": "replace", "probability": 0},
    {"type": "2.1", "effect": "reward_flip", "probability": 0},
    {"type": "2.1", "effect": "rewind", "probability": 0},
    {"type": "3.2", "effect": "freeze", "probability": 0},
    {"type": "3.2", "effect": "crop", "mode": "disc", "probability": 0, "fidelity": "original"},
    {"type": "2.2", "schedule": "random_walk", "period": 5, "concept": {"type": "3.2", "effect": "noise", "probability": 0}},
]


@pytest.mark.parametrize("name", PIPELINES)
def test_a_profile_without_noise_leaves_every_bit(name: str) -> None:
    plain = play(PIPELINES[name](), 60)
    for profile in QUIET:
        assert same(play(wrap(PIPELINES[name](), profile), 60), plain), profile


@pytest.mark.parametrize("name", PIPELINES)
def test_the_hidden_half_is_black_and_the_other_is_true(name: str) -> None:
    plain, cropped = play(PIPELINES[name](), 60), play(wrap(PIPELINES[name](), CROP), 60)
    screens = [(one, other) for one, other in zip(plain, cropped, strict=True) if isinstance(one, np.ndarray)]
    assert len(screens) > 60
    for true, seen in screens:
        # In the column of the border a resized pixel is of both halves.
        half = true.shape[1] // 2
        assert not seen[:, :half].any() and np.array_equal(seen[:, half + 1 :], true[:, half + 1 :])
    rest = [[one for one in told if not isinstance(one, np.ndarray)] for told in (plain, cropped)]
    assert rest[0] == rest[1]


@pytest.mark.parametrize("mode", ["right", "top", "bottom", "disc"])
def test_what_is_hidden_is_resized_as_the_true_screen_would_be(mode: str) -> None:
    """gymnasium's pipeline over a mask is the mask over the two raw screens, pooled and resized."""
    env, game = wrap(AtariPreprocessing(raw(), noop_max=0), {**CROP, "mode": mode}), raw()
    env.reset(seed=0)
    game.reset(seed=0)
    effect = env.get_wrapper_attr("emulator").sources[0].effect
    now = env.get_wrapper_attr("emulator").now
    for step in range(30):
        action = (1, 2, 3)[step % 3]
        seen = env.step(action)[0]
        screens = []
        for _ in range(4):
            game.step(action)
            screens.append(game.unwrapped.ale.getScreenGrayscale())
            effect.screen(screens[-1], True, now)
        pooled = np.maximum(screens[-2], screens[-1])
        assert np.array_equal(seen, cv2.resize(pooled, (84, 84), interpolation=cv2.INTER_AREA))


def test_own_pooling_is_that_of_gymnasium() -> None:
    """A ``STORI/...`` game with pooled frames, made grey and resized above, is ``AtariPreprocessing`` below."""
    below = wrap(AtariPreprocessing(raw(), noop_max=0), "breakout-3.2C")
    above = AtariPreprocessing(stori(profile={**CROP, "mode": "disc"}, game="Breakout"), noop_max=0, frame_skip=1)
    assert same(play(below, 60), play(above, 60))


def test_sb3s_wrapper_below_and_above_agree() -> None:
    options: dict[str, Any] = {"noop_max": 0, "terminal_on_life_loss": False}
    profile = {**CROP, "mode": "disc", "probability": 0.5}
    below = wrap(AtariWrapper(raw("Pong"), **options), profile)
    above = AtariWrapper(stori("Pong", profile), frame_skip=1, **options)
    first, second = play(below, 60), play(above, 60)
    # Above, pressing FIRE at the reset are two decision steps, so chance has gone on; each sees black and true pixels alike.
    assert first[1::4][0].shape == second[1::4][0].shape == (84, 84, 1)
    assert any((one == 0).mean() > 0.4 for one in second[1::4]) and any((one == 0).mean() < 0.4 for one in second[1::4])
    calm = AtariWrapper(stori("Pong"), frame_skip=1, **options)
    assert same(play(calm, 60), play(AtariWrapper(raw("Pong"), **options), 60))


@pytest.mark.parametrize("name", ["gymnasium", "SB3"])
def test_chance_is_drawn_once_for_all_frames_of_a_step(name: str) -> None:
    env = wrap(PIPELINES[name](), {"type": "1", "effect": "replace"})
    env.reset(seed=0)
    spy, seen = Spy(env), set()
    for _ in range(60):
        _, _, terminated, truncated, info = env.step(2)
        played = spy.take()
        assert played == [info["stori"]["executed_action"]] * len(played) and (len(played) == 4 or terminated)
        seen.add(played[0])
        if terminated or truncated:
            env.reset()
            spy.take()
    assert seen == {0, 1, 2, 3}


@pytest.mark.parametrize("name", ["gymnasium", "SB3"])
def test_all_pooled_frames_have_one_mask(name: str) -> None:
    """With a mask for each frame, a pooled screen would be black only where both are."""
    env = wrap(PIPELINES[name](), {"type": "3.2", "effect": "flicker", "probability": 0.5})
    env.reset(seed=0)
    black = 0
    for _ in range(100):
        seen, _, terminated, truncated, info = env.step(0)
        if terminated or truncated:
            env.reset()
            continue
        assert seen.any() != info["stori"]["perturbed"]
        black += not seen.any()
    assert 30 < black < 70


def test_frames_of_a_reset_are_played_as_they_are() -> None:
    env = wrap(AtariWrapper(raw()), {"type": "1", "effect": "permute", "permutation": [3, 2, 1, 0]})
    spy = Spy(env)
    env.reset(seed=0)
    played = spy.take()
    # NOOPs, then FIRE and the next action: what the pipeline itself does.
    assert set(played[:-8]) == {0} and played[-8:] == [1] * 4 + [2] * 4
    env.step(0)
    assert spy.take() == [3] * 4


# --- lives and time ---------------------------------------------------------------------------------------------------


def lose_lives(env: Any, resets: int) -> list[tuple[int, int, Any]]:
    """Of the first decision step after each of so many resets: the drift's concept, its steps, and the generator's state."""
    emulator = env.get_wrapper_attr("emulator")
    told = []
    env.reset(seed=0)
    while len(told) < resets:
        _, _, terminated, truncated, _ = env.step(1)
        if terminated or truncated:
            before = emulator.now.step
            env.reset(seed=0)
            told.append((before, emulator.now.step, emulator.now.random.bit_generator.state["state"]["state"]))
    return told


@pytest.mark.parametrize("above", [False, True])
def test_the_loss_of_a_life_neither_restarts_the_drift_nor_reseeds(above: bool) -> None:
    profile = {"type": "2.2", "schedule": "sudden", "period": 40, "concept": {**CROP, "probability": 0.5}}
    if above:
        env = EpisodicLifeEnv(stori("Breakout", profile))
    else:
        env = wrap(EpisodicLifeEnv(raw("Breakout", frameskip=4)), profile)
    told = lose_lives(env, 5)
    lost, over = told[:4], told[4]
    # Above, the step that follows a lost life is one of the episode's.
    assert all(after == before + above and before > 0 for before, after, _ in lost)
    assert over[1] == 0 and len({state for *_, state in told}) == 5


def test_the_screen_after_a_lost_life_is_that_of_its_own_frames() -> None:
    plain, masked = (
        play(wrap(EpisodicLifeEnv(raw("Breakout", frameskip=4)), profile, pool=True), 250)
        for profile in (CALM, {"type": "3.2", "effect": "flicker", "probability": 0})
    )
    assert same(plain, masked)
    env = wrap(EpisodicLifeEnv(raw("Breakout", frameskip=4)), CALM, pool=True)
    env.reset(seed=0)
    while not env.step(1)[2]:
        pass
    earlier = []
    spy = env.get_wrapper_attr("emulator")
    act = spy.ale.act

    class Noting:
        def act(self, *given: Any) -> float:
            reward = act(*given)
            earlier.append(spy.ale.getScreenRGB())
            return reward

        def __getattr__(self, name: str) -> Any:
            return getattr(true, name)

    true, spy.ale = spy.ale, Noting()
    observation, _ = env.reset()
    assert len(earlier) == 4 and np.array_equal(observation, np.maximum(earlier[-2], earlier[-1]))


def test_time_limits_are_as_they_were() -> None:
    for profile in (CALM, {"type": "2.1", "effect": "repeat"}, CROP):
        env = gym.make("STORI/Pong-v0", profile=profile, max_episode_steps=7)
        env.reset(seed=0)
        assert [env.step(0)[3] for _ in range(7)] == [False] * 6 + [True]
        inside = wrap(TimeLimit(raw("Pong", frameskip=4), 5), profile)
        inside.reset(seed=0)
        assert [inside.step(0)[3] for _ in range(5)] == [False] * 4 + [True]
    frames = stori("Pong", CROP, max_num_frames_per_episode=40)
    frames.reset(seed=0)
    assert [frames.step(0)[3] for _ in range(10)] == [False] * 9 + [True]


def warnings_of(make: Callable[[], Any]) -> list[str]:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        env = make()
        for _ in range(2):
            env.reset()
            env.step([0] if isinstance(env, VecEnv) else 0)
        env.close()
    return [str(one.message) for one in told if "skipped twice" in str(one.message)]


def test_frames_that_are_skipped_twice_are_reported_once() -> None:
    """SB3's usual Atari pipeline around a game that skips frames itself makes steps of 16 frames."""
    make = functools.partial(make_atari_env, "STORI/Pong-v0", env_kwargs={"profile": CROP})
    assert len(warnings_of(make)) == 1
    assert len(warnings_of(lambda: MaxAndSkipObservation(stori("Pong"), 2))) == 1
    assert len(warnings_of(lambda: MaxAndSkipObservation(wrap(AtariWrapper(raw()), CROP), 2))) == 1
    assert not warnings_of(lambda: make(wrapper_kwargs={"frame_skip": 1, "noop_max": 0}))
    assert not warnings_of(lambda: AtariWrapper(stori("Pong"), frame_skip=1))
    assert not warnings_of(lambda: wrap(AtariWrapper(raw()), CROP))
    # Frames are meant: each step of the game is one.
    assert not warnings_of(lambda: AtariWrapper(stori("Pong", {**CROP, "gate": "frame"}, frameskip=1)))
