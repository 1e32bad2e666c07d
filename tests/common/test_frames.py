"""Frames of images are kept once, and rows are read as they were written."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack

from rlspo import SAC
from rlspo.common.errors import IncompatibleModelError
from rlspo.common.frames import check_room
from rlspo.common.replay_buffer import ReplayBuffer

SIDE = 36
ACTIONS = spaces.Box(-1, 1, (2,))


class Noise(gym.Env):
    """Images of noise, some of them black, in episodes of nine steps."""

    def __init__(self, channels: int = 1, side: int = SIDE) -> None:
        self.observation_space = spaces.Box(0, 255, (channels, side, side), np.uint8)
        self.action_space = ACTIONS

    def _seen(self) -> np.ndarray:
        black = self.np_random.random() < 0.1
        return self.np_random.integers(0, 256, self.observation_space.shape).astype(np.uint8) * (not black)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self._seen(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self._seen(), float(action[0]), self.steps == 9, False, {}


def stacked(n_envs: int = 2, stack: int = 4, channels: int = 1) -> VecEnv:
    return VecFrameStack(make_vec_env(lambda: Noise(channels), n_envs, seed=0), stack)


def filled(buffer: ReplayBuffer, env: VecEnv, steps: int) -> dict[str, np.ndarray]:
    """Fill the buffer from the environment. Returns what its rows should be."""
    shape = (buffer.buffer_size, *buffer.observation_space.shape)
    expected, pos, seen = {name: np.zeros(shape, np.uint8) for name in ("observations", "next_observations")}, 0, env.reset()
    for _ in range(steps):
        actions = np.zeros((env.num_envs, 2), np.float32)
        new, rewards, dones, infos = env.step(actions)
        then = np.stack([info.get("terminal_observation", new[i]) for i, info in enumerate(infos)])
        buffer.add(seen, then, actions, rewards, dones, infos)
        for index in range(env.num_envs):
            expected["observations"][pos], expected["next_observations"][pos] = seen[index], then[index]
            pos = (pos + 1) % buffer.buffer_size
        seen = new.copy()
    return expected


@pytest.mark.parametrize(
    ("rows", "n_envs", "stack", "channels"), [(50, 2, 4, 1), (50, 1, 3, 3), (7, 3, 4, 1), (3, 5, 2, 1), (50, 2, 1, 3)]
)
def test_rows_are_what_was_written(rows: int, n_envs: int, stack: int, channels: int, device: str) -> None:
    env = stacked(n_envs, stack, channels)
    buffer = ReplayBuffer(rows, env.observation_space, ACTIONS, device=device, n_envs=n_envs)
    expected = filled(buffer, env, 60)
    drawn = torch.randint(rows, (40,), device=device)
    for name, images in expected.items():
        np.testing.assert_array_equal(buffer.data[name].cpu().numpy(), images)
        np.testing.assert_array_equal(getattr(buffer, name)[:, 0], images)
        np.testing.assert_array_equal(buffer.data[name][drawn].cpu(), images[drawn.cpu()])


def test_images_that_are_no_stacks_must_fit_a_gpu_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """They need more room than was planned for, and ask for it while the buffer fills."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1_000_000, 2_000_000))
    check_room(999_999, torch.device("cuda"), "100 rows")
    check_room(10**12, torch.device("cpu"), "100 rows")
    with pytest.raises(ValueError, match=r"100 rows need 0.0 GB, but cuda has 0.0 GB left. Choose a smaller buffer_size"):
        check_room(1_000_001, torch.device("cuda"), "100 rows")


def test_a_frame_is_kept_once_and_as_long_as_it_is_shown() -> None:
    buffer = ReplayBuffer(100, stacked().observation_space, ACTIONS, n_envs=2)
    filled(buffer, stacked(), 1000)
    frames = buffer.frames[""]
    # One for each row, one for each episode's first observation, and what stacks and environments hold beyond the oldest row.
    assert frames.used < 100 + 100 / 9 + 2 * 2 * 4 + 1
    assert frames.held.planes.numel() < 200 * SIDE**2


def test_stacks_that_do_not_move_on_are_kept_whole() -> None:
    env = Noise(4)
    buffer = ReplayBuffer(300, env.observation_space, ACTIONS)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (300, 2, 4, SIDE, SIDE)).astype(np.uint8)
    images[0, 1, :-1] = images[0, 0, 1:]  # only the first looks like a stack
    for seen, then in images:
        buffer.add(seen[None], then[None], np.zeros((1, 2)), np.zeros(1), np.zeros(1), [{}])
    np.testing.assert_array_equal(buffer.data["observations"].cpu(), images[:, 0])
    np.testing.assert_array_equal(buffer.data["next_observations"].cpu(), images[:, 1])


def weights(model: SAC) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.policy.parameters()])


def trained(once: bool = True) -> SAC:
    policy_kwargs = {"net_arch": [8], "features_extractor_kwargs": {"features_dim": 8}}
    model = SAC(
        "CnnPolicy",
        stacked(),
        seed=0,
        buffer_size=30,
        batch_size=8,
        learning_starts=20,
        policy_kwargs=policy_kwargs,
    )
    if not once:
        model.replay_buffer._make_room(images_once=False)
    return model.learn(60)


