"""The array form of an environment, its scalar form and its vectorised form are one set of rules."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

import rlspo  # noqa: F401
from rlspo.common.vector_env import GymnasiumVecEnv
from rlspo.envs.lot_sizing import LotSizingEnv, LotSizingVectorEnv
from rlspo.simulators.arrays import ArrayCore
from tests.envs.lot_sizing.plants import plant

PUZZLES = [("rlspo/RubiksCube-v0", {"scramble_depth": (1, 2)}), ("rlspo/Sokoban-v0", {"size": (5, 6), "n_boxes": 1})]
CHANCE: list[tuple[str, dict[str, Any]]] = [
    ("rlspo/FrozenLakePostDecision-v0", {"size": 5}),
    ("rlspo/FrozenLakePostDecision-v0", {"size": 5, "slip_probability": 0.0}),
    ("rlspo/AdmissionControl-v0", {}),
    ("rlspo/LotSizing-v0", {"instance": "15x5"}),
    ("rlspo/LotSizing-v0", {"instance": plant(), "observe_time": True, "scale_inventory": False}),
    (
        "rlspo/LotSizing-v0",
        {"instance": plant(demand_distribution={"name": "normal", "mu": 3, "sigma": 2}), "observe_setups": False},
    ),
]


def vector_of(env_id: str, n: int, kwargs: dict[str, Any]) -> Any:
    return gym.make_vec(env_id, num_envs=n, vectorization_mode="vector_entry_point", **kwargs).unwrapped


def scalar_of(env_id: str, kwargs: dict[str, Any]) -> Any:
    return gym.make(env_id, **kwargs).unwrapped


def row_of(states: dict[str, Any], i: int) -> dict[str, Any]:
    """A state as the scalar environment has it: a wrapper counts its steps."""
    return {name: array[i : i + 1] for name, array in states.items() if name != "elapsed"}


@pytest.mark.parametrize(("env_id", "kwargs"), PUZZLES)
def test_vector_and_scalar_agree_step_by_step(env_id: str, kwargs: dict[str, Any]) -> None:
    n, limit, generator = 6, 9, np.random.default_rng(0)
    vector = vector_of(env_id, n, {**kwargs, "max_episode_steps": limit})
    scalars = [scalar_of(env_id, kwargs) for _ in range(n)]
    form = vector.array_form()
    seen, _ = vector.reset(seed=0)
    lengths, solved, cut = np.zeros(n, int), 0, 0
    for i, scalar in enumerate(scalars):
        scalar.reset(seed=0)
        form.restore(scalar, row_of(vector.states, i))
    for _ in range(300):
        actions = generator.integers(vector.single_action_space.n, size=n)
        seen, rewards, terminated, truncated, info = vector.step(actions)
        assert seen in vector.observation_space and seen.dtype == vector.single_observation_space.dtype
        lengths += 1
        for i, scalar in enumerate(scalars):
            one, reward, ended, _, about = scalar.step(actions[i])
            over = ended or lengths[i] == limit
            assert (rewards[i], terminated[i], truncated[i]) == (reward, ended, lengths[i] == limit)
            assert info["is_success"][i] == about["is_success"] == ended
            np.testing.assert_array_equal(info["final_obs"][i] if over else seen[i], one)
            if over:
                assert info["_final_obs"][i] and info["_final_info"][i]
                assert info["final_info"]["is_success"][i] == ended
                form.restore(scalar, row_of(vector.states, i))
                np.testing.assert_array_equal(scalar._observe(), seen[i])
                lengths[i] = 0
            else:
                assert "final_obs" not in info or not info["_final_obs"][i]
        solved, cut = solved + terminated.sum(), cut + truncated.sum()
        np.testing.assert_array_equal(vector.states["elapsed"], lengths)
    assert solved > 2 and cut > 2


@pytest.mark.parametrize(("env_id", "kwargs"), PUZZLES)
def test_array_form_is_the_scalar_environment_for_random_states(env_id: str, kwargs: dict[str, Any], device: str) -> None:
    scalar = scalar_of(env_id, kwargs)
    form = scalar.array_form(device)
    assert form.device == torch.device(device) and form.stochastic is False
    parts, generator = [], np.random.default_rng(0)
    for seed in range(50):
        scalar.reset(seed=seed)
        for action in generator.integers(scalar.action_space.n, size=seed % 5):
            scalar.step(action)
        parts.append(form.capture(scalar))
    states = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    kept = {name: tensor.clone() for name, tensor in states.items()}
    for action in range(int(scalar.action_space.n)):
        actions = torch.full((50,), action, device=device)
        new, seen, rewards, terminated, truncated = form.step(states, actions, None)
        assert all(torch.equal(states[name], kept[name]) for name in states), "what was given is not written to"
        assert {tensor.device.type for tensor in (seen, rewards, terminated, truncated, *new.values())} == {device}
        assert terminated.dtype == truncated.dtype == torch.bool and not truncated.any()
        assert seen.cpu().numpy().dtype == scalar.observation_space.dtype
        for i in range(50):
            form.restore(scalar, row_of(states, i))
            one, reward, ended, _, _ = scalar.step(action)
            np.testing.assert_array_equal(seen[i].cpu(), one)
            assert (float(rewards[i]), bool(terminated[i])) == (reward, ended)
            assert all(torch.equal(tensor[0].cpu(), new[name][i].cpu()) for name, tensor in scalar.states.items())


@pytest.mark.parametrize(("env_id", "kwargs"), PUZZLES)
def test_a_step_never_waits_for_values(env_id: str, kwargs: dict[str, Any]) -> None:
    """Tensors without values, on torch's meta device, refuse whatever would have to look at one."""
    vector = vector_of(env_id, 3, kwargs)
    vector.reset(seed=0)
    form = vector.array_form("meta")
    states = {name: tensor.to("meta") for name, tensor in vector.states.items()}
    new, seen, rewards, *_ = form.step(states, torch.zeros(3, dtype=torch.int64, device="meta"), None)
    assert seen.shape == vector.observation_space.shape and rewards.shape == (3,)
    assert {name: tensor.shape for name, tensor in new.items()} == {name: tensor.shape for name, tensor in states.items()}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize(("env_id", "kwargs"), PUZZLES)
