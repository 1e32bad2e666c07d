"""Copies of a MuJoCo task stepped together, against gymnasium's own."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

pytest.importorskip("mujoco")

import rlspo
from rlspo.common.vector_env import GymnasiumVecEnv
from rlspo.envs import MujocoVectorEnv
from rlspo.simulators.mujoco import SIMULATED

N = 3


def gymnasiums(env_id: str, **kwargs: Any) -> SyncVectorEnv:
    return SyncVectorEnv([lambda: gym.make(env_id, **kwargs) for _ in range(N)], autoreset_mode=AutoresetMode.SAME_STEP)


def assert_same(ours: Any, theirs: Any, name: str = "") -> None:
    """Equal to the last bit and in type; what is or sums up a reward, to 1e-9."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), name
        for key in theirs:
            assert_same(ours[key], theirs[key], key)
    elif isinstance(theirs, np.ndarray) and theirs.dtype == object:
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other, name)
    elif theirs is None:
        assert ours is None, name
    else:
        assert ours.dtype == theirs.dtype, name
        tolerance = 1e-9 if name.startswith("reward") or name.endswith("penalty") else 0.0
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance, err_msg=name)


def assert_same_steps(ours: MujocoVectorEnv, theirs: SyncVectorEnv, steps: int) -> int:
    """Steps both. Returns how many episodes ended."""
    ours.action_space.seed(0)
    names, ends = ("observations", "rewards", "terminated", "truncated", "infos"), 0
    for _ in range(steps):
        actions = ours.action_space.sample()
        mine, other = ours.step(actions), theirs.step(actions)
        for name, one, two in zip(names, mine, other, strict=True):
            assert_same(one, two, name)
        ends += int((mine[2] | mine[3]).sum())
    return ends


@pytest.mark.parametrize("env_id", SIMULATED)
def test_episodes_are_gymnasiums(env_id: str) -> None:
    ours, theirs = MujocoVectorEnv(env_id, N, max_episode_steps=30), gymnasiums(env_id, max_episode_steps=30)
    assert (ours.observation_space, ours.action_space) == (theirs.observation_space, theirs.action_space)
    for seed in (3, None, [5, 7, 5]):
        for one, other in zip(ours.reset(seed=seed), theirs.reset(seed=seed), strict=True):
            assert_same(one, other)
        assert assert_same_steps(ours, theirs, 45) >= N


ARGUMENTS: list[tuple[str, dict[str, Any]]] = [
    ("HalfCheetah-v5", {"frame_skip": 2, "exclude_current_positions_from_observation": False, "ctrl_cost_weight": 0.7}),
    ("Ant-v5", {"main_body": "aux_1", "include_cfrc_ext_in_observation": False, "terminate_when_unhealthy": False}),
    ("Hopper-v5", {"healthy_z_range": (1.0, 1.3), "reset_noise_scale": 0.1, "max_episode_steps": -1}),
]


@pytest.mark.parametrize(("env_id", "kwargs"), ARGUMENTS)
def test_arguments_of_the_task(env_id: str, kwargs: dict[str, Any]) -> None:
    ours, theirs = MujocoVectorEnv(env_id, N, **kwargs), gymnasiums(env_id, **kwargs)
    ours.reset(seed=0), theirs.reset(seed=0)
    assert_same_steps(ours, theirs, 60)


def test_threads_do_not_matter() -> None:
    one, four = (MujocoVectorEnv("Ant-v5", 16, threads=threads) for threads in (1, 4))
    one.reset(seed=0), four.reset(seed=0)
    for _ in range(20):
        actions = one.action_space.sample()
        for mine, other in zip(one.step(actions), four.step(actions), strict=True):
            assert_same(mine, other)


def test_some_copies_are_reset_and_the_others_go_on() -> None:
    ours, theirs = MujocoVectorEnv("Hopper-v5", N), gymnasiums("Hopper-v5")
    ours.reset(seed=0), theirs.reset(seed=0)
    assert_same_steps(ours, theirs, 10)
    for one, other in zip(
        ours.reset(seed=9, options={"reset_mask": np.array([True, False, True])}),
        theirs.reset(seed=9, options={"reset_mask": np.array([True, False, True])}),
        strict=True,
    ):
        assert_same(one, other)
    assert_same_steps(ours, theirs, 10)


