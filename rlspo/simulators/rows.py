"""Layers that call the wrapper itself row by row: for functions of one action, observation or reward."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from rlspo.common.trees import tree_map
from rlspo.simulators.base import Array, Layer, Outcome

Memory = dict[str, Array]


def detached(wrapper: Any) -> Any:
    """A shallow copy of the wrapper, so that attributes of ``wrapper`` itself are never set."""
    twin = object.__new__(type(wrapper))
    twin.__dict__.update(vars(wrapper))
    return twin


def numpy_of(tree: Any) -> Any:
    """Arrays or tensors of any device as NumPy arrays."""
    return tree_map(lambda leaf: leaf.cpu().numpy() if isinstance(leaf, torch.Tensor) else leaf, tree)


def stacked(rows: list[Any], like: Any) -> Any:
    """The rows as one array, or a dictionary of arrays, on the device of ``like``."""
    if isinstance(rows[0], dict):
        return {key: stacked([one[key] for one in rows], like) for key in rows[0]}
    array = np.stack([np.asarray(one) for one in rows])
    leaf = next(iter(like.values())) if isinstance(like, dict) else like
    return torch.as_tensor(array, device=leaf.device) if isinstance(leaf, torch.Tensor) else array


class RowLayer(Layer):
    """An action, observation or reward wrapper whose memory is the attributes ``names``.

    :param wrapper: its method is called
    :param names: of its memory
    """

    def __init__(self, wrapper: Any, names: tuple[str, ...] = ()) -> None:
        super().__init__(detached(wrapper))
        self.names = names

    def capture(self, wrapper: Any) -> dict[str, np.ndarray]:
        return {name: _one_object(copy.deepcopy(getattr(wrapper, name))) for name in self.names}

    def restore(self, wrapper: Any, memory: dict[str, np.ndarray]) -> None:
        for name in self.names:
            setattr(wrapper, name, copy.deepcopy(memory[name][0]))

    def _asked(self, method: Callable[[Any], Any], memory: Memory, values: Any) -> tuple[Memory, Any]:
        """``method`` of each row of ``values``, with that row's memory in the wrapper."""
        host, found = numpy_of(values), []
        new = {name: array.copy() for name, array in memory.items()}
        n = len(next(iter(host.values())) if isinstance(host, dict) else host)
        for index in range(n):
            for name in self.names:
                # Rows selected from the same state share their memory until they change it.
                setattr(self.wrapper, name, copy.deepcopy(memory[name][index]))
            found.append(method(tree_map(lambda array, index=index: array[index], host)))
            for name in self.names:
                new[name][index] = getattr(self.wrapper, name)
        return new, stacked(found, values)


class ActionRows(RowLayer):
    """``ActionWrapper``."""

    def before(self, memory: Memory, actions: Array) -> tuple[Memory, Array]:
        return self._asked(self.wrapper.action, memory, actions)


class ObservationRows(RowLayer):
    """``ObservationWrapper``."""

    def after(self, memory: Memory, outcome: Outcome) -> tuple[Memory, Outcome]:
        memory, observations = self._asked(self.wrapper.observation, memory, outcome.observations)
        return memory, outcome._replace(observations=observations)


class RewardRows(RowLayer):
    """``RewardWrapper``."""

    def after(self, memory: Memory, outcome: Outcome) -> tuple[Memory, Outcome]:
        memory, rewards = self._asked(self.wrapper.reward, memory, outcome.rewards)
        return memory, outcome._replace(rewards=rewards)


class ActionBatch(Layer):
    """An action wrapper whose function also takes a batch."""

    def before(self, memory: Memory, actions: Array) -> tuple[Memory, Array]:
        found = self.wrapper.func(numpy_of(actions))
        return memory, torch.as_tensor(found, device=actions.device) if isinstance(actions, torch.Tensor) else found


class ObservationBatch(Layer):
    """An observation wrapper whose function also takes a batch."""

    def after(self, memory: Memory, outcome: Outcome) -> tuple[Memory, Outcome]:
        seen = outcome.observations
        found = self.wrapper.func(numpy_of(seen))
        found = torch.as_tensor(found, device=seen.device) if isinstance(seen, torch.Tensor) else found
        return memory, outcome._replace(observations=found)


class TimeRows(RowLayer):
    """``TimeAwareObservation``, which counts steps in ``step`` and adds the count in ``observation``."""

    def __init__(self, wrapper: Any) -> None:
        super().__init__(wrapper)

    def capture(self, wrapper: Any) -> dict[str, np.ndarray]:
        return {"time": np.asarray([wrapper.timesteps], np.int64)}

    def restore(self, wrapper: Any, memory: dict[str, np.ndarray]) -> None:
        wrapper.timesteps = int(memory["time"][0])

    def after(self, memory: Memory, outcome: Outcome) -> tuple[Memory, Outcome]:
        time = memory["time"] + 1
        steps = iter(numpy_of(time))

        def observation(value: Any) -> Any:
            self.wrapper.timesteps = int(next(steps))
            return self.wrapper.observation(value)

        _, seen = self._asked(observation, {}, outcome.observations)
        return {"time": time}, outcome._replace(observations=seen)


def _one_object(value: Any) -> np.ndarray:
    array = np.empty(1, dtype=object)
    array[0] = value
    return array
