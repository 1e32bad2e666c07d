"""Type 2.2: physics and concepts that change within an episode."""

import copy
import gc
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("mujoco")

import mujoco

from rlspo.envs.stochastic import wrap
from rlspo.envs.stochastic.perturbation import Perturbation
from tests.envs.stochastic.playing import Sliding, actions_for, perturbed, within_chance

FIELDS = {
    "gravity": ("opt.gravity",),
    "mass": ("body_mass", "body_inertia"),
    "friction": ("geom_friction",),
    "damping": ("dof_damping",),
    "gear": ("actuator_gear",),
}


def everything(model: Any) -> dict[str, np.ndarray]:
    """All numbers of a model."""
    parts = {"": model, "opt.": model.opt, "stat.": model.stat}
    values = {prefix + name: getattr(part, name) for prefix, part in parts.items() for name in dir(part) if name[0] != "_"}
    return {name: np.array(value) for name, value in values.items() if isinstance(value, np.ndarray | float | int)}


def read(model: Any, field: str) -> np.ndarray:
    return everything(model)[field]


def test_wrapping_an_environment_again_does_not_add_up() -> None:
    """The wrapper before is still there when the next one looks at the physics, and goes later."""
    base = gym.make("Hopper-v5")
    drift = {"type": "2.2", "schedule": "always", "effect": "gravity", "scale": 1.5}
    for seed in range(3):
        env = wrap(base, profile=drift)
        env.reset(seed=seed)
        gc.collect()
        assert base.unwrapped.model.opt.gravity[2] == pytest.approx(1.5 * -9.81)
    del env
    gc.collect()
    assert base.unwrapped.model.opt.gravity[2] == -9.81


@pytest.mark.parametrize("effect", FIELDS)
def test_only_the_parameter_changes_by_its_factor_and_all_is_restored(effect: str) -> None:
    env = perturbed(type="2.2", effect=effect, scale=1.75, schedule="sudden", period=3)
    model = env.unwrapped.model
    plain = everything(model)
    env.reset(seed=0)
    for index, action in enumerate(actions_for(env, 5)):
        # The physics of the coming step; MuJoCo derives constants from masses, which are tested below.
        now = everything(model)
        other = {name for name in plain if not np.array_equal(plain[name], now[name])}
        expected = {name for name in FIELDS[effect] if plain[name].any()} if index >= 3 else set()
        assert other == expected or (effect == "mass" and index >= 3 and expected < other)
        for name in FIELDS[effect]:
            np.testing.assert_allclose(now[name], plain[name] * (1.75 if index >= 3 else 1), rtol=1e-15)
        told = env.step(action)[4]["stori"]
        assert (told["concept"], told["perturbed"]) == (int(index >= 3),) * 2
    env.reset()
    assert all(np.array_equal(value, plain[name]) for name, value in everything(model).items())
    for action in actions_for(env, 5):
        env.step(action)
    assert not np.array_equal(read(model, FIELDS[effect][0]), plain[FIELDS[effect][0]])
    env.close()
    assert all(np.array_equal(value, plain[name]) for name, value in everything(model).items())


def test_constants_that_follow_from_masses_are_those_of_a_model_compiled_with_them() -> None:
    env = perturbed(type="2.2", effect="mass", scale=2, schedule="always")
    spec = mujoco.MjSpec.from_file(env.unwrapped.fullpath)
    for geom in spec.geoms:
        geom.density *= 2
    heavy = everything(spec.compile())
    env.reset(seed=0)
    found = everything(env.unwrapped.model)
    # The sizes of a body follow from its mass; the mean inertia is computed at compilation alone, and only scales a tolerance.
    for name in ("body_mass", "body_inertia", "body_subtreemass", "dof_M0", "dof_invweight0", "body_invweight0"):
        np.testing.assert_allclose(found[name], heavy[name], rtol=1e-9, err_msg=name)


def test_a_change_of_masses_leaves_the_state_alone() -> None:
    env = perturbed(type="2.2", effect="mass", scale=2, schedule="sudden", period=2)
    env.reset(seed=0)
    plain = gym.make("Hopper-v5").unwrapped
    plain.reset(seed=0)
    actions = actions_for(env, 4)
    for action in actions[:2]:
        np.testing.assert_array_equal(env.step(action)[0], plain.step(action)[0])
    plain.model.body_mass[:] *= 2
    plain.model.body_inertia[:] *= 2
    mujoco.mj_setConst(plain.model, mujoco.MjData(plain.model))
    for action in actions[2:]:
        np.testing.assert_array_equal(env.step(action)[0], plain.step(action)[0])