def test_learning_does_not_notice(tmp_path: Path) -> None:
    model, whole = trained(), trained(once=False)
    assert model.replay_buffer.frames and not whole.replay_buffer.frames
    assert torch.equal(weights(model), weights(whole))

    model.save_replay_buffer(tmp_path / "buffer")
    assert (tmp_path / "buffer.pkl").stat().st_size < 2 * 30 * SIDE**2
    loaded = SAC("CnnPolicy", stacked(), seed=0, batch_size=8, policy_kwargs=model.policy_kwargs, compile=False)
    loaded.load_replay_buffer(tmp_path / "buffer")
    for name in ("observations", "next_observations"):
        assert torch.equal(loaded.replay_buffer.data[name].cpu(), model.replay_buffer.data[name].cpu())
    expected = filled(loaded.replay_buffer, stacked(), 40)
    for name, images in expected.items():
        shown = np.roll(loaded.replay_buffer.data[name].cpu().numpy(), -loaded.replay_buffer.pos, axis=0)
        np.testing.assert_array_equal(shown[-20:], np.roll(images, -80 % 30, axis=0)[-20:])


def test_files_with_whole_images_are_read(tmp_path: Path) -> None:
    whole = trained(once=False)
    whole.save_replay_buffer(tmp_path / "buffer")
    loaded = trained()
    loaded.load_replay_buffer(tmp_path / "buffer")
    assert torch.equal(loaded.replay_buffer.data["observations"], whole.replay_buffer.data["observations"])
    loaded.learn(20, reset_num_timesteps=False)


def test_a_file_whose_rows_show_images_that_it_lacks_is_refused(tmp_path: Path) -> None:
    model = trained()
    model.replay_buffer.data["observations"].index[3, 0] = 10_000
    model.save_replay_buffer(tmp_path / "buffer")
    with pytest.raises((IncompatibleModelError, ValueError), match="show images from 0 to 10000"):
        model.load_replay_buffer(tmp_path / "buffer")


def test_dict_observations_keep_their_images_once() -> None:
    space = spaces.Dict(image=spaces.Box(0, 255, (4, SIDE, SIDE), np.uint8), place=spaces.Box(-1, 1, (2,)))
    buffer = ReplayBuffer(20, space, ACTIONS)
    rng = np.random.default_rng(0)
    tape = rng.integers(0, 256, (40, SIDE, SIDE)).astype(np.uint8)
    for step in range(20):
        seen, then = ({"image": tape[None, at : at + 4], "place": np.full((1, 2), at / 40)} for at in (step, step + 1))
        buffer.add(seen, then, np.zeros((1, 2)), np.zeros(1), np.zeros(1), [{}])
    assert [*buffer.frames] == ["image"]
    assert buffer.frames["image"].used == 25
    rows = buffer.sample(12).next_observations
    start = (rows["place"][:, 0] * 40).round().long()
    np.testing.assert_array_equal(rows["image"], np.stack([tape[at : at + 4] for at in start.tolist()]))


class Own(ReplayBuffer):
    """Subclasses have arrays."""


def test_images_are_read_like_arrays_and_not_written_to() -> None:
    buffer = ReplayBuffer(30, stacked().observation_space, ACTIONS, n_envs=2)
    images = filled(buffer, stacked(), 15)["observations"]
    rows = buffer.data["observations"]
    assert (rows.shape, rows.dtype, len(rows)) == (images.shape, torch.uint8, 30)
    for part in (3, np.int64(3), slice(2, 9), (3, 0), (np.int64(3), 0), (slice(None), 1), (slice(1, 5), 2, 3)):
        np.testing.assert_array_equal(rows[part], images[part])
    for part in ((..., 0), ([1, 2], [0, 1]), (None, 0)):
        with pytest.raises(TypeError, match="Read rows first"):
            rows[part]
    with pytest.raises(TypeError, match="add them to the buffer"):
        rows[3] = 0
    with pytest.raises(ValueError, match="read-only"):
        buffer.observations[3] = 0
    buffer.add(images[None, 0, ::-1], images[None, 1, :, ::-1], np.zeros((1, 2)), np.zeros(1), np.zeros(1), [{}])
    np.testing.assert_array_equal(rows[0], images[0, ::-1])


def test_small_images_and_subclasses_have_arrays() -> None:
    for buffer in (
        ReplayBuffer(5, spaces.Box(0, 255, (84, 84, 4), np.uint8), ACTIONS),
        ReplayBuffer(5, spaces.Box(0, 255, (3, 8, 8), np.uint8), ACTIONS),
        Own(5, stacked().observation_space, ACTIONS),
    ):
        buffer._make_room()
        assert not buffer.frames
        assert isinstance(buffer.data["observations"], torch.Tensor)


def test_room_for_any_images_is_made_once() -> None:
    """A compiled update is compiled again when it changes."""
    buffer, rooms = ReplayBuffer(100, Noise(4).observation_space, ACTIONS), set()
    rng = np.random.default_rng(0)
    for _ in range(250):
        seen, then = rng.integers(0, 256, (2, 1, 4, SIDE, SIDE)).astype(np.uint8)
        buffer.add(seen, then, np.zeros((1, 2)), np.zeros(1), np.zeros(1), [{}])
        rooms.add(len(buffer.frames[""].held.planes))
    assert len(rooms) == 2


def test_a_compiled_function_gathers_them() -> None:
    buffer = ReplayBuffer(30, stacked().observation_space, ACTIONS, n_envs=2)
    images = filled(buffer, stacked(), 15)["observations"]

    def mean(data: dict[str, Any], rows: torch.Tensor) -> torch.Tensor:
        return data["observations"][rows].float().mean(dim=(2, 3))

    rows = torch.tensor([3, 7, 7, 29])
    found = torch.compile(mean, fullgraph=True)(buffer.data, rows)
    np.testing.assert_allclose(found, images[rows].mean(axis=(2, 3)), rtol=1e-5)
