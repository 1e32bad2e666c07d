"""The scalar environment: it is a proper one, its episodes are the plant's, its options and its errors."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_of_sb3

import rlspo  # noqa: F401
from rlspo.envs import check_post_decision_env
from rlspo.envs.lot_sizing import LotSizingEnv
from tests.envs.lot_sizing.plants import plant

VIEWS: list[dict[str, Any]] = [
    {},
    {"observe_setups": False},
    {"observe_time": True},
    {"scale_inventory": False},
    {"observe_setups": False, "observe_time": True, "scale_inventory": False},
]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("instance", ["2x1", "15x5"])
@pytest.mark.filterwarnings("error")
def test_gymnasium_and_sb3_find_nothing_wrong(instance: str, view: dict[str, Any]) -> None:
    env = gym.make("rlspo/LotSizing-v0", instance=instance, render_mode="rgb_array", **view)
    check_env(env.unwrapped, skip_render_check=False)
    check_env_of_sb3(env.unwrapped)


@pytest.mark.parametrize("view", VIEWS)
def test_the_post_decision_interface_is_as_it_should_be(view: dict[str, Any]) -> None:
    check_post_decision_env(gym.make("rlspo/LotSizing-v0", instance=plant(), **view))


def test_an_observation_is_stock_then_setups_then_time() -> None:
    env = LotSizingEnv(plant(), observe_time=True)
    seen, _ = env.reset(seed=0, options={"inventory": [5, 2], "setups": [2, 1], "demand": np.ones((5, 2))})
    np.testing.assert_allclose(seen, [0.5, 0.25, 0, 0, 1, 0, 1, 0, 1.0])
    seen, *_, info = env.step(np.array([2, 0]))
    np.testing.assert_allclose(info["post_decision_obs"], [0.5, 6 / 8, 0, 0, 1, 1, 0, 0, 1.0])
    np.testing.assert_allclose(seen, [0.4, 5 / 8, 0, 0, 1, 1, 0, 0, 0.8], rtol=1e-6)
    units = LotSizingEnv(plant(), observe_setups=False, scale_inventory=False)
    seen, _ = units.reset(seed=0, options={"inventory": [5, 2]})
    assert seen.tolist() == [5, 2], "the published observation"


def test_the_post_decision_space_holds_the_extremes_and_no_more() -> None:
    env = LotSizingEnv(plant(), observe_setups=False, scale_inventory=False)
    assert env.post_decision_space.low.tolist() == [-1, -1], "machine 2 makes 2 and 0, and loses 3 and 1"
    assert env.post_decision_space.high.tolist() == [10 + 5 + 2, 8 + 4]
    env.reset(seed=0, options={"inventory": [0, 0], "setups": [0, 0]})
    assert env.post_decision(np.array([0, 1]))[0].tolist() == [-1, 0]
    assert env.post_decision(np.array([0, 2]))[0].tolist() == [0, -1]
    env.reset(seed=0, options={"inventory": [10, 8], "setups": [1, 1]})
    assert env.post_decision(np.array([1, 1]))[0].tolist() == [17, 8]


def test_the_end_terminates_where_time_is_seen_and_truncates_where_it_is_not() -> None:
    for observe_time in (True, False):
        env = LotSizingEnv(plant(), observe_time=observe_time)
        env.reset(seed=0)
        ends = [env.step(np.zeros(2, int))[2:4] for _ in range(5)]
        assert ends[:4] == [(False, False)] * 4
        assert ends[4] == (observe_time, not observe_time)


def test_rewards_are_minus_the_costs_and_split_as_they_should() -> None:
    env = LotSizingEnv(plant())
    env.action_space.seed(0)
    env.reset(seed=0)
    for _ in range(5):
        action = env.action_space.sample()
        _, expected = env.post_decision(action)
        _, reward, _, _, info = env.step(action)
        assert reward == -(info["setup_cost"] + info["lost_sales_cost"] + info["holding_cost"])
        assert info["post_decision_reward"] == expected == -info["setup_cost"]


def test_post_decision_changes_nothing() -> None:
    one, other = LotSizingEnv(plant()), LotSizingEnv(plant())
    one.reset(seed=3)
    other.reset(seed=3)
    generator = np.random.default_rng(0)
    for _ in range(5):
        for _ in range(3):
            one.post_decision(generator.integers(0, 3, 2))
        action = generator.integers(0, 3, 2)
        seen = one.post_decision(action)[0]
        ours, theirs = one.step(action), other.step(action)
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[4]["post_decision_obs"], seen)
        assert ours[1] == theirs[1]


def test_a_seed_decides_the_episode_and_a_reset_without_one_goes_on() -> None:
    def episode(env: LotSizingEnv, seed: int | None) -> list[float]:
        env.reset(seed=seed)
        return [float(env.step(np.array([1, 1]))[1]) for _ in range(5)]

    one, other = LotSizingEnv(plant()), LotSizingEnv(plant())
    first, second = episode(one, 7), episode(one, None)
    assert first == episode(other, 7) and second == episode(other, None)
    assert first != second and episode(one, 8) != first


def test_what_the_caller_does_to_its_action_later_does_not_matter() -> None:
    env = LotSizingEnv(plant())
    env.reset(seed=0, options={"setups": [1, 1]})
    action = np.array([1, 1])
    env.step(action)
    action[:] = 0
    assert env.setups.tolist() == [1, 1]


def test_an_episode_can_start_where_the_file_says() -> None:
    env = LotSizingEnv(plant(initial_inventory=[4, 3], initial_setup=[2, 0]))
    env.reset(seed=0, options={"start": "instance"})
    assert env.inventory.tolist() == [4, 3] and env.setups.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stock": [1, 1]}, "no option stock"),
        ({"inventory": [11, 0]}, "inventory is"),
        ({"inventory": [1]}, "inventory is"),
        ({"setups": [3, 0]}, "setups is"),
        ({"setups": [0.5, 0]}, "setups is"),
        ({"demand": np.zeros((4, 2))}, "time_horizon, n_items"),
        ({"demand": np.full((5, 2), np.nan)}, "at least 0 everywhere"),
        ({"start": "instance"}, "no initial_inventory"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LotSizingEnv(plant()).reset(seed=0, options=options)


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ([0, 3], "^3 is among the actions"),
        ([-1, 0], "^-1 is among the actions"),
        ([0], r"int64 of shape \(1,\)"),
        ([0.0, 1.0], r"float64 of shape \(2,\)"),
        (1, r"int64 of shape \(\)"),
    ],
)
def test_bad_actions_are_named(action: Any, words: str) -> None:
    env = LotSizingEnv(plant())
    env.reset(seed=0)
    for act in (env.step, env.post_decision):
        with pytest.raises(ValueError, match=words + r".*whole numbers of shape \(2,\), one for each machine"):
            act(np.array(action))


@pytest.mark.parametrize("name", ["observe_setups", "observe_time", "scale_inventory"])
def test_what_is_neither_true_nor_false_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 'no'; it must be True or False"):
        gym.make("rlspo/LotSizing-v0", **{name: "no"})  # type: ignore[arg-type]


def test_reset_comes_first() -> None:
    env = LotSizingEnv(plant())
    for act in (env.step, env.post_decision):
        with pytest.raises(gym.error.ResetNeeded):
            act(np.zeros(2, int))


def test_masks_are_what_a_maskable_agent_asks_for() -> None:
    """MaskablePPO reads them from the environments and then never takes what is masked."""
    contrib = pytest.importorskip("sb3_contrib")
    from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
    from stable_baselines3.common.env_util import make_vec_env

    env = make_vec_env("rlspo/LotSizing-v0", 3, seed=0, env_kwargs={"instance": plant()})
    assert is_masking_supported(env)
    masks = get_action_masks(env)
    assert masks.shape == (3, 6)
    assert not masks[:, 5].any(), "machine 2 cannot make item 2"
    model = contrib.MaskablePPO("MlpPolicy", env, n_steps=8, batch_size=8, n_epochs=1, seed=0, device="cpu").learn(24)
    taken = {tuple(a) for _ in range(60) for a in model.predict(env.reset(), action_masks=masks)[0].tolist()}
    assert len(taken) == 6 and all(action[1] < 2 for action in taken)


@pytest.mark.parametrize("first", ["np_random", "np_random_seed"])
def test_a_generator_that_was_looked_at_first_is_the_one_that_is_drawn_from(first: str) -> None:
    """Environments that nobody seeds must differ."""
    starts = []
    for _ in range(2):
        env = gym.make("rlspo/LotSizing-v0", instance="2x1").unwrapped
        getattr(env, first)
        starts.append(np.concatenate([env.reset()[0] for _ in range(10)]))  # one alone may be the same by chance
    assert not np.array_equal(*starts)
    env.np_random = np.random.default_rng(7)
    other = gym.make("rlspo/LotSizing-v0", instance="2x1").unwrapped
    other.np_random = np.random.default_rng(7)
    np.testing.assert_array_equal(env.reset()[0], other.reset()[0])