@pytest.mark.parametrize(
    ("schedule", "levels"),
    [("always", [1] * 8), ("sudden", [0, 0, 0, 1, 1, 1, 1, 1]), ("cyclic", [0, 0, 0, 1, 1, 1, 0, 0]), ("ramp", None)],
)
def test_gravity_follows_its_schedule(schedule: str, levels: list[int] | None) -> None:
    env = perturbed(type="2.2", effect="gravity", scale=0.5, schedule=schedule, period=3)
    for _ in range(2):
        env.reset(seed=0)
        found = []
        for action in actions_for(env, 8):
            found.append(env.unwrapped.model.opt.gravity[2])
            env.step(action)
        expected = np.minimum(np.arange(8) / 3, 1) if levels is None else np.array(levels)
        np.testing.assert_allclose(found, -9.81 * (1 - 0.5 * expected), rtol=1e-15)


@pytest.mark.parametrize("schedule", ["random_walk", "random_switching"])
def test_random_schedules_are_the_seeds(schedule: str) -> None:
    env = perturbed(type="2.2", effect="gravity", scale=0.5, schedule=schedule, period=9)

    def gravity(seed: int) -> np.ndarray:
        env.reset(seed=seed)
        found = []
        for action in actions_for(env, 60):
            found.append(float(env.unwrapped.model.opt.gravity[2]))
            env.step(action)
        return (np.array(found) / -9.81 - 1) / -0.5

    first = gravity(0)
    np.testing.assert_array_equal(first, gravity(0))
    assert not np.array_equal(first, gravity(1))
    assert first[0] == 0 and first.min() >= 0 and first.max() <= 1
    moves = np.abs(np.diff(np.concatenate([gravity(seed) for seed in range(3)])))
    if schedule == "random_switching":
        assert within_chance(int((moves > 0.5).sum()), len(moves), 1 / 9)
    else:
        assert 0.1 < moves[moves < 0.99].mean() < 0.35


def test_the_model_is_restored_when_the_wrapper_is_gone() -> None:
    env = perturbed(type="2.2", effect="gravity", scale=0.5, schedule="always")
    env.reset(seed=0)
    inner = env.unwrapped
    assert inner.model.opt.gravity[2] == pytest.approx(-4.905)
    del env
    gc.collect()
    assert inner.model.opt.gravity[2] == -9.81


def test_an_episode_begins_with_the_physics_as_they_were() -> None:
    """A reset computes with the model: the first state is that of a plain task."""
    env = perturbed("Ant", type="2.2", effect="gear", scale=0.5, schedule="sudden", period=1)
    plain = gym.make("Ant-v5").unwrapped
    for seed in (0, 1):
        np.testing.assert_array_equal(env.reset(seed=seed)[0], plain.reset(seed=seed)[0])
        env.step(env.action_space.sample())


def test_any_noise_can_be_what_a_drift_leads_to() -> None:
    profile = {
        "type": "2.2",
        "schedule": "cyclic",
        "period": 4,
        "base": {"type": "3.2", "effect": "mask", "fraction": 1, "probability": 1},
        "concept": {"type": "1", "effect": "delay", "steps": 1},
    }
    env = wrap(Sliding(), profile)
    env.reset(seed=0)
    actions = actions_for(env, 12)
    for index, action in enumerate(actions):
        seen, _, _, _, info = env.step(action)
        after = index // 4 % 2 == 1
        assert info["stori"]["concept"] == after
        assert (seen == 0).all() == (not after)
        np.testing.assert_array_equal(info["stori"]["executed_action"], actions[index - 1] if after else action)


def test_on_a_ramp_one_noise_gives_way_to_the_other() -> None:
    profile = {
        "type": "2.2",
        "schedule": "ramp",
        "period": 1000,
        "base": {"type": "2.1", "effect": "reward_drop"},
        "concept": {"type": "1", "effect": "delay"},
    }
    env = wrap(Sliding(), profile)
    env.reset(seed=0)
    actions = actions_for(env, 1000) * 0.01
    found = [env.step(action) for action in actions]
    dropped = np.array([step[1] == 0 for step in found])
    executed = np.stack([step[4]["stori"]["executed_action"] for step in found])
    late = (executed != actions).any(axis=1)
    for part in range(4):
        rows = slice(250 * part, 250 * part + 250)
        level = (250 * part + 124.5) / 1000
        assert within_chance(dropped[rows].sum(), 250, 1 - level)
        assert within_chance(late[rows].sum(), 250, level)


def test_a_drift_is_copied_without_its_models() -> None:
    env = perturbed(type="2.2", effect="mass", scale=1.5, schedule="ramp", period=5)
    env.reset(seed=0)
    drift = env.perturbation.model_drift
    assert drift.model_at(0.5) is drift.model_at(0.5)
    twin: Perturbation = copy.deepcopy(env.perturbation)
    np.testing.assert_array_equal(twin.model_drift.model_at(0.5).body_mass, drift.model_at(0.5).body_mass)
    assert twin.model_drift.model_at(0.5) is not drift.model_at(0.5)
