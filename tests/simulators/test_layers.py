"""Layers do what the wrappers do that they follow, seen from random episodes of the real ones."""

import importlib.util
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import wrappers
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecCheckNan,
    VecExtractDictObs,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
)

from rlspo.common.trees import tree_leaves
from rlspo.envs import PostDecision
from rlspo.simulators import NotSimulatableError, check_simulator, simulator_for
from rlspo.simulators.arrays import ArrayCore
from tests.simulators.environments import PICTURES, Drift

Wrap = Callable[[gym.Env], gym.Env]


class Doubled(gym.RewardWrapper):
    """Has no attributes of its own."""

    def reward(self, reward: Any) -> Any:
        return 2 * reward


class Inertia(gym.ActionWrapper):
    """Remembers half of the last action, in an array that it writes into."""

    simulated_state = ("speed",)

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.speed = np.zeros(2, np.float32)

    def reset(self, **kwargs: Any) -> Any:
        self.speed[:] = 0
        return super().reset(**kwargs)

    def action(self, action: Any) -> Any:
        self.speed += 0.5 * (action - self.speed)
        return self.speed.copy()


class Trail(gym.ObservationWrapper):
    """Remembers a list."""

    simulated_state = ("trail",)

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.trail: list[float] = []

    def observation(self, observation: Any) -> Any:
        self.trail.append(float(observation[0]))
        return observation + np.float32(sum(self.trail[-3:]))


def frozen(env: gym.Env) -> gym.Env:
    """Let statistics learn for some steps, then stand still."""
    env.reset(seed=3)
    for _ in range(4):
        env.step(env.action_space.sample() * 0.3)
    layer: Any = env
    while isinstance(layer, gym.Wrapper):
        if hasattr(layer, "_update_running_mean"):
            layer.update_running_mean = False
        layer = layer.env
    return env


STACKS: dict[str, Wrap] = {
    "none": lambda env: env,
    "time limit": lambda env: wrappers.TimeLimit(env, 5),
    "checkers": lambda env: wrappers.OrderEnforcing(wrappers.PassiveEnvChecker(env)),
    "statistics": lambda env: wrappers.RecordEpisodeStatistics(wrappers.TimeLimit(env, 4)),
    "monitor": lambda env: Monitor(wrappers.TimeLimit(env, 4)),
    "frames": lambda env: wrappers.FrameStackObservation(env, 3),
    "frames, zero": lambda env: wrappers.FrameStackObservation(env, 4, padding_type="zero"),
    "frames, custom": lambda env: wrappers.FrameStackObservation(env, 3, padding_type=np.ones(2, np.float32)),
    "normalised": lambda env: frozen(wrappers.NormalizeReward(wrappers.NormalizeObservation(env), gamma=0.9)),
    "clip action": lambda env: wrappers.ClipAction(env),
    "rescale action": lambda env: wrappers.RescaleAction(env, np.float32(-3), np.float32(2)),
    "transform action": lambda env: wrappers.TransformAction(env, lambda a: a * 0.5, env.action_space),
    "discretize": lambda env: wrappers.DiscretizeAction(env, 5),
    "transform": lambda env: wrappers.TransformObservation(env, lambda o: o + 1, None),
    "rescale": lambda env: wrappers.RescaleObservation(env, np.float32(-1), np.float32(1)),
    "reshape": lambda env: wrappers.FlattenObservation(wrappers.ReshapeObservation(env, (2, 1))),
    "type": lambda env: wrappers.DtypeObservation(env, np.float64),
    "clip reward": lambda env: wrappers.ClipReward(env, -0.2, 0.3),
    "transform reward": lambda env: wrappers.TransformReward(env, lambda r: r**2),
    "time": lambda env: wrappers.TimeAwareObservation(wrappers.TimeLimit(env, 6)),
    "time, dict": lambda env: wrappers.TimeAwareObservation(wrappers.TimeLimit(env, 6), flatten=False, normalize_time=True),
    "own, nothing": Doubled,
    "own, action": Inertia,
    "own, observation": Trail,
    "post-decision": lambda env: PostDecision(env, lambda observation, action: (observation, 0.0)),
    "many": lambda env: Monitor(
        wrappers.FrameStackObservation(wrappers.TimeLimit(Inertia(wrappers.RescaleAction(Trail(env), -2.0, 2.0)), 7), 2)
    ),
}
TORCH = [
    "time limit",
    "statistics",
    "monitor",
    "frames",
    "normalised",
    "clip action",
    "rescale",
    "transform",
    "time",
    "clip reward",
]


