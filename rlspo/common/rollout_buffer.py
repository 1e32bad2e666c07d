"""A rollout as named fields of declared shape, for every observation and action space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer

from rlspo.common.advantages import generalized_advantages
from rlspo.common.compilation import mark_static
from rlspo.common.frames import is_image
from rlspo.common.rollout_images import RolloutImages
from rlspo.common.sb3_rollouts import SB3Rollouts
from rlspo.common.trees import by_key, tree_leaves, tree_map


@dataclass(frozen=True)
class Field:
    """One recorded quantity.

    :param shape: per environment and step
    :param dtype: of NumPy
    :param for_loss: pass it to the loss, in ``batch.extra``; False for data that only advantages need
    """

    shape: tuple[int, ...] = ()
    dtype: Any = np.float32
    for_loss: bool = True


def space_field(space: spaces.Space) -> Field:
    """The field that holds elements of a (not Dict) ``space``: images stay bytes, choices integers, the rest is float32."""
    if isinstance(space, spaces.Box):
        return Field(space.shape, np.uint8 if space.dtype == np.uint8 else np.float32)
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return Field(space.shape or (), np.int64)
    if isinstance(space, spaces.MultiBinary):
        return Field(space.shape, np.float32)
    raise TypeError(
        f"{space} is not supported; use Box, Discrete, MultiDiscrete, MultiBinary or, to observe, a Dict of these."
    )


def observation_fields(space: spaces.Space) -> Field | dict[str, Field]:
    """The field that holds observations of ``space``, or one field per key of a Dict space.

    :raises TypeError: for a space that is not supported
    """
    if isinstance(space, spaces.Dict):
        return {key: space_field(part) for key, part in space.spaces.items()}
    return space_field(space)


def action_field(space: spaces.Space) -> Field:
    """The field that holds actions of ``space``; a Box action is stored flat, as the distributions see it."""
    if isinstance(space, spaces.Box):
        return Field((int(np.prod(space.shape)),), np.float32)
    return space_field(space)


def check_rows(name: str, given: Any, field: Field | dict[str, Field], count: int) -> None:
    """Check that rows fit a field: nothing is reshaped, broadcast or cast.

    :param name: for the message
    :param given: one row for each environment, ``(count, *field.shape)``, or a dictionary of such arrays
    :param field: the field for the rows
    :param count: environments
    :raises ValueError: for another shape, a missing key, or fractions where the field holds whole numbers
    """
    if isinstance(given, np.ndarray) and isinstance(field, Field):
        as_kept = given.dtype == field.dtype and given.shape == (count, *field.shape)
        if as_kept:  # as nearly always
            return
    if isinstance(field, dict):
        missing = sorted(field.keys() - given.keys()) if isinstance(given, dict) else sorted(field)
        if missing:
            raise ValueError(f"{name} lacks {', '.join(map(repr, missing))}; it must be a dictionary with all of these keys.")
        for key, part in field.items():
            check_rows(f"{name}[{key!r}]", given[key], part, count)
        return
    rows, expected = np.asarray(given), (count, *field.shape)
    if rows.shape != expected:
        turned = rows.ndim == 4 and (*rows.shape[:1], *rows.shape[3:], *rows.shape[1:3]) == expected
        hint = " These are images with the channel last; put a VecTransposeImage around the environment." if turned else ""
        raise ValueError(
            f"{name} has the shape {rows.shape}; it must be {expected}: a row for each of {count} environment(s), as the "
            f"spaces say.{hint}"
        )
    if rows.dtype == field.dtype or np.can_cast(rows.dtype, field.dtype, "same_kind"):
        return
    # An image may contain fractions even if its first numbers are whole.
    by_value = np.issubdtype(rows.dtype, np.integer) or field.dtype != np.uint8
    if not by_value or not np.array_equal(rows, rows.astype(field.dtype)):
        raise ValueError(
            f"{name} is {rows.dtype}, but the spaces say {np.dtype(field.dtype)}, which cannot hold it. Let the environment "
            "give what its space says, or declare the space that it gives."
        )


class RolloutBuffer(SB3Rollouts):
    """``n_steps`` steps of ``n_envs`` environments, every field of shape ``(n_steps, n_envs, *field.shape)``.

    Images that are observations are read as if they had it too: of stacked frames, each is kept once.

    Collected in NumPy, read as tensors on the agent's device: without a copy on the CPU, else in one transfer per field and
    rollout.

    :param buffer_size: steps per environment
    :param observation_space: of the environment
    :param action_space: of the environment
    :param device: of :meth:`tensors`
    :param gae_lambda: see :func:`~rlspo.common.advantages.generalized_advantages`
    :param gamma: discount factor
    :param n_envs: parallel environments
    :param extra_fields: additional fields that an agent records, by name
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: torch.device | str = "auto",
        gae_lambda: float = 1.0,
        gamma: float = 0.99,
        n_envs: int = 1,
        extra_fields: dict[str, Field | dict[str, Field]] | None = None,
    ) -> None:
        BaseBuffer.__init__(self, buffer_size, observation_space, action_space, device, n_envs=n_envs)
        self.gae_lambda = gae_lambda
        self.gamma = gamma
        self.fields: dict[str, Any] = {
            "observations": observation_fields(observation_space),
            "actions": action_field(action_space),
            "rewards": Field(),
            "episode_starts": Field(),
            "values": Field(),
            "log_probs": Field(),
            "advantages": Field(),
            "returns": Field(),
            "valid": Field((), np.bool_),
        }
        self.data: dict[str, Any] = {}
        self.declare({**self.fields, **(extra_fields or {})})
        #: The fields on a device other than the CPU, by name, and by key of a Dict.
        self.on_device: dict[tuple[str, str], torch.Tensor] = {}
        self.reset()

    def declare(self, fields: Mapping[str, Any]) -> None:
        """Allocate more fields, by name.

        :raises TypeError: for what is not a :class:`Field`, or a dictionary of such
        """
        wrong = not isinstance(fields, Mapping) or not all(
            isinstance(part, Field) for field in fields.values() for part in tree_leaves(field)
        )
        if wrong:
            raise TypeError(
                f"extra_fields is {fields!r}; it must be a dictionary from names to fields, such as {{'goal': Field((3,))}}, "
                "of rlspo.common.rollout_buffer.Field."
            )
        self.fields |= fields
        self.data |= {name: tree_map(partial(self._allocate, name), field) for name, field in fields.items()}

    def _allocate(self, name: str, field: Field) -> np.ndarray | RolloutImages:
        # A subclass may read and write the array itself.
        if name == "observations" and is_image(field.shape, field.dtype) and type(self) is RolloutBuffer:
            return RolloutImages(self.buffer_size, self.n_envs, field.shape)
        return np.zeros((self.buffer_size, self.n_envs, *field.shape), field.dtype)

    def reset(self) -> None:
        """Empty the buffer; its memory is reused."""
        BaseBuffer.reset(self)
        self._beyond_recorded: Any = 0.0
        self.data["valid"][:] = True
        for leaf in tree_leaves(self.data["observations"]):
            if isinstance(leaf, RolloutImages):
                leaf.reset()

    def add(self, *args: Any, **fields: Any) -> None:
        """Record one step of all environments.

        :param args: instead, SB3's arguments: observations, actions, rewards, episode starts, values, log-probabilities
        :param fields: by name, each of shape ``(n_envs, *field.shape)``
        :raises ValueError: if the first step of a rollout has another shape, or a dtype that does not fit
        """
        if args:
            fields = {**self.named(*args), **fields}
        if self.pos >= self.buffer_size:
            raise IndexError(f"The buffer holds {self.buffer_size} steps and is full; call reset() first.")
        if self.pos == 0:  # once per rollout: a source does not change its format
            for name, value in fields.items():
                if name not in self.fields:
                    raise ValueError(
                        f"There is no field {name!r} to record; declare it: extra_fields = {{{name!r}: Field(shape)}}."
                    )
                check_rows(name, value, self.fields[name], self.n_envs)
        for name, value in fields.items():
            store = self.data[name]
            if isinstance(store, dict):
                for key, array in store.items():
                    array[self.pos] = value[key]
            else:
                store[self.pos] = value
        self.pos += 1
        self.full = self.pos == self.buffer_size

    def flat(self, name: str) -> Any:
        """A field with steps and environments merged, ``(n_steps * n_envs, *field.shape)``, as numpy views; images are read
        as from an array."""
        return tree_map(_merged, self.data[name])

    def flat_valid(self, name: str) -> Any:
        """As :meth:`flat`, without the steps that only reset; a copy."""
        valid = self.data["valid"].reshape(-1)
        return tree_map(lambda rows: rows[valid], self.flat(name))

    def tensors(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Fields as tensors on the device, steps and environments merged; the next call overwrites them."""
        found: dict[str, Any] = {}
        for name in names:
            leaves = {key: self._on_device((name, key), leaf) for key, leaf in by_key(self.data[name]).items()}
            found[name] = leaves if isinstance(self.data[name], dict) else leaves[""]
        return found

    def _on_device(self, place: tuple[str, str], leaf: np.ndarray | RolloutImages) -> Any:
        if isinstance(leaf, RolloutImages):
            return leaf.tensors(self.device)
        view = torch.from_numpy(_merged(leaf))
        if self.device.type == "cpu":
            return view
        if place not in self.on_device:
            self.on_device[place] = mark_static(torch.empty_like(view, device=self.device))
        return self.on_device[place].copy_(view)

    def continues(self, dones: np.ndarray) -> np.ndarray:
        """1 where the episode went on after a step, 0 where it ended, ``(n_steps, n_envs)``.

        :param dones: whether the last step ended the episode, ``(n_envs,)``
        """
        return 1.0 - np.concatenate([self.data["episode_starts"][1:], np.asarray(dones, np.float32)[None]])

    def compute_returns_and_advantage(self, last_values: Any, dones: np.ndarray, rewards: np.ndarray | None = None) -> None:
        """Fill ``advantages`` (GAE) and ``returns`` (advantage plus value, the TD(lambda) target).

        :param last_values: V of the observation after the last step, ``(n_envs,)``, or SB3's tensor ``(n_envs, 1)``
        :param dones: whether the last step ended the episode, ``(n_envs,)``
        :param rewards: ``(n_steps, n_envs)``, where they differ from the recorded ones (scaled, or bootstrapped). None, in a
            callback that adds to the recorded ones: they differ as they did before; what it adds is not scaled
        """
        if rewards is None:
            rewards = self.data["rewards"] + self._beyond_recorded
        self._beyond_recorded = rewards - self.data["rewards"]
        self.data["advantages"][:] = generalized_advantages(
            rewards,
            self.data["values"],
            np.asarray(last_values.cpu() if isinstance(last_values, torch.Tensor) else last_values, np.float32).reshape(-1),
            self.continues(dones),
            self.gamma,
            self.gae_lambda,
        )
        self.data["returns"][:] = self.data["advantages"] + self.data["values"]


def _merged(leaf: Any) -> Any:
    return leaf.rows if isinstance(leaf, RolloutImages) else leaf.reshape(-1, *leaf.shape[2:])
