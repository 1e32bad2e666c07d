"""The buffer's fields for every space, and its numbers against SB3's buffers."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import DictRolloutBuffer
from stable_baselines3.common.buffers import RolloutBuffer as SB3RolloutBuffer

from rlspo.common.rollout_buffer import Field, RolloutBuffer, action_field, space_field
from rlspo.common.trees import tree_map
from tests.spaces import ACTIONS, OBSERVATIONS

STEPS, ENVS = 6, 3
Array = np.ndarray


def make(observation: str = "box", action: str = "box", **kwargs: Any) -> RolloutBuffer:
    return RolloutBuffer(STEPS, OBSERVATIONS[observation], ACTIONS[action], **{"device": "cpu", "n_envs": ENVS, **kwargs})


def batch(space: spaces.Space) -> Any:
    """Observations or actions of ENVS environments."""
    samples = [space.sample() for _ in range(ENVS)]
    if isinstance(space, spaces.Dict):
        return {key: np.stack([sample[key] for sample in samples]) for key in space.spaces}
    return np.stack(samples)


@pytest.mark.parametrize(
    ("space", "shape", "dtype"),
    [
        (spaces.Box(-1, 1, (2, 3), np.float32), (2, 3), np.float32),
        (spaces.Box(-1, 1, (4,), np.float64), (4,), np.float32),
        (spaces.Box(0, 9, (4,), np.int32), (4,), np.float32),
        (spaces.Box(0, 255, (3, 8, 8), np.uint8), (3, 8, 8), np.uint8),
        (spaces.Discrete(4), (), np.int64),
        (spaces.MultiDiscrete([2, 3]), (2,), np.int64),
        (spaces.MultiBinary(5), (5,), np.float32),
    ],
    ids=str,
)
def test_observation_fields(space: spaces.Space, shape: tuple[int, ...], dtype: Any) -> None:
    assert space_field(space) == Field(shape, dtype)


@pytest.mark.parametrize(
    ("space", "shape", "dtype"),
    [
        (spaces.Box(-1, 1, (2, 3), np.float64), (6,), np.float32),
        (spaces.Discrete(4), (), np.int64),
        (spaces.MultiDiscrete([2, 3]), (2,), np.int64),
        (spaces.MultiBinary(5), (5,), np.float32),
    ],
    ids=str,
)
def test_action_fields(space: spaces.Space, shape: tuple[int, ...], dtype: Any) -> None:
    assert action_field(space) == Field(shape, dtype)


def test_other_spaces_are_rejected() -> None:
    for field in (space_field, action_field):
        with pytest.raises(TypeError, match=r"Text.*not supported; use Box"):
            field(spaces.Text(3))


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_holds_what_was_added(observation: str, action: str, device: str) -> None:
    buffer = make(observation, action, device=device)
    added = [(batch(OBSERVATIONS[observation]), batch(ACTIONS[action])) for _ in range(STEPS)]
    for step, (observations, actions) in enumerate(added):
        assert not buffer.full
        buffer.add(observations=observations, actions=actions, rewards=np.full(ENVS, step))
    assert buffer.full
    rows = buffer.tensors(("observations", "actions", "rewards"))
    for step, (observations, actions) in enumerate(added):
        for env in range(ENVS):
            row = step * ENVS + env
            np.testing.assert_array_equal(
                rows["actions"][row].cpu(), np.asarray(actions[env]).reshape(rows["actions"][row].shape)
            )
            assert rows["rewards"][row] == step

            def same(leaf: torch.Tensor, expected: Array, row: int = row, env: int = env) -> None:
                np.testing.assert_allclose(leaf[row].cpu(), expected[env], rtol=1e-6)
                assert leaf.device.type == device

            tree_map(same, rows["observations"], observations)


def test_full_buffer_and_reset() -> None:
    buffer = make()
    memory = buffer.data["rewards"]
    for step in range(STEPS):
        assert buffer.size() == step
        buffer.add(rewards=np.full(ENVS, step))
    with pytest.raises(IndexError, match=r"6 steps and is full.*reset"):
        buffer.add(rewards=np.zeros(ENVS))
    assert memory[-1].tolist() == [STEPS - 1] * ENVS, "the refused step must not overwrite"
    buffer.data["valid"][2, 1] = False
    buffer.reset()
    assert not buffer.full
    assert buffer.size() == 0
    assert buffer.data["rewards"] is memory
    assert buffer.valid.all()
    buffer.add(rewards=np.full(ENVS, 9.0))
    assert memory[0].tolist() == [9.0] * ENVS


@pytest.mark.parametrize("observation", ["box", "dict", "multi_binary"])
@pytest.mark.parametrize("action", ["box", "discrete"])
def test_equals_sb3(observation: str, action: str) -> None:
    """The same steps give the same fields, advantages and returns, under the same names."""
    kind = DictRolloutBuffer if observation == "dict" else SB3RolloutBuffer
    options: dict[str, Any] = {"device": "cpu", "gae_lambda": 0.9, "gamma": 0.97, "n_envs": ENVS}
    reference = kind(STEPS, OBSERVATIONS[observation], ACTIONS[action], **options)
    ours = make(observation, action, **options)
    random = np.random.default_rng(0)
    for _ in range(STEPS):
        observations, actions = batch(OBSERVATIONS[observation]), batch(ACTIONS[action])
        rewards, values, log_probs = random.normal(size=(3, ENVS)).astype(np.float32)
        starts = random.random(ENVS) < 0.3
        reference.add(observations, actions, rewards, starts, torch.as_tensor(values), torch.as_tensor(log_probs))
        ours.add(
            observations=observations,
            actions=actions,
            rewards=rewards,
            episode_starts=starts,
            values=values,
            log_probs=log_probs,
        )
    last, dones = random.normal(size=ENVS).astype(np.float32), np.array([True, False, False])
    reference.compute_returns_and_advantage(torch.as_tensor(last), dones)
    ours.compute_returns_and_advantage(last, dones)
    for name in ("rewards", "episode_starts", "values", "log_probs", "advantages", "returns"):
        expected = getattr(reference, name)
        assert expected.shape == getattr(ours, name).shape
        np.testing.assert_allclose(getattr(ours, name), expected, rtol=1e-5, atol=1e-5, err_msg=name)
    np.testing.assert_array_equal(ours.actions.reshape(reference.actions.shape), reference.actions)
    tree_map(lambda a, b: np.testing.assert_allclose(a, b.reshape(a.shape)), ours.observations, reference.observations)


def test_rewards_in_other_units_leave_the_recorded_ones_alone() -> None:
    buffer = make(gamma=0.5, gae_lambda=1.0)
    buffer.data["rewards"][:] = 8.0
    dones = np.zeros(ENVS, bool)
    buffer.compute_returns_and_advantage(np.zeros(ENVS), dones, rewards=buffer.rewards / 4)
    np.testing.assert_allclose(buffer.returns[:, 0], [4 * (1 - 0.5**k) for k in range(STEPS, 0, -1)])
    assert (buffer.rewards == 8.0).all()


def test_extra_fields() -> None:
    extra = {"roots": Field((2, 4), np.int64), "post": {"a": Field((3,)), "b": Field((), np.bool_)}}
    buffer = make(extra_fields=extra)
    buffer.add(roots=np.full((ENVS, 2, 4), 5), post={"a": np.full((ENVS, 3), 2.0), "b": np.ones(ENVS)})
    assert buffer.roots.shape == (STEPS, ENVS, 2, 4)
    rows = buffer.tensors(("roots", "post"))
    assert rows["roots"].dtype == torch.int64
    assert rows["post"]["b"].dtype == torch.bool
    assert rows["post"]["a"][:ENVS].tolist() == [[2.0] * 3] * ENVS
    assert rows["post"]["b"].sum() == ENVS


def test_tensors_on_the_cpu_are_views() -> None:
    buffer = make()
    rows = buffer.tensors(("values",))["values"]
    buffer.data["values"][1, 2] = 5.0
    assert rows[1 * ENVS + 2] == 5.0
    assert buffer.flat("values").base is not None


def test_rows_as_sb3_samples_them() -> None:
    buffer = make("dict")
    buffer.data["values"][:] = np.arange(STEPS * ENVS).reshape(STEPS, ENVS)
    rows = buffer._get_samples(np.array([4, 0]))
    assert rows.old_values.tolist() == [4.0, 0.0]
    assert rows.observations["vector"].shape == (2, 4)


def test_unknown_field_is_named_with_those_that_exist() -> None:
    with pytest.raises(AttributeError, match=r"no field 'return'.*returns.*valid"):
        _ = make().__getattr__("return")
    assert not hasattr(make(), "anything")


def test_copies_are_whole_and_independent() -> None:
    buffer = make()
    twin = copy.deepcopy(buffer)
    twin.data["values"][:] = 1.0
    assert twin.values.sum() == STEPS * ENVS
    assert buffer.values.sum() == 0