def test_a_step_on_cuda_does_not_synchronise(env_id: str, kwargs: dict[str, Any]) -> None:
    scalar = scalar_of(env_id, kwargs)
    scalar.reset(seed=0)
    form = scalar.array_form("cuda")
    states, actions = form.capture(scalar), torch.zeros(1, dtype=torch.int64, device="cuda")
    form.step(states, actions, None)
    torch.cuda.set_sync_debug_mode("error")
    try:
        form.step(states, actions, None)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(("env_id", "kwargs"), PUZZLES)
def test_all_copies_come_back_as_they_were(env_id: str, kwargs: dict[str, Any], device: str) -> None:
    """Elapsed steps and the generator of the episodes that follow included."""
    vector = vector_of(env_id, 4, {**kwargs, "max_episode_steps": 6})
    vector.reset(seed=0)
    actions = np.random.default_rng(0).integers(vector.single_action_space.n, size=(25, 4))
    for row in actions[:8]:
        vector.step(row)
    core = ArrayCore(vector.array_form(device))
    states = core.capture(vector)
    assert core.size(states) == 4
    expected = [vector.step(row) for row in actions[8:]]
    core.restore(vector, states)
    for row, (seen, rewards, terminated, truncated, _) in zip(actions[8:], expected, strict=True):
        again = vector.step(row)
        for one, other in zip(again, (seen, rewards, terminated, truncated), strict=False):
            np.testing.assert_array_equal(one, other)
    assert sum(truncated.sum() for *_, truncated, _ in expected) > 4


