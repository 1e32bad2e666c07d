"""The checked ``DummyVecEnv`` steps as SB3's does, and what it gives away is a copy."""

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from rlspo.common.checked_env import CheckedDummyVecEnv, copy_of


class Talker(gym.Wrapper[Any, Any, Any, Any]):
    """Its infos have everything that infos may have, and are the same object at each step."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.shared: dict[str, Any] = {"steps": [], "array": np.zeros(2), "deep": {"list": [0]}, "name": "x"}

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.shared["steps"].append(len(self.shared["steps"]))
        self.shared["array"] += 1
        self.shared["deep"]["list"][0] += 1
        self.shared["number"] = np.float64(reward)
        self.shared.pop("episode", None)
        self.shared.pop("terminal_observation", None)
        return observation, reward, terminated, truncated, self.shared | info if terminated else self.shared


def make(env_id: str, seed: int) -> Any:
    def build() -> gym.Env[Any, Any]:
        env = Monitor(Talker(gym.make(env_id)))
        env.reset(seed=seed)
        env.action_space.seed(seed)
        return env

    return build


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return list(one) == list(other) and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("env_id", ["CartPole-v1", "MountainCarContinuous-v0"])
def test_steps_as_sb3s_does(env_id: str) -> None:
    theirs, ours = (kind([make(env_id, 1), make(env_id, 2)]) for kind in (DummyVecEnv, CheckedDummyVecEnv))
    rng = np.random.default_rng(0)
    theirs.seed(3), ours.seed(3)
    assert np.array_equal(theirs.reset(), ours.reset())
    kept = []
    for _ in range(60):
        if isinstance(theirs.action_space, gym.spaces.Discrete):
            actions = rng.integers(0, 2, 2)
        else:
            actions = rng.uniform(-1, 1, (2, 1)).astype(np.float32)
        expected, found = theirs.step(actions), ours.step(actions)
        for one, other in zip(expected[:3], found[:3], strict=True):
            assert one.dtype == other.dtype
            assert np.array_equal(one, other)
        for one, other in zip(expected[3], found[3], strict=True):
            for info in (one, other):
                info.get("episode", {}).pop("t", None)  # seconds
            assert equal(one, other)
        kept.append((found, copy.deepcopy(found)))
    for found, then in kept:  # nothing that was given away has changed since
        assert all(np.array_equal(one, other) for one, other in zip(found[:3], then[:3], strict=True))
        assert all(equal(one, other) for one, other in zip(found[3], then[3], strict=True))


def test_infos_of_other_kinds_are_copied_too() -> None:
    class Info(dict[str, Any]):
        pass

    info = Info(list=[1])
    copied = copy_of(info)
    assert type(copied) is Info
    assert copied["list"] == [1]
    assert copied["list"] is not info["list"]
