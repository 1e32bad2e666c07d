"""Plain Python environments, simulated as deep copies of them with all their wrappers."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils import EzPickle
from gymnasium.wrappers.utils import create_zero_array

from rlspo.common.errors import NotSimulatableError
from rlspo.simulators.base import Array, Core, Outcome
from rlspo.simulators.rows import stacked
from rlspo.simulators.whole import (
    FROZEN,
    SCALERS,
    WATCHERS,
    Generator,
    check_layers_of,
    check_reset,
    emptied,
    fresh,
    kept,
    layers_of,
)


class CopyStates:
    """States of a :class:`CopyCore`.

    :param envs: one copy for each
    :param seen: its last observation, None before the first step
    :param chance: where new streams of random numbers come from; None for those of the environment itself
    """

    def __init__(self, envs: list[Any], seen: list[Any], chance: np.random.SeedSequence | None = None) -> None:
        self.envs, self.seen, self.chance = envs, seen, chance


class CopyCore(Core):
    """Deep copies of an environment with all its wrappers.

    What does not change is shared with the original: spaces, specifications, arguments of constructors and pygame's surfaces.
    Whether such an environment draws random numbers is not known, so it counts as stochastic.

    :param env: outermost
    :raises NotSimulatableError: where a copy is not possible or would be no true copy
    """

    takes_wrappers = True
    stochastic = True

    def __init__(self, env: gym.Env) -> None:
        check_layers_of(env)
        self._space = env.observation_space
        self._captured(env)

    def capture(self, env: Any) -> CopyStates:
        check_reset(env)
        return CopyStates([self._captured(env)], [None])

    def _captured(self, env: gym.Env) -> Any:
        """A copy that is looked through for what copying cannot do.

        :raises NotSimulatableError: naming it
        """
        memo = _shared(env)
        try:
            twin = copy.deepcopy(env, memo)
        except Exception as error:
            raise NotSimulatableError(str(env), f"copy.deepcopy raises {type(error).__name__}: {error}") from error
        copied = memo.get(id(memo), [])
        _check_truth(env, [*memo.values()], copied)
        for layer in layers_of(twin):
            if isinstance(layer, SCALERS):
                setattr(layer, FROZEN, False)
        return twin

    def restore(self, env: Any, states: CopyStates) -> None:
        twin = states.envs[0]
        pairs = [*zip(layers_of(env), layers_of(twin), strict=True)]
        memo = _shared(twin) | {id(other): one for one, other in pairs}
        for one, other in pairs:
            keep = kept(one)
            new = {name: copy.deepcopy(value, memo) for name, value in vars(other).items() if name not in keep}
            for name in vars(one).keys() - new.keys() - keep:
                delattr(one, name)
            vars(one).update(new)

    def size(self, states: CopyStates) -> int:
        return len(states.envs)

    def join(self, parts: Sequence[CopyStates]) -> CopyStates:
        envs, seen = [env for part in parts for env in part.envs], [one for part in parts for one in part.seen]
        return CopyStates(envs, seen, parts[0].chance)

    def select(self, states: CopyStates, index: Array) -> CopyStates:
        rows = [int(i) for i in index]
        envs = [copy.deepcopy(states.envs[i], _shared(states.envs[i])) for i in rows]
        if states.chance is not None:
            # Copies of one state would all meet the same chance; the first keeps it.
            again = [env for place, env in enumerate(envs) if rows[place] in rows[:place]]
            _refresh(again, states.chance)
        return CopyStates(envs, [states.seen[i] for i in rows], states.chance)

    def reseed(self, states: CopyStates, seed: int) -> CopyStates:
        new = self.select(CopyStates(states.envs, states.seen), np.arange(len(states.envs)))
        new.chance = np.random.SeedSequence(seed)
        _refresh(new.envs, new.chance)
        return new

    def step(self, states: CopyStates, actions: Array, live: Array) -> Outcome:
        before = np.random.get_state(), random.getstate()
        rows = zip(states.envs, states.seen, actions, live, strict=True)
        try:
            results = [self._step(*row) for row in rows]
        finally:
            drawn = _global_draws(*before)
            np.random.set_state(before[0])
            random.setstate(before[1])
        if drawn:
            raise NotSimulatableError(
                str(states.envs[0]),
                f"its step draws from {drawn}'s global generator, which belongs to no environment, so that branches would "
                "disturb each other; let it draw from self.np_random",
            )
        seen, rewards, terminated, truncated = (list(column) for column in zip(*results, strict=True))
        return Outcome(
            CopyStates(states.envs, seen, states.chance),
            stacked(seen, np.empty(0)),
            np.array(rewards, np.float64),
            np.array(terminated, bool),
            np.array(truncated, bool),
        )

    def _step(self, env: Any, seen: Any, action: Any, live: bool) -> tuple[Any, float, bool, bool]:
        if not live:
            return (create_zero_array(self._space) if seen is None else seen), 0.0, False, False
        observation, reward, terminated, truncated, _ = env.step(action)
        # An environment may write its next observation into the same array.
        return copy.deepcopy(observation), float(reward), bool(terminated), bool(truncated)


def _shared(env: gym.Env) -> dict[int, Any]:
    """What copies share with the original, in the form in which :func:`copy.deepcopy` looks things up."""
    memo: dict[int, Any] = {}
    for layer in layers_of(env):
        memo |= {id(value): value for name, value in vars(layer).items() if name == "_saved_kwargs" or _constant(value)}
        memo |= {id(getattr(layer, name)): empty for name, empty in emptied(layer).items()}
    watchers, inside = [], env
    while isinstance(inside, gym.Wrapper):
        watchers += [inside] * isinstance(inside, WATCHERS)
        inside = inside.env
    for watcher in reversed(watchers):
        memo[id(watcher)] = copy.deepcopy(watcher.env, memo)
    return memo


def _constant(value: Any) -> bool:
    """Whether something stays as it is in a step, or takes no part in it: what is drawn on."""
    if isinstance(value, spaces.Space):
        # One that was sampled from has a generator, and the step may sample, too.
        return value._np_random is None
    return isinstance(value, EnvSpec | ModuleType) or type(value).__module__.partition(".")[0] == "pygame"


def _check_truth(env: gym.Env, made: list[Any], copied: list[Any]) -> None:
    """
    :param made: by :func:`copy.deepcopy`
    :param copied: what these are copies of
    :raises NotSimulatableError: where a copy differs from its original without saying so
    """
    for one in made:
        if isinstance(one, EzPickle) and not hasattr(type(one), "__deepcopy__"):
            raise NotSimulatableError(
                str(env),
                f"{type(one).__name__} is an EzPickle, which copy.deepcopy builds anew from its constructor's arguments "
                "instead of copying its state",
            )
    roots: set[int] = set()
    for array in copied:
        if isinstance(array, np.ndarray):
            root = array
            while isinstance(root.base, np.ndarray):
                root = root.base
            if id(root) in roots:
                raise NotSimulatableError(
                    str(env),
                    f"two of its arrays are views of the same memory (one has shape {array.shape}), and copy.deepcopy tears "
                    "them apart; keep one of them and make the other in step()",
                )
            roots.add(id(root))


def _refresh(envs: Sequence[Any], chance: np.random.SeedSequence) -> None:
    """Give each environment streams of its own."""
    for env in envs:
        for holder, name, generator in generators_in(env):
            vars(holder)[name] = fresh(generator, chance.spawn(1)[0])


def generators_in(env: gym.Env) -> Iterator[tuple[Any, str, Any]]:
    """Generators among the attributes of an environment, its wrappers and spaces: the holder, the name, the generator."""
    for layer in layers_of(env):
        for name, value in [*vars(layer).items()]:
            if isinstance(value, Generator):
                yield layer, name, value
            elif isinstance(value, spaces.Space) and value._np_random is not None:
                yield value, "_np_random", value._np_random


def _global_draws(numpy_state: Any, python_state: Any) -> str:
    """Whose global generator has moved; empty for none."""
    now = np.random.get_state()
    if now[2:] != numpy_state[2:] or not np.array_equal(now[1], numpy_state[1]):
        return "NumPy"
    return "Python" if random.getstate() != python_state else ""
