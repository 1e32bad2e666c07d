"""Check that simulated steps equal the environment's: for your own environments and wrappers."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from rlspo.common.trees import tree_leaves, tree_map
from rlspo.simulators.arrays import ArrayCore
from rlspo.simulators.base import Outcome, Simulator, States
from rlspo.simulators.choosing import simulator_for
from rlspo.simulators.rows import numpy_of

#: Steps between two captures.
STRETCH = 8
#: Branches with random actions, for each root.
WILD = 3
#: Relative tolerance of one step: float32 arithmetic on another device.
ONE_STEP = 1e-6


class Trace:
    """Results of a sequence of steps: observations, rewards, terminated, truncated alone; and which rows were not over."""

    def __init__(self) -> None:
        self.steps: list[tuple[Any, ...]] = []
        self.lived: list[np.ndarray] = []


def check_simulator(env: Any, steps: int = 50, seed: int = 0, tolerance: float = 1e-5) -> list[str]:
    """Check that simulated steps equal the environment's. The environment is reset and stepped with random actions.

    - Replay: from a captured state, the same actions give the environment's observations, rewards and ends.
    - Branches are independent: steps of one do not change others, even of the same state.
    - The environment is not changed by all this and continues as it would have.
    - :meth:`~rlspo.simulators.Simulator.restore` restores it, so that the same steps follow again.
    - After :meth:`~rlspo.simulators.Simulator.reseed`, branches of a stochastic environment do not use the random numbers that
      the environment itself will draw.

    Running statistics of ``VecNormalize`` and gymnasium's normalising wrappers are frozen during the check.

    :param env: an environment that :func:`~rlspo.simulators.simulator_for` accepts
    :param steps: of the environment to compare
    :param seed: of the reset and the actions
    :param tolerance: relative, for steps after the first from a captured state; the first must agree to 1e-6
    :return: what could not be checked, in words; empty if everything was checked
    :raises NotSimulatableError: if there is no simulator for it
    :raises ValueError: naming what differs, where and by how much

    >>> check_simulator(gym.make("MountainCar-v0"), steps=20)
    ['Chance: random numbers may be drawn, but no step of this check showed any.']
    """
    simulator = simulator_for(env)
    real = _Real(env, seed)
    notes: list[str] = []
    replays = not (isinstance(simulator.core, ArrayCore) and simulator.stochastic and real.n > 1)
    exact = not simulator.core.unseen
    if not exact:
        notes.append(f"Replay, independence, restore(): {simulator.core.unseen}.")
    elif not replays:
        notes.append("Replay: several environments share one stream of random numbers when they are simulated as arrays.")
    followed, spread = np.zeros(WILD, int), 0
    with _still(env):
        real.reset()
        for start in range(0, steps, STRETCH):
            plan = [real.sample(real.n) for _ in range(min(STRETCH, steps - start))]
            found = _stretch(simulator, real, plan, start, tolerance if exact else np.inf, replays)
            spread += found is not None
            followed += found if found is not None else 0
            real.renew()
    if simulator.stochastic:
        if not spread:
            notes.append("Chance: random numbers may be drawn, but no step of this check showed any.")
        elif spread > 2 and (followed == spread).any():
            raise ValueError(
                f"After reseed() branch {int(followed.argmax())} drew what the environment itself drew in all {spread} "
                "stretches where chance mattered, so that a search would foresee. Let reseed() give each state its own stream."
            )
    return notes


def _stretch(
    simulator: Simulator, real: _Real, plan: list[np.ndarray], start: int, tolerance: float, replays: bool
) -> np.ndarray | None:
    """Compare along ``plan``. Returns which reseeded branches equal the environment, None where all branches are equal."""
    captured = simulator.capture(real.env)
    first, held = (simulator.select(captured, np.arange(real.n)) for _ in range(2))
    ended = numpy_of(captured.ended)
    expected = real.run(plan, ended)
    if replays:
        _compare(expected, _branch(simulator, first, plan), start, tolerance, "replayed from a captured state, differs")
    simulator.restore(real.env, captured)
    _compare(expected, real.run(plan, ended), start, tolerance, "after restore(), differs from the first time")
    simulator.restore(real.env, captured)
    wild = simulator.replicate(captured, WILD)
    _branch(simulator, wild, [real.sample(real.n * WILD) for _ in plan])
    chance = simulator.reseed(simulator.replicate(captured, WILD), start) if simulator.stochastic else None
    trace = _branch(simulator, chance, [np.repeat(actions, WILD, 0) for actions in plan]) if chance is not None else None
    message = "changed although only branches were stepped: the real environment takes part in them"
    _compare(expected, real.run(plan, ended), start, tolerance, message)
    if replays:
        message = "of a branch changed when others of the same state were stepped"
        _compare(expected, _branch(simulator, held, plan), start, tolerance, message)
    return None if trace is None else _followers(expected, trace)


def _branch(simulator: Simulator, states: States, plan: list[np.ndarray]) -> Trace:
    trace = Trace()
    for actions in plan:
        trace.lived.append(~numpy_of(states.ended))
        outcome: Outcome = simulator.step(states, actions)
        states = outcome.states
        seen, rewards, terminated, truncated = (numpy_of(part) for part in outcome[1:])
        trace.steps.append((seen, rewards, terminated, truncated & ~terminated))
    return trace


def _followers(expected: Trace, trace: Trace) -> np.ndarray | None:
    """Which branches of the first environment equal it, ``(WILD,)``; None where all are equal."""
    same = np.ones((WILD, WILD + 1), bool)
    for (seen, rewards, *_), (branch, own, *_), lived in zip(expected.steps, trace.steps, expected.lived, strict=True):
        if not lived[0]:
            break
        for truth, found in [*zip(tree_leaves(seen), _in_order(branch, seen), strict=True), (rewards, own)]:
            rows = [*found[:WILD], truth[0]]
            same &= np.array([[np.allclose(row, other) for other in rows] for row in rows[:WILD]])
    return None if same[:, :WILD].all() else same[:, WILD].astype(int)


def _in_order(tree: Any, like: Any) -> list[Any]:
    """Leaves in the order of another tree's keys."""
    return [tree[key] for key in like] if isinstance(like, dict) else [tree]


