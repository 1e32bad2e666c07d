"""The simulator: capture states of an environment, branch them, step many in parallel, and restore them.

A :class:`Simulator` consists of a :class:`Core` for the innermost environment and a :class:`Layer` for each wrapper, which may
have a memory. Everything is batched over states.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import numpy as np
import torch

from rlspo.common.trees import tree_map

#: A NumPy array or, for an environment on a device, a torch tensor.
Array = Any


def where(mask: Array, yes: Array, no: Array) -> Array:
    """``yes`` in the rows of ``mask``, ``(n,)``, and ``no`` in the others; dictionaries leaf by leaf."""

    def choose(one: Array, other: Array) -> Array:
        rows = mask.reshape(-1, *[1] * (one.ndim - 1))
        return torch.where(rows, one, other) if isinstance(one, torch.Tensor) else np.where(_numpy(rows), one, other)

    return tree_map(choose, yes, no)


def joined(parts: Sequence[Any]) -> Any:
    """Arrays, or dictionaries of arrays, concatenated."""
    if isinstance(parts[0], dict):
        return {key: joined([part[key] for part in parts]) for key in parts[0]}
    return torch.cat([*parts]) if isinstance(parts[0], torch.Tensor) else np.concatenate(parts)


class Outcome(NamedTuple):
    """The result of a step of many states.

    :param states: the new ones
    :param observations: ``(n, *obs_shape)``, or a dictionary of such arrays
    :param rewards: ``(n,)``
    :param terminated: the task ended, ``(n,)``
    :param truncated: a time limit cut the episode, ``(n,)``
    """

    states: Any
    observations: Any
    rewards: Array
    terminated: Array
    truncated: Array


class Core(ABC):
    """The states and steps of one kind of environment. All methods take and return ``n`` states at a time, in the core's own
    form."""

    #: Device of the arrays: None for NumPy on the CPU.
    device: torch.device | None = None
    #: Whether a step can draw random numbers.
    stochastic: bool = False
    #: Whether the core steps the whole environment including its wrappers, so that these need no layers.
    takes_wrappers: bool = False
    #: Which part of an environment's state cannot be captured, in words; empty where captured states are complete.
    unseen: str = ""

    @abstractmethod
    def capture(self, env: Any) -> Any:
        """The state of ``env`` with its random generator, as a batch of one. ``env`` is not changed.

        :param env: the innermost environment, or the outermost where :attr:`takes_wrappers`
        """

    @abstractmethod
    def restore(self, env: Any, states: Any) -> None:
        """Put ``env`` into a state, including its random generator.

        :param states: a batch of one
        """

    @abstractmethod
    def size(self, states: Any) -> int:
        """The number of states."""

    @abstractmethod
    def join(self, parts: Sequence[Any]) -> Any:
        """Several states as one batch."""

    @abstractmethod
    def select(self, states: Any, index: Array) -> Any:
        """The states ``index``, ``(m,)``; each result is independent of the others, also of those with the same index."""

    @abstractmethod
    def reseed(self, states: Any, seed: int) -> Any:
        """The states with a random stream each, independent of the environment's."""

    @abstractmethod
    def step(self, states: Any, actions: Array, live: Array) -> Outcome:
        """One step without reset. ``states`` must not be used afterwards.

        :param actions: ``(n, *action_shape)``, as the environment takes them
        :param live: which states to step, ``(n,)``; the others do not change and their results are ignored
        """

    def array(self, values: Any) -> Array:
        """``values`` as the kind of array that this core takes."""
        return np.asarray(values) if self.device is None else torch.as_tensor(values, device=self.device)


