"""Many copies at once: a proper vector environment, and each copy is the scalar environment."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import rlspo  # noqa: F401
from rlspo.envs.lot_sizing import LotSizingEnv, LotSizingVectorEnv
from tests.envs.lot_sizing.plants import plant


@pytest.mark.parametrize("view", [{}, {"observe_setups": False}, {"observe_time": True, "scale_inventory": False}])
def test_make_vec_gives_arrays_of_the_declared_shapes(view: dict[str, Any]) -> None:
    envs = gym.make_vec("rlspo/LotSizing-v0", num_envs=3, vectorization_mode="vector_entry_point", instance="15x5", **view)
    assert isinstance(envs.unwrapped, LotSizingVectorEnv)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    envs.action_space.seed(0)
    seen, info = envs.reset(seed=0)
    single = gym.make("rlspo/LotSizing-v0", instance="15x5", **view)
    assert envs.single_observation_space == single.observation_space
    assert envs.single_action_space == single.action_space
    assert envs.unwrapped.post_decision_space == single.unwrapped.post_decision_space
    assert info["action_mask"].shape == (3, 5 * 16)
    for _ in range(250):  # two episodes and a half
        assert seen in envs.observation_space
        assert seen.dtype == np.float32
        actions = envs.action_space.sample()
        seen, rewards, terminated, truncated, info = envs.step(actions)
        assert rewards.shape == terminated.shape == truncated.shape == (3,)
        assert (info["post_decision_reward"] >= rewards).all()
        assert all(row in envs.unwrapped.post_decision_space for row in info["post_decision_obs"])


def test_a_path_of_demand_is_not_taken_from_the_other_copies() -> None:
    instance = plant()
    vector = LotSizingVectorEnv(2, instance)
    vector.reset(seed=0, options={"demand": instance.demand.sample(np.random.default_rng(0), 5)})
    with pytest.raises(ValueError, match=r"follow one path of demand.*reset all"):
        vector.reset(options={"reset_mask": np.array([True, False])})
    vector.reset()


@pytest.mark.parametrize("observe_time", [False, True])
def test_scalar_and_vector_agree_on_the_same_actions_and_demand(observe_time: bool) -> None:
    instance, generator = plant(), np.random.default_rng(0)
    vector = LotSizingVectorEnv(2, instance, observe_time=observe_time)
    scalars = [LotSizingEnv(instance, observe_time=observe_time) for _ in range(2)]
    demand = instance.demand.sample(generator, 5)
    options = {"demand": demand, "inventory": [3, 2], "setups": [1, 0]}
    together = vector.reset(seed=0, options=options)[0]
    for scalar, row in zip(scalars, together, strict=True):
        np.testing.assert_array_equal(scalar.reset(seed=0, options=options)[0], row)
    for t in range(5):
        actions = generator.integers(0, 3, (2, 2))
        expected_post = vector.post_decision(actions)
        seen, rewards, terminated, truncated, info = vector.step(actions)
        np.testing.assert_array_equal(info["post_decision_obs"], expected_post[0])
        np.testing.assert_array_equal(info["post_decision_reward"], expected_post[1])
        last = info["final_obs"] if t == 4 else seen
        for k, scalar in enumerate(scalars):
            one, reward, ended, cut, about = scalar.step(actions[k])
            np.testing.assert_array_equal(one, last[k])
            np.testing.assert_array_equal(about["post_decision_obs"], info["post_decision_obs"][k])
            assert (ended, cut) == (terminated[k], truncated[k])
            assert reward == rewards[k]
            for key in ("setup_cost", "lost_sales_cost", "holding_cost"):
                assert about[key] == info[key][k]


def test_an_episode_begins_again_in_the_step_that_ends_one() -> None:
    envs = LotSizingVectorEnv(4, plant())
    envs.reset(seed=0)
    for _ in range(4):
        *_, truncated, info = envs.step(np.ones((4, 2), int))
        assert not truncated.any() and "final_obs" not in info
    before = envs.inventory.copy()
    seen, _, terminated, truncated, info = envs.step(np.ones((4, 2), int))
    assert truncated.all() and not terminated.any()
    assert info["_final_obs"].all() and info["_final_info"].all()
    np.testing.assert_array_equal(info["final_info"]["post_decision_obs"], info["post_decision_obs"])
    np.testing.assert_allclose(seen[:, :2] * [10, 8], envs.inventory, rtol=1e-6)
    assert len({tuple(row) for row in envs.inventory}) > 1, "the new episodes start apart"
    assert (envs.setups > 0).all()
    assert any((last[:2] * [10, 8] != now).any() for last, now in zip(info["final_obs"], envs.inventory, strict=True))
    assert (before >= 0).all()


def test_a_part_of_the_copies_can_be_reset() -> None:
    envs = LotSizingVectorEnv(3, plant())
    envs.reset(seed=0)
    envs.step(np.zeros((3, 2), int))
    stock = envs.inventory.copy()
    envs.reset(options={"reset_mask": np.array([False, True, False]), "inventory": [9, 7]})
    assert envs.inventory[1].tolist() == [9, 7]
    np.testing.assert_array_equal(envs.inventory[[0, 2]], stock[[0, 2]])
    ends = [envs.step(np.zeros((3, 2), int))[3].tolist() for _ in range(5)]
    assert ends[3] == [True, False, True] and ends[4] == [False, True, False]


def test_a_seed_decides_all_copies() -> None:
    def play(envs: LotSizingVectorEnv, seed: int) -> np.ndarray:
        envs.reset(seed=seed)
        return np.array([envs.step(np.ones((3, 2), int))[1] for _ in range(8)])

    one, other = LotSizingVectorEnv(3, plant()), LotSizingVectorEnv(3, plant())
    np.testing.assert_array_equal(play(one, 5), play(other, 5))
    assert (play(one, 5) != play(one, 6)).any()


@pytest.mark.parametrize("actions", [np.zeros((2, 2), int), np.zeros((3, 2)), np.full((3, 2), 3), np.full((3, 2), -1)])
def test_bad_actions_are_named(actions: np.ndarray) -> None:
    envs = LotSizingVectorEnv(3, plant())
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="an item from 1 to 2"):
        envs.step(actions)


def test_reset_comes_first_and_takes_one_seed() -> None:
    envs = LotSizingVectorEnv(3, plant())
    with pytest.raises(gym.error.ResetNeeded):
        envs.step(np.zeros((3, 2), int))
    with pytest.raises(gym.error.ResetNeeded):
        envs.post_decision(np.zeros((3, 2), int))
    with pytest.raises(gym.error.ResetNeeded):
        envs.post_decisions(np.zeros((3, 1, 2), int))
    with pytest.raises(ValueError, match="one number"):
        envs.reset(seed=[1, 2, 3])


def test_each_copy_has_its_picture() -> None:
    envs = LotSizingVectorEnv(2, plant(), render_mode="rgb_array")
    envs.reset(seed=0)
    pictures = envs.render()
    assert len(pictures) == 2 and pictures[0].dtype == np.uint8 and (pictures[0] != pictures[1]).any()
