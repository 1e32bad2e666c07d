"""Finding agents by name, through the entry points of installed packages.

A package adds an agent without touching rlspo by declaring, in its own metadata::

    entry_points={"rlspo.agents": ["myagent=mypackage.myagent:MyAgent"]}

and everything that looks up agents by name (the zoo, the tests of all agents) finds it after ``pip install``.
"""

from __future__ import annotations

import importlib
import re
from importlib.metadata import EntryPoint, entry_points

from stable_baselines3.common.base_class import BaseAlgorithm

from rlspo.common.errors import nearest

GROUP = "rlspo.agents"


def agent_names() -> list[str]:
    """Names of all agents that installed packages declare, in alphabetical order. Does not import them.

    >>> "barpo" in agent_names()
    True
    """
    return sorted(_declared())


def agent_packages() -> list[str]:
    """Top-level packages of these agents. Does not import them.

    >>> "rlspo" in agent_packages()
    True
    """
    return sorted({re.split(r"[.:]", entry.value)[0] for entry in _declared().values()})


def agent_class(name: str) -> type[BaseAlgorithm]:
    """The class of an agent.

    >>> agent_class("stable_baselines3.PPO").__module__
    'stable_baselines3.ppo.ppo'

    :param name: as declared, such as ``"barpo"``; upper and lower case are the same. A dotted path names any other class
        that extends SB3's, such as ``"sb3_contrib.MaskablePPO"``
    :raises ValueError: for a name that no package declares (the message lists the nearest and all names), and for an entry
        point that is not an agent
    :raises ImportError: if the package that declares the agent cannot be imported
    """
    if "." in name:
        return _checked(name, *_imported(name))
    declared = _declared()
    entry = declared.get(name.lower())
    if entry is None:
        if not declared:
            raise ValueError("No agents are declared: rlspo itself is not installed. In a checkout: pip install -e .")
        guess = nearest(name, declared)
        hint = f" Did you mean {guess!r}?" if guess else ""
        raise ValueError(f"There is no agent {name!r}.{hint} Agents: {', '.join(sorted(declared))}.")
    try:
        found = entry.load()
    except (ImportError, AttributeError) as error:
        raise ImportError(f"Agent {name!r} is declared as {entry.value!r}, which cannot be imported: {error}") from error
    return _checked(name, found, f"is declared as {entry.value!r}, which")


def is_module_name(text: str) -> bool:
    """Whether a text can stand in an ``import`` statement; importlib itself accepts any file name.

    >>> is_module_name("package.module"), is_module_name("evil-mod"), is_module_name("0evil"), is_module_name("")
    (True, False, False, False)
    """
    return all(part.isidentifier() for part in text.split("."))


def _imported(path: str) -> tuple[object, str]:
    """The object at a dotted path, and its description for a message."""
    module, _, attribute = path.rpartition(".")
    if not is_module_name(module):
        raise ImportError(f"Agent {path!r} cannot be imported: {module!r} is not the name of a module.")
    try:
        return getattr(importlib.import_module(module), attribute), ""
    except (ImportError, AttributeError) as error:
        raise ImportError(f"Agent {path!r} cannot be imported: {error}") from error


def _checked(name: str, found: object, leads: str) -> type[BaseAlgorithm]:
    """Check that ``found`` is an agent."""
    if isinstance(found, type) and issubclass(found, BaseAlgorithm):
        return found
    raise ValueError(" ".join(f"Agent {name!r} {leads} is no subclass of stable-baselines3's BaseAlgorithm.".split()))


def _declared() -> dict[str, EntryPoint]:
    """Entry points by lower-case name.

    :raises ValueError: if two packages declare different agents under one name
    """
    declared: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        name = entry.name.lower()
        known = declared.setdefault(name, entry)
        if known.value != entry.value:
            raise ValueError(f"Two agents are called {name!r}: {known.value!r} and {entry.value!r}. Uninstall one.")
    return declared
