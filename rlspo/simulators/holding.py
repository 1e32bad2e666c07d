"""What the functions inside an environment hold on to: :func:`copy.deepcopy` copies no function, so all copies share it."""

from __future__ import annotations

import copy
import re
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from logging import Logger
from types import BuiltinMethodType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from rlspo.common.errors import NotSimulatableError
from rlspo.simulators.chance import Generator

_FUNCTIONS = FunctionType | BuiltinMethodType | weakref.ref
_KINDS = {FunctionType: "function", BuiltinMethodType: "method in C", weakref.ref: "weak reference"}
#: Without parts that could be functions, or shared on purpose.
_WHOLE = type | ModuleType | Logger | EnvSpec | spaces.Space | torch.Tensor | Generator | FunctionType | BuiltinMethodType
_IMMUTABLE = bool | int | float | complex | str | bytes | tuple | frozenset | range | re.Pattern | type | ModuleType | None
_CONTAINERS = list | dict | set | deque | np.ndarray
#: Methods of containers that change them.
_CHANGING = {
    *("append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse", "popitem", "update", "setdefault", "add"),
    *("discard", "appendleft", "popleft", "extendleft", "rotate", "fill", "put", "resize", "partition", "__setitem__"),
}


def check_functions(layer: Any, layers: Sequence[Any]) -> None:
    """Check that no function inside an environment or a wrapper leads back to the original.

    :param layer: the environment or wrapper
    :param layers: the environment and all its wrappers
    :raises NotSimulatableError: naming the attribute, for a function that asks one of ``layers``, draws from a random
        generator of its own, or is a method of a list or another object in C that changes it
    """
    inside = {id(one) for one in layers}
    for attribute, function in functions_of(layer):
        for one in _reached(function):
            if id(one) in inside:
                what = "the environment itself"
            elif isinstance(one, Generator):
                what = f"a {type(one).__name__}"
            elif isinstance(one, BuiltinMethodType) and _changes(one):
                what = f"a {type(one.__self__).__name__}"
            else:
                continue
            kind = _KINDS.get(type(function), "function")
            verb = "is" if vars(layer)[attribute] is function else "contains"
            raise NotSimulatableError(
                type(layer).__name__,
                f"its attribute {attribute} {verb} a {kind} that holds on to {what}, so that a branch would ask the "
                "real one; make it a method",
            )


def _changes(method: BuiltinMethodType) -> bool:
    """Whether a method in C may change what it is a method of."""
    if isinstance(method.__self__, _CONTAINERS):
        return method.__name__ in _CHANGING
    return not isinstance(method.__self__, _IMMUTABLE)


def held_by_functions(layers: Iterable[Any]) -> dict[str, Any]:
    """Copies of the variables that functions inside of environments or wrappers hold on to, by a description."""
    found = {}
    for layer in layers:
        for attribute, function in functions_of(layer):
            if isinstance(function, FunctionType):
                names = function.__code__.co_freevars
                for name, value in zip(names, _cells(function), strict=False):
                    try:
                        found[f"variable {name} of {type(layer).__name__}.{attribute}"] = copy.deepcopy(value)
                    except Exception:  # of a class that cannot be copied
                        continue
    return found


def functions_of(layer: Any) -> Iterator[tuple[str, Any]]:
    """The functions, methods in C and weak references in an environment's or wrapper's attributes, those in containers and
    helper objects included; and the attributes' names."""
    if hasattr(layer, "__deepcopy__"):  # it knows how to copy itself
        return
    seen = {id(layer)}
    for attribute, value in vars(layer).items():
        waiting = [] if attribute in ("env", "_saved_kwargs") else [value]
        while waiting:
            one = waiting.pop()
            if isinstance(one, FunctionType) and one.__module__.startswith("gymnasium."):
                continue  # its wrappers' hold on to environments whose spaces they ask
            if isinstance(one, _FUNCTIONS):
                yield attribute, one
            elif id(one) not in seen:
                seen.add(id(one))
                waiting += _parts(one)


def _reached(function: Any) -> Iterator[Any]:
    """All that a function can ask without a global name, itself first."""
    waiting, seen = [function], set[int]()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, FunctionType):
            waiting += [*_cells(one), *(one.__defaults__ or ()), *(one.__kwdefaults__ or {}).values()]
        elif isinstance(one, weakref.ref):
            waiting.append(one())
        elif isinstance(one, BuiltinMethodType):
            waiting.append(one.__self__)
        else:
            waiting += _parts(one)


def _cells(function: FunctionType) -> list[Any]:
    found = []
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # not filled yet
            found.append(None)
    return found


def _parts(value: Any) -> list[Any]:
    """What an object consists of, as far as functions may be in it."""
    if isinstance(value, _WHOLE):
        return []
    if isinstance(value, Mapping):
        return [*value.values()]
    if isinstance(value, list | tuple | set | frozenset | deque):
        return [*value]
    if isinstance(value, np.ndarray):
        return [*value.flat] if value.dtype == object else []
    if isinstance(value, MethodType):
        return [value.__self__]
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    return [*vars(value).values()] if hasattr(value, "__dict__") and not hasattr(value, "__deepcopy__") else []
