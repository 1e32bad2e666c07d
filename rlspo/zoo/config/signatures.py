"""The parameters of a class or function, from its signature, and checking plain data against them.

So a misspelt or mistyped setting is an error message before anything runs: the agent's constructor
is the only list of the agent's settings, so a new argument is known here without being written down twice.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError

from rlspo.common.errors import did_you_mean
from rlspo.zoo.errors import UserError

_CALLABLE = typing.get_origin(Callable[..., Any])
_STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True)


def check_names(given: Iterable[str], allowed: Iterable[str], where: Callable[[str], str]) -> None:
    """Refuse names that do not exist.

    :param where: from a name to its source: the file and block, or the flag
    :raises UserError: naming each unknown name and the nearest that exists
    """
    names = set(allowed)
    unknown = [name for name in given if name not in names]
    if unknown:
        hints = {name: did_you_mean(str(name), names) for name in unknown}
        raise UserError("\n".join(f"{where(name)}: there is no key {name!r}. {hint}" for name, hint in hints.items()))


def check_value(key: str, value: Any, annotation: Any, where: str) -> Any:
    """Refuse a value of the wrong type: text and true, for example, are not numbers.

    :param annotation: the wanted type
    :param where: beginning of the message
    :return: the value; a whole number given where a float is wanted comes back as a float
    :raises UserError: naming the key, the value and what is allowed
    """
    try:
        adapter = TypeAdapter[Any](annotation, config=_STRICT)
    except PydanticSchemaGenerationError:
        return value  # a type that cannot be checked from outside
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        if _takes_arrays(annotation) and np.asarray(value).dtype.kind in "iuf":  # files have no numbers of NumPy's
            return np.array(value, np.float32) if isinstance(value, list) else value
        if isinstance(value, float) and value.is_integer():  # some files have 50000.0 for a whole number
            return check_value(key, int(value), annotation, where)
        message = f"{where}: {key} is {value!r}, but must be {describe(annotation)}."
        if isinstance(value, str) and value.lstrip().startswith("lambda"):
            message += " Python is not run."
        raise UserError(message) from error


def _takes_arrays(annotation: Any) -> bool:
    """Whether a type contains NumPy's arrays or numbers."""
    parts = [typing.get_origin(part) or part for part in typing.get_args(annotation) or (annotation,)]
    return any(isinstance(part, type) and issubclass(part, np.ndarray | np.number) for part in parts)


def admits(annotation: Any, kind: Any) -> bool:
    """Whether a type is, or as a union contains, ``kind``.

    >>> admits(float | Callable[[float], float], Callable), admits(type[int] | None, type), admits(int | None, str)
    (True, True, False)
    """
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return any(admits(option, kind) for option in typing.get_args(annotation))
    return annotation is kind or origin is kind or (kind is Callable and origin is _CALLABLE)


def describe(annotation: Any) -> str:
    """A type in words.

    >>> describe(int | None)
    'a whole number or null'
    >>> describe(float | Callable[[float], float])
    "a number or a schedule such as 'lin_3e-4'"
    >>> describe(typing.Literal["linf", "l2"])
    "'linf' or 'l2'"
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(describe(option) for option in arguments))
    if origin is typing.Literal:
        return " or ".join(repr(option) for option in arguments)
    if origin is typing.Annotated:
        limits = ", ".join(_describe_limit(limit) for limit in arguments[1:] if _describe_limit(limit))
        return describe(arguments[0]) + (f" {limits}" if limits else "")
    if origin in (list, tuple) and arguments:
        return f"a list of {_PLURALS.get(arguments[0], describe(arguments[0]))}"
    if origin is not None:
        annotation = origin
    return _WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _describe_limit(limit: Any) -> str:
    """``Gt(gt=0)`` as ``above 0``."""
    words = {"gt": "above", "ge": "of at least", "lt": "below", "le": "of at most"}
    return " and ".join(f"{word} {getattr(limit, key)}" for key, word in words.items() if hasattr(limit, key))


_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    dict: "a mapping",
    list: "a list",
    tuple: "a list",
    type: "a class, by name or dotted path",
    type(None): "null",
    _CALLABLE: "a schedule such as 'lin_3e-4'",
}
_PLURALS: dict[Any, str] = {int: "whole numbers", float: "numbers", str: "texts"}
