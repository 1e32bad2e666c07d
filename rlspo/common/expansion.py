"""The size of a value when every reference to a shared object is written out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np

_PLAIN = (str, bytes, bytearray, int, float, complex, bool, type(None), type)


class ExpansionError(ValueError):
    """A value is larger than allowed."""


class Counter:
    """Counts objects. An object referenced several times counts each time, but is visited once.

    >>> pair = ("leaf", "leaf")
    >>> Counter(100, 100)((pair, pair))
    7

    :param most: largest number of objects in one value
    :param looks: largest number of visits, over all values together
    """

    def __init__(self, most: int, looks: int) -> None:
        self.most, self.looks = most, looks

    def __call__(self, value: Any) -> int:
        """The number of objects; a value that contains itself exceeds any limit.

        :raises ExpansionError: for more than allowed
        """
        counts: dict[int, int] = {}
        under_way: set[int] = set()
        todo: list[tuple[Any, bool]] = [(value, False)]
        while todo:
            thing, counted = todo.pop()
            parts = list(_parts(thing))
            if counted:
                counts[id(thing)] = 1 + sum(counts.get(id(part), 1) for part in parts)
                under_way.discard(id(thing))
                if counts[id(thing)] > self.most:
                    raise ExpansionError
                continue
            self.looks -= 1 + len(parts)
            if self.looks < 0:
                raise ExpansionError
            if id(thing) in counts or not parts:
                continue
            if id(thing) in under_way:
                raise ExpansionError
            under_way.add(id(thing))
            todo.append((thing, True))
            todo += [(part, False) for part in parts if id(part) not in counts and not isinstance(part, _PLAIN)]
        return counts.get(id(value), 1)


def _parts(thing: Any) -> Iterable[Any]:
    """The contents of a container."""
    if isinstance(thing, _PLAIN):
        return ()
    if isinstance(thing, dict):
        return [*thing.keys(), *thing.values()]
    if isinstance(thing, list | tuple | set | frozenset | deque):
        return thing
    if isinstance(thing, np.ndarray):
        return thing.ravel().tolist() if thing.dtype == object else ()
    return vars(thing).values() if hasattr(thing, "__dict__") else ()
