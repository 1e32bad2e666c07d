"""Type 3.2: what is seen, against what is."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("mujoco")

from rlspo.envs.registration import MUJOCO_TASKS
from rlspo.envs.stochastic import wrap
from tests.envs.stochastic.playing import Sliding, actions_for, perturbed, play, within_chance


def seen_and_true(n: int = 1000, **settings: Any) -> tuple[np.ndarray, np.ndarray]:
    """Of the steps, without the reset's."""
    env, plain = wrap(Sliding(), type="3.2", **settings), Sliding()
    actions = actions_for(env, n)
    env.reset(seed=0), plain.reset(seed=0)
    pairs = [(env.step(action)[0], plain.step(action)[0]) for action in actions * 0.01]
    assert pairs[0][0].dtype == np.float32
    return np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])


@pytest.mark.parametrize("task", MUJOCO_TASKS)
def test_dropped_velocities_are_exactly_those_entries_that_velocities_change(task: str) -> None:
    env = perturbed(task, type="3.2")
    inner = env.unwrapped
    shown, _ = env.reset(seed=0)
    before = inner._get_obs()
    inner.data.qvel[:] += 0.01
    if "Humanoid" in task:
        import mujoco

        mujoco.mj_comVel(inner.model, inner.data)
    moved = inner._get_obs() != before
    assert moved.any()
    hidden = np.zeros(moved.shape, bool)
    hidden[env.perturbation.task.velocities] = True
    # Velocities of bodies about an axis that no joint turns about stay 0; every entry that moved is hidden.
    assert not (moved & ~hidden).any()
    assert not (hidden & ~moved).any() or "Humanoid" in task
    assert (shown[hidden] == 0).all()
    np.testing.assert_array_equal(shown[~hidden], before[~hidden])


def test_the_first_observation_is_perturbed_too_and_the_task_goes_its_way() -> None:
    found, plain = play(perturbed(type="3.2"), 20), play(gym.make("Hopper-v5").unwrapped, 20)
    for (shown, *rest), (truth, *others) in zip(found, plain, strict=True):
        assert (shown[5:] == 0).all()
        np.testing.assert_array_equal(shown[:5], truth[:5])
        assert rest[:-1] == others[:-1]
        assert rest[-1]["stori"]["perturbed"] == bool(truth[5:].any())


def test_arguments_of_the_task_move_the_velocities() -> None:
    env = perturbed("HalfCheetah", type="3.2", exclude_current_positions_from_observation=False)
    shown, _ = env.reset(seed=0)
    assert len(shown) == 18 and (shown[9:] == 0).all() and shown[:9].all()


def test_masked_entries_show_the_value_each_for_itself() -> None:
    shown, truth = seen_and_true(effect="mask", probability=0.5, fraction=0.4, value=7.0)
    masked = shown != truth
    assert (shown[masked] == 7).all()
    assert within_chance(masked.sum(), masked.size, 0.2)
    assert within_chance(masked.all(axis=1).sum(), 1000, 0.5 * 0.4**4)


def test_a_mask_lasts_as_many_steps_as_asked() -> None:
    shown, truth = seen_and_true(effect="mask", probability=1, fraction=0.02, steps=4)
    column = np.flatnonzero((shown != truth)[:, 0])
    runs = np.split(column, np.flatnonzero(np.diff(column) > 1) + 1)
    assert min(map(len, runs)) == 4 and len(runs) > 5


def test_a_frozen_sensor_keeps_what_it_showed() -> None:
    shown, truth = seen_and_true(effect="freeze", probability=0.3)
    frozen = (shown != truth).any(axis=1)
    np.testing.assert_array_equal(shown[1:][frozen[1:]], shown[:-1][frozen[1:]])
    assert within_chance(frozen.sum(), 1000, 0.3)


def test_a_sensor_that_always_freezes_keeps_what_the_reset_showed() -> None:
    env = wrap(Sliding(), type="3.2", effect="freeze", probability=1)
    for _ in range(2):
        first, info = env.reset()
        np.testing.assert_array_equal(first, [1, 1, 0, 0])
        assert not info["stori"]["perturbed"]
        for action in actions_for(env, 5):
            np.testing.assert_array_equal(env.step(action)[0], first)


def test_quantised_entries_are_the_nearest_multiples() -> None:
    shown, truth = seen_and_true(n=50, effect="quantise", probability=1, step=0.25, indices=[0, 3])
    np.testing.assert_array_equal(shown[:, [1, 2]], truth[:, [1, 2]])
    np.testing.assert_array_equal(shown[:, [0, 3]] % 0.25, 0)
    assert np.abs(shown - truth).max() <= 0.125


def test_noise_has_its_standard_deviation_and_stays_in_the_space() -> None:
    shown, truth = seen_and_true(effect="noise", probability=1, sigma=0.5)
    noise = (shown - truth).astype(float)
    assert noise.std() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(2 * noise.size))
    env = wrap(gym.make("Pendulum-v1"), type="3.2", effect="noise", probability=1, sigma=0.5)
    assert all(env.observation_space.contains(step[0]) for step in play(env, 100))


def test_pictures_keep_their_type() -> None:
    env: Any = Sliding()
    env.observation_space = gym.spaces.Box(0, 255, (4, 4, 3), np.uint8)
    env._seen = lambda action: np.full((4, 4, 3), 200, np.uint8)
    shown, _ = wrap(env, type="3.2", effect="noise", probability=1, sigma=100).reset(seed=0)
    assert shown.dtype == np.uint8 and shown.shape == (4, 4, 3) and shown.max() == 255 and len(np.unique(shown)) > 10


def test_hidden_entries_may_be_given_for_any_task() -> None:
    env = wrap(gym.make("Pendulum-v1"), type="3.2", indices=[2])
    plain = gym.make("Pendulum-v1")
    for (shown, *_), (truth, *_) in zip(play(env, 5), play(plain, 5), strict=True):
        assert shown[2] == 0
        np.testing.assert_array_equal(shown[:2], truth[:2])
