"""What a class or function can be given, read from its signature."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Unpack

_EMPTY = inspect.Parameter.empty
_POSITIONAL, _KEYWORD = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
#: SB3's last argument, which every agent has.
_LAST = "_init_setup_model"


@dataclass(frozen=True)
class Parameter:
    """One named parameter.

    :param annotation: its resolved type, ``Any`` where none is given
    :param default: its default value, ``inspect.Parameter.empty`` where it has none
    """

    name: str
    annotation: Any
    default: Any


@dataclass(frozen=True)
class Signature:
    """All parameters that can be given by name.

    :param open_ended: True if any further name is accepted too (``**kwargs`` that lead nowhere we can read)
    """

    parameters: Mapping[str, Parameter]
    open_ended: bool

    @property
    def required(self) -> list[str]:
        """Names without a default."""
        return [name for name, parameter in self.parameters.items() if parameter.default is _EMPTY]

    def without(self, names: Iterable[str]) -> Signature:
        """The same without some parameters."""
        left_out = set(names)
        return Signature({k: v for k, v in self.parameters.items() if k not in left_out}, self.open_ended)


def signature_of(target: Callable[..., Any]) -> Signature:
    """Parameters of a function, or of a class's constructor, those of its bases included.

    :param target: a class or a function
    """
    found, open_ended = constructor_parameters(target) if isinstance(target, type) else _parameters(target)
    known = {one.name: Parameter(one.name, _known_type(one.annotation), one.default) for one in found}
    return Signature(known, open_ended)


def constructor_parameters(cls: type) -> tuple[list[inspect.Parameter], bool]:
    """Parameters of a constructor whose ``**kwargs`` are for the next class in line, as ``super().__init__`` passes them.

    Those that can be given by position come first, then those of the next class, then new ones that can be given by name
    only. Where ``**kwargs`` are an ``Unpack[TypedDict]``, it names all that the next class may be given, and everything may
    be given by position. Defaults are those of the class, ``changed_defaults`` included.

    :return: the parameters, and whether any further name is accepted
    """
    found, open_ended = _in_line([vars(one)["__init__"] for one in cls.__mro__[:-1] if "__init__" in vars(one)])
    changed = changed_defaults(cls)
    return [one.replace(default=changed.get(one.name, one.default)) for one in found], open_ended


def changed_defaults(cls: type) -> dict[str, Any]:
    """What a class and its bases say about defaults of arguments of their bases; the class has the last word."""
    return {k: v for base in reversed(cls.__mro__) for k, v in vars(base).get("changed_defaults", {}).items()}


def unpacked(constructor: Callable[..., Any]) -> set[str] | None:
    """The names that ``**kwargs: Unpack[TypedDict]`` stands for; None where the annotation is another."""
    for one in inspect.signature(constructor).parameters.values():
        if one.kind is one.VAR_KEYWORD:
            annotation = _resolved(one, getattr(inspect.unwrap(constructor), "__globals__", {}))
            kinds = typing.get_args(annotation) if typing.get_origin(annotation) is Unpack else ()
            return {*kinds[0].__annotations__, _LAST} if kinds and typing.is_typeddict(kinds[0]) else None
    return None


def _in_line(constructors: list[Callable[..., Any]]) -> tuple[list[inspect.Parameter], bool]:
    """Parameters of the first constructor, with those of the next where it has ``**kwargs``."""
    if not constructors:
        return [], True
    own, open_ended = _parameters(constructors[0])
    own = [one for one in own if one.name != "self"]
    if not open_ended:
        return own, False
    inherited, open_ended = _in_line(constructors[1:])
    names = unpacked(constructors[0])
    if names is not None:
        inherited, open_ended = [one for one in inherited if one.name in names], False
    first = [one for one in own if one.kind is _POSITIONAL]
    by_name = {one.name: one for one in own if one.kind is not _POSITIONAL}
    before = {one.name for one in first}
    found = first + [by_name.pop(one.name, one) for one in inherited if one.name not in before] + list(by_name.values())
    if names is not None:
        found = [one.replace(kind=_POSITIONAL) for one in found]
    return sorted(found, key=lambda one: one.name == _LAST), open_ended


def _parameters(function: Callable[..., Any]) -> tuple[list[inspect.Parameter], bool]:
    """A function's named parameters with their types looked up, and whether it takes ``**kwargs``."""
    names = getattr(inspect.unwrap(function), "__globals__", {})
    parameters = inspect.signature(function).parameters.values()
    named = [one.replace(annotation=_resolved(one, names)) for one in parameters if one.kind in (_POSITIONAL, _KEYWORD)]
    return named, any(one.kind is one.VAR_KEYWORD for one in parameters)


def _known_type(annotation: Any) -> Any:
    return Any if annotation is _EMPTY or isinstance(annotation, str) else annotation


def _resolved(parameter: inspect.Parameter, names: dict[str, Any]) -> Any:
    """A parameter's type, with what is written as text looked up; the text where it cannot be found.

    One parameter at a time: a single name that exists for type checkers only must not hide the types of all others.
    """
    if parameter.annotation is _EMPTY:
        return _EMPTY
    holder = types.SimpleNamespace(__annotations__={"it": parameter.annotation})
    try:
        return typing.get_type_hints(holder, globalns=names)["it"]
    except (NameError, AttributeError, TypeError, SyntaxError):
        return str(parameter.annotation)
