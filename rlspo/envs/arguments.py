"""Checks of environments' arguments, and of actions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces


def whole(name: str, value: Any, low: int, high: int | None = None) -> int:
    """``value`` if it is a whole number from ``low`` to ``high``.

    :raises ValueError: if it is not
    """
    fits = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not fits or value < low or (high is not None and value > high):
        limits = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} is {value!r}; it must be a whole number {limits}.")
    return int(value)


def number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """``value`` if it is a finite number from ``low`` to ``high``.

    :raises ValueError: if it is not
    """
    fits = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not fits or not math.isfinite(value) or not low <= value <= high:
        bounds = [f"at least {low:g}"] * (low > -math.inf) + [f"at most {high:g}"] * (high < math.inf)
        raise ValueError(f"{name} is {value!r}; it must be a finite number{', ' * bool(bounds)}{' and '.join(bounds)}.")
    return float(value)


def flag(name: str, value: Any) -> bool:
    """``value`` if it is True or False.

    :raises ValueError: if it is something else
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} is {value!r}; it must be True or False.")
    return bool(value)


def numbers(name: str, values: Any, low: float = -math.inf, high: float = math.inf) -> list[float]:
    """``values`` if it is a list of finite numbers from ``low`` to ``high``.

    :raises ValueError: if it is not
    """
    if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray):
        raise ValueError(f"{name} is {values!r}; it must be a list of numbers.")
    return [number(f"an entry of {name}", value, low, high) for value in values]


def discrete_action(action: Any, space: spaces.Discrete, meaning: str) -> int:
    """``action`` as an int, also where it is an array without dimensions.

    :param meaning: of the numbers, for the error
    :raises ValueError: if it is no action
    """
    array = np.asarray(action)
    if array.shape != () or not space.contains(array[()]):
        raise ValueError(f"action is {action!r}; it must be a whole number from 0 to {space.n - 1}: {meaning}.")
    return int(array)


def discrete_actions(actions: Any, n: int, space: spaces.Discrete, meaning: str) -> np.ndarray:
    """``actions`` of ``n`` copies, ``(n,)``, as int64.

    :param meaning: of the numbers, for the error
    :raises ValueError: if they are no actions
    """
    array = np.asarray(actions)
    what = f"whole numbers of shape ({n},), one for each copy, from 0 to {space.n - 1}: {meaning}"
    if array.shape != (n,) or array.dtype.kind not in "iu":
        raise ValueError(f"actions are {array.dtype} of shape {array.shape}; they must be {what}.")
    if array.min() < 0 or array.max() >= space.n:
        raise ValueError(f"{array[(array < 0) | (array >= space.n)][0]} is among the actions; they must be {what}.")
    return array.astype(np.int64)


def cpu_only(device: Any) -> None:
    """Check that the device is the CPU, for rules that are written in NumPy.

    :raises ValueError: if it is another
    """
    if device is not None and str(device) != "cpu":
        raise ValueError(f"device is {device}; this environment's rules are written in NumPy: leave it out.")
