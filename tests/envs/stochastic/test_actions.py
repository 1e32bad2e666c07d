"""Type 1: the action that is executed, against what it must be."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("mujoco")

from rlspo.envs.stochastic import wrap
from tests.envs.stochastic.playing import Sliding, actions_for, perturbed, play, within_chance

EFFECTS = [
    {"effect": "replace", "probability": 0.3},
    {"effect": "gaussian", "probability": 0.5, "sigma": 0.2},
    {"effect": "sticky", "probability": 0.4},
    {"effect": "delay", "probability": 1, "steps": 2},
    {"effect": "dropout", "probability": 0.5, "fraction": 0.5},
]


@pytest.mark.parametrize("settings", EFFECTS, ids=lambda settings: settings["effect"])
def test_executed_actions_lead_a_plain_task_the_same_way(settings: dict[str, Any]) -> None:
    found = play(perturbed(type="1", **settings), 30)
    plain = gym.make("Hopper-v5").unwrapped
    np.testing.assert_array_equal(plain.reset(seed=0)[0], found[0][0])
    for seen, reward, terminated, _, info in found[1:]:
        truth = plain.step(info["stori"]["executed_action"])
        np.testing.assert_array_equal(truth[0], seen)
        assert (truth[1], truth[2]) == (reward, terminated)
        assert info["stori"]["reward"] == reward
        assert info["stori"]["executed_action"].dtype == np.float32


def executed(n: int = 2000, seed: int = 0, **settings: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chosen and executed actions, and whether a step counts as perturbed."""
    env = wrap(Sliding(), type="1", **settings)
    chosen = actions_for(env, n, seed)
    env.reset(seed=seed)
    told = [env.step(action)[4]["stori"] for action in chosen]
    return chosen, np.stack([one["executed_action"] for one in told]), np.array([one["perturbed"] for one in told])


def test_replaced_actions_are_uniform_in_the_box_and_as_many_as_the_probability_says() -> None:
    chosen, done, flags = executed(effect="replace", probability=0.3)
    replaced = (chosen != done).any(axis=1)
    np.testing.assert_array_equal(replaced, flags)
    assert within_chance(replaced.sum(), 2000, 0.3)
    new = done[replaced]
    assert new.min() >= -1 and new.max() <= 3
    # Each quarter of the range holds a quarter of them.
    for quarter in np.histogram(new, 4, (-1, 3))[0]:
        assert within_chance(quarter, new.size, 0.25)


def test_gaussian_noise_is_a_fraction_of_the_range_and_stays_in_the_box() -> None:
    chosen, done, _ = executed(effect="gaussian", probability=1, sigma=0.05)
    assert done.min() == -1 and done.max() == 3
    inside = np.abs(chosen - 1).max(axis=1) < 1
    noise = (done - chosen)[inside]
    # 0.05 of a range of 4. The standard error of a standard deviation is sigma / sqrt(2 n).
    assert noise.std() == pytest.approx(0.2, abs=4 * 0.2 / np.sqrt(2 * noise.size))
    assert noise.mean() == pytest.approx(0, abs=4 * 0.2 / np.sqrt(noise.size))


def test_gaussian_noise_may_have_a_mean() -> None:
    chosen, done, _ = executed(n=20, effect="gaussian", probability=1, sigma=0, mu=0.25)
    np.testing.assert_allclose(done, np.clip(chosen + 1, -1, 3), rtol=1e-6)


def test_sticky_executes_the_last_executed_action_again() -> None:
    chosen, done, _ = executed(effect="sticky", probability=0.4)
    stuck = (chosen != done).any(axis=1)
    assert not stuck[0] and within_chance(stuck.sum(), 1999, 0.4)
    np.testing.assert_array_equal(done[1:][stuck[1:]], done[:-1][stuck[1:]])


def test_sticky_lasts_as_many_steps_as_asked() -> None:
    _, done, _ = executed(n=50, effect="sticky", probability=1)
    assert (done == done[0]).all()
    chosen, done, _ = executed(n=3000, effect="sticky", probability=0.02, steps=5)
    starts = np.flatnonzero((chosen != done).any(axis=1))
    runs = np.split(starts, np.flatnonzero(np.diff(starts) > 1) + 1)
    assert min(map(len, runs)) == 5 and len(runs) > 20


def test_a_delayed_action_is_that_of_some_steps_ago_and_none_before_there_is_one() -> None:
    chosen, done, _ = executed(n=10, effect="delay", probability=1, steps=3)
    np.testing.assert_array_equal(done[:3], 0)
    np.testing.assert_array_equal(done[3:], chosen[:-3])


def test_an_episode_begins_without_the_actions_of_the_last() -> None:
    env = wrap(Sliding(), type="1", effect="delay", probability=1)
    for _ in range(2):
        env.reset()
        first, second = (env.step(np.full(2, value, np.float32))[4]["stori"]["executed_action"] for value in (1, 2))
        assert (first == 0).all() and (second == 1).all()


def test_dropped_actuators_get_nothing_each_for_itself() -> None:
    chosen, done, _ = executed(effect="dropout", probability=0.5, fraction=0.3)
    dropped = done != chosen
    assert (done[dropped] == 0).all()
    assert within_chance(dropped.sum(), dropped.size, 0.15)
    # Both at once: the gate opens for both, then each has its own chance.
    assert within_chance(dropped.all(axis=1).sum(), 2000, 0.5 * 0.3**2)


def test_nothing_is_the_bound_nearest_to_0_where_0_is_no_action() -> None:
    env = Sliding()
    env.action_space = gym.spaces.Box(2.0, 3.0, (2,), np.float32)
    lagging = wrap(env, type="1", effect="dropout", probability=1, fraction=1)
    lagging.reset(seed=0)
    np.testing.assert_array_equal(lagging.step(np.full(2, 2.5, np.float32))[4]["stori"]["executed_action"], 2)


@pytest.mark.parametrize("settings", [{"effect": "replace"}, {"effect": "gaussian", "sigma": 0.2}])
@pytest.mark.parametrize("form", [list, np.array], ids=["list", "array"])
def test_noise_on_whole_numbers_is_not_cut_to_whole_numbers(settings: dict[str, Any], form: Any) -> None:
    env = wrap(Sliding(), type="1", probability=1, **settings)
    told = []
    for action in (form([1, 0]), np.array([1, 0], np.float32)):
        env.reset(seed=0)
        told.append(env.step(action)[4]["stori"]["executed_action"])
    np.testing.assert_array_equal(told[0], told[1])
    assert told[0].dtype == np.float32 and told[0][0] % 1 != 0
