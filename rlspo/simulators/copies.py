"""Plain Python environments, simulated by deep copies that include all their wrappers."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils import EzPickle
from gymnasium.wrappers.utils import create_zero_array

from rlspo.common.errors import NotSimulatableError
from rlspo.simulators.alike import difference
from rlspo.simulators.base import Array, Core, Outcome
from rlspo.simulators.chance import Generator, GlobalGenerators, generators_among, refresh
from rlspo.simulators.holding import Held, check_functions, held_by_functions
from rlspo.simulators.rows import stacked
from rlspo.simulators.views import views_among
from rlspo.simulators.whole import (
    FROZEN,
    SCALERS,
    check_layers_of,
    check_reset,
    emptied,
    kept,
    layers_of,
    watches,
)

#: Steps after which a core is trusted. Until then it looks for changes of what copies share, which takes as long as copying,
#: and at each capture for functions that lead back to the original.
WATCHED_STEPS = 8


class CopyStates:
    """States of a :class:`CopyCore`.

    :param envs: one copy per state
    :param generators: all random generators inside each copy
    :param seen: last observation of each, None before the first step
    :param constants: objects that all copies share, as a memo of :func:`copy.deepcopy`
    :param chance: source of new random streams; None for those of the environment itself
    """

    def __init__(
        self,
        envs: list[Any],
        generators: list[list[Any]],
        seen: list[Any],
        constants: dict[int, Any],
        chance: np.random.SeedSequence | None = None,
    ) -> None:
        self.envs, self.generators, self.seen, self.constants, self.chance = envs, generators, seen, constants, chance


class CopyCore(Core):
    """Deep copies of an environment with all its wrappers.

    Objects that never change are shared with the original: spaces, specifications, constructor arguments and pygame's
    surfaces. An environment or wrapper whose class declares ``simulated_state`` shares all but these attributes and its
    generators. Whether an environment draws random numbers is not known, so it counts as stochastic.

    :param env: outermost
    :raises NotSimulatableError: where a copy is not possible or would differ from the original
    """

    takes_wrappers = True
    stochastic = True

    def __init__(self, env: gym.Env) -> None:
        check_layers_of(env)
        self._space = env.observation_space
        self._watched, self._told = WATCHED_STEPS, False
        true_copy(env)

    def capture(self, env: Any) -> CopyStates:
        check_reset(env)
        twin, generators, constants = true_copy(env, check=self._watched > 0)
        return CopyStates([twin], [generators], [None], constants)

    def restore(self, env: Any, states: CopyStates) -> None:
        twin = states.envs[0]
        pairs = [*zip(layers_of(env), layers_of(twin), strict=True)]
        originals = dict(states.constants)
        copy.deepcopy(twin, originals)
        memo = states.constants | views_among(originals.get(id(originals), ())) | {id(other): one for one, other in pairs}
        for one, other in pairs:
            keep = kept(one)
            new = {name: copy.deepcopy(value, memo) for name, value in vars(other).items() if name not in keep}
            for name in vars(one).keys() - new.keys() - keep:
                delattr(one, name)
            vars(one).update(new)

    def size(self, states: CopyStates) -> int:
        return len(states.envs)

    def join(self, parts: Sequence[CopyStates]) -> CopyStates:
        envs, generators = [env for part in parts for env in part.envs], [one for part in parts for one in part.generators]
        constants: dict[int, Any] = {}
        for part in parts:
            constants |= part.constants
        return CopyStates(envs, generators, [one for part in parts for one in part.seen], constants, parts[0].chance)

    def select(self, states: CopyStates, index: Array) -> CopyStates:
        rows = [int(i) for i in index]
        copies = [_copied(states.envs[i], states.constants) for i in rows]
        envs, generators = [env for env, _ in copies], [generators_among(made) for _, made in copies]
        new = CopyStates(envs, generators, [states.seen[i] for i in rows], states.constants, states.chance)
        if states.chance is not None:
            # Copies of one state would all draw the same random numbers; only the first keeps its stream.
            kept_by = {row: place for place, row in reversed([*enumerate(rows)])}
            for place, row in enumerate(rows):
                if kept_by[row] != place:
                    refresh(new.generators[place], states.chance)
        return new

    def reseed(self, states: CopyStates, seed: int) -> CopyStates:
        plain = CopyStates(states.envs, states.generators, states.seen, states.constants)
        new = self.select(plain, np.arange(len(states.envs)))
        new.chance = np.random.SeedSequence(seed)
        for generators in new.generators:
            refresh(generators, new.chance)
        return new

    def step(self, states: CopyStates, actions: Array, live: Array) -> Outcome:
        first = states.envs[0]
        before = (on_classes(first), held_by_functions(layers_of(first))) if self._watched > 0 else None
        with GlobalGenerators() as watched:
            results = [self._step(*row) for row in zip(states.envs, states.seen, actions, live, strict=True)]
        if before is not None:
            self._watch(first, *before)
        if watched.drawn:
            raise NotSimulatableError(
                str(states.envs[0]),
                f"its step draws from {watched.drawn}'s global generator, which belongs to no environment, so that branches "
                "would disturb each other; let it draw from self.np_random",
            )
        seen, rewards, terminated, truncated = (list(column) for column in zip(*results, strict=True))
        return Outcome(
            CopyStates(states.envs, states.generators, seen, states.constants, states.chance),
            stacked(seen, np.empty(0)),
            np.array(rewards, np.float64),
            np.array(terminated, bool),
            np.array(truncated, bool),
        )

    def _watch(self, env: Any, classes: dict[str, Any], held: list[Held]) -> None:
        """Warn once of what a step changed that all copies share.

        :param classes: attributes of classes before the step
        :param held: variables of functions before the step
        """
        self._watched -= 1
        changed = [one.name for one in held if one.changed()]
        where = difference(classes, on_classes(env)) or (changed[0] if changed else "")
        if where and not self._told:
            self._told = True
            warnings.warn(
                f"A step of {env} changes {where}, which all copies share with the environment: "
                "branches disturb it, and each other. If steps depend on it, keep it in self (in __init__ or reset()).",
                stacklevel=2,
            )

    def _step(self, env: Any, seen: Any, action: Any, live: bool) -> tuple[Any, float, bool, bool]:
        if not live:
            return (create_zero_array(self._space) if seen is None else seen), 0.0, False, False
        observation, reward, terminated, truncated, _ = env.step(action)
        # An environment may write its next observation into the same array.
        return copy.deepcopy(observation), float(reward), bool(terminated), bool(truncated)


def on_classes(env: gym.Env) -> dict[str, Any]:
    """Class attributes of an environment and its wrappers, except methods, spaces and gymnasium's own."""
    found = {}
    for kind in {kind for layer in layers_of(env) for kind in type(layer).__mro__}:
        if kind.__module__.partition(".")[0] in ("builtins", "abc", "typing", "gymnasium", "stable_baselines3"):
            continue
        for name, value in vars(kind).items():
            plain = isinstance(value, bool | int | float | str | list | dict | set | tuple | np.ndarray)
            if plain and not (name.startswith("__") and name.endswith("__")):
                found[f"{kind.__name__}.{name}"] = copy.deepcopy(value)
    return found


