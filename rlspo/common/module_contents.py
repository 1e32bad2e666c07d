"""A quick check whether layers or parameters of a module were replaced."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


class ModuleContents:
    """The layers and parameters of a module at the time this is made.

    Compared by identity: walking through the module again (``named_parameters``) is ten times slower, and this check precedes
    every update.
    """

    def __init__(self, module: nn.Module) -> None:
        self.layers = [*module.named_modules()]
        self._dicts = [part for _, layer in self.layers for part in (layer._modules, layer._parameters)]
        self._before, self._copies = self._now(), [dict(part) for part in self._dicts]
        parameters = [*module.parameters()]
        self._parameters, self._addresses = parameters, [p.data_ptr() for p in parameters]
        self._memory = [p.data for p in parameters]

    def _now(self) -> list[Any]:
        return [*itertools.chain(*map(dict.values, self._dicts))]

    def are_same(self) -> bool:
        """Whether every layer and parameter is still the same object in the same memory."""
        now = self._now()
        return (
            len(now) == len(self._before)
            and all(map(operator.is_, now, self._before))
            and [p.data_ptr() for p in self._parameters] == self._addresses
        )

    @contextmanager
    def as_before(self) -> Iterator[None]:
        """A context in which they are the same again; what is written in the same memory stays."""
        now = [dict(part) for part in self._dicts]
        memory = [p.data for p in self._parameters]
        try:
            for part, before in zip(self._dicts, self._copies, strict=True):
                part.clear()
                part.update(before)
            for parameter, data in zip(self._parameters, self._memory, strict=True):
                parameter.data = data
            yield
        finally:
            for part, after in zip(self._dicts, now, strict=True):
                part.clear()
                part.update(after)
            for parameter, data in zip(self._parameters, memory, strict=True):
                parameter.data = data