def _compare(expected: Trace, found: Trace, start: int, tolerance: float, what: str) -> None:
    """
    :raises ValueError: at the first difference in a row whose episode is not over
    """
    if tolerance == np.inf:
        return
    for depth, (truth, other, lived) in enumerate(zip(expected.steps, found.steps, expected.lived, strict=True)):
        allowed = ONE_STEP if depth == 0 else tolerance
        for name, one, two in zip(("observation", "reward", "terminated", "truncated"), truth, other, strict=True):
            for key in one if isinstance(one, dict) else [""]:
                values, others = (one[key], two[key]) if isinstance(one, dict) else (one, two)
                for row in np.flatnonzero(lived):
                    if not _close(values[row], others[row], allowed):
                        raise ValueError(
                            f"The {f'{name} {key}'.rstrip()} of environment {row} at step {start + depth + 1}, {depth + 1} "
                            f"step(s) after the capture, {what}: {_shown(values[row], others[row])} (allowed: {allowed:g} "
                            "relative). Something that it remembers is not part of the captured state, or is shared between "
                            "copies."
                        )


def _close(value: np.ndarray, other: np.ndarray, allowed: float) -> bool:
    return value.shape == other.shape and np.allclose(value, other, rtol=allowed, atol=allowed, equal_nan=True)


def _shown(value: np.ndarray, other: np.ndarray) -> str:
    if value.shape != other.shape:
        return f"shape {value.shape} in the environment, {other.shape} here"
    if value.size > 8:
        gap = np.abs(value.astype(np.float64) - other.astype(np.float64))
        return f"{int((gap > 0).sum())} of {value.size} numbers differ, by up to {gap.max():g}"
    return f"{value} in the environment, {other} here"


