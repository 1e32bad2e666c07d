"""The plane with several goals: its arithmetic, its ends, its picture."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_for_sb3

from rlspo.envs.multi_goal import MultiGoalEnv


@pytest.mark.filterwarnings("ignore")
def test_fits_gymnasium_and_sb3() -> None:
    check_env(gym.make("rlspo/MultiGoal-v0", render_mode="rgb_array").unwrapped)
    check_env_for_sb3(gym.make("rlspo/MultiGoal-v0"))


def test_steps_rewards_and_the_end() -> None:
    env = MultiGoalEnv(start_spread=0.0)
    env.reset(seed=0)
    seen, reward, terminated, truncated, info = env.step(np.array([1.0, 0.5]))
    np.testing.assert_allclose(seen, [1.0, 0.5])
    assert reward == pytest.approx(-1.25 - np.hypot(4, 0.5) / 5)
    assert (terminated, truncated, info) == (False, False, {})
    env.step(np.array([1.0, -0.5]))
    env.step(np.array([1.0, 0.0]))
    _, reward, terminated, _, info = env.step(np.array([5.0, 0.0]))  # clipped to 1
    assert terminated
    assert info == {"goal": 0}
    assert reward == pytest.approx(-1 - 1 / 5 + 10)


def test_every_goal_can_be_reached_and_all_are_alike() -> None:
    env = MultiGoalEnv(n_goals=5, start_spread=0.0)
    returns = []
    for index, goal in enumerate(env.goals):
        env.reset(seed=0)
        total, over = 0.0, False
        while not over:
            _, reward, over, _, info = env.step(goal / 9)
            total += reward
        assert info["goal"] == index
        returns.append(total)
    np.testing.assert_allclose(returns, returns[0])


def test_time_runs_out_and_walls_hold() -> None:
    env = gym.make("rlspo/MultiGoal-v0", noise=0.3)
    env.reset(seed=1)
    for _ in range(30):
        seen, _, terminated, truncated, _ = env.step(np.array([1.0, 1.0], np.float32))
        assert np.abs(seen).max() <= 7
    assert truncated
    assert not terminated


def test_the_picture_shows_goals_and_way() -> None:
    env = MultiGoalEnv(render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    env.step(np.array([1.0, 1.0]))
    after = env.render()
    assert before is not None
    assert after is not None
    assert before.shape == (440, 440, 3)
    assert (before != after).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"n_goals": 1}, "n_goals is 1"), ({"radius": 9}, "radius is 9"), ({"noise": -1}, "noise is -1")],
)
def test_bad_numbers(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiGoalEnv(**options)


def test_bad_actions_and_no_reset() -> None:
    env = MultiGoalEnv()
    with pytest.raises(gym.error.ResetNeeded):
        env.step(np.zeros(2))
    env.reset(seed=0)
    with pytest.raises(ValueError, match="two finite numbers"):
        env.step(np.array([np.nan, 0.0]))
