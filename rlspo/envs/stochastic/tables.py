"""All effects by type and name, and making one from a profile."""

from __future__ import annotations

from typing import Any

from rlspo.envs.effect_tables import make_effect
from rlspo.envs.profiles import Concept, Profile
from rlspo.envs.stochastic.actions import ACTION_EFFECTS
from rlspo.envs.stochastic.drifts import DRIFT_EFFECTS
from rlspo.envs.stochastic.exogenous import EXOGENOUS_EFFECTS
from rlspo.envs.stochastic.observations import OBSERVATION_EFFECTS
from rlspo.envs.stochastic.task import Task

#: By type; those of 2.2 are drifts themselves; any other can be the concept of a drift.
EFFECTS: dict[str, dict[str, type[Any]]] = {
    "1": ACTION_EFFECTS,
    "2.1": EXOGENOUS_EFFECTS,
    "2.2": DRIFT_EFFECTS,
    "3.2": OBSERVATION_EFFECTS,
}


def effects_of(type: str) -> dict[str, type[Any]]:
    """The effects of a type, by name.

    >>> sorted(effects_of("2.2"))
    ['damping', 'friction', 'gear', 'gravity', 'mass']
    """
    return dict(EFFECTS.get(type, {}))


def build_effect(concept: Concept, task: Task, profile: Profile) -> Any:
    """
    :raises ValueError: for an unknown effect or setting, naming the nearest known one
    """
    return make_effect(concept, EFFECTS, profile.name, task.name, {"task": task})