@pytest.mark.parametrize(("env_id", "kwargs"), PUZZLES)
def test_captured_states_are_copies(env_id: str, kwargs: dict[str, Any]) -> None:
    vector = vector_of(env_id, 2, kwargs)
    seen, _ = vector.reset(seed=0)
    form = vector.array_form()
    captured = form.capture(vector)
    form.restore(vector, captured)
    for tensor in captured.values():
        tensor.zero_()
    seen_now = vector._observe()
    np.testing.assert_array_equal(seen_now, seen)
    seen_now[:] = 0
    np.testing.assert_array_equal(vector._observe(), seen)


@pytest.mark.parametrize(("env_id", "kwargs"), PUZZLES)
def test_vector_environment_has_its_contract(env_id: str, kwargs: dict[str, Any]) -> None:
    vector = vector_of(env_id, 3, {**kwargs, "render_mode": "ansi"})
    assert vector.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert vector.max_episode_steps == gym.spec(env_id).max_episode_steps
    with pytest.raises(gym.error.ResetNeeded):
        vector.step(np.zeros(3, int))
    with pytest.raises(gym.error.ResetNeeded, match="first reset"):
        vector.reset(options={"reset_mask": np.array([True, False, False])})
    first, _ = vector.reset(seed=5)
    assert first in vector.observation_space
    assert len(vector.render()) == 3 and len(set(vector.render())) > 1
    some, _ = vector.reset(options={"reset_mask": np.array([False, True, False])})
    np.testing.assert_array_equal(some[[0, 2]], first[[0, 2]])
    assert (some[1] != first[1]).any()
    np.testing.assert_array_equal(vector.reset(seed=5)[0], first)
    endless = type(vector)(2, max_episode_steps=None)
    endless.reset(seed=0)
    assert "elapsed" not in endless.states


