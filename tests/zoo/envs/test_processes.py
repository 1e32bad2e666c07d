"""Processes of environments: what they raise arrives, those that die or hang are named, and closing ends."""

import os
import signal
import time

import gymnasium as gym
import numpy as np
import pytest

from rlspo.zoo.envs import processes
from rlspo.zoo.envs.processes import ProcessVecEnv, WorkerLost
from rlspo.zoo.errors import UserError


class Odd(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class Trouble(gym.Env):
    """Fails in the way that the action chooses."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(6)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        if action == 1:
            raise KeyError("the ledger")
        if action == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if action == 3:
            time.sleep(1000)
        if action == 4:
            raise SystemExit(3)
        if action == 5:
            raise Odd("no pickle", "makes this again")
        return np.ones(2, np.float32), 1.0, False, False, {}


@pytest.fixture
def env(monkeypatch):
    monkeypatch.setattr(processes, "CLOSING", 0.3)
    monkeypatch.setattr(processes, "_CHECK_EVERY", 0.05)
    envs = ProcessVecEnv([Trouble] * 3, start_method="fork")
    envs.reset()
    yield envs
    envs.close()
    for process in envs.processes:  # those that were killed may take a while to end
        process.join(60)
    assert not any(process.is_alive() for process in envs.processes)


def test_what_an_environment_raises_arrives_as_itself(env):
    env.step([0, 0, 0])
    with pytest.raises(KeyError, match="the ledger") as raised:
        env.step([0, 1, 0])
    notes = "\n".join(raised.value.__notes__)
    assert "Environment 1 raised this" in notes and "in step" in notes and "Trouble" not in notes


def test_what_cannot_be_pickled_arrives_in_words(env):
    with pytest.raises(RuntimeError, match="Odd: no pickle and makes this again"):
        env.step([5, 0, 0])


@pytest.mark.parametrize(("action", "said"), [(2, "killed by SIGKILL, perhaps for lack of memory"), (4, "exit code 3")])
def test_a_process_that_is_gone_is_named(env, action, said):
    with pytest.raises(WorkerLost, match=rf"process \d+ of environment 2 .*{said}"):
        env.step([0, 0, action])


def test_a_process_that_hangs_is_named(env, monkeypatch):
    env.step_async(np.array([0, 3, 0]))
    assert env.remotes[0].pipe.poll(60)  # the answer is there; only then patience is short
    monkeypatch.setattr(processes, "PATIENCE", 0.2)
    with pytest.raises(WorkerLost, match=r"Environment 1 has not answered for 0 s; its process \d+ hangs"):
        env.step_wait()


def test_closing_in_the_middle_of_a_step_ends(env):
    env.step_async(np.array([3, 0, 0]))


def test_an_environment_that_is_never_made_is_a_clear_error(monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE", 0.2)
    monkeypatch.setattr(processes, "_CHECK_EVERY", 0.05)
    with pytest.raises(UserError, match=r"environment 0 was not made within 0 s\. Does its constructor wait"):
        ProcessVecEnv([lambda: time.sleep(1000)] * 2, start_method="fork")


def test_a_process_that_does_not_start_is_a_clear_error():
    def broken():
        raise RuntimeError("no licence")

    with pytest.raises(UserError, match=r"--vec-env subproc: 2 processes .* could not be started"):
        ProcessVecEnv([broken, broken], start_method="fork")
