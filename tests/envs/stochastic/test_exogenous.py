"""Type 2.1: forces, kicks and rewards."""

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("mujoco")

from rlspo.envs.stochastic import wrap
from tests.envs.stochastic.playing import Sliding, actions_for, perturbed, within_chance


def test_an_impulse_is_a_force_of_the_given_weight_on_one_body_during_its_step_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    env = perturbed(type="2.1", probability=0.5, magnitude=0.7)
    inner, forces = env.unwrapped, []
    inside = inner.step

    def step(action: np.ndarray) -> tuple:
        forces.append(inner.data.xfrc_applied.copy())
        return inside(action)

    monkeypatch.setattr(inner, "step", step)
    env.reset(seed=0)
    told = []
    for action in actions_for(env, 400):
        told.append(env.step(action)[4]["stori"]["perturbed"])
        assert (inner.data.xfrc_applied == 0).all()
    sizes = np.linalg.norm(np.stack(forces)[..., :3], axis=2)
    assert not np.stack(forces)[..., 3:].any() and not sizes[:, 0].any()
    hit = sizes.any(axis=1)
    np.testing.assert_array_equal(hit, told)
    assert within_chance(hit.sum(), 400, 0.5)
    assert ((sizes > 0).sum(axis=1) == hit).all()
    np.testing.assert_allclose(sizes[sizes > 0], 0.7 * 9.81 * inner.model.body_mass.sum())
    for body in range(1, 5):
        assert within_chance((sizes[:, body] > 0).sum(), int(hit.sum()), 0.25)
    ways = np.stack(forces)[hit].sum(axis=1)[:, :3]
    # Of all directions alike: each component has mean 0 and a third of the square.
    ways = ways / np.linalg.norm(ways, axis=1, keepdims=True)
    np.testing.assert_allclose(ways.mean(axis=0), 0, atol=4 / np.sqrt(3 * len(ways)))
    np.testing.assert_allclose((ways**2).mean(axis=0), 1 / 3, atol=4 * 0.3 / np.sqrt(len(ways)))


def test_an_impulse_may_have_a_body_and_a_direction_and_leads_as_the_force_does() -> None:
    env = perturbed(type="2.1", probability=1, magnitude=0.5, body="torso", direction=[0, 0, 2])
    plain = gym.make("Hopper-v5").unwrapped
    env.reset(seed=0), plain.reset(seed=0)
    plain.data.xfrc_applied[plain.model.body("torso").id, 2] = 0.5 * 9.81 * plain.model.body_mass.sum()
    for action in actions_for(env, 20):
        np.testing.assert_array_equal(env.step(action)[0], plain.step(action)[0])


def test_a_force_of_other_code_is_kept() -> None:
    env = perturbed(type="2.1", probability=1)
    env.reset(seed=0)
    env.unwrapped.data.xfrc_applied[1, 0] = 2.0
    env.step(actions_for(env, 1)[0])
    assert env.unwrapped.data.xfrc_applied[1, 0] == pytest.approx(2.0)


def test_a_kick_adds_normal_amounts_to_the_velocities_before_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    env = perturbed(type="2.1", effect="kick", probability=0.5, sigma=0.2)
    inner, jumps = env.unwrapped, []
    inside, before = inner.step, [None]

    def step(action: np.ndarray) -> tuple:
        jumps.append(inner.data.qvel - before[0])
        return inside(action)

    monkeypatch.setattr(inner, "step", step)
    env.reset(seed=0)
    for index, action in enumerate(actions_for(env, 600)):
        if index % 20 == 0:
            env.reset()
        before[0] = inner.data.qvel.copy()
        env.step(action)
    found = np.stack(jumps)
    hit = found.any(axis=1)
    assert within_chance(hit.sum(), 600, 0.5)
    assert found[hit].std() == pytest.approx(0.2, abs=4 * 0.2 / np.sqrt(2 * found[hit].size))


def test_noise_on_rewards_leaves_the_true_one_in_the_info() -> None:
    env = wrap(Sliding(), type="2.1", effect="reward_noise", probability=0.5, sigma=2.0, mu=1.0)
    env.reset(seed=0)
    noise = []
    for action in actions_for(env, 2000):
        _, reward, _, _, info = env.step(action * 0.01)
        assert info["stori"]["reward"] == -float(np.abs(env.unwrapped.place).sum())
        noise.append(reward - info["stori"]["reward"])
    found = np.array(noise)
    assert within_chance((found != 0).sum(), 2000, 0.5)
    found = found[found != 0]
    assert found.mean() == pytest.approx(1, abs=4 * 2 / np.sqrt(found.size))
    assert found.std() == pytest.approx(2, abs=4 * 2 / np.sqrt(2 * found.size))


def test_dropped_rewards_are_0() -> None:
    env = wrap(Sliding(), type="2.1", effect="reward_drop", probability=0.25)
    env.reset(seed=0)
    rewards = np.array([env.step(action)[1] for action in actions_for(env, 1000)])
    assert within_chance((rewards == 0).sum(), 1000, 0.25)