@pytest.mark.parametrize("stack", STACKS)
def test_stacks_around_arrays_behave_as_the_real_ones(stack: str) -> None:
    env = STACKS[stack](Drift())
    assert isinstance(simulator_for(env).core, ArrayCore)
    assert check_simulator(env, steps=60) == []


@pytest.mark.parametrize("stack", TORCH)
def test_stacks_around_tensors_behave_as_the_real_ones(stack: str) -> None:
    env = STACKS[stack](Drift(device="cpu"))
    env.reset(seed=0)
    simulator = simulator_for(env)
    action = torch.zeros((1, 2))
    outcome = simulator.step(simulator.capture(env), action)
    leaves = [*tree_leaves(outcome.observations), outcome.rewards, outcome.truncated]
    assert all(isinstance(leaf, torch.Tensor) for leaf in leaves)
    observation, reward, *_ = env.step(np.zeros(2, np.float32))
    np.testing.assert_allclose(observation, outcome.observations[0].numpy(), rtol=1e-6)
    assert reward == pytest.approx(outcome.rewards.item())


def test_counting_leaves_the_device_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    env = Monitor(wrappers.RecordEpisodeStatistics(wrappers.TimeLimit(Drift(device="cpu"), 3)))
    env.reset(seed=0)
    simulator = simulator_for(env)
    states = simulator.replicate(simulator.capture(env), 4)

    def refuse(*_: Any) -> None:
        raise AssertionError("left the device")

    for name in ("cpu", "numpy", "item", "tolist"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    for _ in range(4):
        outcome = simulator.step(states, torch.zeros((4, 2)))
        states = outcome.states
    assert states.ended.all()


def test_the_end_of_time_is_seen_and_counted() -> None:
    env = Monitor(wrappers.TimeLimit(Drift(), 3))
    env.reset(seed=0)
    env.step(np.zeros(2))
    simulator = simulator_for(env)
    captured = simulator.capture(env)
    states = simulator.select(captured, np.array([0]))
    truncated = []
    for _ in range(3):
        outcome = simulator.step(states, np.zeros((1, 2)))
        states = outcome.states
        truncated.append(bool(outcome.truncated[0]))
    assert truncated == [False, True, False]
    assert states.memory[0]["elapsed"][0] == 3, "a state that is over counts no more"
    simulator.restore(env, captured)
    assert len(env.rewards) == env.total_steps == 1
    assert sum(env.rewards) == pytest.approx(float(env.unwrapped.x[0]))
    env.step(np.zeros(2))
    *_, info = env.step(np.zeros(2))
    assert info["episode"]["l"] == 3


def test_a_branch_teaches_the_statistics_nothing() -> None:
    env = wrappers.NormalizeObservation(Drift())
    env.reset(seed=0)
    simulator = simulator_for(env)
    before = env.obs_rms.count, env.obs_rms.mean.copy()
    states = simulator.replicate(simulator.capture(env), 5)
    outcome = simulator.step(states, np.full((5, 2), 0.3))
    assert env.obs_rms.count == before[0]
    np.testing.assert_array_equal(env.obs_rms.mean, before[1])
    raw = 0.9 * env.unwrapped.x + np.float32(0.3)  # type: ignore[attr-defined]
    expected = (raw - before[1]) / np.sqrt(env.obs_rms.var + env.epsilon)
    np.testing.assert_allclose(outcome.observations, np.tile(expected, (5, 1)), rtol=1e-5)


def test_restoring_takes_statistics_back() -> None:
    env = wrappers.NormalizeReward(wrappers.NormalizeObservation(Drift()))
    env.reset(seed=0)
    env.step(np.full(2, 0.1))
    simulator = simulator_for(env)
    captured = simulator.capture(env)
    first = [env.step(np.full(2, 0.1))[:2] for _ in range(3)]
    simulator.restore(env, captured)
    for (observation, reward), (again, other) in zip(first, [env.step(np.full(2, 0.1))[:2] for _ in range(3)], strict=True):
        np.testing.assert_array_equal(observation, again)
        assert reward == other


VECTORS: dict[str, Callable[[Any], Any]] = {
    "none": lambda env: env,
    "normalize": lambda env: VecNormalize(env, gamma=0.9, clip_obs=1.0, clip_reward=0.5),
    "no rewards": lambda env: VecNormalize(env, norm_reward=False),
    "frames": lambda env: VecFrameStack(env, 3),
    "many": lambda env: VecNormalize(VecFrameStack(VecMonitor(VecCheckNan(env)), 2)),
}


@pytest.mark.parametrize("stack", VECTORS)
def test_wrappers_around_vectors_behave_as_the_real_ones(stack: str) -> None:
    env = VECTORS[stack](DummyVecEnv([lambda: wrappers.TimeLimit(Drift(), 9)] * 3))
    if isinstance(env, VecNormalize):
        env.reset()
        for _ in range(5):
            env.step(np.zeros((3, 2)))
    assert check_simulator(env, steps=60) == []


@pytest.mark.parametrize("stack", ["frames", "images", "key", "normalize"])
def test_wrappers_around_dictionaries_behave_as_the_real_ones(stack: str) -> None:
    inner = DummyVecEnv([lambda: wrappers.TimeLimit(Drift(space=PICTURES), 9)] * 2)
    env: Any = {
        "frames": lambda: VecFrameStack(VecTransposeImage(inner), 3),
        "images": lambda: VecTransposeImage(VecFrameStack(inner, 2)),
        "key": lambda: VecExtractDictObs(inner, "x"),
        "normalize": lambda: VecNormalize(inner, norm_obs_keys=["x"]),
    }[stack]()
    assert check_simulator(env, steps=40) == []


def test_stacks_of_dictionaries_behave_as_the_real_ones() -> None:
    assert check_simulator(wrappers.FrameStackObservation(Drift(space=PICTURES), 2)) == []


def test_vec_normalize_remembers_what_it_last_saw() -> None:
    env = VecNormalize(DummyVecEnv([Drift, Drift]))
    env.reset()
    env.step(np.zeros((2, 2)))
    simulator = simulator_for(env)
    captured, original = simulator.capture(env), env.get_original_obs()
    count = env.obs_rms.count
    env.step(np.ones((2, 2)))
    simulator.restore(env, captured)
    np.testing.assert_array_equal(env.get_original_obs(), original)
    assert env.obs_rms.count == count


class Counting(gym.ObservationWrapper):
    """Has an attribute and does not say whether it is memory."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.seen = 0

    def observation(self, observation: Any) -> Any:
        self.seen += 1
        return observation * self.seen


class Longer(wrappers.TimeLimit):
    """Derived from a known one."""


class Frozen(Counting):
    """Says, wrongly, that it remembers nothing."""

    simulated_state = ()


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (Counting, "Counting cannot be simulated: its attributes seen may be memory"),
        (lambda env: Longer(env, 3), "Longer cannot be simulated"),
        (wrappers.Autoreset, "Autoreset cannot be simulated: a step that resets"),
        (lambda env: wrappers.RepeatAction(env, 2), "RepeatAction cannot be simulated"),
        (lambda env: wrappers.StickyAction(env, 0.5), "StickyAction cannot be simulated: its attributes is_sticky_actions"),
    ],
)
def test_wrappers_that_cannot_be_followed_are_rejected_by_name(wrap: Wrap, message: str) -> None:
    with pytest.raises(NotSimulatableError, match=message):
        simulator_for(wrap(Drift()))


def test_a_wrong_declaration_is_found_by_the_check() -> None:
    with pytest.raises(ValueError, match=r"The observation of environment 0 at step .* differs"):
        check_simulator(Frozen(Drift()))


def test_a_wrapper_may_bring_its_own_layer() -> None:
    class Own(Longer):
        def simulated_layer(self) -> Any:
            from rlspo.simulators.layers import TimeLimitLayer

            return TimeLimitLayer(self)

    assert check_simulator(Own(Drift(), 4)) == []


HAS_MUJOCO = all(importlib.util.find_spec(name) for name in ("mujoco", "rlspo.simulators.mujoco"))


@pytest.mark.skipif(not HAS_MUJOCO, reason="needs MuJoCo and its simulator")
@pytest.mark.parametrize("stack", ["time limit", "monitor", "frames", "normalised"])
def test_stacks_around_mujoco_behave_as_the_real_ones(stack: str) -> None:
    assert check_simulator(STACKS[stack](gym.make("HalfCheetah-v5")), steps=24) == []
