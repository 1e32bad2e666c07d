"""Atari games: a separate emulator plays all branches, so that the real game is never changed."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from gymnasium import spaces, wrappers
from gymnasium.wrappers.utils import create_zero_array
from stable_baselines3.common import atari_wrappers
from stable_baselines3.common.monitor import Monitor

from rlspo.common.errors import NotSimulatableError
from rlspo.simulators.base import Array, Core, Outcome
from rlspo.simulators.chance import generators_in, refresh
from rlspo.simulators.rows import detached, stacked
from rlspo.simulators.whole import FROZEN, SCALERS, check_layers_of, check_reset, emptied, kept, layers_of

#: Wrappers that draw no random numbers in a step; any other wrapper may.
DETERMINISTIC = (
    wrappers.AtariPreprocessing,
    wrappers.FrameStackObservation,
    wrappers.MaxAndSkipObservation,
    wrappers.OrderEnforcing,
    wrappers.PassiveEnvChecker,
    wrappers.RecordEpisodeStatistics,
    wrappers.TimeLimit,
    wrappers.TransformAction,
    wrappers.TransformObservation,
    wrappers.TransformReward,
    atari_wrappers.AtariWrapper,
    atari_wrappers.ClipRewardEnv,
    atari_wrappers.EpisodicLifeEnv,
    atari_wrappers.FireResetEnv,
    atari_wrappers.MaxAndSkipEnv,
    atari_wrappers.NoopResetEnv,
    atari_wrappers.WarpFrame,
    Monitor,
)
#: Attributes of wrappers that never change.
CONSTANT = {"_action_space", "_observation_space", "_metadata", "_cached_spec", "_saved_kwargs", "observation_space"}

#: How often an action is repeated so that the emulator accepts it despite sticky actions: for branches (98 % where the
#: probability of sticking is a quarter), and for states with the emulator's own generator.
REPEATS = {False: 3, True: 12}
UNSEEN = "the action that an emulator with sticky actions would repeat is no part of the state that it gives"


@dataclass
class Game:
    """One state: that of the emulator, of its environment and of the wrappers.

    :param machine: the emulator's state
    :param generator: of the environment and its wrappers; None where a step draws nothing
    :param memory: attributes of each wrapper, from the outermost to the innermost
    :param chance: whether ``machine`` includes the state of the emulator's own generator
    :param streams: source of new random streams; None for those of the environment itself
    :param last: the last action of this branch, None before the first step
    :param seen: the last observation, None before the first step. It cannot be read from the emulator: after a state is
        restored, the emulator shows the old screen until its next frame
    """

    machine: Any
    generator: np.random.Generator | None
    memory: list[dict[str, Any]]
    chance: bool
    streams: np.random.SeedSequence | None = None
    last: Any = None
    seen: Any = None

    def refresh(self) -> None:
        """Give all generators new streams, those inside of wrappers too."""
        assert self.streams is not None
        own = [] if self.generator is None else [self.generator]
        refresh([*own, *generators_in(self.memory)], self.streams)


def _made_with(base: Any) -> tuple[type, tuple[Any, ...], dict[str, Any]]:
    """Class and arguments of a game, without a window."""
    return type(base), base._ezpickle_args, {**base._ezpickle_kwargs, "render_mode": None}


class Told:
    """An emulator's interface that records its last action and the state that this led to.

    :param ale: the interface
    """

    def __init__(self, ale: Any) -> None:
        self._ale = ale
        self.last: tuple[Any, float] | None = None
        self.reached: Any = None

    def act(self, action: Any, strength: float = 1.0) -> int:
        """Play one frame."""
        self.last = action, strength
        return self._ale.act(action, strength)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ale, name)


class AtariCore(Core):
    """Games of ``ale_py``, with all their wrappers.

    A captured state includes the emulator's random generator: stepping it reproduces the random numbers of the real game
    (sticky actions), and restoring it lets the real game continue exactly. :meth:`reseed` drops the generator. Random numbers
    then come from the emulator that plays the branches and continue from state to state. So branches do not predict the real
    game, and stepping the same states twice gives different results. Branches are played one after the other: ``ale_py`` holds
    Python's interpreter lock while it plays, so threads would gain nothing.

    One thing cannot be captured with sticky actions: the action that the emulator would repeat is not part of its state and
    cannot be read. Inside a branch the last action is played to the emulator before it continues. But the first frame after a
    capture or a :meth:`restore` may repeat the emulator's previous action instead of the captured one.

    After a restore, ``render()`` shows the old picture until the next step.

    :param env: outermost
    :raises NotSimulatableError: for wrappers that cannot step without the environment itself
    """

    takes_wrappers = True

    def __init__(self, env: Any) -> None:
        check_layers_of(env)
        layers = layers_of(env)
        base = layers[-1]
        _check_apart(layers)
        self._made_with = _made_with(base)
        self._shadows = [detached(layer) for layer in layers[:-1]]
        for shadow, inside in pairwise(self._shadows):
            shadow.env = inside
        for shadow in self._shadows:
            if isinstance(shadow, SCALERS):
                setattr(shadow, FROZEN, False)
        self._space = env.observation_space
        self._sticky = base.ale.getFloat("repeat_action_probability") > 0
        self._draws = isinstance(base._frameskip, tuple) or not all(isinstance(one, DETERMINISTIC) for one in self._shadows)
        self.stochastic = self._sticky or self._draws
        self.unseen = UNSEEN if self._sticky else ""
        self._seeded = False
        self._blind = self._emulator()
        # Exact replays use another emulator, so that the real game's random state never reaches a branch.
        self._telling = self._emulator() if self._sticky else self._blind

    def _emulator(self) -> Any:
        kind, arguments, named = self._made_with
        emulator = kind(*arguments, **named)
        emulator.reset()
        emulator.ale = Told(emulator.ale)
        return emulator

    def capture(self, env: Any) -> list[Game]:
        check_reset(env)
        layers = layers_of(env)
        base = layers[-1]
        if _made_with(base) != self._made_with:
            raise ValueError(
                f"This simulator was made for {self._made_with}, and {env} is {_made_with(base)}; make one for it."
            )
        generator = copy.deepcopy(base.np_random) if self._draws else None
        memory = [_copied(_memory(layer)) for layer in layers[:-1]]
        return [Game(base.clone_state(include_rng=True), generator, memory, True)]

    def restore(self, env: Any, states: list[Game]) -> None:
        game, layers = states[0], layers_of(env)
        base = layers[-1]
        base.restore_state(game.machine)
        if game.generator is not None:
            base.np_random = copy.deepcopy(game.generator)
        for layer, memory in zip(layers[:-1], game.memory, strict=True):
            _put(layer, _copied(memory))

    def size(self, states: list[Game]) -> int:
        return len(states)

    def join(self, parts: Sequence[list[Game]]) -> list[Game]:
        return [game for part in parts for game in part]

    def select(self, states: list[Game], index: Array) -> list[Game]:
        new, seen = [], set[int]()
        for i in map(int, index):
            game = self._branch(states[i])
            if i in seen and game.streams is not None:
                # Copies of one state would all draw the same random numbers; only the first keeps its stream.
                game.refresh()
            seen.add(i)
            new.append(game)
        return new

    def _branch(self, game: Game) -> Game:
        memory = [_copied(one) for one in game.memory]
        return replace(game, generator=copy.deepcopy(game.generator), memory=memory)

    def reseed(self, states: list[Game], seed: int) -> list[Game]:
        """The states without the emulator's random generator.

        The generator of the branches is seeded with ``seed`` the first time only and continues later, because seeding an
        emulator means loading the game again (70 ms).
        """
        sequence = np.random.SeedSequence(seed)
        new = self.select(states, np.arange(len(states)))
        for game, own in zip(new, sequence.spawn(len(new)), strict=True):
            if game.chance:
                self._telling.restore_state(game.machine)
                game.machine, game.chance = self._telling.clone_state(include_rng=False), False
            if self._draws:
                game.streams = own
                game.refresh()
        if self._sticky and not self._seeded:
            self._blind.reset(seed=int(sequence.generate_state(1)[0]))
            self._seeded = True
        return new

    def step(self, states: list[Game], actions: Array, live: Array) -> Outcome:
        for shadow in self._shadows:
            vars(shadow).update(emptied(shadow))
        results = [self._step(*row) for row in zip(states, actions, live, strict=True)]
        games, rewards, terminated, truncated = (list(column) for column in zip(*results, strict=True))
        seen = stacked([game.seen for game in games], np.empty(0))
        rows = np.array(rewards, np.float64), np.array(terminated, bool), np.array(truncated, bool)
        return Outcome(games, seen, *rows)

    def _step(self, game: Game, action: Any, live: bool) -> tuple[Game, float, bool, bool]:
        if not live:
            game.seen = create_zero_array(self._space) if game.seen is None else game.seen
            return game, 0.0, False, False
        emulator = self._telling if game.chance else self._blind
        emulator.restore_state(game.machine)
        # Where the emulator simply continues, it would repeat the right action already.
        elsewhere = emulator.ale.reached is not game.machine
        if self._sticky and elsewhere and game.last is not None and (game.chance or game.last != emulator.ale.last):
            for _ in range(REPEATS[game.chance]):
                emulator.ale.act(*game.last)
            emulator.restore_state(game.machine)
        if game.generator is not None:
            emulator.np_random = game.generator
        for shadow, memory in zip(self._shadows, game.memory, strict=True):
            _put(shadow, memory)
        if self._shadows:
            self._shadows[-1].env = emulator
        outermost = self._shadows[0] if self._shadows else emulator
        seen, reward, terminated, truncated, _ = outermost.step(action)
        machine = emulator.ale.reached = emulator.clone_state(include_rng=game.chance)
        memories = [_memory(shadow) for shadow in self._shadows]
        after = Game(machine, game.generator, memories, game.chance, game.streams, emulator.ale.last, seen)
        return after, float(reward), bool(terminated), bool(truncated)


def _check_apart(layers: list[Any]) -> None:
    """
    :raises NotSimulatableError: for a wrapper whose attributes refer to the real game
    """
    real = {id(layer) for layer in layers} | {id(layers[-1].ale)}
    for layer in layers[:-1]:
        for name, value in _memory(layer).items():
            memo: dict[int, Any] = {}
            try:
                copy.deepcopy(value, memo)
                held = bool(real & memo.keys()) or id(value) in real
                why = "holds on to the real game" if held else ""
            except Exception as error:
                why = f"cannot be copied ({type(error).__name__}: {error})"
            if why:
                raise NotSimulatableError(f"The wrapper {type(layer).__name__}", f"its attribute {name} {why}")


def _put(layer: Any, memory: dict[str, Any]) -> None:
    for name in _memory(layer).keys() - memory.keys():
        delattr(layer, name)
    vars(layer).update(memory)


def _memory(layer: Any) -> dict[str, Any]:
    """The attributes that may change in a step."""
    fixed = CONSTANT | kept(layer)
    return {name: value for name, value in vars(layer).items() if name not in fixed}


def _copied(memory: dict[str, Any]) -> dict[str, Any]:
    return {name: _copy(value) for name, value in memory.items()}


def _copy(value: Any) -> Any:
    """As :func:`copy.deepcopy`, faster for the contents of image wrappers."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.copy()
    if type(value) is list:
        return [_copy(one) for one in value]
    if type(value) is deque:
        return deque((_copy(one) for one in value), value.maxlen)
    return value if isinstance(value, spaces.Space) else copy.deepcopy(value)
