"""Whether two environments follow the same rules: a deep comparison of their settings."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from rlspo.simulators.chance import Generator


def difference(one: Any, other: Any) -> str:
    """The first place where two objects differ, such as ``"puzzle.levels[2]"``; empty if they are equal.

    Arrays, containers and attributes are compared recursively, functions by their code and closures. Random generators are
    ignored. Objects that cannot be inspected differ, unless ``==`` says that they are equal.
    """
    found = _difference(one, other, {})
    return "" if found is None else found.lstrip(".") or "what they are"


def _difference(one: Any, other: Any, known: dict[tuple[int, int], Any]) -> str | None:
    if one is other or (id(one), id(other)) in known:
        return None
    if type(one) is not type(other):
        return ""
    known[id(one), id(other)] = one, other  # kept alive, so that no other object gets their ids
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
    """Whether two values of one type without parts are equal."""
    if isinstance(one, torch.Tensor):
        return one.device == other.device and torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind in "fc")
    return bool(one == other) or bool(one != one and other != other)


def _parts(value: Any) -> dict[str, Any] | None:
    """The parts of an object; None for one that is compared as a whole."""
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
