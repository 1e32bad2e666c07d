"""The array form of an environment, its scalar form and its vectorised form are one set of rules."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

import rlspo  # noqa: F401
from rlspo.common.vector_env import GymnasiumVecEnv
from rlspo.simulators.arrays import ArrayCore

PUZZLES = [("rlspo/RubiksCube-v0", {"scramble_depth": (1, 2)}), ("rlspo/Sokoban-v0", {"size": (5, 6), "n_boxes": 1})]


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
def test_vector_environment_refuses_what_is_none(env_id: str, kwargs: dict[str, Any]) -> None:
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
