"""Which effects there are, by type and name, and how one is made from a profile."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from rlspo.common.errors import did_you_mean, nearest
from rlspo.envs.profiles import KEYS, Concept, Profile
from rlspo.envs.stori.actions import ACTION_EFFECTS
from rlspo.envs.stori.effects import Effect, Moment
from rlspo.envs.stori.games import BLACKOUTS, GAME_EFFECTS, PREVIEWS
from rlspo.envs.stori.generic import DRIFT_EFFECTS, GENERIC_EFFECTS
from rlspo.envs.stori.masks import SCREEN_EFFECTS

Table = Mapping[str, type[Effect]]


def effects_of(type: str, game: str) -> dict[str, type[Effect]]:
    """The effects of a type that a game has, by name.

    :param game: in snake case

    >>> sorted(effects_of("3.2", "breakout"))[:3]
    ['blackout', 'blur', 'box']
    """
    tables: dict[str, Table] = {
        "1": ACTION_EFFECTS,
        "2.1": {**GENERIC_EFFECTS, **GAME_EFFECTS.get(game, {})},
        "2.2": DRIFT_EFFECTS,
        "3.2": {**SCREEN_EFFECTS, **BLACKOUTS.get(game, {}), **PREVIEWS.get(game, {})},
    }
    return dict(tables.get(type, {}))


def build_effect(concept: Concept, game: str, profile: Profile, now: Moment | None = None) -> Effect:
    """The effect of a concept.

    :param now: of the game that it is for; None: settings are not checked against it
    :raises ValueError: for an effect or a setting that does not exist, naming the nearest that does
    """
    known = effects_of(concept.type, game)
    if concept.effect not in known:
        guess = nearest(concept.effect, known)
        hint = f" Did you mean {guess!r}?" if guess else ""
        others = [type for type in ("1", "2.1", "3.2") if concept.effect in effects_of(type, game)]
        if others:
            hint = f" It is of type {others[0]}."
            if concept.type == "2.2":
                hint = f" As what the game drifts to, write concept: {{type: {others[0]!r}, effect: {concept.effect}, ...}}."
        raise ValueError(
            f"{profile.name}: effect is {concept.effect!r}.{hint} Those of type {concept.type} for {game}: {', '.join(known)}."
        )
    cls = known[concept.effect]
    check_settings(cls, concept.settings, f"{profile.name}: {concept.effect}", without=("game", "fidelity"))
    try:
        effect = cls(game=game, fidelity=profile.fidelity, **concept.settings)
        if now is not None:
            effect.check(now)
    except ValueError as error:
        raise ValueError(f"{profile.name}: {concept.effect}: {error}") from error
    return effect


def check_settings(cls: type, given: Mapping[str, Any], where: str, without: tuple[str, ...]) -> None:
    """
    :raises ValueError: for settings that ``cls`` does not take or that it lacks
    """
    parameters = {name: one for name, one in inspect.signature(cls).parameters.items() if name not in without}
    for name in given:
        if name not in parameters:
            raise ValueError(f"{where} takes no {name!r}. {did_you_mean(name, [*parameters, 'effect', 'probability', *KEYS])}")
    missing = [name for name, one in parameters.items() if one.default is one.empty and name not in given]
    if missing:
        raise ValueError(f"{where} also needs {', '.join(missing)}.")
