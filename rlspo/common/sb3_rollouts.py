"""SB3's side of the rollout buffer: its methods and attributes for code written for SB3, and support for subclasses of its
buffer."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import DictRolloutBuffer
from stable_baselines3.common.buffers import RolloutBuffer as SB3RolloutBuffer
from stable_baselines3.common.type_aliases import DictRolloutBufferSamples, RolloutBufferSamples

from rlspo.common.rollout_images import RolloutImages
from rlspo.common.spaces import as_env_numbers, from_env_numbers
from rlspo.common.trees import tree_map

#: The arguments of SB3's ``add``, in order.
ADDED = ("observations", "actions", "rewards", "episode_starts", "values", "log_probs")


class SB3Rollouts(SB3RolloutBuffer):
    """The interface of SB3's ``RolloutBuffer``, on fields by name (``self.data``)."""

    data: dict[str, Any]
    flat: Callable[[str], Any]

    def __getattr__(self, name: str) -> Any:
        # Fields can be read as attributes (``buffer.returns``), in SB3's shapes, without a copy but for images.
        data = self.__dict__.get("data", {})
        if name in data:
            return self._in_sb3s_shape(name, data[name], 2)
        raise AttributeError(f"{type(self).__name__} has no field {name!r}; its fields are {', '.join(data)}.")

    def __setattr__(self, name: str, value: Any) -> None:
        data = self.__dict__.get("data", {})
        if name in data and not isinstance(data[name], dict):
            if isinstance(data[name], RolloutImages):
                data[name][:] = np.reshape(value, data[name].shape)
                return
            getattr(self, name)[...] = value  # into the field: an attribute of that name would hide it
        else:
            super().__setattr__(name, value)

    def _in_sb3s_shape(self, name: str, tree: Any, leading: int) -> Any:
        """In SB3 a discrete action is a row of length one; actions are elements of their space.

        :param leading: axes before those of an element
        """
        if name == "actions":
            rows = tree.reshape(*tree.shape[:leading], self.action_dim)
            elements = as_env_numbers(rows, self.action_space)
            if elements is not rows:
                elements.flags.writeable = False  # writes to this copy would not reach the field
            return elements
        if name == "observations":
            return tree_map(lambda rows, shape: np.asarray(rows).reshape(*rows.shape[:leading], *shape), tree, self.obs_shape)
        return tree

    def named(self, *values: Any) -> dict[str, Any]:
        """The arguments of SB3's ``add`` as fields by name."""
        named = dict(zip(ADDED, map(_array, values), strict=True))
        named["actions"] = from_env_numbers(named["actions"], self.action_space)
        for name in ("observations", "actions"):
            shapes = tree_map(lambda field: (self.n_envs, *field.shape), self.fields[name])
            named[name] = tree_map(lambda rows, shape: rows.reshape(shape), named[name], shapes)
        return named | {name: named[name].reshape(-1) for name in ("values", "log_probs")}

    def get(self, batch_size: int | None = None) -> Generator[Any, None, None]:
        """The rows in random order, as SB3's samples of tensors; without those of steps that only reset an environment.

        :param batch_size: rows in each; None: all
        """
        assert self.full, "The rollout is not complete."
        order = np.random.permutation(np.flatnonzero(self.flat("valid")))
        size = batch_size or len(order)
        for start in range(0, len(order), size):
            yield self._get_samples(order[start : start + size])

    def _get_samples(self, batch_inds: np.ndarray, env: Any = None) -> Any:
        """The rows ``batch_inds`` of the merged fields."""

        def rows(name: str) -> Any:
            chosen = tree_map(lambda array: array[batch_inds], self.flat(name))
            return tree_map(self.to_torch, self._in_sb3s_shape(name, chosen, 1))

        kind = DictRolloutBufferSamples if isinstance(self.observation_space, spaces.Dict) else RolloutBufferSamples
        others = ("values", "log_probs", "advantages", "returns")
        return kind(rows("observations"), rows("actions").float(), *map(rows, others))


def _array(value: Any) -> Any:
    return tree_map(lambda leaf: leaf.detach().cpu().numpy() if isinstance(leaf, torch.Tensor) else np.asarray(leaf), value)


def adopted_buffer(cls: type, own: type, forms_advantages: bool) -> Any:
    """A class of buffers for rollouts of this package: a plain subclass of SB3's is adapted, others are returned unchanged.

    :param cls: a subclass of SB3's ``RolloutBuffer``
    :param own: buffer class of this package
    :param forms_advantages: whether the agent leaves advantages to the buffer
    :raises TypeError: for a class that overrides methods that rollouts of this package do not use
    """
    if not (isinstance(cls, type) and issubclass(cls, SB3RolloutBuffer)):
        raise TypeError(
            f"rollout_buffer_class is {cls!r}; it must be a subclass of SB3's RolloutBuffer or of "
            "rlspo.common.rollout_buffer.RolloutBuffer."
        )
    if issubclass(cls, own) or cls.__module__ == SB3RolloutBuffer.__module__:
        return cls if issubclass(cls, own) else own
    ours = vars(SB3RolloutBuffer).keys() | vars(DictRolloutBuffer).keys()
    overridden = {name for part in cls.__mro__ if part.__module__ != SB3RolloutBuffer.__module__ for name in vars(part)} & ours
    refused = overridden & {"add", "get", "_get_samples"}
    if "compute_returns_and_advantage" in overridden and not forms_advantages:
        refused.add("compute_returns_and_advantage")
    if refused or issubclass(cls, DictRolloutBuffer):
        reason = f"overrides {' and '.join(sorted(refused))}" if refused else "extends DictRolloutBuffer"
        raise TypeError(
            f"rollout_buffer_class is {cls.__name__}, which {reason}. Rollouts here are kept as fields by name, of Dict "
            "observations too, and the agent draws minibatches from these: such a method would not be called, or with other "
            "arguments. Subclass SB3's RolloutBuffer with a reset, compute_returns_and_advantage or further methods of "
            "your own, or rlspo.common.rollout_buffer.RolloutBuffer."
        )

    def set_attribute(self: Any, name: str, value: Any) -> None:
        if name in self.__dict__.get("data", {}):
            # Written into the field that learning reads.
            if name == "actions":
                self.data[name].reshape(*value.shape)[...] = from_env_numbers(value, self.action_space)
            else:
                getattr(self, name)[...] = value
        else:
            object.__setattr__(self, name, value)

    def form_advantages(self: Any, last_values: Any, dones: np.ndarray, rewards: np.ndarray | None = None) -> None:
        if rewards is not None:  # as in SB3, including the values after time limits
            self.data["rewards"][:] = rewards
        cls.compute_returns_and_advantage(self, torch.as_tensor(last_values).reshape(-1, 1), dones)

    methods: dict[str, Any] = {"__module__": cls.__module__, "__setattr__": set_attribute}
    if "compute_returns_and_advantage" in overridden:
        methods["compute_returns_and_advantage"] = form_advantages
    return type(cls.__name__, (cls, own), methods)