def test_copies_can_be_read_without_disturbing_them() -> None:
    ours, theirs = MujocoVectorEnv("Hopper-v5", N, max_episode_steps=7), gymnasiums("Hopper-v5", max_episode_steps=7)
    ours.reset(seed=0), theirs.reset(seed=0)
    for _ in range(12):
        assert_same_steps(ours, theirs, 1)
        for mine, other in zip(ours.envs, theirs.envs, strict=True):
            np.testing.assert_array_equal(mine.data.qpos, other.unwrapped.data.qpos)
            np.testing.assert_array_equal(mine.data.qvel, other.unwrapped.data.qvel)


def test_models_may_change() -> None:
    ours, theirs = MujocoVectorEnv("HalfCheetah-v5", N), gymnasiums("HalfCheetah-v5")
    ours.reset(seed=0), theirs.reset(seed=0)
    for env in (ours.envs[1], theirs.envs[1].unwrapped):
        env.model.opt.gravity[2] = -3.0
    assert_same_steps(ours, theirs, 20)


def test_infos_are_no_views_of_the_physics() -> None:
    ours, theirs = MujocoVectorEnv("Hopper-v5", N), gymnasiums("Hopper-v5")
    ours.reset(seed=np.int64(0)), theirs.reset(seed=0)
    for _ in range(3):
        infos = ours.step(np.zeros((N, 3)))[4]
        theirs.step(np.zeros((N, 3)))
        for value in infos.values():
            value[:] = 0
    assert_same_steps(ours, theirs, 5)


def test_agents_take_it() -> None:
    agent = rlspo.PPO(
        "MlpPolicy", MujocoVectorEnv("Hopper-v5", 2), n_steps=32, batch_size=32, n_epochs=1, device="cpu", seed=1
    )
    agent.learn(128)
    assert agent.ep_info_buffer
    lengths = [episode["l"] for episode in agent.ep_info_buffer]
    assert 0 < min(lengths) <= max(lengths) < 64


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(ValueError, match="num_envs"):
        MujocoVectorEnv("Hopper-v5", 0)
    with pytest.raises(ValueError, match="threads is 0"):
        MujocoVectorEnv("Hopper-v5", 1, threads=0)
    with pytest.raises(ValueError, match="'human'"):
        MujocoVectorEnv("Hopper-v5", 1, render_mode="human")
    with pytest.raises(AttributeError, match="_forward_reward_weight"):
        GymnasiumVecEnv(MujocoVectorEnv("Hopper-v5")).set_attr("_forward_reward_weight", 3.0)
    with pytest.raises(TypeError, match="cannot be simulated"):
        MujocoVectorEnv("CartPole-v1")
    env = MujocoVectorEnv("Hopper-v5", 2)
    with pytest.raises(gym.error.ResetNeeded):
        env.step(env.action_space.sample())
    env.reset()
    with pytest.raises(ValueError, match=r"actions have shape \(3,\)"):
        env.step(np.zeros(3))
    with pytest.raises(ValueError, match="one for each of 2"):
        env.reset(seed=[1, 2, 3])
    with pytest.raises(ValueError, match="reset_mask"):
        env.reset(options={"reset_mask": [1, 0]})


def test_wrappers_are_not_left_out_silently() -> None:
    gym.register(
        "WrappedHopper-v0",
        "gymnasium.envs.mujoco.hopper_v5:HopperEnv",
        additional_wrappers=(gym.wrappers.ClipReward.wrapper_spec(min_reward=-1, max_reward=1),),
    )
    try:
        with pytest.raises(TypeError, match="ClipReward"):
            MujocoVectorEnv("WrappedHopper-v0")
    finally:
        del gym.registry["WrappedHopper-v0"]
