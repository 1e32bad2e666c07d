"""MuJoCo's tasks, many states at a time, against gymnasium's own steps."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("mujoco")

from rlspo.envs.simulating import PeekMujoco
from rlspo.simulators.mujoco import SIMULATED, MujocoCore
from rlspo.simulators.mujoco.physics import BatchPhysics, LoopPhysics

LIVE = np.ones(1, bool)


def acting(env: gym.Env, n: int, seed: int = 0) -> np.ndarray:
    env.action_space.seed(seed)
    return np.stack([env.action_space.sample() for _ in range(n)])


def assert_same_step(core: MujocoCore, states: Any, env: gym.Env, action: Any) -> tuple[Any, bool]:
    """A step of states of one is the environment's, in all that it gives. Returns the new states and whether they are ends."""
    outcome, terms = core.step_with_terms(states, action[None], LIVE)
    seen, reward, terminated, truncated, info = env.step(action)
    np.testing.assert_array_equal(outcome.observations[0], seen)
    assert outcome.observations.dtype == seen.dtype
    assert outcome.rewards[0] == pytest.approx(reward, rel=1e-9, abs=1e-9)
    assert (outcome.terminated[0], outcome.truncated[0]) == (terminated, truncated)
    named = {name: value for name, value in info.items() if name.startswith("reward") or name.endswith("penalty")}
    assert {name: values[0] for name, values in terms.items()} == pytest.approx(named, rel=1e-9, abs=1e-9)
    return outcome.states, terminated


@pytest.mark.parametrize("env_id", SIMULATED)
def test_a_step_of_a_captured_state_is_the_environments(env_id: str) -> None:
    env = gym.make(env_id).unwrapped
    core = MujocoCore(env, threads=1)
    env.reset(seed=0)
    for step, action in enumerate(acting(env, 1000)):
        _, ended = assert_same_step(core, core.capture(env), env, action)
        if ended or step % 200 == 199:
            env.reset()


VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("Ant-v5", {"contact_force_range": (-0.3, 0.2), "contact_cost_weight": 0.1, "main_body": "aux_1", "frame_skip": 3}),
    ("Ant-v5", {"include_cfrc_ext_in_observation": False, "exclude_current_positions_from_observation": False}),
    ("Ant-v5", {"terminate_when_unhealthy": False, "healthy_z_range": (0.5, 0.7), "healthy_reward": 3, "ctrl_cost_weight": 2}),
    ("HalfCheetah-v5", {"forward_reward_weight": 2.5, "ctrl_cost_weight": 0.7, "frame_skip": 2, "reset_noise_scale": 0.3}),
    ("HalfCheetah-v5", {"xml_file": "walker2d.xml", "exclude_current_positions_from_observation": False}),
    ("Hopper-v5", {"healthy_state_range": (-2, 2), "healthy_z_range": (1.0, 1.3), "healthy_angle_range": (-0.05, 0.1)}),
    ("Hopper-v5", {"terminate_when_unhealthy": 0, "healthy_reward": 2.5, "exclude_current_positions_from_observation": False}),
    ("Walker2d-v5", {"healthy_z_range": (1.1, 1.3), "healthy_angle_range": (-0.1, 0.1), "forward_reward_weight": 3}),
    ("Humanoid-v5", {"include_cinert_in_observation": False, "include_qfrc_actuator_in_observation": False}),
    (
        "Humanoid-v5",
        {"include_cvel_in_observation": False, "include_cfrc_ext_in_observation": False, "healthy_reward": 2},
    ),
    ("Humanoid-v5", {"contact_cost_weight": 1e-2, "contact_cost_range": (0.01, 0.5), "terminate_when_unhealthy": False}),
    ("HumanoidStandup-v5", {"include_cinert_in_observation": False, "impact_cost_weight": 1e-2, "uph_cost_weight": 5}),
    ("HumanoidStandup-v5", {"exclude_current_positions_from_observation": False, "impact_cost_range": (0.5, 1.0)}),
    ("InvertedPendulum-v5", {"frame_skip": 4, "reset_noise_scale": 0.15}),
    ("InvertedDoublePendulum-v5", {"healthy_reward": 3, "reset_noise_scale": 0.3}),
    ("Pusher-v5", {"reward_near_weight": 2, "reward_dist_weight": 3, "reward_control_weight": 0.5}),
    ("Reacher-v5", {"reward_dist_weight": 3, "reward_control_weight": 0.5, "frame_skip": 4}),
    (
        "Swimmer-v5",
        {"forward_reward_weight": 2, "ctrl_cost_weight": 0.1, "exclude_current_positions_from_observation": False},
    ),
]


