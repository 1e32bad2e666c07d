"""Environments that step any number of states as arrays by themselves.

Such an environment has a method ``array_form()``, which gives its rules as an :class:`ArrayForm`: states are dictionaries of
arrays with one row for each, and a step is a function of them. Rules in torch run on any device, and searches with them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch

from rlspo.simulators.base import Array, Core, Outcome, joined, where


class ArrayForm(Protocol):
    """The rules of an environment, for many states at once."""

    #: Where the arrays live; None for NumPy.
    device: torch.device | None
    #: Whether a step draws random numbers.
    stochastic: bool

    def capture(self, env: Any) -> dict[str, Array]:
        """The state(s) of an environment, or of all copies in a vectorised one, each array ``(n, ...)``."""

    def restore(self, env: Any, states: dict[str, Array]) -> None:
        """Put an environment into the state(s)."""

    def generator(self, env: Any) -> np.random.Generator | None:
        """What the environment draws from; None where it draws nothing."""

    def step(
        self, states: dict[str, Array], actions: Array, generator: np.random.Generator | None
    ) -> tuple[dict[str, Array], Any, Array, Array, Array]:
        """New states, observations, rewards, terminated and truncated; nothing of what was given is written to."""


class ArrayStates:
    """States of an :class:`ArrayCore`: arrays, and the generator that their steps draw from."""

    def __init__(self, arrays: dict[str, Array], generator: np.random.Generator | None) -> None:
        self.arrays, self.generator = arrays, generator


class ArrayCore(Core):
    """Steps an :class:`ArrayForm`.

    :param form: the rules
    """

    def __init__(self, form: ArrayForm) -> None:
        self.form = form
        self.device, self.stochastic = form.device, form.stochastic

    def capture(self, env: Any) -> ArrayStates:
        return ArrayStates(self.form.capture(env), copy.deepcopy(self.form.generator(env)))

    def restore(self, env: Any, states: ArrayStates) -> None:
        self.form.restore(env, states.arrays)
        generator = self.form.generator(env)
        if generator is not None and states.generator is not None:
            generator.bit_generator.state = states.generator.bit_generator.state

    def size(self, states: ArrayStates) -> int:
        return len(next(iter(states.arrays.values())))

    def join(self, parts: Sequence[ArrayStates]) -> ArrayStates:
        return ArrayStates(joined([part.arrays for part in parts]), parts[0].generator)

    def select(self, states: ArrayStates, index: Array) -> ArrayStates:
        return ArrayStates({name: array[index] for name, array in states.arrays.items()}, copy.deepcopy(states.generator))

    def reseed(self, states: ArrayStates, seed: int) -> ArrayStates:
        return ArrayStates(states.arrays, np.random.default_rng(seed) if self.stochastic else None)

    def step(self, states: ArrayStates, actions: Array, live: Array) -> Outcome:
        new, observations, rewards, terminated, truncated = self.form.step(states.arrays, actions, states.generator)
        return Outcome(
            ArrayStates(where(live, new, states.arrays), states.generator), observations, rewards, terminated, truncated
        )
