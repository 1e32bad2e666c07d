"""What all perturbed tasks keep: ids, seeds, copies, errors."""

import copy
import pickle
import re
import subprocess
import sys
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv

pytest.importorskip("mujoco")

from rlspo.envs.profiles import Profile, profile_names, read_profile
from rlspo.envs.registration import MUJOCO_TASKS
from rlspo.envs.stochastic import Stochastic, wrap
from rlspo.envs.stochastic.chance import Chance
from rlspo.envs.stochastic.tables import EFFECTS
from tests.envs.stochastic.playing import Sliding, actions_for, perturbed, play

TYPES = ("1", "2.1", "2.2", "3.1", "3.2")
ALL = [(kind, effect) for kind, effects in EFFECTS.items() for effect in effects]


@pytest.mark.parametrize("task", MUJOCO_TASKS)
def test_every_task_is_made_with_the_limits_of_its_original(task: str) -> None:
    for kind in TYPES:
        env = gym.make(f"STORI/{task}-v0", type=kind, disable_env_checker=True)
        plain = gym.spec(f"{task}-v5")
        assert env.spec.max_episode_steps == plain.max_episode_steps
        assert env.spec.reward_threshold == plain.reward_threshold
        assert type(env.unwrapped).__name__ == plain.entry_point.rpartition(":")[2]
        seen, info = env.reset(seed=0)
        assert env.observation_space.contains(seen) and info["stori"]["type"] == kind
        for action in actions_for(env, 4):
            seen, reward, _, _, info = env.step(action)
            assert env.observation_space.contains(seen) and np.isfinite(reward)
            assert set(info["stori"]) == {"type", "concept", "perturbed", "executed_action", "reward"}
        env.close()


def test_type_3_1_changes_nothing() -> None:
    found, plain = play(perturbed("HalfCheetah"), 20), play(gym.make("HalfCheetah-v5").unwrapped, 20)
    for (seen, *rest), (truth, *others) in zip(found, plain, strict=True):
        np.testing.assert_array_equal(seen, truth)
        assert rest[:-1] == others[:-1] and not rest[-1]["stori"]["perturbed"]


def test_arguments_go_to_the_task_or_to_the_profile() -> None:
    own = {"forward_reward_weight": 2.0, "frame_skip": 3}
    env = gym.make("STORI/HalfCheetah-v0", type="1", probability=0.5, max_episode_steps=7, **own)
    assert env.unwrapped._forward_reward_weight == 2.0 and env.unwrapped.frame_skip == 3
    assert env.get_wrapper_attr("profile").concept.probability == 0.5
    assert env.spec.max_episode_steps == 7
    env = gym.make(env.spec)
    assert env.unwrapped.frame_skip == 3 and env.get_wrapper_attr("profile").concept.probability == 0.5


def test_rlspo_is_imported_without_mujoco() -> None:
    code = "import rlspo, rlspo.envs.stochastic, sys; sys.exit('mujoco' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("kind", "effect"), ALL)
def test_gymnasium_finds_nothing_wrong_and_nothing_is_said(kind: str, effect: str, capfd: pytest.CaptureFixture[str]) -> None:
    env = gym.make("STORI/Hopper-v0", type=kind, effect=effect, disable_env_checker=True)
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Its observations have no bounds and its step is not the outermost: of these gymnasium always warns.
        warnings.filterwarnings("ignore", message=".*(Box observation space|unwrapped|np.inf|infinity).*")
        check_env(env, skip_render_check=True, skip_close_check=True)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("kind", "effect"), ALL)
def test_the_same_seed_gives_the_same_episode_and_another_another(kind: str, effect: str) -> None:
    chance = {} if kind == "2.2" else {"probability": 0.5}
    env = perturbed(type=kind, effect=effect, **chance)
    first, again, other = (play(env, 12, seed) for seed in (0, 0, 1))
    assert_same(first, again)
    assert_same(first, play(perturbed(type=kind, effect=effect, **chance), 12))
    assert not np.array_equal(first[0][0], other[0][0])


def assert_same(one: list[tuple[Any, ...]], two: list[tuple[Any, ...]]) -> None:
    for (seen, *rest), (other, *others) in zip(one, two, strict=True):
        np.testing.assert_array_equal(seen, other)
        assert rest[:-1] == others[:-1]
        assert rest[-1]["stori"]["perturbed"] == others[-1]["stori"]["perturbed"]


def gates(env: gym.Env, n: int = 200) -> np.ndarray:
    return np.array([env.step(action)[4]["stori"]["perturbed"] for action in actions_for(env, n)])