class Layer:
    """A wrapper around the core, for many states at once. The base class has no memory and changes nothing.

    :param wrapper: of the environment that the simulator is made for; only its settings are read
    """

    #: Whether the wrapper draws random numbers in a step.
    stochastic: bool = False

    def __init__(self, wrapper: Any) -> None:
        self.wrapper = wrapper

    def capture(self, wrapper: Any) -> dict[str, np.ndarray]:
        """The memory of ``wrapper``, arrays ``(n, ...)``: one row for a gymnasium wrapper, all rows for a ``VecEnv``
        wrapper."""
        return {}

    def restore(self, wrapper: Any, memory: dict[str, np.ndarray]) -> None:
        """Set the memory of ``wrapper`` to what :meth:`capture` returned."""

    def before(self, memory: dict[str, Array], actions: Array) -> tuple[dict[str, Array], Array]:
        """Turn the wrapper's actions, ``(n, ...)``, into those of the wrapped environment: the new memory and the actions."""
        return memory, actions

    def reach(self, memory: dict[str, Array], states: Any, live: Array) -> Any:
        """The core's states just before its step, for a wrapper that changes the innermost environment.

        :param memory: after :meth:`before`
        :param states: in the core's form; they may be written to, and :meth:`after` gets their successors
        :param live: which of them are stepped, ``(n,)``; the others must not change
        """
        return states

    def reseed(self, memory: dict[str, Array], seed: int) -> dict[str, Array]:
        """The memory with a random stream for each row, independent of the environment's."""
        return memory

    def after(self, memory: dict[str, Array], outcome: Outcome) -> tuple[dict[str, Array], Outcome]:
        """The memory after a step, and the outcome that the wrapper returns (its states are the core's)."""
        return memory, outcome


@dataclass
class States:
    """``n`` states of an environment and of its wrappers.

    :param core: in the core's own form
    :param memory: of each layer, from the innermost to the outermost; arrays ``(n, ...)``
    :param ended: whether the episode is over, ``(n,)``; such states are not stepped any more
    :param observations: after the last step, or None
    """

    core: Any
    memory: list[dict[str, Array]]
    ended: Array
    observations: Any = None
    spent: bool = field(default=False, repr=False)

    def __len__(self) -> int:
        return len(self.ended)

    def check(self) -> None:
        """
        :raises ValueError: if these states were stepped already
        """
        if self.spent:
            raise ValueError(
                "These states were stepped and are used up: go on with those that step() gave, or copy them first."
            )


