"""Sources of random numbers in environments and wrappers: found, given new streams, and the global ones watched."""

from __future__ import annotations

import copy
import random
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch


class OwnChance(ABC):
    """A source of random numbers that is not a generator of NumPy, Python or torch."""

    @abstractmethod
    def reseed(self, seed: int) -> None:
        """Continue with a new random stream.

        :param seed: 64 bits
        """


Generator = OwnChance | np.random.Generator | np.random.RandomState | random.Random | torch.Generator


def copied_with_generators(value: Any) -> tuple[Any, list[Any]]:
    """A deep copy, and all generators in it."""
    memo: dict[int, Any] = {}
    twin = copy.deepcopy(value, memo)
    # The memo keeps all originals alive in an entry of its own.
    return twin, generators_among([made for key, made in memo.items() if key != id(memo)])


def generators_in(value: Any) -> list[Any]:
    """All generators in an object, themselves and not copies."""
    memo: dict[int, Any] = {}
    copy.deepcopy(value, memo)
    return generators_among(memo.get(id(memo), []))


def generators_among(made: list[Any]) -> list[Any]:
    """Those of some objects that are generators."""
    return [one for one in made if isinstance(one, Generator)]


def refresh(generators: list[Any], sequence: np.random.SeedSequence) -> None:
    """Give each generator a new random stream."""
    for generator in generators:
        own = sequence.spawn(1)[0]
        if isinstance(generator, OwnChance):
            generator.reseed(int(own.generate_state(1, np.uint64)[0]))
        elif isinstance(generator, np.random.Generator):
            generator.bit_generator.state = type(generator.bit_generator)(own).state
        elif isinstance(generator, np.random.RandomState):
            generator.set_state(np.random.RandomState(np.random.MT19937(own)).get_state())
        elif isinstance(generator, torch.Generator):
            generator.manual_seed(int(own.generate_state(1, np.uint64)[0] >> 1))
        else:
            generator.seed(int(own.generate_state(1, np.uint64)[0]))


def set_state(generator: Any, other: Any) -> None:
    """Let a generator of NumPy, Python or torch go on from where another one is."""
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = other.bit_generator.state
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(other.get_state())
    elif isinstance(generator, random.Random):
        generator.setstate(other.getstate())
    elif isinstance(generator, torch.Generator):
        generator.set_state(other.get_state())


class GlobalGenerators:
    """Detects use of the global generators of NumPy, Python and torch (on the CPU), and restores them.

    :attr:`drawn` names the one that was used; empty for none.
    """

    drawn = ""

    def __enter__(self) -> GlobalGenerators:
        self._numpy: Any = np.random.get_state(legacy=False)
        self._python = random.getstate()
        self._torch = torch.get_rng_state()
        return self

    def __exit__(self, *error: object) -> None:
        before: Any = self._numpy
        after: Any = np.random.get_state(legacy=False)
        if before["state"]["pos"] != after["state"]["pos"] or not np.array_equal(
            before["state"]["key"], after["state"]["key"]
        ):
            self.drawn = "NumPy"
            np.random.set_state(before)
        if random.getstate() != self._python:
            self.drawn = "Python"
            random.setstate(self._python)
        if not torch.equal(torch.get_rng_state(), self._torch):
            self.drawn = "torch"
            torch.set_rng_state(self._torch)
