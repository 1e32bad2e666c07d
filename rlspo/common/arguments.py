"""Constructors of agents: an argument of a base is written down once, there, with its default and its text.

A subclass names what it adds, and hands on the rest by keyword::

    class ARPO(PPO):
        changed_defaults: ClassVar[PPOSettings] = {"normalize_rewards": True}

        def __init__(self, policy, env, *args, epsilon: float = 0.075, **settings: Unpack[PPOSettings]) -> None:
            super().__init__(policy, env, *args, **settings)

``inspect.signature(ARPO)`` and ``help(ARPO)`` show all arguments, in the order in which they can be given by position: those
of the base, then ``epsilon``.
"""

from __future__ import annotations

import functools
import inspect
import re
from typing import Any, TypedDict

import torch

from rlspo.common.errors import nearest
from rlspo.common.signatures import changed_defaults, constructor_parameters, unpacked


class AgentSettings(TypedDict, total=False):
    """Arguments of every agent, documented at :class:`rlspo.common.agent.Agent`."""

    stats_window_size: int
    tensorboard_log: str | None
    policy_kwargs: dict[str, Any] | None
    verbose: int
    seed: int | None
    device: torch.device | str


class OnPolicySettings(AgentSettings, total=False):
    """Arguments of every on-policy agent, documented at :class:`rlspo.common.on_policy.OnPolicyAgent`."""

    normalize_observations: bool
    normalize_rewards: bool
    compile: str | bool
    precision: str


def complete(cls: type, root: type) -> None:
    """Let a class's signature and docstring show the arguments of its bases, too.

    :param root: of the classes that document arguments
    """
    parameters, open_ended = constructor_parameters(cls)
    if open_ended:
        parameters.append(inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD))
    by_kind = sorted(parameters, key=lambda one: one.kind)
    signature: Any = None
    try:
        signature = inspect.Signature(by_kind)
    except ValueError:  # an argument with a default stands before those of the base: only names tell them apart
        positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
        named = [one.replace(kind=one.KEYWORD_ONLY) if one.kind is positional else one for one in by_kind]
        signature = inspect.Signature(named)
    cls.__signature__ = signature  # type: ignore[attr-defined]
    if "__init__" in vars(cls) and unpacked(vars(cls)["__init__"]) is not None:
        cls.__init__ = _by_keyword(cls.__name__, vars(cls)["__init__"], signature)  # type: ignore[misc]
    if cls.__doc__:
        documented = [base.__doc__ or "" for base in cls.__mro__[1:] if issubclass(base, root)]
        cls.__doc__ = _with_arguments(inspect.cleandoc(cls.__doc__), documented, list(signature.parameters))


def _by_keyword(name: str, constructor: Any, signature: inspect.Signature) -> Any:
    """A constructor that is given all arguments by keyword, and those whose default the class changes in any case."""

    @functools.wraps(constructor)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        for unknown in (one for one in kwargs if one not in signature.parameters):
            guess = nearest(unknown, [*inspect.signature(type(self)).parameters, *signature.parameters])
            hint = f" Did you mean {guess!r}?" if guess else ""
            raise TypeError(f"{type(self).__name__}.__init__() got an unexpected keyword argument {unknown!r}.{hint}")
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise TypeError(f"{name}.__init__() was called wrongly: {error}.") from None
        changed = {key: value for key, value in changed_defaults(type(self)).items() if key in signature.parameters}
        constructor(self, **_checked(type(self).__name__, {**changed, **given}))

    return __init__


def _checked(agent: str, given: dict[str, Any]) -> dict[str, Any]:
    """
    :raises ValueError: where there is no environment
    :raises TypeError: where the policy is given what is the agent's
    """
    if given["env"] is None and given.get("_init_setup_model", True):
        raise ValueError(f"env is None; an agent is made for an environment, such as {agent}('MlpPolicy', 'CartPole-v1').")
    kwargs, use_sde = given.get("policy_kwargs"), given.get("use_sde", False)
    if not isinstance(kwargs, dict):
        return given
    own = dict(kwargs)  # SB3 writes into it
    if own.pop("use_sde", use_sde) != use_sde:
        raise TypeError(
            f"policy_kwargs has 'use_sde', which the agent passes on itself. Give it to the agent: {agent}(..., use_sde=...)."
        )
    return {**given, "policy_kwargs": own}


_FIELD = re.compile(r"^:param (\w+):.*(?:\n[ \t]+\S.*)*\n?", re.MULTILINE)


def _with_arguments(text: str, of_bases: list[str], names: list[str]) -> str:
    """A docstring with a field for each argument, in their order; its own text of an argument comes before its bases'."""
    own = {found[1]: found[0].rstrip() for found in _FIELD.finditer(text)}
    fields: dict[str, str] = {}
    for base in reversed(of_bases):
        fields |= {found[1]: found[0].rstrip() for found in _FIELD.finditer(inspect.cleandoc(base))}
    fields |= own
    if not any(name in fields and name not in own for name in names):
        return text
    shown = "\n".join(fields[name] for name in sorted(fields, key=lambda one: _place(one, names)) if name in [*names, *own])
    first = _FIELD.search(text)
    if first is None:
        before, example, after = text.partition("\n>>> ")
        return "\n\n".join(part for part in (before.rstrip(), shown, example.lstrip() + after) if part) + "\n"
    return f"{text[: first.start()]}{shown}\n{_FIELD.sub('', text[first.start() :])}"


def _place(name: str, names: list[str]) -> int:
    return names.index(name) if name in names else len(names)