def test_the_noise_has_a_stream_of_its_own() -> None:
    """Neither the task's generator nor NumPy's moves it, and it goes on from episode to episode."""
    env = wrap(Sliding(), type="1", probability=0.5)
    env.reset(seed=3)
    first = gates(env)
    env.reset()
    assert not np.array_equal(first, gates(env))
    env.reset(seed=3)
    env.unwrapped.np_random.random(5)
    np.random.random(5)
    np.testing.assert_array_equal(first, gates(env))


def test_without_a_seed_environments_differ() -> None:
    found = []
    for _ in range(2):
        env = wrap(Sliding(), type="1", probability=0.5)
        env.reset()
        found.append(gates(env))
    assert not np.array_equal(*found)


def test_copies_go_on_alike() -> None:
    env = wrap(Sliding(), type="1", effect="sticky", probability=0.5)
    env.reset(seed=0)
    gates(env, 10)
    twins = [copy.deepcopy(env), pickle.loads(pickle.dumps(env))]
    truth = gates(env)
    for twin in twins:
        np.testing.assert_array_equal(gates(twin), truth)


@pytest.mark.parametrize("kind", TYPES)
def test_copies_of_a_mujoco_task_are_new_ones(kind: str) -> None:
    env = perturbed(type=kind)
    truth = play(env, 10)
    for twin in (copy.deepcopy(env), pickle.loads(pickle.dumps(env))):
        assert_same(play(twin, 10), truth)


def test_workers_are_independent() -> None:
    envs = AsyncVectorEnv([lambda: wrap(Sliding(), type="1", probability=0.5)] * 3)
    try:
        for seed in (0, None):
            envs.reset(seed=seed)
            found = np.stack([envs.step(np.zeros((3, 2), np.float32))[4]["stori"]["perturbed"] for _ in range(40)])
            assert not any(np.array_equal(found[:, one], found[:, two]) for one, two in ((0, 1), (0, 2), (1, 2)))
    finally:
        envs.close()


def test_pictures_are_the_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    env = gym.make("STORI/Hopper-v0", type="3.2", render_mode="rgb_array", disable_env_checker=True)
    assert env.render_mode == "rgb_array"
    monkeypatch.setattr(env.unwrapped.mujoco_renderer, "render", lambda mode: f"a picture for {mode}")
    env.reset(seed=0)
    assert env.render() == "a picture for rgb_array"
    listing = gym.make("STORI/Hopper-v0", render_mode="rgb_array_list")
    assert isinstance(listing, gym.wrappers.RenderCollection) and listing.unwrapped.render_mode == "rgb_array"


