"""Settings that are a name, a class or an object: the name is looked up in a registry, the class is called with settings."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, TypeVar

from rlspo.common.errors import check_choice, shown

Kind = TypeVar("Kind")


def check_kind(name: str, value: Any, registry: Mapping[str, type], base: type) -> None:
    """Check that ``value`` is a name in ``registry``, a subclass of ``base`` or an object of one.

    :param name: of the setting, for messages
    :raises ValueError: for a text that is no such name
    :raises TypeError: for anything else
    """
    if isinstance(value, str):
        check_choice(name, value, tuple(registry))
    elif not isinstance(value, base) and not (isinstance(value, type) and issubclass(value, base)):
        package = base.__module__.rpartition(".")[0]
        raise TypeError(
            f"{name} is {shown(value)} of type {type(value).__name__}; it must be one of "
            f"{', '.join(map(repr, registry))}, a subclass of {package}.{base.__name__}, or an object of one."
        )


def make_kind(name: str, value: Any, registry: Mapping[str, type[Kind]], base: type, **settings: Any) -> Kind:
    """The object for a name or a class; an object unchanged.

    :param settings: for the constructor, which gets those that it names
    :raises ValueError: as :func:`check_kind`
    :raises TypeError: as :func:`check_kind`
    """
    check_kind(name, value, registry, base)
    if isinstance(value, base):
        return value  # type: ignore[return-value]
    cls = registry[value] if isinstance(value, str) else value
    known = inspect.signature(cls).parameters
    return cls(**{argument: given for argument, given in settings.items() if argument in known})
