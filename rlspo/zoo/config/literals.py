"""Python literals in text, as rl-baselines3-zoo writes them in YAML and on the command line, read as data: nothing is run.

``"dict(net_arch=[400, 300], activation_fn=nn.ReLU)"`` is a mapping there. Accepted are: numbers, texts, truth values, None,
lists, tuples, mappings, ``dict(...)``, ``OrderedDict(...)``, arithmetic with numbers, ``float("inf")``,
``linear_schedule(3e-4)``, and the names of a few classes. Everything else is refused.
"""

from __future__ import annotations

import ast
import operator
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch

#: Text that begins like this is read as a literal.
_CONTAINER = re.compile(r"\s*([\[{(]|(dict|OrderedDict|collections\.OrderedDict)\s*\()")
_LONGEST = 20_000  # characters
_DEEPEST = 50  # levels of nesting
_MAPPINGS = ("dict", "OrderedDict", "collections.OrderedDict")
#: Modules whose classes may be named, by the names used in such files, with their real names.
_MODULES = {
    "nn": ("torch.nn", torch.nn.Module),
    "th.nn": ("torch.nn", torch.nn.Module),
    "torch.nn": ("torch.nn", torch.nn.Module),
    "optim": ("torch.optim", torch.optim.Optimizer),
    "th.optim": ("torch.optim", torch.optim.Optimizer),
    "torch.optim": ("torch.optim", torch.optim.Optimizer),
}
#: Other classes.
_CLASSES = {
    "RMSpropTFLike": "stable_baselines3.common.sb2_compat.rmsprop_tf_like.RMSpropTFLike",
    "HerReplayBuffer": "stable_baselines3.HerReplayBuffer",
}
_INFINITE = {"np.inf", "numpy.inf", "math.inf"}
_OPERATIONS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}
_SMALL_BASE, _SMALL_POWER = 1e6, 64


def looks_like_literal(value: Any) -> bool:
    """Whether a value is text that begins like a Python list, tuple or mapping.

    >>> looks_like_literal("dict(gamma=0.9)"), looks_like_literal("lin_3e-4"), looks_like_literal({"gamma": 0.9})
    (True, False, False)
    """
    return isinstance(value, str) and _CONTAINER.match(value) is not None


def read(text: str) -> Any:
    """The plain data that text holds; classes as their dotted paths, tuples as lists.

    >>> read("dict(net_arch=[400, 300], activation_fn=nn.ReLU, log_std_init=-3)")
    {'net_arch': [400, 300], 'activation_fn': 'torch.nn.ReLU', 'log_std_init': -3}

    :raises ValueError: for everything that is not a literal, naming the part of it
    """
    if len(text) > _LONGEST:
        raise ValueError(f"it has {len(text):,} characters; at most {_LONGEST:,} are read")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # mistakes are errors below
            syntax = ast.parse(text.strip(), mode="eval")
        return _data(syntax.body, _DEEPEST)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"it is not a Python literal ({type(error).__name__})") from error
    except (ArithmeticError, TypeError) as error:
        raise ValueError(str(error)) from error


def class_path(name: str) -> str | None:
    """The dotted path of a class by its name in such files, None for one that they may not name.

    >>> class_path("nn.ReLU"), class_path("th.optim.Adam"), class_path("os.system")
    ('torch.nn.ReLU', 'torch.optim.Adam', None)
    """
    if name in _CLASSES:
        return _CLASSES[name]
    module, _, last = name.rpartition(".")
    if module not in _MODULES:
        return None
    path, base = _MODULES[module]
    found = getattr({"torch.nn": torch.nn, "torch.optim": torch.optim}[path], last, None)
    return f"{path}.{last}" if isinstance(found, type) and issubclass(found, base) else None


def _data(node: ast.expr, deep: int) -> Any:
    """The data that a piece of syntax stands for.

    :param deep: how many levels of nesting are left
    """
    if deep == 0:
        raise ValueError(f"it is nested more than {_DEEPEST} deep")
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None as value):
            return value
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return [_data(each, deep - 1) for each in elements]
        case ast.Dict(keys=keys, values=values) if None not in keys:
            pairs = [(_data(key, deep - 1), _data(value, deep - 1)) for key, value in zip(keys, values, strict=True) if key]
            return _mapping(pairs)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            number = _number(operand, deep - 1)
            return -number if isinstance(sign, ast.USub) else number
        case ast.BinOp(left=left, op=operation, right=right) if type(operation) in _OPERATIONS:
            return _calculated(operation, _number(left, deep - 1), _number(right, deep - 1))
        case ast.Call(func=function, args=arguments, keywords=keywords):
            return _called(node, ast.unparse(function), arguments, keywords, deep - 1)
        case ast.Name() | ast.Attribute():
            name = ast.unparse(node)
            if name in _INFINITE:
                return float("inf")
            path = class_path(name)
            if path is not None:
                return path
    raise ValueError(f"{_shown(node)} is Python that would have to be run, which is not allowed")


def _called(node: ast.Call, name: str, arguments: list[ast.expr], keywords: list[ast.keyword], deep: int) -> Any:
    """The data of a call, for the few functions that only build data."""
    if name in _MAPPINGS and all(keyword.arg for keyword in keywords) and len(arguments) <= 1:
        pairs: list[Any] = []
        for given in (_data(argument, deep) for argument in arguments):
            pairs += list(given.items()) if isinstance(given, Mapping) else given if isinstance(given, list) else [given]
        return _mapping([*pairs, *((str(keyword.arg), _data(keyword.value, deep)) for keyword in keywords)])
    if len(arguments) == 1 and not keywords:
        if name == "linear_schedule":
            return f"lin_{float(_number(arguments[0], deep))!r}"
        if name == "tuple" or name == "list":
            given = _data(arguments[0], deep)
            if isinstance(given, list):
                return given
        if name == "float":
            return float(_data(arguments[0], deep))
    raise ValueError(f"{_shown(node)} is a call, and nothing is called")


def _mapping(pairs: list[Any]) -> dict[Any, Any]:
    """A mapping from pairs; lists and mappings cannot be keys."""
    if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise ValueError("a mapping is made of pairs")
    for key, _ in pairs:
        if isinstance(key, list | dict):
            raise ValueError(f"{key!r} cannot be a key")
    return dict(pairs)


def _number(node: ast.expr, deep: int) -> int | float:
    value = _data(node, deep)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{_shown(node)} is not a number, and only numbers are added, multiplied and so on")
    return value


def _calculated(operation: ast.operator, left: int | float, right: int | float) -> int | float:
    """The result of an operation; powers, which may become huge, only of small numbers."""
    if isinstance(operation, ast.Pow) and (abs(left) > _SMALL_BASE or abs(right) > _SMALL_POWER):
        raise ValueError(f"{left}**{right} is too large to be calculated here")
    result = _OPERATIONS[type(operation)](left, right)
    if isinstance(result, complex):
        raise ValueError("the result is not a real number")
    number: int | float = result
    return number


def _shown(node: ast.AST) -> str:
    """A piece of syntax as text, shortened."""
    text = ast.unparse(node)
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