class _Real:
    """The environment itself, with one interface for all kinds: one row, or ``num_envs`` rows."""

    def __init__(self, env: Any, seed: int) -> None:
        self.env, self.single = env, isinstance(env, gym.Env)
        self.n = 1 if self.single else env.num_envs
        # Sampling from the environment's own space would change the environment.
        self._space = copy.deepcopy(getattr(env, "single_action_space", env.action_space))
        self._space.seed(seed)
        self._seed = seed
        self._over = np.zeros(self.n, bool)

    def sample(self, n: int) -> np.ndarray:
        return np.stack([np.asarray(self._space.sample()) for _ in range(n)])

    def reset(self) -> None:
        if self.single or isinstance(self.env, VectorEnv):
            self.env.reset(seed=self._seed)
        else:
            self.env.seed(self._seed)
            self.env.reset()

    def renew(self) -> None:
        """Reset where an episode is over and the environment does not reset by itself."""
        if self._over.any() and (self.single or isinstance(self.env, VectorEnv)):
            self.env.reset()

    def run(self, plan: list[np.ndarray], ended: np.ndarray) -> Trace:
        """Take actions until all episodes have ended, or until one has if the environment resets by itself."""
        trace, over = Trace(), ended.copy()
        stops = np.any if isinstance(self.env, VectorEnv) else np.all
        for actions in plan:
            stopped = bool(trace.steps) and bool(stops(over))
            trace.lived.append(~over & (not stopped))
            if stopped:
                trace.steps.append(trace.steps[-1])
                continue
            step = self._step(actions)
            trace.steps.append(step)
            over = over | step[2] | step[3]
        self._over = over
        return trace

    def _step(self, actions: np.ndarray) -> tuple[Any, ...]:
        seen: Any
        if self.single:
            seen, reward, terminated, truncated, _ = self.env.step(actions[0])
            row = tree_map(lambda leaf: np.asarray(leaf)[None].copy(), seen)
            return row, np.array([float(reward)]), np.array([terminated]), np.array([truncated and not terminated])
        if isinstance(self.env, VectorEnv):
            seen, rewards, terminated, truncated, info = self.env.step(actions)
            over = terminated | truncated
            seen = _with_last(seen, over, info.get("final_obs", {row: _row(seen, int(row)) for row in np.flatnonzero(over)}))
            return seen, np.array(rewards), np.array(terminated), truncated & ~terminated
        seen, rewards, dones, infos = self.env.step(actions)
        seen = _with_last(seen, dones, {row: infos[row]["terminal_observation"] for row in np.flatnonzero(dones)})
        cut = np.array([info.get("TimeLimit.truncated", False) for info in infos])
        return seen, np.array(rewards), dones & ~cut, dones & cut


def _row(tree: Any, row: int) -> Any:
    return tree_map(lambda leaf: leaf[row], tree)


def _with_last(observations: Any, over: np.ndarray, last: Any) -> Any:
    """Observations with the last one of the episode instead of the first one of the next, where ``over``."""
    observations = tree_map(np.array, observations)
    for row in np.flatnonzero(over):
        tree_map(lambda leaf, end, row=row: leaf.__setitem__(row, end), observations, last[row])
    return observations


@contextmanager
def _still(env: Any) -> Iterator[None]:
    """Freeze running statistics, in a vectorised environment's wrappers and in each environment's."""
    flags = [
        (layer, name) for layer in _everything(env) for name in ("training", "_update_running_mean") if name in vars(layer)
    ]
    before = [getattr(layer, name) for layer, name in flags]
    for layer, name in flags:
        setattr(layer, name, False)
    try:
        yield
    finally:
        for (layer, name), value in zip(flags, before, strict=True):
            setattr(layer, name, value)


def _everything(env: Any) -> Iterator[Any]:
    yield env
    for inside in [vars(env).get("env"), vars(env).get("venv"), *(vars(env).get("envs") or [])]:
        if isinstance(inside, gym.Env | VectorEnv) or hasattr(inside, "num_envs"):
            yield from _everything(inside)
