"""All effects by type and name, and making one from a profile."""

from __future__ import annotations

from collections.abc import Mapping

from rlspo.envs.effect_tables import make_effect
from rlspo.envs.profiles import TYPES, Concept, Profile
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

    :param now: state of the game; None: settings are not checked against the game
    :raises ValueError: for an unknown effect or setting, naming the nearest known one
    """
    inside = {"game": game, "fidelity": profile.fidelity}
    tables = {type: effects_of(type, game) for type in TYPES}
    effect: Effect = make_effect(concept, tables, profile.name, game, inside)
    if now is not None:
        try:
            effect.check(now)
        except ValueError as error:
            raise ValueError(f"{profile.name}: {concept.effect}: {error}") from error
    return effect
