"""Real time is the environment's own, and no agent acts faster than allowed."""

import gymnasium as gym
import pytest
from stable_baselines3.common.atari_wrappers import MaxAndSkipEnv

from rlspo.zoo.video import pace


@pytest.fixture
def lamp():
    from video_environments import Lamp

    return Lamp()


@pytest.fixture
def clock(monkeypatch):
    """A clock that only sleeping moves."""

    class Clock:
        now = 100.0
        slept: list[float] = []  # noqa: RUF012

        def monotonic(self):
            return self.now

        def sleep(self, seconds):
            self.slept.append(seconds)
            self.now += seconds

    fake = Clock()
    fake.slept = []
    monkeypatch.setattr(pace, "time", fake)
    return fake


def test_real_time_of_an_environment_and_of_one_that_skips(lamp):
    assert pace.real_time(lamp) == 20
    assert pace.real_time(MaxAndSkipEnv(lamp, skip=4)) == 5


def test_atari_counts_the_frames_that_it_skips():
    ale_py = pytest.importorskip("ale_py")
    gym.register_envs(ale_py)
    assert pace.real_time(gym.make("ALE/Breakout-v5")) == 15  # 60 frames in a second, four to a step
    assert pace.real_time(gym.make("ALE/Breakout-v5", frameskip=1)) == 60


def test_steps_wait_for_their_time(lamp, clock):
    env = pace.Pace(lamp, fps=None)
    env.reset()
    for _ in range(3):
        env.step(0)
    assert clock.slept == pytest.approx([0.05, 0.05])  # the first one need not wait
    clock.now += 10
    env.step(0)
    assert len(clock.slept) == 2  # late already
    env.step(0)
    assert clock.slept[2:] == pytest.approx([0.05])  # time lost is not made up for


def test_a_speed_of_ones_own_overrules_the_environments_clock(lamp, clock):
    env = pace.Pace(lamp, fps=100)
    env.reset()
    env.step(0)
    env.step(0)
    assert clock.slept == pytest.approx([0.01])
    assert lamp.metadata["render_fps"] > 1000 and type(lamp).metadata["render_fps"] == 20
