"""Pictures: of one size through an episode, fit for video, and they show what changes."""

import gymnasium as gym
import numpy as np
import pytest

from rlspo.envs.lot_sizing import LotSizingEnv, load_instance
from rlspo.envs.lot_sizing.render import draw_plant


@pytest.mark.parametrize("name", ["2x1", "15x5", "30x15"])
def test_pictures_have_one_size_with_even_sides(name: str) -> None:
    env = LotSizingEnv(name, render_mode="rgb_array")
    env.action_space.seed(0)
    env.reset(seed=0)
    first = env.render()
    assert first.dtype == np.uint8 and first.shape[2] == 3
    assert first.shape[0] % 16 == 0 and first.shape[1] % 16 == 0
    for _ in range(5):
        env.step(env.action_space.sample())
        assert env.render().shape == first.shape
    assert max(first.shape) < 1300, "it fits a screen"


@pytest.mark.parametrize("change", ["inventory", "setups", "demand", "elapsed", "costs"])
def test_everything_that_is_given_is_shown(change: str) -> None:
    instance = load_instance("2x1")
    state = {"inventory": [4, 5], "setups": [1], "demand": [1, 2], "elapsed": 3, "costs": [10.0, 5.0, 1.0]}
    other = {"inventory": [4, 6], "setups": [0], "demand": [1, 3], "elapsed": 4, "costs": [10.0, 5.0, 2.0]}
    arrays = {key: value if isinstance(value, int) else np.array(value) for key, value in state.items()}
    changed = {**arrays, change: other[change] if change == "elapsed" else np.array(other[change])}
    assert (draw_plant(instance, **arrays) != draw_plant(instance, **changed)).any()


def test_without_a_mode_nothing_is_drawn() -> None:
    env = LotSizingEnv("2x1")
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode='rgb_array'"):
        assert env.render() is None


@pytest.mark.filterwarnings("ignore:.*not in the possible render_modes")
@pytest.mark.parametrize("env_id", ["LotSizing", "AdmissionControl", "FrozenLakePostDecision", "MultiGoal"])
def test_a_mode_that_is_not_there_is_rejected(env_id: str) -> None:
    with pytest.raises(ValueError, match="render_mode is 'foo'; it must be 'rgb_array'"):
        gym.make(f"rlspo/{env_id}-v0", render_mode="foo")


def test_nothing_is_drawn_before_an_episode() -> None:
    with pytest.raises(gym.error.ResetNeeded, match="before render"):
        LotSizingEnv("2x1", render_mode="rgb_array").render()