@pytest.mark.parametrize(("env_id", "arguments"), VARIANTS)
def test_arguments_of_the_environment_are_followed(env_id: str, arguments: dict[str, Any]) -> None:
    env = gym.make(env_id, **arguments).unwrapped
    core = MujocoCore(env, threads=1)
    env.reset(seed=0)
    ends = 0
    for action in acting(env, 100):
        # As the environment is given them: with numbers of float64 the action's cost is computed more finely.
        _, ended = assert_same_step(core, core.capture(env), env, action.astype(float) if ends % 2 else action)
        ends += ended
        if ended:
            env.reset()
    if "healthy_z_range" in arguments and arguments.get("terminate_when_unhealthy", True):
        assert ends


@pytest.mark.parametrize("env_id", SIMULATED)
def test_branches_do_not_drift(env_id: str) -> None:
    """The warm start and the lagging positions go along, so that it takes no new capture."""
    env = gym.make(env_id, **({"terminate_when_unhealthy": False} if env_id in ("Ant-v5", "Humanoid-v5") else {})).unwrapped
    env.reset(seed=0)
    for action in acting(env, 20):
        env.step(action)
    core = MujocoCore(env, threads=1)
    states = core.capture(env)
    for action in acting(env, 20, seed=1):
        states, _ = assert_same_step(core, states, env, action)


@pytest.mark.parametrize("env_id", SIMULATED)
def test_a_restored_environment_goes_on_as_before(env_id: str) -> None:
    env = gym.make(env_id).unwrapped
    env.reset(seed=0)
    actions = acting(env, 8)
    for action in actions[:3]:
        env.step(action)
    core = MujocoCore(env, threads=1)
    branch = core.capture(env)

    def go_on() -> list[Any]:
        results = [env.step(action)[:2] for action in actions[3:]]
        return [*results, env.reset(), env.step(actions[0])]

    before = core.capture(env)
    expected = go_on()
    for states in (before, core.select(before, np.zeros(1, int))):
        core.restore(env, states)
        for (seen, *_), (again, *_) in zip(expected, go_on(), strict=True):
            np.testing.assert_array_equal(again, seen)
    core.restore(env, before)
    assert [env.step(action)[1] for action in actions[3:]] == [reward for _, reward in expected[:-2]]
    # A state from inside a branch, of which the environment has never been, is as good.
    branch = core.step(branch, actions[3][None], LIVE).states
    core.restore(env, branch)
    seen, reward, *_ = env.step(actions[4])
    np.testing.assert_array_equal(seen, expected[1][0])
    assert reward == expected[1][1]


