"""What the functions inside an environment hold on to: :func:`copy.deepcopy` copies no function, so all copies share it."""

from __future__ import annotations

import copy
import functools
import weakref
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from logging import Logger
from types import BuiltinMethodType, CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from rlspo.common.errors import NotSimulatableError
from rlspo.simulators.alike import difference
from rlspo.simulators.chance import Generator

#: Methods that a subclass, or an object for itself, may replace without changing what a step does.
NO_RULES = {
    *("reset", "reset_model", "render", "close", "np_random", "unwrapped", "action_masks", "post_decision", "post_decisions"),
    *("array_form", "simulated_layer", "get_wrapper_attr", "set_wrapper_attr", "has_wrapper_attr"),
}
_Cached = functools._lru_cache_wrapper
_KINDS = {FunctionType: "function", BuiltinMethodType: "built-in method", weakref.ref: "weak reference", _Cached: "cache"}
#: Without parts that could be functions, or shared on purpose.
_WHOLE = type | ModuleType | Logger | EnvSpec | spaces.Space | torch.Tensor | Generator | str | bytes | int | float | None
_CONTAINERS = list | dict | set | deque | np.ndarray
#: Methods of containers that change them.
_CHANGING = {
    *("append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse", "popitem", "update", "setdefault", "add"),
    *("discard", "appendleft", "popleft", "extendleft", "rotate", "fill", "put", "resize", "partition"),
}
#: Objects that are looked at in an attribute or from a function, and parts of a watched variable: large tables cost little.
_MOST, _MOST_WATCHED = 10_000, 1_000


def check_functions(layer: Any, layers: Sequence[Any], copied: bool = True) -> None:
    """Check that no function inside an environment or a wrapper leads back to the original.

    Of functions their variables and defaults are looked at, and other functions, methods and containers among these.

    :param layer: the environment or wrapper
    :param layers: the environment and all its wrappers
    :param copied: whether branches have copies of all of them, so that bound methods lead to these
    :raises NotSimulatableError: naming the attribute, for a function that asks one of ``layers``, draws from a random
        generator of its own, or is a method of a list or another container that changes it
    """
    inside, seen = {id(one) for one in layers}, set[int]()
    for attribute, function in functions_of(layer, inside, copied):
        for one in _reached(function, seen):
            if id(one) in inside and (one is not layer or type(function) in _KINDS):
                what = "the environment itself"
            elif isinstance(one, Generator):
                what = f"a {type(one).__name__}"
            elif isinstance(one, BuiltinMethodType) and isinstance(one.__self__, _CONTAINERS) and one.__name__ in _CHANGING:
                what = f"a {type(one.__self__).__name__}"
            else:
                continue
            verb = "is" if vars(layer)[attribute] is function else "contains"
            kind = _KINDS.get(type(function), "method")
            raise NotSimulatableError(
                type(layer).__name__,
                f"its attribute {attribute} {verb} a {kind} that holds on to {what}, so that a branch "
                "would ask the real one; make it a method",
            )


@dataclass(frozen=True)
class Held:
    """A variable of a function, with plain data.

    :param name: for messages
    :param before: a copy of what it was
    """

    name: str
    cell: CellType
    before: Any

    def changed(self) -> bool:
        """Whether it is something else now."""
        return bool(difference(self.before, self.cell.cell_contents))


def held_by_functions(layers: Sequence[Any]) -> list[Held]:
    """The plain data that functions inside of environments or wrappers have as variables."""
    found, seen, inside = [], set[int](), {id(one) for one in layers}
    for layer in layers:
        for attribute, function in functions_of(layer, inside):
            if isinstance(function, FunctionType):
                for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
                    if id(cell) not in seen and _filled(cell) and _plain(cell.cell_contents):
                        seen.add(id(cell))
                        what = f"variable {name} of {type(layer).__name__}.{attribute}"
                        found.append(Held(what, cell, copy.deepcopy(cell.cell_contents)))
    return found


