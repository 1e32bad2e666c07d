"""The images of a rollout are kept once, and read as they were written."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rlspo import BARPO, PPO
from rlspo.common.rollout_buffer import RolloutBuffer
from rlspo.common.rollout_images import RolloutImages
from tests.common.test_frames import SIDE, stacked

SMALL: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 2, "seed": 0}
SMALL |= {"policy_kwargs": {"net_arch": [8], "features_extractor_kwargs": {"features_dim": 8}}}


class Whole(RolloutBuffer):
    """Subclasses have arrays."""


def filled(stack: int, channels: int, n_envs: int, steps: int = 30) -> tuple[RolloutImages, np.ndarray]:
    env = stacked(n_envs, stack, channels)
    images = RolloutImages(steps, n_envs, env.observation_space.shape)
    for _ in range(2):  # the second rollout goes over the first
        images.reset()
        expected, seen = np.zeros(images.shape, np.uint8), env.reset()
        for step in range(steps):
            images[step] = expected[step] = seen
            seen[:] = env.step(np.zeros((n_envs, 2), np.float32))[0]  # into the same array
    return images, expected


@pytest.mark.parametrize(("stack", "channels", "n_envs"), [(4, 1, 2), (3, 3, 1), (1, 3, 2), (1, 1, 3), (2, 1, 5)])
def test_rows_are_what_was_written(stack: int, channels: int, n_envs: int, device: str) -> None:
    images, expected = filled(stack, channels, n_envs)
    merged = expected.reshape(-1, *expected.shape[2:])
    np.testing.assert_array_equal(images, expected)
    np.testing.assert_array_equal(images.rows[7:20], merged[7:20])
    tensors = images.tensors(torch.device(device))
    drawn = torch.randint(len(merged), (20,), device=device)
    np.testing.assert_array_equal(tensors[drawn].cpu(), merged[drawn.cpu()])
    assert images.tensors(torch.device(device)) is tensors


def test_steps_may_be_written_in_any_order_and_all_at_once() -> None:
    images, expected = filled(4, 1, 2)
    for step in (7, 3, 29, 0):
        images[step] = expected[step] = expected[step][::-1]
    np.testing.assert_array_equal(images, expected)
    images[2:4] = expected[2:4] = 255 - expected[2:4]
    np.testing.assert_array_equal(images, expected)
    for everything in (slice(None), ...):
        images[everything] = expected
        np.testing.assert_array_equal(images, expected)
        assert images.used < 30 * 2 * 2


def test_copies_are_whole() -> None:
    images, _ = filled(4, 1, 2)
    images.tensors(torch.device("cpu"))
    for copied in (copy.deepcopy(images), pickle.loads(pickle.dumps(images))):
        new = np.random.default_rng(0).integers(0, 256, images.shape).astype(np.uint8)
        copied[:] = new
        for found in (copied, copied.rows[:].reshape(new.shape), copied.tensors(torch.device("cpu"))[:].reshape(new.shape)):
            np.testing.assert_array_equal(found, new)


def test_stacks_need_no_more_room_than_was_made() -> None:
    env = stacked(64)
    images = RolloutImages(8, 64, env.observation_space.shape)
    room = len(images.rows.held.planes)
    seen = env.reset()
    for step in range(8):
        images[step] = seen
        seen = env.step(np.zeros((64, 2), np.float32))[0]
    assert len(images.rows.held.planes) == room


def test_a_channel_is_kept_once() -> None:
    images, _ = filled(4, 1, 2)
    assert images.used <= 1 + 2 * (30 + 3 + 30 // 9 + 1)  # a new one in each step, and stacks that begin anew
    images, _ = filled(1, 3, 1)  # nothing repeats
    assert images.used <= 1 + 30 * 3


def test_learning_does_not_notice() -> None:
    def weights(agent: Any, buffer: Any) -> torch.Tensor:
        model = agent("CnnPolicy", stacked(), rollout_buffer_class=buffer, **SMALL).learn(64)
        assert isinstance(model.rollout_buffer.data["observations"], RolloutImages) == (buffer is None)
        return torch.cat([parameter.detach().flatten() for parameter in model.policy.parameters()])

    for agent in (PPO, BARPO):
        assert torch.equal(weights(agent, None), weights(agent, Whole))


def test_fields_read_as_sb3s() -> None:
    model = PPO("CnnPolicy", stacked(), **SMALL).learn(32)
    buffer = model.rollout_buffer
    observations = buffer.observations
    assert observations.shape == (16, 2, 4, SIDE, SIDE)
    np.testing.assert_array_equal(observations[1:, :, :-1][:5], observations[:-1, :, 1:][:5])
    with pytest.raises(ValueError, match="read-only"):
        observations[0] = 0
    with pytest.raises(TypeError, match="step by step, or all at once"):
        buffer.data["observations"][0, 1] = 0
    buffer.observations = 255 - observations
    np.testing.assert_array_equal(buffer.observations, 255 - observations)
    np.testing.assert_array_equal(buffer.data["observations"][3], 255 - observations[3])
    drawn = next(iter(buffer.get(8))).observations
    assert drawn.shape == (8, 4, SIDE, SIDE)


def test_dict_observations_keep_their_images_once() -> None:
    space = spaces.Dict(image=spaces.Box(0, 255, (4, SIDE, SIDE), np.uint8), place=spaces.Box(-1, 1, (2,)))
    buffer = RolloutBuffer(10, space, spaces.Discrete(2), "cpu")
    tape = np.random.default_rng(0).integers(1, 256, (20, SIDE, SIDE)).astype(np.uint8)
    for step in range(10):
        buffer.add(observations={"image": tape[None, step : step + 4], "place": np.full((1, 2), step, np.float32)})
    assert buffer.data["observations"]["image"].used == 1 + 13
    found = buffer.tensors(("observations",))["observations"]
    np.testing.assert_array_equal(found["image"][torch.arange(10)], np.stack([tape[at : at + 4] for at in range(10)]))
    assert found["place"][:, 0].tolist() == [*range(10)]
