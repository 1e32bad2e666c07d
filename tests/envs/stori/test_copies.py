"""Copies of a game in processes play exactly what they play one after the other."""

import copy
import functools

import gymnasium as gym
import numpy as np
import pytest

import rlspo  # noqa: F401 - registers the environments

pytest.importorskip("ale_py")
pytest.importorskip("cv2")

from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from stable_baselines3.common.atari_wrappers import AtariWrapper

from rlspo.envs.stori import make_game, wrap
from tests.envs.stori.games import raw

SMALL = functools.partial(AtariWrapper, frame_skip=1, noop_max=0, terminal_on_life_loss=False, clip_reward=False)
NOISE = {"profile": {"type": "2.2", "schedule": "cyclic", "period": 7, "concept": {"type": "1", "effect": "replace"}}}


class Faulty(gym.Wrapper):
    """Breaks in its third step."""

    steps = 0

    def step(self, action):
        self.steps += 1
        if self.steps == 3:
            raise RuntimeError("the cartridge fell out")
        return self.env.step(action)


@pytest.fixture
def games():
    made = []

    def make(num_envs, **settings):
        made.append(gym.make_vec("STORI/Breakout-v0", num_envs, **settings))
        return made[-1]

    yield make
    for env in made:
        env.close()


def leaves(info, path=""):
    for name, value in info.items():
        yield from leaves(value, f"{path}/{name}") if isinstance(value, dict) else [(f"{path}/{name}", value)]


def test_episodes_are_those_of_copies_in_one_process(games):
    # Of 72 frames, so that episodes end while the drift comes and goes.
    settings = {**NOISE, "max_num_frames_per_episode": 72}
    side_by_side = games(2, env_wrappers=[SMALL], **settings)
    make = functools.partial(make_game, "breakout", **settings)
    one_by_one = SyncVectorEnv([lambda: SMALL(make())] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    assert isinstance(side_by_side, AsyncVectorEnv) and side_by_side.shared_memory
    np.testing.assert_array_equal(side_by_side.reset(seed=3)[0], one_by_one.reset(seed=3)[0])
    draws, ends, differ = np.random.default_rng(0), 0, False
    for _ in range(50):
        actions = draws.integers(4, size=2)
        ours, theirs = side_by_side.step(actions), one_by_one.step(actions)
        for mine, other in zip(ours[:4], theirs[:4], strict=True):
            np.testing.assert_array_equal(mine, other)
        known = dict(leaves(theirs[4]))
        for name, value in leaves(ours[4]):
            if name == "/final_obs":
                assert all(np.array_equal(mine, other) for mine, other in zip(value, known[name], strict=True))
            else:
                np.testing.assert_array_equal(value, known[name], err_msg=name)
        ends += (ours[2] | ours[3]).sum()
        executed = ours[4].get("final_info", ours[4])["stori"]["executed_action"]
        differ |= bool((executed != actions)[0] != (executed != actions)[1])
    one_by_one.close()
    assert ends >= 4 and differ  # and the noise of one copy is not that of the other


def test_whole_screens_without_wrappers(games):
    env = games(2, type="3.2", probability=1)
    screens, _ = env.reset(seed=0)
    assert screens.shape == (2, 210, 160, 3) and env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP


def test_mistakes_are_reported_before_any_process_starts(games):
    with pytest.raises(ValueError, match="num_envs is 0; it must be"):
        games(0)
    with pytest.raises(ValueError, match=r"takes no 'probabilty'. Did you mean 'probability'"):
        games(2, type="1", probabilty=0.5)


def test_what_breaks_in_a_process_is_reported(games):
    env = games(2, env_wrappers=[Faulty])
    env.reset(seed=0)
    env.step([0, 0])
    env.step([0, 0])
    with pytest.raises(RuntimeError, match="the cartridge fell out"):
        env.step([0, 0])


def test_processes_end_with_the_environment():
    env = gym.make_vec("STORI/Breakout-v0", 2)
    env.reset(seed=0)
    processes = env.processes
    env.close()
    assert not any(process.is_alive() for process in processes)


def test_a_copy_made_in_mid_game_begins_a_new_one() -> None:
    """SB3's EpisodicLifeEnv, copied too, would continue after a life that was lost in the original."""
    env = wrap(AtariWrapper(raw(), noop_max=0), type="1")
    env.reset(seed=1)
    for _ in range(5):
        env.step(1)
    episodes = []
    for _ in range(2):
        twin = copy.deepcopy(env)
        seen, _ = twin.reset(seed=3)
        twin.action_space.seed(0)
        screens, over = [seen], False
        while not over:
            seen, _, terminated, truncated, _ = twin.step(twin.action_space.sample())
            screens.append(seen)
            over = terminated or truncated
        episodes.append(np.stack(screens))
    fresh = wrap(AtariWrapper(raw(), noop_max=0), type="1")
    np.testing.assert_array_equal(*episodes)
    np.testing.assert_array_equal(episodes[0][0], fresh.reset(seed=3)[0])
