"""The simulator core for MuJoCo environments."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from functools import cached_property
from types import SimpleNamespace
from typing import Any, NamedTuple

import mujoco
import numpy as np

from rlspo.simulators.base import Array, Core, Outcome
from rlspo.simulators.mujoco.physics import INTEGRATION, component, physics_for
from rlspo.simulators.mujoco.task import Constants, Task
from rlspo.simulators.mujoco.tasks import task_for

#: Options (of MuJoCo 3.4 and later) under which a row is not the whole state.
OUTSIDE = sum(int(getattr(mujoco.mjtEnableBit, f"mjENBL_{name}", 0)) for name in ("SLEEP", "IPC"))


def settings(env: Any) -> dict[str, str]:
    """The arguments of a task, as text, without those of rendering."""
    given = {name.strip("_"): repr(value) for name, value in vars(env).items() if name.startswith("_")}
    return {
        "frame_skip": repr(env.frame_skip),
        **{name: text for name, text in given.items() if not name.startswith(("np_random", "ezpickle"))},
    }


class Origin(NamedTuple):
    """The environment that a state was captured from.

    :param model: the environment's own, not a copy
    :param random: the state of its generator, which only resets use; None where it had none yet
    """

    model: Any
    random: dict[str, Any] | None


class MujocoStates:
    """``n`` states of a MuJoCo environment.

    :param rows: ``mjSTATE_INTEGRATION``, ``(n, row size)``
    :param lagging: arrays that the task's reward reads before a step, ``(n, ...)`` each; in MuJoCo they lag one substep
        behind, so they do not follow from the row
    :param origins: the environments that the states were captured from
    :param origin: index into ``origins`` of each state, ``(n,)``
    """

    def __init__(
        self, rows: np.ndarray, lagging: dict[str, np.ndarray], origins: Sequence[Origin], origin: np.ndarray
    ) -> None:
        self.rows, self.lagging, self.origins, self.origin = rows, lagging, origins, origin

    @cached_property
    def models(self) -> list[Any]:
        """One if all states have the same, else one for each."""
        models = [origin.model for origin in self.origins]
        return models[:1] if all(model is models[0] for model in models) else [models[index] for index in self.origin.tolist()]


class MujocoCore(Core):
    """Steps gymnasium's MuJoCo tasks of version 5 exactly, with all their arguments.

    Observations, rewards and ends are those of ``env.step`` at any depth of a branch, observations to the last bit. A state
    includes the solver's warm start, without which branches would drift away from the environment.

    The physical model is shared with the environment. So if gravity or masses change (by a wrapper, at a reset), they change
    for states captured earlier too, unless the wrapper's layer uses its own models. States of several environments each keep
    the model of their own environment.

    :param env: a MuJoCo environment of gymnasium, wrapped or not
    :param threads: largest number; None: the number of cores. Small batches use fewer
    :param whole_info: :meth:`step_with_terms` gives all that the environment's info holds
    :raises TypeError: for an environment whose rules are not known
    """

    def __init__(self, env: Any, threads: int | None = None, whole_info: bool = False) -> None:
        self.env = env.unwrapped
        self.task: Task = task_for(self.env)
        self.whole_info = whole_info
        fields = (*self.task.after, *self.task.before, *(self.task.shown if whole_info else ()))
        self.physics = physics_for((*dict.fromkeys(fields),), threads)
        model = self.env.model
        self._parts = {name.lower(): component(model, name) for name in ("QPOS", "QVEL", "CTRL")}
        self._row_size = mujoco.mj_stateSize(model, INTEGRATION)
        self._constants = Constants([], self.env.frame_skip)
        self._alike: weakref.WeakSet[Any] = weakref.WeakSet([self.env])

    def capture(self, env: Any) -> MujocoStates:
        """The state of ``env``.

        :raises ValueError: for an environment whose rules or arguments differ from the core's, and for models with sleep or
            IPC
        """
        inner, data = env.unwrapped, env.unwrapped.data
        if inner not in self._alike:
            self._check_alike(inner)
        if inner.model.opt.enableflags & OUTSIDE:
            raise ValueError("Models with sleep or IPC enabled cannot be simulated: MuJoCo does not give all of their state.")
        row = np.empty(self._row_size)
        mujoco.mj_getState(inner.model, data, row, INTEGRATION)
        lagging = {name: getattr(data, name)[None].copy() for name in self.task.before}
        generator = inner._np_random
        origin = Origin(inner.model, None if generator is None else generator.bit_generator.state)
        return MujocoStates(row[None], lagging, [origin], np.zeros(1, int))

    def _check_alike(self, inner: Any) -> None:
        """Check that ``inner`` has the rules and arguments of this core."""
        if type(inner) is not type(self.env) or mujoco.mj_stateSize(inner.model, INTEGRATION) != self._row_size:
            raise ValueError(f"This simulator was made for {self.env} and cannot capture {inner}; make one for it.")
        here, there = settings(self.env), settings(inner)
        other = [name for name in here if here[name] != there.get(name)]
        if other:
            differences = ", ".join(f"{name} = {there.get(name)} instead of {here[name]}" for name in other)
            raise ValueError(f"This simulator cannot capture an environment with {differences}; make one for it.")
        self._alike.add(inner)

    def restore(self, env: Any, states: MujocoStates) -> None:
        """Put ``env`` into a state; it continues exactly as it would have from there.

        Derived data that no step reads (such as contacts for rendering) is computed anew. It may differ from the earlier data
        by the lag of a substep.
        """
        inner = env.unwrapped
        self.show(inner, states, 0)
        random = states.origins[states.origin[0]].random
        if random is None:
            inner._np_random = None
        else:
            if inner._np_random is None:
                inner._np_random = np.random.Generator(getattr(np.random, random["bit_generator"])())
            inner._np_random.bit_generator.state = random

    def show(self, inner: Any, states: MujocoStates, index: int) -> None:
        """Put the physics of ``inner`` into one of the states; its generator is left alone."""
        model, data = inner.model, inner.data
        mujoco.mj_setState(model, data, states.rows[index], INTEGRATION)
        mujoco.mj_forward(model, data)
        mujoco.mj_rnePostConstraint(model, data)
        for name, array in states.lagging.items():
            getattr(data, name)[:] = array[index]

    def size(self, states: MujocoStates) -> int:
        return len(states.rows)

    def join(self, parts: Sequence[MujocoStates]) -> MujocoStates:
        starts = np.cumsum([0, *(len(part.origins) for part in parts)])
        return MujocoStates(
            np.concatenate([part.rows for part in parts]),
            {name: np.concatenate([part.lagging[name] for part in parts]) for name in self.task.before},
            [origin for part in parts for origin in part.origins],
            np.concatenate([part.origin + start for part, start in zip(parts, starts, strict=False)]),
        )

    def select(self, states: MujocoStates, index: Array) -> MujocoStates:
        lagging = {name: array[index] for name, array in states.lagging.items()}
        return MujocoStates(states.rows[index], lagging, states.origins, states.origin[index])

    def reseed(self, states: MujocoStates, seed: int) -> MujocoStates:
        """A copy: no step draws random numbers."""
        return self.select(states, np.arange(len(states.rows)))

    def step(self, states: MujocoStates, actions: Array, live: Array) -> Outcome:
        return self.step_with_terms(states, actions, live)[0]

    def step_with_terms(self, states: MujocoStates, actions: Array, live: Array) -> tuple[Outcome, dict[str, np.ndarray]]:
        """:meth:`step`, and the terms of the rewards, ``(n,)`` each, under their names in the environment's info; with
        ``whole_info`` the rest of the info too."""
        actions, live = np.asarray(actions), np.asarray(live, bool)
        n, n_controls = len(states.rows), self._parts["ctrl"].stop - self._parts["ctrl"].start
        if actions.shape != (n, n_controls):
            raise ValueError(f"actions have shape {actions.shape}; {n} states take ({n}, {n_controls}).")
        if live.all():
            return self._step(states, actions)
        shape = self.env.observation_space.shape
        if not live.any():
            none = np.zeros(n)
            return Outcome(states, np.zeros((n, *shape)), none, none.astype(bool), none.astype(bool)), {}
        index = np.flatnonzero(live)
        (new, *results), terms = self._step(self.select(states, index), actions[index])
        states.rows[index] = new.rows
        for name, array in states.lagging.items():
            array[index] = new.lagging[name]

        def spread(values: np.ndarray) -> np.ndarray:
            everywhere = np.zeros((n, *values.shape[1:]), values.dtype)
            everywhere[index] = values
            return everywhere

        return Outcome(states, *map(spread, results)), {name: spread(values) for name, values in terms.items()}

    def _step(self, states: MujocoStates, actions: np.ndarray) -> tuple[Outcome, dict[str, np.ndarray]]:
        """One step of states that are all to be stepped."""
        states.rows[:, self._parts["ctrl"]] = actions
        models, frame_skip = states.models, self.env.frame_skip
        if models is not self._constants.models or frame_skip != self._constants.frame_skip:
            self._constants = Constants(models, frame_skip)
        rows, derived = self.physics.step(states.rows, models, frame_skip)
        now = self._frame(rows, derived)
        observations = self.task.observe(now)
        then, model = self._frame(states.rows, states.lagging), self._constants
        score = self.task.score(then, now, actions, model)
        terms = {**self.task.facts(then, now, model), **score.terms} if self.whole_info else score.terms
        new = MujocoStates(rows, {name: derived[name] for name in self.task.before}, states.origins, states.origin)
        new.models = models
        truncated = np.zeros(len(rows), bool)
        return Outcome(new, observations, score.rewards.astype(np.float64), score.terminated, truncated), terms

    def _frame(self, rows: np.ndarray, derived: dict[str, np.ndarray]) -> SimpleNamespace:
        return SimpleNamespace(**{name: rows[:, part] for name, part in self._parts.items()}, **derived)
