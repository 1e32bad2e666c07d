"""Plain Python environments, simulated as deep copies of them with all their wrappers."""

from __future__ import annotations

import copy
import random
from collections import deque
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces, wrappers
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils import EzPickle
from gymnasium.wrappers.utils import create_zero_array
from stable_baselines3.common.monitor import Monitor

from rlspo.common.errors import NotSimulatableError
from rlspo.simulators.base import Array, Core, Outcome
from rlspo.simulators.rows import stacked

#: Wrappers that only watch; a copy goes without them.
WATCHERS = (wrappers.RecordVideo, wrappers.HumanRendering, wrappers.RenderCollection)
#: What other wrappers keep of past episodes, or write to; a copy has none of it, and a restored environment keeps its own.
RECORDS: dict[type, tuple[str, ...]] = {
    Monitor: ("episode_returns", "episode_lengths", "episode_times", "results_writer"),
    wrappers.RecordEpisodeStatistics: ("time_queue", "return_queue", "length_queue"),
}
#: Running statistics stand still in copies: a branch teaches the environment nothing.
SCALERS = (wrappers.NormalizeObservation, wrappers.NormalizeReward)
FROZEN = "_update_running_mean"


def layers_of(env: gym.Env) -> list[Any]:
    """The environment and all within it, from the outermost to the innermost."""
    found: list[Any] = [env]
    while isinstance(env, gym.Wrapper):
        env = env.env
        found.append(env)
    return found


def kept(layer: Any) -> set[str]:
    """Attributes of a layer that are no part of its state."""
    names = {"env"}.union(*(names for kind, names in RECORDS.items() if isinstance(layer, kind)))
    return names | {FROZEN} if isinstance(layer, SCALERS) else names


class CopyStates:
    """States of a :class:`CopyCore`.

    :param envs: one copy for each
    :param seen: its last observation, None before the first step
    """

    def __init__(self, envs: list[Any], seen: list[Any]) -> None:
        self.envs, self.seen = envs, seen


class CopyCore(Core):
    """Deep copies of an environment with all its wrappers.

    What does not change is shared with the original: spaces, specifications, metadata and what it draws on.

    :param env: outermost
    :raises NotSimulatableError: where a copy is not possible or would be no true copy
    """

    takes_wrappers = True
    stochastic = True

    def __init__(self, env: gym.Env) -> None:
        self._space = env.observation_space
        self.copy(env)

    def copy(self, env: gym.Env) -> Any:
        """A true deep copy.

        :raises NotSimulatableError: naming what prevents it
        """
        memo = self._memo(env)
        try:
            twin = copy.deepcopy(env, memo)
        except Exception as error:
            raise NotSimulatableError(str(env), f"copy.deepcopy raises {type(error).__name__}: {error}") from error
        for made in [*memo.values()]:
            if isinstance(made, EzPickle) and not hasattr(type(made), "__deepcopy__"):
                raise NotSimulatableError(
                    str(env),
                    f"{type(made).__name__} is an EzPickle, which copy.deepcopy builds anew from its constructor's arguments "
                    "instead of copying its state",
                )
        for layer in layers_of(twin):
            if isinstance(layer, SCALERS):
                setattr(layer, FROZEN, False)
        return twin

    def _memo(self, env: gym.Env) -> dict[int, Any]:
        """What copies share with the original, in the form that :func:`copy.deepcopy` looks things up in."""
        memo: dict[int, Any] = {}
        for layer in layers_of(env):
            for name, value in vars(layer).items():
                if name == "_saved_kwargs" or isinstance(value, spaces.Space | EnvSpec) or _draws(value):
                    memo[id(value)] = value
            for kind, names in RECORDS.items():
                if isinstance(layer, kind):
                    memo |= {id(value): _empty(value) for value in (getattr(layer, name) for name in names)}
        for layer in reversed(layers_of(env)):
            if isinstance(layer, WATCHERS):
                memo[id(layer)] = copy.deepcopy(layer.env, memo)
        return memo

    def capture(self, env: Any) -> CopyStates:
        for layer in layers_of(env):
            if isinstance(layer, wrappers.OrderEnforcing) and not layer.has_reset:
                raise gym.error.ResetNeeded("The environment has no state before reset(); call reset() before capture(env).")
        return CopyStates([self.copy(env)], [None])

    def restore(self, env: Any, states: CopyStates) -> None:
        twin = states.envs[0]
        pairs = [*zip((one for one in layers_of(env) if not isinstance(one, WATCHERS)), layers_of(twin), strict=True)]
        memo = self._memo(twin) | {id(other): one for one, other in pairs}
        for one, other in pairs:
            keep = kept(one)
            new = {name: copy.deepcopy(value, memo) for name, value in vars(other).items() if name not in keep}
            for name in vars(one).keys() - new.keys() - keep:
                delattr(one, name)
            vars(one).update(new)

    def size(self, states: CopyStates) -> int:
        return len(states.envs)

    def join(self, parts: Sequence[CopyStates]) -> CopyStates:
        return CopyStates([env for part in parts for env in part.envs], [one for part in parts for one in part.seen])

    def select(self, states: CopyStates, index: Array) -> CopyStates:
        return CopyStates([self.copy(states.envs[i]) for i in index], [states.seen[i] for i in index])

    def reseed(self, states: CopyStates, seed: int) -> CopyStates:
        new = self.select(states, np.arange(len(states.envs)))
        for env, sequence in zip(new.envs, np.random.SeedSequence(seed).spawn(len(new.envs)), strict=True):
            for layer in layers_of(env):
                for name, value in vars(layer).items():
                    if isinstance(value, np.random.Generator | np.random.RandomState | random.Random):
                        setattr(layer, name, fresh(value, sequence.spawn(1)[0]))
        return new

    def step(self, states: CopyStates, actions: Array, live: Array) -> Outcome:
        results = [self._step(*row) for row in zip(states.envs, states.seen, actions, live, strict=True)]
        seen, rewards, terminated, truncated = (list(column) for column in zip(*results, strict=True))
        return Outcome(
            CopyStates(states.envs, seen),
            stacked(seen, np.empty(0)),
            np.array(rewards, np.float64),
            np.array(terminated, bool),
            np.array(truncated, bool),
        )

    def _step(self, env: Any, seen: Any, action: Any, live: bool) -> tuple[Any, float, bool, bool]:
        if not live:
            return (create_zero_array(self._space) if seen is None else seen), 0.0, False, False
        observation, reward, terminated, truncated, _ = env.step(action)
        return copy.deepcopy(observation), float(reward), bool(terminated), bool(truncated)


def fresh(generator: Any, sequence: np.random.SeedSequence) -> Any:
    """A generator of the same kind with another stream."""
    if isinstance(generator, np.random.Generator):
        return np.random.Generator(type(generator.bit_generator)(sequence))
    if isinstance(generator, np.random.RandomState):
        return np.random.RandomState(np.random.MT19937(sequence))
    return random.Random(int(sequence.generate_state(1, np.uint64)[0]))


def _draws(value: Any) -> bool:
    """Whether something is a part of pygame."""
    return type(value).__module__.partition(".")[0] == "pygame"


def _empty(record: Any) -> Any:
    """A record of the same kind with nothing in it; None instead of a file."""
    if isinstance(record, deque):
        return deque(maxlen=record.maxlen)
    return [] if isinstance(record, list) else None
