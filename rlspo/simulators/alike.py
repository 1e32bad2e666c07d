"""Whether two environments follow the same rules: their settings compared in depth."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from rlspo.simulators.whole import Generator


def difference(one: Any, other: Any) -> str:
    """Where two objects differ first, such as ``"puzzle.levels[2]"``; empty where they hold the same.

    Arrays, containers and attributes are compared in depth, functions by their code and what they close over. Generators of
    random numbers count for nothing. What cannot be looked into differs, unless it says that it is equal.
    """
    found = _difference(one, other, {})
    return "" if found is None else found.lstrip(".") or "what they are"


def _difference(one: Any, other: Any, known: dict[tuple[int, int], Any]) -> str | None:
    if one is other or (id(one), id(other)) in known:
        return None
    if type(one) is not type(other):
        return ""
    known[id(one), id(other)] = one, other  # kept, so that no other object comes to have their ids
    if isinstance(one, Generator):
        return None
    mine, others = _parts(one), _parts(other)
    if mine is None or others is None:
        return None if _equal(one, other) else ""
    for name in [*mine, *others]:
        if name not in mine or name not in others:
            return name
        inside = _difference(mine[name], others[name], known)
        if inside is not None:
            return name + inside
    return None


def _equal(one: Any, other: Any) -> bool:
    """Of values of one type that have no parts."""
    if isinstance(one, torch.Tensor):
        return one.device == other.device and torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind in "fc")
    return bool(one == other) or bool(one != one and other != other)


def _parts(value: Any) -> dict[str, Any] | None:
    """What an object consists of; None for one that is compared as a whole."""
    if isinstance(value, torch.Tensor | spaces.Space | type) or (isinstance(value, np.ndarray) and value.dtype != object):
        return None
    if isinstance(value, Mapping):
        return {f"[{key!r}]": part for key, part in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return {f"[{place}]": part for place, part in enumerate(value)}
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return {".code": value.__code__, ".defaults": value.__defaults__, ".closure": cells}
    if isinstance(value, MethodType):
        return {".function": value.__func__, ".self": value.__self__}
    if isinstance(value, partial):
        return {".function": value.func, ".args": value.args, ".keywords": value.keywords}
    if hasattr(value, "__dict__"):
        return {f".{name}": part for name, part in vars(value).items()}
    return None