@pytest.mark.parametrize("kind", TYPES)
def test_the_profiles_of_the_package_are_read_and_described(kind: str) -> None:
    assert f"continuous-{kind}" in profile_names()
    data = read_profile(f"continuous-{kind}")
    assert data["description"].endswith(".") and len(data["description"]) < 100
    assert Profile.from_mapping(data).type == kind


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"type": "1", "effect": "replce"}, "Did you mean 'replace'"),
        ({"type": "1", "effect": "replace", "sigma": 1}, "takes no 'sigma'"),
        ({"type": "1", "effect": "gaussian", "sgma": 1}, "Did you mean 'sigma'"),
        ({"type": "1", "effect": "gaussian", "sigma": -1}, "sigma is -1; it must be a finite number, at least 0"),
        ({"type": "1", "effect": "delay", "steps": 0}, "steps is 0; it must be a whole number of at least 1"),
        ({"type": "1", "probability": 1.5}, "probability is 1.5"),
        ({"type": "2.1", "body": "torsoo"}, "Did you mean 'torso'"),
        ({"type": "2.1", "direction": [0, 0, 0]}, "three numbers, not all 0"),
        ({"type": "2.2", "effect": "gravity", "probability": 0.5}, "physics drift by the schedule alone"),
        ({"type": "2.2", "effect": "mass", "scale": 0}, "it must be above 0"),
        ({"type": "2.2", "base": {"type": "2.2", "effect": "mass"}}, "base is a drift of physics"),
        ({"type": "3.2", "effect": "mask", "fraction": 2}, "fraction is 2"),
        ({"type": "3.2", "effect": "quantise", "step": 0}, "step is 0; it must be above 0"),
        ({"type": "3.2", "indices": [11]}, "a list of whole numbers from 0 to 10"),
        ({"type": "3.2", "effect": "mask", "indices": []}, "a list of whole numbers from 0 to 10"),
        ({"type": "0"}, "There are 1, 2.1, 2.2, 3.1, 3.2"),
        ({"profile": {"type": "0"}}, "type 0 is for Atari games"),
        ({"type": "1", "gate": "frame"}, "gate is 'frame', which is for Atari games"),
        ({"type": "1", "fidelity": "original"}, "fidelity is 'original', which is for Atari games"),
        ({"profile": "breakout-1"}, "."),
    ],
)
def test_errors_name_what_is_wrong(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        gym.make("STORI/Hopper-v0", **settings)


@pytest.mark.parametrize(
    ("env_id", "settings", "message"),
    [
        ("Pendulum-v1", {"type": "2.1"}, "changes MuJoCo's physics, and 'pendulum' has none"),
        ("Pendulum-v1", {"type": "2.2"}, "changes MuJoCo's physics"),
        ("Pendulum-v1", {"type": "3.2"}, "which entries are velocities is not known of 'pendulum'; give their indices"),
        ("CartPole-v1", {"type": "1"}, "needs a Box of real numbers as the action space"),
        ("FrozenLake-v1", {"type": "3.2", "effect": "noise"}, "needs a Box as the observation space"),
    ],
)
def test_other_tasks_are_rejected_with_what_they_lack(env_id: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        wrap(gym.make(env_id), **settings)


def test_actions_without_bounds_have_no_range() -> None:
    env = Sliding()
    env.action_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    for effect in ("replace", "gaussian"):
        with pytest.raises(ValueError, match="needs bounds of the actions"):
            wrap(env, type="1", effect=effect)
    assert isinstance(wrap(env, type="1", effect="delay"), Stochastic)


def test_one_environment_is_perturbed_once() -> None:
    with pytest.raises(ValueError, match="perturbed already"):
        wrap(gym.wrappers.TimeLimit(wrap(Sliding(), type="1"), 5), type="2.1", effect="reward_drop")


def test_any_action_or_observation_goes_with_noise_on_the_rewards() -> None:
    env = wrap(gym.make("FrozenLake-v1"), type="2.1", effect="reward_noise", probability=1)
    env.reset(seed=0)
    seen, reward, _, _, info = env.step(1)
    assert seen in range(16) and reward != info["stori"]["reward"] == 0


def test_draws_are_spread_as_they_should_be() -> None:
    """Against exact moments, within four standard errors; neighbours in key, stream and place are uncorrelated."""
    keys = np.arange(200, dtype=np.uint64)
    uniform = Chance(keys, 0).random(500)
    n = uniform.size
    assert uniform.min() >= 0 and uniform.max() < 1
    assert uniform.mean() == pytest.approx(0.5, abs=4 / np.sqrt(12 * n))
    for one, two in ((uniform[1:], uniform[:-1]), (uniform[:, 1:], uniform[:, :-1]), (uniform, Chance(keys, 1).random(500))):
        assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 4 / np.sqrt(one.size)
    normal = Chance(keys, 2).normal(500)
    for power, moment, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert (normal**power).mean() == pytest.approx(moment, abs=4 * np.sqrt(spread / n))
    counts = np.bincount(Chance(keys, 3).integers(5, 500).ravel(), minlength=5)
    np.testing.assert_allclose(counts, n / 5, atol=4 * np.sqrt(n * 0.16))


def test_draws_of_one_stream_go_on() -> None:
    keys = np.arange(3, dtype=np.uint64)
    chance = Chance(keys, 0)
    np.testing.assert_array_equal(np.concatenate([chance.random(2), chance.random(3)], axis=1), Chance(keys, 0).random(5))
    assert Chance(keys, 0).random().shape == (3,)


def test_no_step_before_a_reset_of_the_perturbation() -> None:
    inside = gym.make("Hopper-v5")
    inside.reset(seed=0)
    with pytest.raises(gym.error.ResetNeeded, match="begins with an episode"):
        wrap(inside, type="1").step(inside.action_space.sample())


def test_a_copy_has_the_physics_that_its_info_tells() -> None:
    drift = {"effect": "gravity", "schedule": "sudden", "period": 2, "scale": 3.0}
    env: Any = perturbed(type="2.2", **drift)
    env.reset(seed=0)
    for _ in range(3):
        env.step(np.zeros(3, np.float32))
    other = copy.deepcopy(env)
    assert other.unwrapped.model.opt.gravity[2] == env.unwrapped.model.opt.gravity[2] == 3 * -9.81
    assert other.step(np.zeros(3, np.float32))[4]["stori"]["concept"] == 1
    other.reset()
    assert other.unwrapped.model.opt.gravity[2] == -9.81 and env.unwrapped.model.opt.gravity[2] == 3 * -9.81
