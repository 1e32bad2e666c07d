"""MuJoCo's tasks, many states at a time, against gymnasium's own steps."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("mujoco")

from rlspo.simulators.mujoco import SIMULATED, MujocoCore

LIVE = np.ones(1, bool)


def acting(env: gym.Env, n: int, seed: int = 0) -> np.ndarray:
    env.action_space.seed(seed)
    return np.stack([env.action_space.sample() for _ in range(n)])


def assert_same_step(core: MujocoCore, states: Any, env: gym.Env, action: Any) -> tuple[Any, bool]:
    """A step of states of one is the environment's, in all that it gives. Returns the new states and whether they are ends."""
    outcome, terms = core.step_with_terms(states, action[None], LIVE)
    seen, reward, terminated, truncated, info = env.step(action)
    np.testing.assert_array_equal(outcome.observations[0], seen)
    assert outcome.observations.dtype == seen.dtype
    assert outcome.rewards[0] == pytest.approx(reward, rel=1e-9, abs=1e-9)
    assert (outcome.terminated[0], outcome.truncated[0]) == (terminated, truncated)
    named = {name: value for name, value in info.items() if name.startswith("reward") or name.endswith("penalty")}
    assert {name: values[0] for name, values in terms.items()} == pytest.approx(named, rel=1e-9, abs=1e-9)
    return outcome.states, terminated


@pytest.mark.parametrize("env_id", SIMULATED)
def test_a_step_of_a_captured_state_is_the_environments(env_id: str) -> None:
    env = gym.make(env_id).unwrapped
    core = MujocoCore(env, threads=1)
    env.reset(seed=0)
    for step, action in enumerate(acting(env, 1000)):
        _, ended = assert_same_step(core, core.capture(env), env, action)
        if ended or step % 200 == 199:
            env.reset()
