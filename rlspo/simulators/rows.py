"""Layers that call the wrapper itself row by row: for functions of one action, observation or reward."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from rlspo.common.errors import NotSimulatableError
from rlspo.common.trees import tree_map
from rlspo.simulators.base import Array, Layer, Outcome
from rlspo.simulators.chance import GlobalGenerators, copied_with_generators, refresh

Memory = dict[str, Array]
#: The first calls of a wrapper are watched for draws from global generators, which takes as long as some steps.
WATCHED_CALLS = 8
#: Keys of the memory beside attributes: the seed of the branches, -1 before :meth:`RowLayer.reseed`, and steps since.
SEED, STEPS = "seed of the branches", "steps of the branches"


def detached(wrapper: Any) -> Any:
    """A shallow copy of the wrapper, so that attributes of ``wrapper`` itself are never set."""
    twin = object.__new__(type(wrapper))
    twin.__dict__.update(vars(wrapper))
    return twin


class Inside:
    """Stands for what a wrapper is around while it is asked about branches: only what never changes can be seen.

    :param wrapper: of the real environment
    """

    _SEEN = ("observation_space", "action_space", "spec", "metadata", "render_mode")

    def __init__(self, wrapper: Any) -> None:
        self._wrapper = wrapper

    def __getattr__(self, name: str) -> Any:
        if name in self._SEEN:
            return getattr(self._wrapper.env, name)
        if name.startswith("_"):
            raise AttributeError(name)
        raise NotSimulatableError(
            f"The wrapper {type(self._wrapper).__name__}",
            f"it asks the environment for {name}, and a branch would be told of the real one. Read what never changes in "
            "__init__, into attributes of the wrapper, and let chance come from a generator among simulated_state",
        )


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
        twin = detached(wrapper)
        twin.env = Inside(wrapper)
        super().__init__(twin)
        self.names, self._watched = names, WATCHED_CALLS
        self.stochastic = bool(copied_with_generators([getattr(wrapper, name) for name in names])[1])

    def capture(self, wrapper: Any) -> dict[str, np.ndarray]:
        for name, value in vars(wrapper).items():  # which set_attr may have changed since
            if name != "env" and name not in self.names:
                setattr(self.wrapper, name, value)
        memory = {name: _one_object(copy.deepcopy(getattr(wrapper, name))) for name in self.names}
        return memory | ({SEED: np.array([-1]), STEPS: np.array([0])} if self.stochastic else {})

    def restore(self, wrapper: Any, memory: dict[str, np.ndarray]) -> None:
        for name in self.names:
            setattr(wrapper, name, copy.deepcopy(memory[name][0]))

    def _own(self, memory: Memory, index: int) -> dict[str, Any]:
        """The memory of one row. Rows selected from the same state share theirs until they change it."""
        if not self.stochastic:
            return {name: copy.deepcopy(memory[name][index]) for name in self.names}
        own, generators = copied_with_generators({name: memory[name][index] for name in self.names})
        if int(memory[SEED][index]) >= 0:
            # Each row of each step has a stream of its own, wherever it was selected from.
            place = [int(memory[SEED][index]), int(memory[STEPS][index]), index]
            refresh(generators, np.random.SeedSequence(place))
        return own

    def reseed(self, memory: Memory, seed: int) -> Memory:
        if not self.stochastic:
            return memory
        number = int(np.random.SeedSequence(seed).generate_state(1)[0])
        return {**memory, SEED: 0 * memory[SEED] + number, STEPS: 0 * memory[STEPS]}

    def _asked(self, method: Callable[[Any], Any], memory: Memory, values: Any) -> tuple[Memory, Any]:
        """``method`` of each row of ``values``, with that row's memory in the wrapper."""
        host, found = numpy_of(values), []
        new = {name: memory[name].copy() for name in self.names}
        n = len(next(iter(host.values())) if isinstance(host, dict) else host)
        watched = GlobalGenerators() if self._watched > 0 else None
        self._watched -= 1
        with watched or contextlib.nullcontext():
            for index in range(n):
                for name, value in self._own(memory, index).items():
                    setattr(self.wrapper, name, value)
                found.append(method(tree_map(lambda array, index=index: array[index], host)))
                for name in self.names:
                    new[name][index] = getattr(self.wrapper, name)
        if watched is not None and watched.drawn:
            raise NotSimulatableError(
                f"The wrapper {type(self.wrapper).__name__}",
                f"it draws from {watched.drawn}'s global generator, which belongs to no environment, so that branches would "
                "disturb each other; let it draw from a generator of its own, named in simulated_state",
            )
        if self.stochastic:
            new |= {SEED: memory[SEED], STEPS: memory[STEPS] + 1}
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
