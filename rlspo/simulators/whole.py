"""The state of a gymnasium environment with its wrappers, for cores that step these as a whole."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
from gymnasium import wrappers
from stable_baselines3.common.monitor import Monitor

from rlspo.common.errors import NotSimulatableError
from rlspo.simulators.holding import NO_RULES

#: Why a subclass is not taken for its parent.
UNKNOWN = "it overrides methods of a class whose {0}() does not know of that; define {0}() in the subclass, too"
#: Methods by which a wrapper changes a step.
RULES = ("step", "action", "observation", "reward")
#: Wrappers that only monitor; a simulation leaves them out. Your own wrapper declares this with only_watches = True.
WATCHERS = (wrappers.RecordVideo, wrappers.HumanRendering, wrappers.RenderCollection)
#: Records of past episodes and files of other wrappers. A simulation has none; a restored environment keeps its own.
RECORDS: dict[type, tuple[str, ...]] = {
    Monitor: ("episode_returns", "episode_lengths", "episode_times", "results_writer"),
    wrappers.RecordEpisodeStatistics: ("time_queue", "return_queue", "length_queue"),
}
#: Running statistics are frozen in a simulation: branches do not update them.
SCALERS = (wrappers.NormalizeObservation, wrappers.NormalizeReward)
FROZEN = "_update_running_mean"
#: Wrappers that cannot step without the environment itself.
REFUSED = {
    wrappers.Autoreset: "a step that resets is none of the task; take it off, whoever steps the environment resets it",
    wrappers.AddRenderObservation: "its observations are drawn from the environment itself, which a branch is not",
}


def layers_of(env: gym.Env) -> list[Any]:
    """The environment and its simulated wrappers, from the outermost to the innermost."""
    found: list[Any] = [env]
    while isinstance(found[-1], gym.Wrapper):
        found.append(found[-1].env)
    return [layer for layer in found if not watches(layer)]


def watches(layer: Any) -> bool:
    """Whether a wrapper only monitors."""
    declared = getattr(type(layer), "only_watches", False) and speaks_for(layer, "only_watches", RULES)
    return isinstance(layer, WATCHERS) or declared


def speaks_for(one: Any, name: str, rules: Sequence[str] = ()) -> bool:
    """Whether what a class declares about its steps holds for an object, whose class may be a subclass with other steps.

    :param name: of the class attribute or method that declares it, such as ``array_form``
    :param rules: names of the methods that decide what a step does; empty for all that may
    :return: False where a user's class below the one that has ``name`` overrides such methods or properties
    """
    kinds = type(one).__mro__
    owner = next((place for place, kind in enumerate(kinds) if name in vars(kind)), 0)
    return not any(
        callable(value) or isinstance(value, property | functools.cached_property | staticmethod | classmethod)
        for kind in kinds[:owner]
        if not kind.__module__.startswith("rlspo.")
        for method, value in vars(kind).items()
        if hasattr(kinds[owner], method) and (method in rules if rules else may_be_rule(method))
    )


def may_be_rule(method: str) -> bool:
    """Whether a method may decide what a step does, by its name."""
    return method not in NO_RULES and not (method.startswith("__") and method.endswith("__"))


def kept(layer: Any) -> set[str]:
    """Attributes of an environment or wrapper that are not part of its state."""
    names = {"env", "render_mode"}.union(*(names for kind, names in RECORDS.items() if isinstance(layer, kind)))
    return names | {FROZEN} if isinstance(layer, SCALERS) else names


def emptied(layer: Any) -> dict[str, Any]:
    """Empty records of the same kinds as those of an environment or wrapper, and None instead of a file."""
    names = [name for kind, names in RECORDS.items() if isinstance(layer, kind) for name in names]
    return {name: _empty(getattr(layer, name)) for name in names}


def _empty(record: Any) -> Any:
    if isinstance(record, deque):
        return deque(maxlen=record.maxlen)
    return [] if isinstance(record, list) else None


def check_layers_of(env: gym.Env) -> None:
    """Check that no wrapper needs the environment itself to step.

    :raises NotSimulatableError: naming the first
    """
    for layer in layers_of(env):
        name = f"The wrapper {type(layer).__name__}"
        if type(layer) in REFUSED:
            raise NotSimulatableError(name, REFUSED[type(layer)])


def check_reset(env: gym.Env) -> None:
    """
    :raises ResetNeeded: if an environment reports that it was never reset
    """
    if any(isinstance(layer, wrappers.OrderEnforcing) and not layer.has_reset for layer in layers_of(env)):
        raise gym.error.ResetNeeded("The environment has no state before reset(); call reset() before capture(env).")