@pytest.mark.parametrize("env_id", ["Ant-v5", "Reacher-v5"])
def test_many_states_on_two_threads_are_each_stepped_for_themselves(env_id: str) -> None:
    """Both ways of stepping, with rows that are not live in between, and after a selection with repeats."""
    env = gym.make(env_id).unwrapped
    core, n = MujocoCore(env, threads=2), 60
    parts, expected, after = [], [], []
    actions = acting(env, n)
    live = np.arange(n) % 3 != 0
    for index in range(n):
        env.reset(seed=index)
        parts.append(core.capture(env))
        expected.append(env.step(actions[index])[:2])
        after.append(core.capture(env))
    again = np.array([3, 3, 3, *range(n - 3)])
    states = core.select(core.join(parts), again)
    rows, lagging = states.rows.copy(), {name: array.copy() for name, array in states.lagging.items()}
    outcome, terms = core.step_with_terms(states, actions[again], live)
    for row in np.flatnonzero(live):
        np.testing.assert_array_equal(outcome.observations[row], expected[again[row]][0])
        assert outcome.rewards[row] == pytest.approx(expected[again[row]][1], rel=1e-12)
    reached = core.select(core.join(after), again)
    np.testing.assert_array_equal(outcome.states.rows[live], reached.rows[live])
    np.testing.assert_array_equal(outcome.states.rows[~live], rows[~live])
    for name, array in lagging.items():
        np.testing.assert_array_equal(outcome.states.lagging[name][~live], array[~live])
        np.testing.assert_array_equal(outcome.states.lagging[name][live], reached.lagging[name][live])
    assert all(len(values) == n for values in terms.values())
    # What is left of them goes on, and all dead is no error.
    nothing = core.step(outcome.states, actions, np.zeros(n, bool))
    np.testing.assert_array_equal(nothing.states.rows, outcome.states.rows)
    assert nothing.observations.shape == outcome.observations.shape and not nothing.rewards.any()


@pytest.mark.parametrize("env_id", ["InvertedDoublePendulum-v5", "Reacher-v5", "Swimmer-v5"])
def test_native_threads_and_those_of_python_give_the_same(env_id: str) -> None:
    pytest.importorskip("mujoco.batch")
    env = gym.make(env_id).unwrapped
    env.reset(seed=0)
    core, other = MujocoCore(env, threads=2), MujocoCore(env, threads=2)
    assert isinstance(core.physics, BatchPhysics)
    other.physics = LoopPhysics(core.physics.fields, threads=2)
    ours, theirs = (one.select(one.capture(env), np.zeros(40, int)) for one in (core, other))
    for seed in range(3):
        actions = acting(env, 40, seed)
        (ours, *results), (theirs, *expected) = (
            one.step(states, actions, np.ones(40, bool)) for one, states in ((core, ours), (other, theirs))
        )
        np.testing.assert_array_equal(ours.rows, theirs.rows)
        for result, wanted in zip(results, expected, strict=True):
            np.testing.assert_array_equal(result, wanted)


def test_the_environment_is_left_alone() -> None:
    env = gym.make("Ant-v5").unwrapped
    env.reset(seed=0)
    core = MujocoCore(env, threads=2)
    before, qpos = core.capture(env), env.data.qpos.copy()
    states = core.select(before, np.zeros(40, int))
    for action in acting(env, 5):
        states = core.step(states, np.repeat(action[None], 40, axis=0), np.ones(40, bool)).states
    after = core.capture(env)
    np.testing.assert_array_equal(after.rows, before.rows)
    np.testing.assert_array_equal(after.lagging["xpos"], before.lagging["xpos"])
    np.testing.assert_array_equal(env.data.qpos, qpos)
    assert after.origins[0].random == before.origins[0].random


@pytest.mark.parametrize("env_id", ["HalfCheetah-v5", "Humanoid-v5"])
def test_each_environments_model_is_its_own_and_followed_as_it_changes(env_id: str) -> None:
    envs: list[Any] = [gym.make(env_id).unwrapped for _ in range(3)]
    core = MujocoCore(envs[0], threads=2)
    actions = acting(envs[0], 6)
    for seed, env in enumerate(envs):
        env.reset(seed=seed)
        env.model.body_mass[1:4] *= 1 + 0.2 * seed
        env.model.opt.timestep /= 1 + seed
    for step in range(2):
        envs[1].model.opt.gravity[2] += 3 * step  # between the steps, as a wrapper may
        states = core.join([core.capture(env) for env in envs])
        outcome = core.step(core.select(states, np.array([2, 0, 1])), actions[[2, 0, 1]], np.ones(3, bool))
        for row, which in enumerate([2, 0, 1]):
            seen, reward, *_ = envs[which].step(actions[which])
            np.testing.assert_array_equal(outcome.observations[row], seen)
            assert outcome.rewards[row] == pytest.approx(reward, rel=1e-12)


