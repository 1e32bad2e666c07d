"""One simulator serves environments that follow the same rules, and refuses others."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from rlspo.envs.frozen_lake import FrozenLakePostDecisionEnv
from rlspo.envs.rubiks_cube import RubiksCubeEnv
from rlspo.envs.rubiks_cube.rules import Cube
from rlspo.simulators import NotSimulatableError, simulator_for
from rlspo.simulators.alike import difference


class Quarter(gym.Env[Any, Any]):
    """x grows by ``gain`` times the action."""

    def __init__(self, gain: float, keeps_itself: bool = False) -> None:
        self.gain, self.keeps_itself = gain, keeps_itself
        self.observation_space, self.action_space = spaces.Box(-9, 9, (1,), np.float64), spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x = self.np_random.random(1)
        return self.x.copy(), {}

    def step(self, action: Any) -> Any:
        self.x = self.x + self.gain * action
        return self.x.copy(), float(self.x[0]), False, False, {}

    def array_form(self) -> Any:
        return (SettingsForm if self.keeps_itself else QuarterForm)(self)


class QuarterForm:
    device, stochastic = None, False

    def __init__(self, env: Quarter) -> None:
        self.gain = env.gain

    def capture(self, env: Any) -> Any:
        return {"x": env.x[None].copy()}

    def restore(self, env: Any, states: Any) -> None:
        env.x = states["x"][0].copy()

    def generator(self, env: Any) -> Any:
        return env.np_random

    def step(self, states: Any, actions: Any, generator: Any) -> Any:
        x = states["x"] + self.gain * actions[:, None]
        never = np.zeros(len(x), bool)
        return {"x": x}, x, x[:, 0], never, never


class SettingsForm(QuarterForm):
    """Knows its environment, whose state is none of its rules."""

    def __init__(self, env: Quarter) -> None:
        super().__init__(env)
        self.env = env
        self.settings = {"gain": env.gain}


@pytest.mark.parametrize("keeps_itself", [False, True])
def test_array_forms_with_other_arguments_are_rejected(keeps_itself: bool) -> None:
    def make(gain: float) -> Any:
        return lambda: Quarter(gain, keeps_itself)

    env = DummyVecEnv([make(1.0), make(1.0)])
    env.reset()
    simulator = simulator_for(env)
    ahead = simulator.step(simulator.capture(env), np.array([1, 0])).observations
    np.testing.assert_array_equal(ahead, env.step(np.array([1, 0]))[0])
    with pytest.raises(NotSimulatableError, match=r"differ in .*gain"):
        simulator_for(DummyVecEnv([make(1.0), make(-1.0)]))
    other = Quarter(-1.0, keeps_itself)
    other.reset()
    with pytest.raises(ValueError, match=r"differ in .*gain"):
        simulator_for(Quarter(1.0, keeps_itself)).capture(other)


def test_environments_of_the_library_with_other_rules_are_rejected() -> None:
    class Half(Cube):
        pass

    def half() -> RubiksCubeEnv:
        env = RubiksCubeEnv()
        env.puzzle = Half()
        return env

    with pytest.raises(NotSimulatableError, match="puzzle"):
        simulator_for(DummyVecEnv([RubiksCubeEnv, half]))
    icy, dry = lambda: FrozenLakePostDecisionEnv(slip_probability=0.5), lambda: FrozenLakePostDecisionEnv(slip_probability=0.0)
    with pytest.raises(NotSimulatableError, match="differ"):
        simulator_for(DummyVecEnv([icy, dry]))
    simulator_for(DummyVecEnv([icy, icy]))


def test_where_episodes_start_is_no_matter_of_rules() -> None:
    env = DummyVecEnv([lambda: RubiksCubeEnv(scramble_depth=1), lambda: RubiksCubeEnv(scramble_depth=5)])
    env.reset()
    assert len(simulator_for(env).capture(env)) == 2


class Gain(gym.ActionWrapper[Any, Any, Any]):
    """Half or all of an action."""

    simulated_state = ("last",)

    def __init__(self, env: Any, share: float) -> None:
        super().__init__(env)
        self.share, self.last = share, None

    def action(self, action: Any) -> Any:
        self.last = action
        return self.share * action


def test_wrappers_with_other_attributes_are_rejected() -> None:
    def make(share: float) -> Any:
        return lambda: Gain(Quarter(1.0), share)

    with pytest.raises(NotSimulatableError, match="share"):
        simulator_for(DummyVecEnv([make(1.0), make(0.5)]))
    one, other = make(1.0)(), make(0.5)()
    for env in (one, other):
        env.reset()
    one.last, simulator = 3, simulator_for(one)
    with pytest.raises(ValueError, match="share"):
        simulator.capture(other)
    simulator.capture(make_reset(make(1.0)))


def make_reset(make: Any) -> Any:
    env = make()
    env.reset()
    return env


def test_time_limits_of_another_length_are_rejected() -> None:
    one, other = (make_reset(lambda n=n: gym.wrappers.TimeLimit(Quarter(1.0), n)) for n in (5, 6))
    with pytest.raises(ValueError, match="max_episode_steps"):
        simulator_for(one).capture(other)


class Holder:
    def __init__(self, **parts: Any) -> None:
        vars(self).update(parts)


def closing(value: Any) -> Any:
    return lambda x: x + value


SAME = [
    (np.arange(3000.0), np.arange(3000.0)),
    (float("nan"), float("nan")),
    (np.array([np.nan]), np.array([np.nan])),
    (np.random.default_rng(0), np.random.default_rng(1)),
    (closing(2), closing(2)),
    (Holder(a=[1, {"b": torch.ones(2)}]), Holder(a=[1, {"b": torch.ones(2)}])),
]
OTHER = [
    (np.arange(3000.0), np.where(np.arange(3000) == 1500, 0.0, np.arange(3000.0)), "what they are"),
    (1, 1.0, "what they are"),
    (closing(2), closing(3), "closure[0]"),
    (Holder(a=[1, {"b": torch.ones(2)}]), Holder(a=[1, {"b": torch.zeros(2)}]), "a[1]['b']"),
    ({"x": 1}, {"y": 1}, "['x']"),
    (object(), object(), "what they are"),
]


@pytest.mark.parametrize("pair", SAME, ids=lambda pair: type(pair[0]).__name__)
def test_alike(pair: Any) -> None:
    assert difference(*pair) == ""


@pytest.mark.parametrize(("one", "other", "where"), OTHER)
def test_different(one: Any, other: Any, where: str) -> None:
    assert difference(one, other) == where


def test_what_contains_itself() -> None:
    one, other = Holder(x=1), Holder(x=1)
    one.me, other.me = one, other
    assert difference(one, other) == ""