def _copied(env: gym.Env, shared: dict[int, Any]) -> tuple[Any, list[Any]]:
    """A deep copy, and all new objects in it.

    :param shared: objects that the copy shares, or their replacements, as a memo of :func:`copy.deepcopy`
    """
    memo = dict(shared)
    twin = copy.deepcopy(env, memo)
    # The memo keeps all originals alive in an entry of its own.
    views = views_among(memo.get(id(memo), ()))
    if views:
        memo = shared | views
        twin = copy.deepcopy(env, memo)
    return twin, [*memo.values()]


def true_copy(env: gym.Env, check: bool = True) -> tuple[Any, list[Any], dict[int, Any]]:
    """A deep copy, checked for parts that cannot be copied; its generators; and the objects that it shares with the original.

    :param check: look for functions that lead back to the original, which takes half as long as copying
    :raises NotSimulatableError: naming what prevents it
    """
    try:
        shared = _shared(env)
        twin, made = _copied(env, shared)
    except Exception as error:
        raise NotSimulatableError(str(env), f"copy.deepcopy raises {type(error).__name__}: {error}") from error
    layers = layers_of(env)
    for layer in layers if check else ():
        check_functions(layer, layers)
    _check_truth(env, made)
    for layer in layers_of(twin):
        if isinstance(layer, SCALERS):
            setattr(layer, FROZEN, False)
        # Such environments render each step to one window, in real time.
        if vars(layer).get("render_mode") == "human":
            layer.render_mode = None
    # Finding them takes as long as copying, and copies of the copy share the same ones.
    return twin, generators_among(made), {key: value for key, value in shared.items() if key == id(value)}


def _shared(env: gym.Env) -> dict[int, Any]:
    """What a copy shares with the original, and the replacements of records and monitoring wrappers, for :func:`_copied`."""
    memo: dict[int, Any] = {}
    for layer in layers_of(env):
        declared = getattr(type(layer), "simulated_state", None)
        for name, value in vars(layer).items():
            fixed = name not in declared if declared is not None else name in _tables(layer)
            if (fixed and not isinstance(value, Generator | gym.Env)) or _constant(value):
                memo[id(value)] = value
            elif isinstance(value, spaces.Space):
                # It was sampled from, so it has a generator, and a step may sample too: only its bounds are shared.
                memo |= {id(part): part for part in vars(value).values() if isinstance(part, np.ndarray)}
        memo |= {id(getattr(layer, name)): empty for name, empty in emptied(layer).items()}
    watchers, inside = [], env
    while isinstance(inside, gym.Wrapper):
        watchers += [inside] * watches(inside)
        inside = inside.env
    for watcher in reversed(watchers):
        memo[id(watcher)] = copy.deepcopy(watcher.env, memo)
    return memo


def _tables(layer: Any) -> tuple[str, ...]:
    """Large constant attributes of well-known classes."""
    toys = type(layer).__module__.startswith("gymnasium.envs.toy_text")
    return ("_saved_kwargs", "P", "initial_state_distrib") if toys else ("_saved_kwargs",)


def _constant(value: Any) -> bool:
    """Whether an object never changes in a step or does not affect it, such as pygame's surfaces."""
    if isinstance(value, spaces.Space):
        return value._np_random is None
    return isinstance(value, EnvSpec | ModuleType) or type(value).__module__.partition(".")[0] == "pygame"


def _check_truth(env: gym.Env, made: list[Any]) -> None:
    """
    :param made: new objects, made by :func:`copy.deepcopy`
    :raises NotSimulatableError: where a copy silently differs from its original
    """
    for one in made:
        if isinstance(one, EzPickle) and not hasattr(type(one), "__deepcopy__"):
            raise NotSimulatableError(
                str(env),
                f"{type(one).__name__} is an EzPickle, which copy.deepcopy builds anew from its constructor's arguments "
                "instead of copying its state",
            )
