"""Making effects from profiles: shared by all families of stochastic environments."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, TypeVar

from rlspo.common.errors import did_you_mean, nearest
from rlspo.envs.profiles import KEYS, Concept

Made = TypeVar("Made")


def make_effect(
    concept: Concept, tables: Mapping[str, Mapping[str, type[Made]]], profile: str, where: str, inside: Mapping[str, Any]
) -> Made:
    """The effect that a profile names.

    :param concept: from the profile
    :param tables: all effects, by type and name
    :param profile: the profile's name, for messages
    :param where: the environment of the effect, for messages
    :param inside: arguments of the effect that are not settings of a profile
    :raises ValueError: for an effect or a setting that does not exist, naming the nearest that does
    """
    known = tables.get(concept.type, {})
    if concept.effect not in known:
        guess = nearest(concept.effect, known)
        hint = f" Did you mean {guess!r}?" if guess else ""
        others = [type for type, effects in tables.items() if concept.effect in effects and type != "2.2"]
        if others:
            hint = f" It is of type {others[0]}."
            if concept.type == "2.2":
                hint = f" As what it drifts to, write concept: {{type: {others[0]!r}, effect: {concept.effect}, ...}}."
        elif concept.effect in tables.get("2.2", {}):
            hint = f" It is of type 2.2 alone: write concept={{'type': '2.2', 'effect': {concept.effect!r}}}."
        raise ValueError(
            f"{profile}: effect is {concept.effect!r}.{hint} Those of type {concept.type} for {where}: {', '.join(known)}."
        )
    cls = known[concept.effect]
    check_settings(cls, concept.settings, f"{profile}: {concept.effect}", without=tuple(inside))
    try:
        return cls(**inside, **concept.settings)
    except ValueError as error:
        raise ValueError(f"{profile}: {concept.effect}: {error}") from error


def check_settings(cls: type, given: Mapping[str, Any], where: str, without: tuple[str, ...]) -> None:
    """
    :raises ValueError: for settings that ``cls`` does not take, and for missing ones
    """
    parameters = {name: one for name, one in inspect.signature(cls).parameters.items() if name not in without}
    for name in given:
        if name in KEYS:
            raise ValueError(f"{where} takes no {name!r}; it stands at the top of the profile, not inside concept or base.")
        if name not in parameters:
            raise ValueError(f"{where} takes no {name!r}. {did_you_mean(name, [*parameters, 'effect', 'probability', *KEYS])}")
    missing = [name for name, one in parameters.items() if one.default is one.empty and name not in given]
    if missing:
        raise ValueError(f"{where} also needs {', '.join(missing)}.")