@pytest.mark.parametrize(("env_id", "kwargs"), PUZZLES)
def test_vector_environment_rejects_what_is_none(env_id: str, kwargs: dict[str, Any]) -> None:
    vector = vector_of(env_id, 3, kwargs)
    vector.reset(seed=0)
    for actions in (np.zeros(2, int), np.zeros((3, 1), int), np.zeros(3), [0, 0, -1], [0, 99, 0]):
        with pytest.raises(ValueError, match="actions"):
            vector.step(actions)
    for wrong in ({"num_envs": 0}, {"num_envs": 1.5}, {"max_episode_steps": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            type(vector)(**wrong)
    with pytest.raises(ValueError, match="one number"):
        vector.reset(seed=[1, 2, 3])
    with pytest.raises(ValueError, match="no option nonsense"):
        vector.reset(options={"nonsense": 1})
    form = vector.array_form()
    for action in (-1, 99):
        with pytest.raises(IndexError):
            form.step(vector.states, torch.full((3,), action), None)


@pytest.mark.parametrize(("env_id", "kwargs"), PUZZLES)
def test_sb3_sees_final_observations_time_limits_and_successes(env_id: str, kwargs: dict[str, Any]) -> None:
    adapted = GymnasiumVecEnv(vector_of(env_id, 4, {**kwargs, "max_episode_steps": 5}))
    adapted.reset()
    generator, ended = np.random.default_rng(0), 0
    for _ in range(30):
        _, _, dones, infos = adapted.step(generator.integers(adapted.action_space.n, size=4))
        for done, info in zip(dones, infos, strict=True):
            if done:
                ended += 1
                assert info["terminal_observation"].shape == adapted.observation_space.shape
                assert info["TimeLimit.truncated"] != info["is_success"]
    assert ended > 10


def test_a_curriculum_for_all_cubes() -> None:
    vector = vector_of("rlspo/RubiksCube-v0", 5, {"scramble_depth": 6})
    _, info = vector.reset(seed=0, options={"scramble_depth": (1, 2)})
    assert set(info["scramble_depth"]) <= {1, 2}
    seen, info = vector.reset(options={"moves": "R U"})
    assert (seen == seen[0]).all() and (info["scramble_depth"] == 2).all()
    vector.step(np.full(5, 2))
    *_, terminated, _, info = vector.step(np.full(5, 5))
    assert terminated.all()
    assert (info["scramble_depth"] == 6).all() and info["_scramble_depth"].all(), "the option held for one episode"


@pytest.mark.parametrize(("env_id", "kwargs"), CHANCE)
def test_a_captured_state_meets_the_chance_that_its_environment_will_meet(env_id: str, kwargs: dict[str, Any]) -> None:
    """From states of one, through whole episodes: the same draws in the same order, and the environment is left alone."""
    env, twin = scalar_of(env_id, kwargs), scalar_of(env_id, kwargs)
    env.action_space.seed(0)
    env.reset(seed=4)
    twin.reset(seed=4)
    core = ArrayCore(env.array_form())
    assert core.device is None and core.stochastic is True
    states = core.capture(env)
    for _ in range(400):
        action = env.action_space.sample()
        outcome = core.step(states, np.asarray(action)[None], np.ones(1, bool))
        seen, reward, terminated, truncated, _ = env.step(action)
        assert twin.step(action)[1] == reward, "capturing and stepping states does nothing to the environment"
        assert outcome.observations.dtype == np.asarray(seen).dtype
        np.testing.assert_array_equal(outcome.observations[0], seen)
        assert outcome.rewards[0] == reward
        assert (outcome.terminated[0], outcome.truncated[0]) == (terminated, truncated)
        states = outcome.states
        if terminated or truncated:
            np.testing.assert_array_equal(env.reset()[0], twin.reset()[0])
            states = core.capture(env)


@pytest.mark.parametrize(("env_id", "kwargs"), CHANCE)
def test_what_was_put_back_goes_on_as_before(env_id: str, kwargs: dict[str, Any]) -> None:
    """Also into another environment, and through the episodes that follow."""
    env, other = scalar_of(env_id, kwargs), scalar_of(env_id, kwargs)
    env.action_space.seed(1)
    env.reset(seed=5)
    other.reset(seed=77)
    core = ArrayCore(env.array_form())
    for _ in range(3):
        if any(env.step(env.action_space.sample())[2:4]):
            env.reset()
    states, actions = core.capture(env), [env.action_space.sample() for _ in range(40)]
    results = []
    for target in (env, env, other):
        core.restore(target, states)
        results.append([])
        for action in actions:
            seen, reward, terminated, truncated, _ = target.step(action)
            results[-1].append((np.asarray(seen).tolist(), reward, terminated, truncated))
            if terminated or truncated:
                results[-1].append(np.asarray(target.reset()[0]).tolist())
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize(("env_id", "kwargs"), CHANCE)
def test_many_states_step_as_each_alone(env_id: str, kwargs: dict[str, Any]) -> None:
    """Means over many draws: a batch has the chances that the environment has. Nothing given is written to."""
    env = scalar_of(env_id, kwargs)
    env.action_space.seed(2)
    env.reset(seed=2)
    for _ in range(2):
        env.step(env.action_space.sample())
    form, n, action = env.array_form(), 20_000, env.action_space.sample()
    states = {name: np.repeat(array, n, axis=0) for name, array in form.capture(env).items()}
    kept = {name: array.copy() for name, array in states.items()}
    new, seen, rewards, *_ = form.step(states, np.repeat(np.asarray(action)[None], n, axis=0), np.random.default_rng(0))
    assert all((states[name] == kept[name]).all() for name in states)
    assert len(seen) == len(rewards) == n and all(len(array) == n for array in new.values())
    core, alone = ArrayCore(form), []
    start = core.capture(env)
    for seed in range(400):
        again = core.reseed(core.select(start, np.zeros(1, int)), seed)
        alone.append(core.step(again, np.asarray(action)[None], np.ones(1, bool)).rewards[0])
    spread = np.std(alone) / 20 + 1e-9
    assert abs(np.mean(alone) - rewards.mean()) < 4 * spread


def test_reseeded_states_of_a_plant_do_not_foresee_the_demand() -> None:
    """Neither what was drawn ahead nor a path that was given to reset: both are the environment's future."""
    env = LotSizingEnv(plant(), render_mode=None)
    core = ArrayCore(env.array_form())
    demand = np.full((5, 2), 7.0)
    env.reset(seed=0, options={"demand": demand, "inventory": [9, 7], "setups": [0, 0]})
    idle, live = np.zeros((30, 2), np.int64), np.ones(30, bool)
    many = core.select(core.capture(env), np.zeros(30, int))
    np.testing.assert_array_equal(core.step(many, idle, live).states.arrays["inventory"], [[2, 0]] * 30)
    blind = core.reseed(core.select(core.capture(env), np.zeros(30, int)), 0)
    left = core.step(blind, idle, live).states.arrays["inventory"]
    assert len({tuple(row) for row in left}) > 5
    # Drawn ahead: one state replays the environment, a reseeded one does not.
    env.reset(seed=0)
    env.step(idle[0])
    one = core.capture(env)
    exact, others = core.select(one, np.zeros(1, int)), [core.reseed(core.select(one, np.zeros(1, int)), s) for s in range(8)]
    futures = []
    for states in (exact, *others):
        inventory = []
        for _ in range(3):
            states = core.step(states, idle[:1], live[:1]).states
            inventory.append(states.arrays["inventory"][0].tolist())
        futures.append(inventory)
    real = []
    for _ in range(3):
        env.step(idle[0])
        real.append(env.inventory.tolist())
    assert futures[0] == real
    assert any(future != real for future in futures[1:])


def test_a_plant_put_into_reseeded_states_keeps_its_own_randomness() -> None:
    plants = []
    for put_back in (False, True):
        env = LotSizingEnv(plant())
        env.reset(seed=0, options={"demand": np.full((5, 2), 7.0)})
        env.step([1, 1])
        if put_back:
            core = ArrayCore(env.array_form())
            core.restore(env, core.reseed(core.capture(env), 3))
        plants.append([env.step(action)[1] for action in ([1, 0], [2, 1], [0, 0])])
    assert plants[0] == plants[1]


def test_all_copies_of_a_plant_are_captured_and_put_back() -> None:
    vector = LotSizingVectorEnv(3, plant())
    core = ArrayCore(vector.array_form())
    generator = np.random.default_rng(0)
    vector.reset(seed=0)
    vector.step(generator.integers(0, 3, (3, 2)))
    states = core.capture(vector)
    branch, actions = core.select(states, np.arange(3)), generator.integers(0, 3, (14, 3, 2))
    expected = []
    for t, row in enumerate(actions):
        seen, rewards, _, truncated, info = vector.step(row)
        expected.append((seen, rewards, truncated))
        if t < 4:  # the first episode's rest; a form does not begin another
            outcome = core.step(branch, row, np.ones(3, bool))
            np.testing.assert_array_equal(outcome.rewards, rewards)
            np.testing.assert_array_equal(outcome.truncated, truncated)
            last = np.stack([*info["final_obs"]]) if truncated.all() else seen
            np.testing.assert_array_equal(outcome.observations, last)
            branch = outcome.states
    core.restore(vector, states)
    for row, (seen, rewards, truncated) in zip(actions, expected, strict=True):
        again = vector.step(row)
        np.testing.assert_array_equal(again[0], seen)
        np.testing.assert_array_equal(again[1], rewards)
        np.testing.assert_array_equal(again[3], truncated)


@pytest.mark.parametrize(("env_id", "kwargs"), CHANCE)
def test_forms_reject_what_is_none(env_id: str, kwargs: dict[str, Any]) -> None:
    env = scalar_of(env_id, kwargs)
    form = env.array_form("cpu")
    with pytest.raises(ValueError, match="NumPy"):
        env.array_form("cuda")
    with pytest.raises(gym.error.ResetNeeded):
        form.capture(env)
    env.reset(seed=0)
    states, action = form.capture(env), np.asarray(env.action_space.sample())[None]
    with pytest.raises(ValueError, match="needs a generator"):
        form.step(states, action, None)
    with pytest.raises(ValueError, match="actions"):
        form.step(states, action + 100, np.random.default_rng(0))