def functions_of(layer: Any, inside: set[int], copied: bool = True) -> Iterator[tuple[str, Any]]:
    """The functions, methods in C, caches and weak references in an environment's or wrapper's attributes, those in containers
    and helper objects included; and the attributes' names.

    :param inside: ids of the environment and all its wrappers
    :param copied: leave out bound methods and partial functions, which are copied
    """
    if hasattr(layer, "__deepcopy__"):  # it knows how to copy itself
        return
    own = not type(layer).__module__.startswith("gymnasium.")
    kinds = (*_KINDS,) if copied else (*_KINDS, MethodType, functools.partial)
    for attribute, value in vars(layer).items():
        waiting = deque([] if attribute in {"env", "_saved_kwargs", *NO_RULES} else [value])
        seen = {*inside}
        while waiting and len(seen) < _MOST:
            one = waiting.popleft()
            if isinstance(one, FunctionType) and (one.__module__ or "").startswith("gymnasium."):
                continue  # its wrappers' hold on to environments whose spaces they ask
            if type(one) in kinds:
                yield attribute, one
            elif own and id(one) not in seen and not isinstance(one, _WHOLE):
                seen.add(id(one))
                waiting += _parts(one)


def _parts(value: Any) -> list[Any]:
    """What :func:`copy.deepcopy` copies of an object, as far as functions may be in it."""
    found = _contents(value)
    if isinstance(value, defaultdict):
        found.append(value.default_factory)
    if not hasattr(value, "__deepcopy__"):
        found += getattr(value, "__dict__", {}).values()
        slots = {name for kind in type(value).__mro__ for name in _names(getattr(kind, "__slots__", ()))}
        found += [getattr(value, name, None) for name in slots - {"__dict__", "__weakref__"}]
    return found


def _names(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _contents(value: Any) -> list[Any]:
    """The items of a container, and what methods and partial functions consist of."""
    if isinstance(value, Mapping):
        return [*islice(value.values(), _MOST)]
    if isinstance(value, list | tuple | set | frozenset | deque):
        return [*islice(value, _MOST)]
    if isinstance(value, np.ndarray):
        return [*islice(value.flat, _MOST)] if value.dtype == object else []
    if isinstance(value, MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    return []


def _reached(function: Any, seen: set[int]) -> Iterator[Any]:
    """What a function can ask without a global name and without an attribute, itself first.

    :param seen: ids of what is left out, because other functions reach it; more are added
    """
    waiting, left = deque([function]), _MOST
    while waiting and left:
        one = waiting.popleft()
        if id(one) in seen or isinstance(one, str | bytes | int | float | None):
            continue
        seen.add(id(one))
        left -= 1
        yield one
        if isinstance(one, FunctionType):
            waiting += [*_cells(one), *(one.__defaults__ or ()), *(one.__kwdefaults__ or {}).values()]
        elif isinstance(one, weakref.ref):
            waiting.append(one())
        elif isinstance(one, BuiltinMethodType):
            waiting.append(one.__self__)
        elif isinstance(one, _Cached):
            waiting.append(one.__wrapped__)
        elif not isinstance(one, _WHOLE):
            waiting += _contents(one)


def _cells(function: FunctionType) -> list[Any]:
    return [cell.cell_contents for cell in function.__closure__ or () if _filled(cell)]


def _filled(cell: CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


def _plain(value: Any) -> bool:
    """Whether a value is a number, a text or an array, or a small container of these."""
    waiting, seen = [value], 0
    while waiting:
        one, seen = waiting.pop(), seen + 1
        if type(one) is dict:
            waiting += one.values()
        elif type(one) in (list, tuple, set, deque):
            waiting += one
        elif not isinstance(one, bool | int | float | str | None) and type(one) is not np.ndarray:
            return False
        if seen + len(waiting) > _MOST_WATCHED or (isinstance(one, np.ndarray) and (one.dtype == object or one.size > 10**6)):
            return False
    return True
