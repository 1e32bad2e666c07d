"""Puzzles: deterministic rules, as functions of tensors with one row per state."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any, TypeVar

import numpy as np
import torch
from gymnasium import spaces

Tensor = torch.Tensor
#: Tensors with one row per state.
Tensors = dict[str, Tensor]
Self = TypeVar("Self", bound="Puzzle")


class Puzzle(ABC):
    """The rules of one puzzle. The scalar environment, the vectorised one and the search all use them."""

    observation_space: spaces.Space[Any]
    action_space: spaces.Discrete
    #: Meaning of the action numbers, for error messages.
    meaning: str
    #: Attributes that only :meth:`begin` reads. Puzzles that differ only in these have the same steps.
    only_begins: tuple[str, ...] = ()

    @abstractmethod
    def begin(self, generator: np.random.Generator, n: int, options: dict[str, Any]) -> tuple[Tensors, dict[str, np.ndarray]]:
        """``n`` initial states, on the CPU, and their ``info``, arrays ``(n,)``.

        :param options: of ``reset``, for all ``n``
        :raises ValueError: for unknown options or invalid values
        """

    @abstractmethod
    def step(self, states: Tensors, actions: Tensor) -> tuple[Tensors, Tensor, Tensor]:
        """New states, rewards ``(n,)`` in float64, and which puzzles are solved, ``(n,)``. Nothing given is written to.

        It looks at no value on the host, so that a search on a GPU never waits.

        :param actions: ``(n,)`` int64
        """

    @abstractmethod
    def observe(self, states: Tensors) -> Tensor:
        """Observations, ``(n, *obs_shape)``, in the space's dtype. They may share memory with ``states``."""

    @abstractmethod
    def draw(self, states: Tensors) -> np.ndarray:
        """A picture of the first state, ``(height, width, 3)`` bytes."""

    @abstractmethod
    def text(self, states: Tensors) -> str:
        """The first state as text."""

    def to(self: Self, device: torch.device) -> Self:
        """The same rules for states on ``device``."""
        moved = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(moved, name, value.to(device))
        return moved


class PuzzleForm:
    """A puzzle in array form (:class:`rlspo.simulators.arrays.ArrayForm`).

    :param puzzle: its rules
    :param device: of the states
    :param max_episode_steps: of a vectorised environment, which applies its own time limit: then ``elapsed`` is part of the
        state. None: no time limit, or that of a wrapper
    """

    stochastic = False

    def __init__(self, puzzle: Puzzle, device: torch.device | str | None = None, max_episode_steps: int | None = None) -> None:
        self.device = torch.device("cpu" if device is None else device)
        self.puzzle = puzzle.to(self.device)
        self.max_episode_steps = max_episode_steps

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that steps depend on."""
        rules = {name: value for name, value in vars(self.puzzle).items() if name not in self.puzzle.only_begins}
        return {"puzzle": type(self.puzzle), "max_episode_steps": self.max_episode_steps, **rules}

    def capture(self, env: Any) -> Tensors:
        """The states of a scalar or vectorised environment of this puzzle, as copies."""
        return {name: tensor.to(self.device, copy=True) for name, tensor in env.unwrapped.states.items()}

    def restore(self, env: Any, states: Tensors) -> None:
        """Put an environment into the states."""
        env.unwrapped.states = {name: tensor.to("cpu", copy=True) for name, tensor in states.items()}

    def generator(self, env: Any) -> np.random.Generator:
        """The generator of the environment's next episodes; a step draws nothing."""
        return env.unwrapped.np_random

    def step(
        self, states: Tensors, actions: Tensor, generator: np.random.Generator | None = None
    ) -> tuple[Tensors, Tensor, Tensor, Tensor, Tensor]:
        """New states, observations, rewards, terminated and truncated."""
        actions = torch.as_tensor(actions, device=self.device).long()
        new, rewards, solved = self.puzzle.step(states, actions)
        truncated = torch.zeros_like(solved)
        if self.max_episode_steps is not None:
            new["elapsed"] = states["elapsed"] + 1
            truncated = new["elapsed"] >= self.max_episode_steps
        return new, self.puzzle.observe(new), rewards, solved, truncated