class Simulator:
    """Capture, branch, step and restore an environment; made by :func:`rlspo.simulators.simulator_for`.

    :param core: for the innermost environment
    :param layers: the wrappers around it, from the innermost to the outermost
    :param peel: splits an environment into its innermost environments, one per root, and their wrappers
    """

    def __init__(self, core: Core, layers: Sequence[Layer], peel: Any) -> None:
        self.core, self.layers, self._peel = core, [*layers], peel

    @property
    def device(self) -> torch.device | None:
        """Device of the arrays: None for NumPy on the CPU."""
        return self.core.device

    @property
    def stochastic(self) -> bool:
        """Whether a step can draw random numbers."""
        return self.core.stochastic or any(layer.stochastic for layer in self.layers)

    def capture(self, env: Any) -> States:
        """The state of ``env``: one for a gymnasium environment, ``num_envs`` for a vectorised one.

        :param env: the environment that the simulator was made for, or one made in the same way; it is not changed
        """
        peeled = self._peel(env)
        core = self.core.join([self.core.capture(inner) for inner in peeled.inner])
        memory = [
            {name: self._array(array) for name, array in joined([layer.capture(one) for one in wrappers]).items()}
            for layer, wrappers in zip(self.layers, peeled.wrappers, strict=True)
        ]
        return States(core, memory, self.core.array(peeled.ended))

    def _array(self, array: np.ndarray) -> Array:
        """A wrapper's memory as the core's kind of array; objects stay in NumPy."""
        return array if array.dtype == object else self.core.array(array)

    def restore(self, env: Any, states: States) -> None:
        """Put ``env`` and all its wrappers into the state(s); a vectorised environment needs ``num_envs`` of them."""
        states.check()
        peeled = self._peel(env)
        if len(peeled.ended) != len(states):
            raise ValueError(f"There are {len(states)} states to put into {len(peeled.ended)} environments; select as many.")
        if len(peeled.inner) == 1:
            self.core.restore(peeled.inner[0], states.core)
        else:
            for row, inner in enumerate(peeled.inner):
                self.core.restore(inner, self.core.select(states.core, self.core.array([row])))
        for layer, wrappers, memory in zip(self.layers, peeled.wrappers, states.memory, strict=True):
            arrays = {name: _numpy(array) for name, array in memory.items()}
            for row, one in enumerate(wrappers):
                rows = slice(None) if len(wrappers) == 1 else slice(row, row + 1)
                layer.restore(one, {name: array[rows] for name, array in arrays.items()})

    def replicate(self, states: States, n: int) -> States:
        """``n`` copies of each state: state ``i`` becomes rows ``i * n`` to ``i * n + n - 1``."""
        if self.device is None:
            return self.select(states, np.repeat(np.arange(len(states)), n))
        # Made on the device: a copy from the CPU would wait for running kernels.
        return self.select(states, torch.arange(len(states), device=self.device).repeat_interleave(n))

    def select(self, states: States, index: Array) -> States:
        """The states ``index``, ``(m,)``, which may repeat; every result is independent of all others and of ``states``."""
        states.check()
        index = self.core.array(index)
        return States(
            self.core.select(states.core, index),
            [{name: _rows(array, index) for name, array in memory.items()} for memory in states.memory],
            states.ended[index],
            None if states.observations is None else tree_map(lambda array: array[index], states.observations),
        )

    def join(self, parts: Sequence[States]) -> States:
        """Several batches of states as one."""
        memory = [joined([*layer]) for layer in zip(*(part.memory for part in parts), strict=True)]
        seen = None if any(part.observations is None for part in parts) else joined([part.observations for part in parts])
        core, ended = self.core.join([part.core for part in parts]), joined([part.ended for part in parts])
        return States(core, cast(Any, memory), ended, seen)

    def reseed(self, states: States, seed: int) -> States:
        """The states with their own random streams, so that their steps do not predict what the environment will draw."""
        states.check()
        # One for each, so that no two of them draw alike.
        own = [int(one.generate_state(1)[0]) for one in np.random.SeedSequence(seed).spawn(len(self.layers))]
        memory = [layer.reseed(one, each) for layer, one, each in zip(self.layers, states.memory, own, strict=True)]
        return States(self.core.reseed(states.core, seed), memory, states.ended, states.observations)

    def step(self, states: States, actions: Array) -> Outcome:
        """One step of all states whose episodes are not over, without reset. ``states`` must not be used afterwards.

        For the others the reward is 0, the observation is the last one, and ``terminated`` and ``truncated`` are False.

        :param actions: ``(n, *action_shape)``, as the outermost wrapper takes them
        """
        states.check()
        states.spent = True
        live = ~states.ended
        acted = [*states.memory]
        for place in reversed(range(len(self.layers))):
            acted[place], actions = self.layers[place].before(acted[place], actions)
        inner = states.core
        for layer, memory in zip(self.layers, acted, strict=True):
            inner = layer.reach(memory, inner, live)
        outcome = self.core.step(inner, actions, live)
        core, memories = outcome.states, []
        for layer, memory, old in zip(self.layers, acted, states.memory, strict=True):
            changed, outcome = layer.after(memory, outcome)
            memories.append(where(live, changed, old) if old else old)
        _, observations, rewards, terminated, truncated = outcome
        if states.observations is not None:
            observations = where(live, observations, states.observations)
        terminated, truncated = terminated & live, truncated & live
        new = States(core, memories, states.ended | terminated | truncated, observations)
        # Not a product: a core's results for states that it did not step may be NaN.
        return Outcome(new, observations, where(live, rewards, rewards[:0].sum()), terminated, truncated)


def _rows(array: Array, index: Array) -> Array:
    return array[_numpy(index) if isinstance(array, np.ndarray) else index]


def _numpy(array: Array) -> np.ndarray:
    return array.cpu().numpy() if isinstance(array, torch.Tensor) else array