def test_substeps_may_change_between_steps() -> None:
    env: Any = gym.make("Hopper-v5").unwrapped
    core = MujocoCore(env, threads=1)
    env.reset(seed=0)
    states, action = core.capture(env), acting(env, 1)[0]
    for frame_skip in (4, 8, 2):
        env.frame_skip = frame_skip
        outcome = core.step(states, action[None], LIVE)
        states = outcome.states
        seen, reward, *_ = env.step(action)
        np.testing.assert_array_equal(outcome.observations[0], seen)
        assert outcome.rewards[0] == pytest.approx(reward, rel=1e-12)


def test_forces_that_a_wrapper_applies_are_part_of_the_state() -> None:
    env: Any = gym.make("Hopper-v5").unwrapped
    core = MujocoCore(env, threads=1)
    env.reset(seed=0)
    action = acting(env, 1)[0]
    still = core.step(core.capture(env), action[None], LIVE).observations[0]
    env.data.xfrc_applied[1, 0] = 30.0
    states = core.capture(env)
    assert_same_step(core, states, env, action)
    assert not np.allclose(env._get_obs(), still)


def test_the_generator_is_put_back_or_taken_away() -> None:
    env = gym.make("Swimmer-v5").unwrapped
    core = MujocoCore(env, threads=1)
    unseeded = core.capture(env)
    env.reset(seed=0)
    seeded = core.capture(env)
    expected, _ = env.reset()
    core.restore(env, unseeded)
    assert env._np_random is None
    core.restore(env, core.reseed(seeded, 5))
    np.testing.assert_array_equal(env.reset()[0], expected)


class MyHopper(type(gym.make("Hopper-v5").unwrapped)):  # type: ignore[misc]
    """Has, or could have, another reward."""


def test_what_is_not_known_is_rejected() -> None:
    with pytest.raises(TypeError, match=r"MyHopper cannot be simulated: .*Ant-v5, HalfCheetah-v5, .*by a wrapper"):
        MujocoCore(MyHopper())
    hopper, walker = gym.make("Hopper-v5").unwrapped, gym.make("Walker2d-v5").unwrapped
    core = MujocoCore(hopper)
    with pytest.raises(ValueError, match=r"made for .*Hopper.* cannot capture .*Walker"):
        core.capture(walker)
    with pytest.raises(ValueError, match=r"with frame_skip = 2 instead of 4, healthy_reward = 3.0 instead of 1.0; make one"):
        core.capture(gym.make("Hopper-v5", healthy_reward=3.0, frame_skip=2).unwrapped)
    core.capture(gym.make("Hopper-v5", render_mode="rgb_array").unwrapped)
    with pytest.raises(ValueError, match=r"actions have shape \(1, 2\); 1 states take \(1, 3\)"):
        core.step(core.capture(hopper), np.zeros((1, 2)), LIVE)
    with pytest.raises(ValueError, match="threads is 0; it must be at least 1"):
        MujocoCore(hopper, threads=0)


@pytest.mark.parametrize("made", [MyHopper, lambda: gym.make("Humanoid-v5").unwrapped], ids=["unknown", "known"])
def test_a_look_ahead_leaves_no_trace(made: Any) -> None:
    env, twin, look = made(), made(), PeekMujoco()
    env.reset(seed=0)
    twin.reset(seed=0)
    for action in acting(env, 10):
        expected, expected_reward = look(env, action)
        seen, reward, *_ = env.step(action)
        other, other_reward, *_ = twin.step(action)
        np.testing.assert_array_equal(seen, expected)
        np.testing.assert_array_equal(seen, other)
        assert reward == other_reward == pytest.approx(expected_reward, rel=1e-12)


def test_a_model_that_sleeps_is_rejected() -> None:
    import mujoco

    env: Any = gym.make("Hopper-v5").unwrapped
    if not hasattr(mujoco.mjtEnableBit, "mjENBL_SLEEP"):
        pytest.skip("this MuJoCo does not let bodies sleep")
    env.model.opt.enableflags |= int(mujoco.mjtEnableBit.mjENBL_SLEEP)
    with pytest.raises(ValueError, match="sleep or IPC"):
        MujocoCore(env).capture(env)
