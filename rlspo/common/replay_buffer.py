"""A replay buffer as named fields of declared shape, kept on the agent's device."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer
from stable_baselines3.common.buffers import ReplayBuffer as SB3ReplayBuffer
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from rlspo.common.compilation import mark_static
from rlspo.common.frames import Frames, ImageRows, check_room, is_image, places_for, zeros
from rlspo.common.rollout_buffer import Field, action_field, check_rows, observation_fields
from rlspo.common.trees import by_key, tree_map
from rlspo.common.vector_env import only_reset

#: The fields that show observations.
SEEN = ("observations", "next_observations")


class ReplayBuffer(SB3ReplayBuffer):
    """The last ``buffer_size`` transitions, in a ring; every field is a tensor ``(buffer_size, *field.shape)``, and images are
    read as if they were: each of their frames is kept once, which for four stacked ones is an eighth of the memory.

    Rows are transitions of any environment, so a step in which an environment only reset is not stored. On a CPU the tensors
    share memory with NumPy arrays. On a GPU they are on the device, and minibatches are gathered there.

    :param buffer_size: transitions of all environments together
    :param observation_space: of the environment, a Dict space too
    :param action_space: of the environment
    :param device: of the fields
    :param n_envs: parallel environments
    :param optimize_memory_usage: must be False; SB3's ``ReplayBuffer`` stores observations once (see :class:`rlspo.SAC`)
    :param handle_timeout_termination: a time limit is not a terminal state: do not store it as one
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
    ) -> None:
        if optimize_memory_usage:
            raise ValueError("optimize_memory_usage is not for this buffer; use SB3's ReplayBuffer.")
        BaseBuffer.__init__(self, buffer_size, observation_space, action_space, device, n_envs=n_envs)
        self.optimize_memory_usage = False
        self.handle_timeout_termination = handle_timeout_termination
        seen = observation_fields(observation_space)
        self.fields: dict[str, Any] = {
            "observations": seen,
            "next_observations": seen,
            "actions": action_field(action_space),
            "rewards": Field(),
            "dones": Field(),
        }
        #: The fields by name; empty until the first transition, so that an agent that only acts needs no memory.
        self.data: dict[str, Any] = {}
        #: Of images, by their key in a Dict observation; "" for others.
        self.frames: dict[str, Frames] = {}

    def __getattr__(self, name: str) -> Any:
        # For code written for SB3: rows as if of one environment, ``(buffer_size, 1, *shape)``, as ``pos`` and ``size()``
        # count them; discrete actions as rows of length one. Without a copy on a CPU, but for images.
        if name in self.__dict__.get("fields", {}):
            if not self.data:
                self._make_room()
            tree = tree_map(_as_sb3s, self.data[name])
            if name not in ("observations", "next_observations"):
                return tree
            return tree_map(lambda rows, shape: rows.reshape(*rows.shape[:2], *shape), tree, self.obs_shape)
        hint = " (a time limit is not stored as an end: dones is 0 there)" if name == "timeouts" else ""
        raise AttributeError(f"{type(self).__name__} has no {name!r}{hint}.")

    def _allocate(self, field: Field) -> torch.Tensor:
        return zeros((self.buffer_size, *field.shape), field.dtype, self.device)

    def _make_room(self, images_once: bool = True) -> None:
        """Allocate all fields.

        :param images_once: False: as files of earlier versions have them
        :raises ValueError: if they need more than a GPU's free memory
        """
        seen = by_key(self.fields[SEEN[0]])
        images = {key: field.shape for key, field in seen.items() if is_image(field.shape, field.dtype)}
        if not images_once or type(self) is not ReplayBuffer:  # a subclass may read and write the arrays themselves
            images = {}
        check_room(self._bytes_needed(images), self.device, f"{self.buffer_size:,} transitions")
        self.frames = {key: Frames(self.buffer_size, shape, self.device) for key, shape in images.items()}
        for name, tree in self.fields.items():
            once = self.frames if name in SEEN else {}
            leaves = {
                key: getattr(once[key], name) if key in once else self._allocate(field) for key, field in by_key(tree).items()
            }
            self.data[name] = leaves if isinstance(tree, dict) else leaves[""]

    def _bytes_needed(self, images: Collection[str]) -> int:
        """Memory of a full buffer, where images are stacks of frames; others need more, see :meth:`Frames._grow`.

        :param images: the keys of those that are kept once
        """
        needed = 0
        for name, tree in self.fields.items():
            for key, field in by_key(tree).items():
                if name not in SEEN or key not in images:
                    needed += self.buffer_size * int(np.prod(field.shape)) * np.dtype(field.dtype).itemsize
                elif name == SEEN[0]:
                    needed += places_for(self.buffer_size, field.shape[0]) * int(np.prod(field.shape[1:]))
        return needed

    def size(self) -> int:
        """Transitions that can be drawn."""
        return self.buffer_size if self.full else self.pos

    def add(
        self,
        obs: Any,
        next_obs: Any,
        action: np.ndarray,
        reward: np.ndarray,
        done: np.ndarray,
        infos: list[dict[str, Any]],
        **extra: Any,
    ) -> None:
        """Record one step of all environments, each array ``(n_envs, *shape)``; the oldest rows are overwritten.

        :param obs: before the step
        :param next_obs: after it; for an episode that ended, its last one
        :param action: in [-1, 1]
        :param done: whether the episode ended
        :param infos: of the environments, see ``handle_timeout_termination``
        :param extra: the extra fields, by name
        :raises ValueError: for other shapes, or types that do not fit
        """
        actions = np.asarray(action)
        if actions.shape == (len(infos), *(self.action_space.shape or ())):
            actions = actions.reshape(len(infos), *self.fields["actions"].shape)
        cut = np.array([self.handle_timeout_termination and info.get("TimeLimit.truncated", False) for info in infos])
        rows = {
            "observations": tree_map(_without_column, obs, self.fields["observations"]),
            "next_observations": tree_map(_without_column, next_obs, self.fields["observations"]),
            "actions": actions,
            "rewards": reward,
            "dones": np.asarray(done, np.float32) * (1.0 - cut),
            **extra,
        }
        for name, value in rows.items():
            check_rows(name, value, self.fields[name], len(infos))
        if not self.data:
            self._make_room()
        kept = [index for index, info in enumerate(infos) if not only_reset(info)]
        chosen: Any = slice(None) if len(kept) == len(infos) else kept
        for name, value in rows.items():
            tree_map(lambda store, part: self._write(store, np.asarray(part)[chosen]), self.data[name], value)
        for key, frames in self.frames.items():
            seen, then = (by_key(rows[name])[key] for name in SEEN)
            for number, env in enumerate(kept):
                frames.write((self.pos + number) % self.buffer_size, env, seen[env], then[env])
        self.full |= self.pos + len(kept) >= self.buffer_size
        self.pos = (self.pos + len(kept)) % self.buffer_size

    def _write(self, store: torch.Tensor | ImageRows, rows: np.ndarray) -> None:
        """Write ``rows`` from ``pos`` on, wrapping around at the end of the ring."""
        if isinstance(store, ImageRows):
            return
        at = self.pos
        while len(rows):
            stretch = rows[: self.buffer_size - at]
            if store.device.type == "cpu":
                store.numpy()[at : at + len(stretch)] = stretch
            else:
                store[at : at + len(stretch)] = torch.from_numpy(stretch)
            rows, at = rows[len(stretch) :], 0

    def rows(self, count: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Indices of ``count`` rows drawn at random, with replacement, on the device.

        :raises ValueError: where nothing has been recorded yet
        """
        if self.size() == 0:
            raise ValueError("The replay buffer is empty; collect at least one step before learning (learning_starts >= 1).")
        return torch.randint(self.size(), (count,), generator=generator, device=self.device)

    @property
    def samples_rows(self) -> bool:
        """Whether a sample is nothing else than :meth:`rows` of :attr:`data`, which a subclass may change."""
        return all(getattr(type(self), name) is getattr(ReplayBuffer, name) for name in ("sample", "_get_samples"))

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> Any:
        """SB3's interface: ``batch_size`` rows as tensors.

        :param env: normalise observations and rewards by its statistics
        """
        return self._get_samples(self.rows(batch_size).cpu().numpy(), env)

    def _get_samples(self, batch_inds: np.ndarray, env: VecNormalize | None = None, as_seen: bool = False) -> Any:
        """
        :param as_seen: stored observations are those that the agent saw; only rewards are normalised
        """
        at = torch.as_tensor(batch_inds, device=self.device)
        data: dict[str, Any] = {name: tree_map(lambda store: store[at], self.data[name]) for name in self.fields}
        for name in ("observations", "next_observations"):
            if env is not None and not as_seen:
                plain: Any = self._normalize_obs(tree_map(lambda rows: rows.cpu().numpy(), data[name]), env)
                data[name] = tree_map(self.to_torch, plain)
        rewards = data["rewards"].reshape(-1, 1)
        if env is not None:
            rewards = self.to_torch(self._normalize_reward(rewards.cpu().numpy(), env)).float()
        kind = DictReplayBufferSamples if isinstance(self.observation_space, spaces.Dict) else ReplayBufferSamples
        return kind(
            observations=data["observations"],
            actions=data["actions"],
            next_observations=data["next_observations"],
            dones=data["dones"].reshape(-1, 1),
            rewards=rewards,
        )

    def to(self, device: torch.device) -> None:
        """Move all fields to another device."""
        self.device = device
        for frames in self.frames.values():
            frames.to(device)

        def moved(store: torch.Tensor | ImageRows) -> torch.Tensor | ImageRows:
            return mark_static(store.to(device)) if isinstance(store, torch.Tensor) else store

        self.data = {name: tree_map(moved, tree) for name, tree in self.data.items()}

    def __getstate__(self) -> dict[str, Any]:
        """Without unused rows, and readable on machines without this device; of images, frames and which rows show them."""
        rows = slice(self.size())
        filled = {name: tree_map(lambda store: _stored(store)[rows].clone().cpu(), tree) for name, tree in self.data.items()}
        frames = {key: each.filled() for key, each in self.frames.items()}
        return {**self.__dict__, "data": filled, "frames": frames, "device": torch.device("cpu")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        filled, frames = state["data"], state.get("frames", {})
        self.__dict__.update({**state, "data": {}, "frames": {}})
        if not filled:
            return
        self._make_room(images_once=bool(frames))
        for name, tree in filled.items():
            tree_map(lambda store, part: _stored(store)[: len(part)].copy_(part), self.data[name], tree)
        for key, stored in frames.items():
            self.frames[key].refill(stored, self.size())


def _as_sb3s(store: torch.Tensor | ImageRows) -> np.ndarray:
    """All rows, ``(buffer_size, 1, *shape)``."""
    rows = store.cpu().numpy()[:, None]
    if isinstance(store, ImageRows):
        rows.flags.writeable = False  # writes to a copy would be lost
    return rows


def _stored(store: torch.Tensor | ImageRows) -> torch.Tensor:
    """What is there for each row: a value, or where frames are."""
    return store.index if isinstance(store, ImageRows) else store


def _without_column(rows: Any, field: Field) -> Any:
    """Discrete actions are numbers here, and rows of one number in SB3's buffers."""
    return rows[:, 0] if field.shape == () and np.ndim(rows) == 2 and np.shape(rows)[1] == 1 else rows
