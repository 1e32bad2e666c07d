"""Atari games played together, against SB3's wrappers around single ones."""

import copy
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecTransposeImage

pytest.importorskip("ale_py")
pytest.importorskip("cv2")

import ale_py
from stable_baselines3.common.env_util import make_atari_env

import rlspo
from rlspo.envs.atari import AtariGames, make_atari_vec_env

gym.register_envs(ale_py)
N = 2
#: No random number takes part: SB3 draws the number of frames without action elsewhere.
SETTLED = {"noop_max": 0}


def sb3s(env_id: str, env_kwargs: dict[str, Any] | None = None, **wrapper_kwargs: Any) -> VecEnv:
    env = make_atari_env(env_id, N, seed=0, wrapper_kwargs={**SETTLED, **wrapper_kwargs}, env_kwargs=env_kwargs)
    return VecTransposeImage(VecFrameStack(env, 4))


def ours(env_id: str, env_kwargs: dict[str, Any] | None = None, threads: int | None = None, **wrapper_kwargs: Any) -> VecEnv:
    kwargs = {**SETTLED, **wrapper_kwargs}
    return make_atari_vec_env(env_id, N, seed=0, threads=threads, wrapper_kwargs=kwargs, env_kwargs=env_kwargs)


def assert_same(one: VecEnv, other: VecEnv, steps: int) -> dict[str, int]:
    """Step both with the same actions. Returns how many episodes, games and time limits ended."""
    assert (one.observation_space, one.action_space) == (other.observation_space, other.action_space)
    np.testing.assert_array_equal(one.reset(), other.reset())
    rng, counts = np.random.default_rng(0), {"episodes": 0, "games": 0, "cut": 0, "rewards": 0}
    for _ in range(steps):
        actions = rng.integers(one.action_space.n, size=N)
        mine, theirs = one.step(actions), other.step(actions)
        for a, b in zip(mine[:3], theirs[:3], strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype
        counts["rewards"] += int((mine[1] != 0).sum())
        for info, expected in zip(mine[3], theirs[3], strict=True):
            info, expected = dict(info), dict(expected)
            last, true_last = info.pop("terminal_observation", None), expected.pop("terminal_observation", None)
            assert (last is None) == (true_last is None)
            for each in (info, expected):
                each.get("episode", {}).pop("t", None)
            assert info == expected
            counts["episodes"] += last is not None
            counts["games"] += "episode" in info
            counts["cut"] += info["TimeLimit.truncated"]
            if last is not None and ("episode" not in info or info["TimeLimit.truncated"]):
                np.testing.assert_array_equal(last, true_last)
            elif last is not None:  # the emulator's own end: all but the newest picture
                np.testing.assert_array_equal(last[:-1], true_last[:-1])
    return counts


@pytest.mark.parametrize(
    ("env_id", "steps"),
    [
        ("BreakoutNoFrameskip-v4", 350),
        ("QbertNoFrameskip-v4", 330),  # goes on for some frames without lives
        ("FreewayNoFrameskip-v4", 30),  # has no FIRE
        ("CarnivalNoFrameskip-v4", 30),  # has another screen
        ("BerzerkNoFrameskip-v4", 250),  # is begun by the emulator
    ],
)
def test_episodes_are_sb3s(env_id: str, steps: int) -> None:
    counts = assert_same(ours(env_id), sb3s(env_id), steps)
    if env_id.startswith("Berzerk"):
        assert counts["games"] > 0
    if steps > 300:
        assert counts["games"] > 0
        assert counts["episodes"] > counts["games"]
        assert counts["rewards"] > 0


@pytest.mark.parametrize(
    "settings",
    [
        {"terminal_on_life_loss": False, "clip_reward": False, "screen_size": 42},
        {"frame_skip": 1, "env_kwargs": {"max_num_frames_per_episode": 60}},
        {"frame_skip": 2, "env_kwargs": {"full_action_space": True}},
        {"env_kwargs": {"max_num_frames_per_episode": 120}},
    ],
)
def test_settings_are_sb3s(settings: dict[str, Any]) -> None:
    counts = assert_same(ours("BreakoutNoFrameskip-v4", **settings), sb3s("BreakoutNoFrameskip-v4", **settings), 100)
    if "max_num_frames_per_episode" in settings.get("env_kwargs", {}):
        assert counts["cut"] >= N


def played(env: VecEnv, steps: int = 40) -> list[np.ndarray]:
    """Observations from the reset on."""
    seen, rng = [env.reset()], np.random.default_rng(1)
    for _ in range(steps):
        seen.append(env.step(rng.integers(env.action_space.n, size=env.num_envs))[0])
    return seen


def test_a_seed_gives_the_same_games_on_any_number_of_threads() -> None:
    def games(seed: int, threads: int | None = None) -> list[np.ndarray]:
        return played(make_atari_vec_env("ALE/Breakout-v5", 3, seed, threads=threads))

    first = games(5)
    np.testing.assert_array_equal(first, games(5, threads=1))
    np.testing.assert_array_equal(first, games(5, threads=2))
    assert not np.array_equal(first, games(6))
    assert not np.array_equal(first[-1][0], first[-1][1])  # sticky actions of their own


def test_games_begin_after_different_numbers_of_frames() -> None:
    env = make_atari_vec_env("QbertNoFrameskip-v4", 4, seed=0)
    env.reset()
    begun = {info["episode_frame_number"] for info in env.reset_infos}
    assert len(begun) > 1
    assert begun <= set(range(8, 8 + 30))  # and two steps of FIRE


def test_a_limit_of_frames_counts_those_of_the_reset() -> None:
    env = AtariGames("ALE/Pong-v5", 2, wrapper_kwargs=SETTLED, env_kwargs={"max_num_frames_per_episode": 40})
    env.reset(seed=0)
    ends = [env.step(np.zeros(2, int))[3] for _ in range(16)]
    assert np.flatnonzero(np.any(ends, axis=1)).tolist() == [7, 15]  # two steps of FIRE, and eight


def test_an_agent_learns_on_them() -> None:
    env = make_atari_vec_env("ALE/Breakout-v5", 2, seed=0)
    model = rlspo.PPO("CnnPolicy", env, n_steps=16, batch_size=16, n_epochs=1, policy_kwargs={"net_arch": []}).learn(32)
    assert model.observation_space.shape == (4, 84, 84)
    assert model.predict(env.reset())[0].shape == (2,)
    assert env.env_is_wrapped(Monitor) == [True, True]


def test_screens_are_rendered() -> None:
    games = AtariGames("ALE/Breakout-v5", 2, render_mode="rgb_array")
    games.reset(seed=0)
    screens = games.render()
    assert [screen.shape for screen in screens] == [(210, 160, 3)] * 2
    assert screens[0].any()


@pytest.mark.parametrize(
    ("kwargs", "error", "words"),
    [
        ({"env_id": "CartPole-v1"}, ValueError, "not a game of the ALE"),
        ({"env_id": "Breakout-v4"}, ValueError, "fixed frame skip"),
        ({"env_id": "ALE/Backgammon-v5"}, ValueError, "first actions of backgammon are FIRE, RIGHT"),
        ({"num_envs": 0}, ValueError, "num_envs is 0"),
        ({"threads": 0}, ValueError, "threads is 0"),
        ({"frame_stack": 0}, ValueError, "frame_stack is 0"),
        ({"render_mode": "human"}, ValueError, "rgb_array"),
        ({"wrapper_kwargs": {"frame_skip": 0}}, ValueError, "frame_skip is 0"),
        ({"wrapper_kwargs": {"noop_max": -1}}, ValueError, "noop_max is -1"),
        ({"wrapper_kwargs": {"clip_reward": "yes"}}, ValueError, "clip_reward is 'yes'"),
        ({"wrapper_kwargs": {"screen_sise": 3}}, TypeError, "Did you mean 'screen_size'"),
        ({"wrapper_kwargs": {"frame_stack": 3}}, TypeError, "'frame_stack' is not an argument"),
        ({"wrapper_kwargs": {"action_repeat_probability": 0.25}}, ValueError, "sticky actions already"),
        ({"env_kwargs": {"frameskip": 4}}, ValueError, "frameskip is 4; it must be 1"),
        ({"env_kwargs": {"mode": 3}}, TypeError, "'mode' is not an argument .*make_atari_env"),
        ({"env_kwargs": {"noop_max": 3}}, TypeError, "'noop_max' is not an argument"),
        ({"env_kwargs": {"full_actionspace": True}}, TypeError, "Did you mean 'full_action_space'"),
        ({"env_kwargs": {"repeat_action_probability": 25}}, ValueError, "repeat_action_probability is 25"),
    ],
)
def test_bad_arguments_are_refused(kwargs: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        AtariGames(**{"env_id": "ALE/Breakout-v5", **kwargs})


@pytest.mark.parametrize("more", [{"kwargs": {"mode": 12}}, {"kwargs": {"obs_type": "ram"}}, {"max_episode_steps": 5}])
def test_games_registered_with_settings_of_their_own_are_refused(more: dict[str, Any], monkeypatch: Any) -> None:
    kwargs = {"game": "breakout", "frameskip": 1, **more.pop("kwargs", {})}
    spec = gym.envs.registration.EnvSpec("Mine-v0", "ale_py.env:AtariEnv", kwargs=kwargs, **more)
    monkeypatch.setitem(gym.registry, "Mine-v0", spec)
    with pytest.raises(ValueError, match="Mine-v0 is not a game of the ALE with its own screen"):
        AtariGames("Mine-v0")


@pytest.mark.parametrize("seed", [None, 2**31 - 1, 2**32 - 1, 2**40])
def test_any_seed_will_do(seed: int | None) -> None:
    for _ in range(1 if seed is None else 2):
        env = make_atari_vec_env("ALE/Breakout-v5", 2, seed=seed)
        last = played(env, 10)
    if seed is not None:
        np.testing.assert_array_equal(last, played(make_atari_vec_env("ALE/Breakout-v5", 2, seed=seed), 10))
    with pytest.raises(ValueError, match="negative"):
        AtariGames("ALE/Breakout-v5").reset(seed=-1)


def test_an_interrupted_step_ends_in_a_reset() -> None:
    def played_from(env: AtariGames) -> list[np.ndarray]:
        return [env.reset(seed=7)[0], *(env.step(np.array([2, 3, 0]))[0] for _ in range(12))]

    env = AtariGames("ALE/Breakout-v5", 3)
    expected = played_from(env)
    receive = env.games[1].receive
    env.games[1].receive = lambda: 1 / 0  # type: ignore[assignment,return-value]
    with pytest.raises(ZeroDivisionError):
        env.step(np.array([0, 0, 0]))
    env.games[1].receive = receive  # type: ignore[method-assign]
    with pytest.raises(gym.error.ResetNeeded, match="interrupted"):
        env.step(np.array([0, 0, 0]))
    np.testing.assert_array_equal(played_from(env), expected)


def test_closed_games_say_so() -> None:
    env = AtariGames("ALE/Breakout-v5", 1)
    with pytest.raises(gym.error.ResetNeeded, match="before render"):
        env.render()
    with pytest.raises(ValueError, match="games know none"):
        env.reset(options={"reset_mask": np.ones(1, bool)})
    env.reset(seed=0)
    env.close()
    with pytest.raises(gym.error.ResetNeeded, match="closed"):
        env.step(np.zeros(1, int))
    with pytest.raises(ValueError, match="closed"):
        env.reset()


def test_copies_are_refused_and_seeds_are_one_for_each() -> None:
    env = AtariGames("ALE/Breakout-v5", 2)
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="AtariGames cannot be copied or pickled; make another one"):
            copied(env)
    with pytest.raises(ValueError, match="seed lists 3 seeds; it must be one for each of 2"):
        env.reset(seed=[1, 2, 3])
    first, _ = env.reset(seed=[4, 4])
    np.testing.assert_array_equal(first[0], first[1])


def test_bad_actions_are_refused_before_the_emulator_sees_them() -> None:
    env = AtariGames("ALE/Breakout-v5", 2)
    with pytest.raises(gym.error.ResetNeeded):
        env.step(np.zeros(2, int))
    env.reset(seed=0)
    for actions in (np.array([0, 4]), np.array([-1, 0]), np.zeros(3, int), np.zeros(2)):
        with pytest.raises(ValueError, match="2 whole numbers from 0 to 3"):
            env.step(actions)
    env.step(np.array([0, 3]))


@pytest.mark.parametrize("env_id", ["FreewayNoFrameskip-v4", "BreakoutNoFrameskip-v4"])
def test_a_game_that_has_not_been_played_is_begun_anew_as_sb3s(env_id: str) -> None:
    one, other = ours(env_id), sb3s(env_id)
    for _ in range(3):
        np.testing.assert_array_equal(one.reset(), other.reset())
    taken = np.zeros(N, int)
    for mine, theirs in zip(one.step(taken)[3], other.step(taken)[3], strict=True):
        assert mine["episode_frame_number"] == theirs["episode_frame_number"]
