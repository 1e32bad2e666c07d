"""What a puzzle is: rules without chance, as functions of tensors with one row for each state."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any, TypeVar

import numpy as np
import torch
from gymnasium import spaces

Tensor = torch.Tensor
#: One row for each state in each tensor.
Tensors = dict[str, Tensor]
Self = TypeVar("Self", bound="Puzzle")


class Puzzle(ABC):
    """The rules of one puzzle. The scalar environment, the vectorised one and the search all step by them."""

    observation_space: spaces.Space[Any]
    action_space: spaces.Discrete
    #: What the numbers of actions mean, for errors.
    meaning: str
    #: Attributes that only :meth:`begin` reads. Puzzles that differ in nothing else step alike.
    only_begins: tuple[str, ...] = ()

    @abstractmethod
    def begin(self, generator: np.random.Generator, n: int, options: dict[str, Any]) -> tuple[Tensors, dict[str, np.ndarray]]:
        """``n`` states to start episodes from, on the CPU, and what ``info`` says of them, each array ``(n,)``.

        :param options: of ``reset``; they hold for all ``n``
        :raises ValueError: for options that do not exist or do not fit
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
    :param device: where states live
    :param max_episode_steps: of a vectorised environment, which keeps its time limit itself: then ``elapsed`` is part of
        the state. None: a wrapper keeps it, or nobody
    """

    stochastic = False

    def __init__(self, puzzle: Puzzle, device: torch.device | str | None = None, max_episode_steps: int | None = None) -> None:
        self.device = torch.device("cpu" if device is None else device)
        self.puzzle = puzzle.to(self.device)
        self.max_episode_steps = max_episode_steps

    @property
    def settings(self) -> dict[str, Any]:
        """What steps depend on."""
        rules = {name: value for name, value in vars(self.puzzle).items() if name not in self.puzzle.only_begins}
        return {"puzzle": type(self.puzzle), "max_episode_steps": self.max_episode_steps, **rules}

    def capture(self, env: Any) -> Tensors:
        """The states of a scalar or vectorised environment of this puzzle, as copies."""
        return {name: tensor.to(self.device, copy=True) for name, tensor in env.unwrapped.states.items()}

    def restore(self, env: Any, states: Tensors) -> None:
        """Put an environment into the states."""
        env.unwrapped.states = {name: tensor.to("cpu", copy=True) for name, tensor in states.items()}

    def generator(self, env: Any) -> np.random.Generator:
        """What the environment draws its next episodes from; a step draws nothing."""
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
