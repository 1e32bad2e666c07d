"""The step without the noise, and simulations of perturbed tasks."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("mujoco")

from stable_baselines3.common.vec_env import DummyVecEnv

from rlspo.envs import SimulatedPostDecision, check_post_decision_env
from rlspo.envs.stochastic import wrap
from rlspo.simulators import check_simulator, simulator_for
from rlspo.spo import SPO
from tests.envs.stochastic.playing import Sliding, actions_for, perturbed

NOISES: list[dict[str, Any]] = [
    {"type": "3.1"},
    {"type": "1", "effect": "replace", "probability": 0.5},
    {"type": "1", "effect": "gaussian", "probability": 0.5},
    {"type": "1", "effect": "sticky", "probability": 0.5, "steps": 3},
    {"type": "1", "effect": "delay", "probability": 0.7, "steps": 2},
    {"type": "1", "effect": "dropout", "probability": 1, "fraction": 0.5},
    {"type": "2.1", "effect": "impulse", "probability": 0.5},
    {"type": "2.1", "effect": "kick", "probability": 0.5},
    {"type": "2.1", "effect": "reward_noise", "probability": 0.5},
    {"type": "2.1", "effect": "reward_drop", "probability": 0.5},
    {"type": "2.2", "effect": "gravity", "schedule": "cyclic", "period": 3},
    {"type": "2.2", "effect": "mass", "schedule": "ramp", "period": 20},
    {"type": "2.2", "effect": "gear", "schedule": "random_walk", "period": 5},
    {"type": "2.2", "effect": "damping", "schedule": "random_switching", "period": 3},
    {"type": "2.2", "schedule": "cyclic", "period": 4, "concept": {"type": "2.1", "effect": "impulse", "probability": 0.5}},
    {"type": "3.2", "effect": "drop_velocities"},
    {"type": "3.2", "effect": "mask", "probability": 0.5, "steps": 2},
    {"type": "3.2", "effect": "freeze", "probability": 0.5},
    {"type": "3.2", "effect": "quantise"},
    {"type": "3.2", "effect": "noise"},
]


def named(settings: dict[str, Any]) -> str:
    return f"{settings['type']}-{settings.get('effect', 'none')}"


def as_profile(settings: dict[str, Any]) -> dict[str, Any]:
    """So that nothing of a default profile is left."""
    return {"profile": settings}


@pytest.mark.parametrize("settings", NOISES, ids=named)
def test_the_post_decision_state_is_where_a_plain_step_leads(settings: dict[str, Any]) -> None:
    env = SimulatedPostDecision(perturbed(**as_profile(settings)))
    plain = gym.make("Hopper-v5").unwrapped
    env.reset(seed=0), plain.reset(seed=0)
    core = simulator_for(env.unwrapped)
    for action in actions_for(env, 12):
        core.restore(plain, core.capture(env.unwrapped))
        for there, here in ((plain.model, env.unwrapped.model), (plain.model.opt, env.unwrapped.model.opt)):
            for name in dir(here):
                if name[0] != "_" and isinstance(getattr(here, name), np.ndarray):
                    getattr(there, name)[...] = getattr(here, name)
        expected = plain.step(action)
        foreseen = env.post_decision(action)
        info = env.step(action)[4]
        for observation, reward in (foreseen, (info["post_decision_obs"], info["post_decision_reward"])):
            np.testing.assert_array_equal(observation, expected[0])
            assert reward == pytest.approx(expected[1], rel=1e-9)


@pytest.mark.parametrize("kind", ["1", "2.1", "2.2", "3.2"])
def test_the_interface_is_whole(kind: str) -> None:
    check_post_decision_env(SimulatedPostDecision(gym.make("STORI/Hopper-v0", type=kind)))


def test_other_tasks_have_a_step_without_noise_too() -> None:
    env = SimulatedPostDecision(wrap(gym.make("Pendulum-v1"), type="1", probability=1))
    plain = gym.make("Pendulum-v1")
    env.reset(seed=0), plain.reset(seed=0)
    action = actions_for(env, 1)[0]
    info = env.step(action)[4]
    assert not np.array_equal(info["stori"]["executed_action"], action)
    np.testing.assert_array_equal(info["post_decision_obs"], plain.step(action)[0])


@pytest.mark.parametrize("settings", NOISES, ids=named)
def test_a_simulation_predicts_the_task_and_reseeded_branches_do_not(settings: dict[str, Any]) -> None:
    notes = check_simulator(gym.make("STORI/Hopper-v0", disable_env_checker=True, **as_profile(settings)), steps=32)
    assert [note for note in notes if not note.startswith("Chance")] == []
    certain = settings["type"] in ("3.1",) or settings.get("effect") in ("drop_velocities", "quantise", "gravity", "mass")
    assert simulator_for(perturbed(**as_profile(settings))).stochastic == (not certain)


@pytest.mark.parametrize("task", ["Ant", "HalfCheetah", "Humanoid", "Reacher"])
def test_forces_are_predicted_in_other_tasks(task: str) -> None:
    assert not check_simulator(gym.make(f"STORI/{task}-v0", disable_env_checker=True, type="2.1", probability=0.5), steps=16)


PLAIN = [one for one in NOISES if named(one) in ("1-sticky", "1-delay", "2.1-reward_noise", "3.2-mask", "3.2-freeze")]


@pytest.mark.parametrize("settings", PLAIN, ids=named)
@pytest.mark.parametrize("env_id", ["Pendulum-v1", None])
def test_tasks_without_mujoco_are_simulated_too(settings: dict[str, Any], env_id: str | None) -> None:
    """One in array form, one by copies."""
    env = wrap(Sliding() if env_id is None else gym.make(env_id), settings)
    notes = check_simulator(env, steps=32)
    assert [note for note in notes if not note.startswith("Chance")] == []


def test_copies_of_a_reseeded_branch_each_meet_another_chance() -> None:
    env = perturbed(type="2.1", effect="reward_noise", probability=1)
    env.reset(seed=0)
    simulator = simulator_for(env)
    branches = simulator.reseed(simulator.replicate(simulator.capture(env), 4), 7)
    again = simulator.select(branches, [2, 2, 2, 2])
    actions = np.zeros((4, 3), np.float32)
    for states in (branches, again):
        assert len(set(simulator.step(states, actions).rewards.tolist())) == 4
    same = simulator.reseed(simulator.replicate(simulator.capture(env), 4), 7)
    other = simulator.reseed(simulator.replicate(simulator.capture(env), 4), 8)
    first, second = (simulator.step(states, actions).rewards for states in (same, other))
    assert not set(first.tolist()) & set(second.tolist())


def test_a_force_leaves_nothing_in_states_and_ended_ones_stay() -> None:
    env = perturbed(type="2.1", probability=1)
    env.reset(seed=0)
    simulator = simulator_for(env)
    states = simulator.replicate(simulator.capture(env), 2)
    states.ended[1] = True
    before = states.core.rows[1].copy()
    after = simulator.step(states, np.zeros((2, 3), np.float32)).states
    np.testing.assert_array_equal(after.core.rows[1], before)
    simulator.restore(env, simulator.select(after, [0]))
    assert not env.unwrapped.data.xfrc_applied.any()


def test_a_restored_task_has_the_physics_of_its_moment() -> None:
    env = perturbed(type="2.2", effect="gravity", scale=0.5, schedule="sudden", period=2)
    env.reset(seed=0)
    simulator = simulator_for(env)
    start = simulator.capture(env)
    for action in actions_for(env, 3):
        env.step(action)
    assert env.unwrapped.model.opt.gravity[2] == pytest.approx(-4.905)
    simulator.restore(env, start)
    assert env.unwrapped.model.opt.gravity[2] == -9.81


def test_free_branches_of_a_random_walk_share_few_models() -> None:
    env = perturbed(type="2.2", effect="gravity", scale=0.5, schedule="random_walk", period=2)
    env.reset(seed=0)
    simulator = simulator_for(env)
    states = simulator.reseed(simulator.replicate(simulator.capture(env), 200), 0)
    for _ in range(3):
        states = simulator.step(states, np.zeros((200, 3), np.float32)).states
    assert 10 < len(states.core.origins) <= 33
    assert len({origin.model.opt.gravity[2] for origin in states.core.origins}) == len(states.core.origins)


@pytest.mark.parametrize("kind", ["1", "2.1", "2.2", "3.2"])
def test_spo_learns_in_it(kind: str) -> None:
    env = gym.make("STORI/Hopper-v0", type=kind, disable_env_checker=True)
    agent = SPO("MlpPolicy", env, n_steps=8, batch_size=8, gradient_steps=1, n_particles=4, depth=2, device="cpu", seed=0)
    agent.learn(8)
    assert agent.num_timesteps == 8


@pytest.mark.parametrize("settings", [NOISES[1], NOISES[6], NOISES[11], NOISES[14]], ids=named)
def test_several_environments_are_simulated_side_by_side(settings: dict[str, Any]) -> None:
    env = DummyVecEnv([lambda: gym.make("STORI/Hopper-v0", disable_env_checker=True, **as_profile(settings))] * 3)
    notes = check_simulator(env, steps=16)
    assert [note for note in notes if not note.startswith("Chance")] == []
