"""Spaces as JSON, and back. Bounds that are the same everywhere are one number; infinite ones are text."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

from rlspo.common.errors import IncompatibleModelError, NotExportableError, shown

#: Numbers in an element of a space: twenty times a stack of four full screens of a video game.
_MOST_NUMBERS = 2**24
_MOST_CHOICES = 2**31
_FLOATS, _INTEGERS = (
    ("float16", "float32", "float64"),
    ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)


def described(space: spaces.Space, where: str = "space") -> dict[str, Any]:
    """A space as JSON.

    >>> described(spaces.Box(-1, 1, (2,), np.float32))
    {'kind': 'Box', 'shape': [2], 'dtype': 'float32', 'low': -1.0, 'high': 1.0}
    >>> described(spaces.Discrete(3, start=1))
    {'kind': 'Discrete', 'n': 3, 'start': 1, 'dtype': 'int64'}

    :raises NotExportableError: for another space than Box, Discrete, MultiDiscrete, MultiBinary and Dict
    """
    if isinstance(space, spaces.Box):
        bounds = {"low": _numbers(space.low), "high": _numbers(space.high)}
        return {"kind": "Box", "shape": list(space.shape), "dtype": str(space.dtype), **bounds}
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start), "dtype": str(space.dtype)}
    if isinstance(space, spaces.MultiDiscrete):
        choices = {"nvec": space.nvec.tolist(), "start": np.asarray(space.start).tolist()}
        return {"kind": "MultiDiscrete", **choices, "dtype": str(space.dtype)}
    if isinstance(space, spaces.MultiBinary):
        return {"kind": "MultiBinary", "shape": list(space.shape)}
    if isinstance(space, spaces.Dict):
        return {"kind": "Dict", "spaces": [[key, described(part, where)] for key, part in space.spaces.items()]}
    raise NotExportableError(f"{where} is {space}; it must be Box, Discrete, MultiDiscrete, MultiBinary or a Dict of these.")


def _numbers(bounds: np.ndarray) -> Any:
    """One number where all are equal, else lists."""
    first = bounds.ravel()[:1]
    return _written(first.item() if bounds.size and bool((bounds == first).all()) else bounds.tolist())


def _written(value: Any) -> Any:
    if isinstance(value, list):
        return [_written(item) for item in value]
    return str(value) if isinstance(value, float) and math.isinf(value) else value


def space_of(data: Any, where: str) -> spaces.Space:
    """The inverse of :func:`described`.

    :param where: in the file, for the message
    :raises IncompatibleModelError: for what :func:`described` does not write, and for a space of absurd size
    """
    try:
        return _KINDS[data["kind"]](data)
    except (KeyError, TypeError, ValueError, OverflowError, AssertionError) as error:
        raise IncompatibleModelError(
            f"{where} is {shown(data)}, which is not the description of a space: {error!r}."
        ) from error


def _box(data: dict[str, Any]) -> spaces.Box:
    dtype, shape = _dtype(data, (*_FLOATS, *_INTEGERS, "bool")), _shape(data["shape"])
    low, high = (np.broadcast_to(_read(data[name], dtype), shape) for name in ("low", "high"))
    return spaces.Box(low.copy(), high.copy(), shape, dtype.type)


def _read(value: Any, dtype: np.dtype) -> np.ndarray:
    """Bounds, whose infinities are text."""
    found = np.asarray(_parsed(value))
    if dtype.kind in "iu":
        if found.dtype.kind not in "iu":
            raise ValueError("bounds of whole numbers must be whole")
        return found.astype(dtype)
    if dtype.kind == "b":
        return found.astype(bool)
    return found.astype(np.float64).astype(dtype)


def _parsed(value: Any) -> Any:
    if isinstance(value, list):
        return [_parsed(item) for item in value]
    if isinstance(value, str):
        return {"inf": math.inf, "-inf": -math.inf}[value]
    return value


def _discrete(data: dict[str, Any]) -> spaces.Discrete:
    return spaces.Discrete(_choices(data["n"]), start=_whole(data["start"]), **_other_dtype(data))


def _multi_discrete(data: dict[str, Any]) -> spaces.MultiDiscrete:
    sizes = np.asarray(data["nvec"], np.int64)
    _shape(list(sizes.shape))
    for size in sizes.flat:
        _choices(int(size))
    return spaces.MultiDiscrete(sizes, start=np.asarray(data["start"], np.int64), **_other_dtype(data))


def _multi_binary(data: dict[str, Any]) -> spaces.MultiBinary:
    shape = _shape(data["shape"])
    return spaces.MultiBinary(shape[0] if len(shape) == 1 else list(shape))


def _dict(data: dict[str, Any]) -> spaces.Dict:
    found, left = [], _MOST_NUMBERS
    for key, part in data["spaces"]:
        if not isinstance(key, str) or part["kind"] == "Dict":
            raise ValueError("its keys are text, and its parts no Dict")
        left -= math.prod(_shape(part.get("shape", [])))  # before it is built: each bound takes memory
        if left < 0:
            raise ValueError(f"its elements have more than {_MOST_NUMBERS:,} numbers")
        found.append((key, _KINDS[part["kind"]](part)))
    return spaces.Dict(found)


_KINDS: dict[str, Callable[[dict[str, Any]], spaces.Space]] = {
    "Box": _box,
    "Discrete": _discrete,
    "MultiDiscrete": _multi_discrete,
    "MultiBinary": _multi_binary,
    "Dict": _dict,
}


def _other_dtype(data: dict[str, Any]) -> dict[str, Any]:
    """Only where it is not the usual one: earlier versions of gymnasium know no other."""
    dtype = _dtype(data, _INTEGERS)
    return {} if dtype == np.int64 else {"dtype": dtype.type}


def _dtype(data: dict[str, Any], allowed: tuple[str, ...]) -> np.dtype:
    if data["dtype"] not in allowed:
        raise ValueError(f"dtype must be one of {', '.join(allowed)}")
    return np.dtype(data["dtype"])


def _shape(sizes: list[int]) -> tuple[int, ...]:
    shape = tuple(map(_whole, sizes))
    if min(shape, default=0) < 0 or len(shape) > 32 or math.prod(shape) > _MOST_NUMBERS:
        raise ValueError(f"its elements may have at most {_MOST_NUMBERS:,} numbers")
    return shape


def _choices(value: Any) -> int:
    if not 0 < _whole(value) <= _MOST_CHOICES:
        raise ValueError(f"there are 1 to {_MOST_CHOICES:,} choices")
    return int(value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{shown(value)} is no whole number")
    return value
