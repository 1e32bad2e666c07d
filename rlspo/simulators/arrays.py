"""Environments that can step any number of states as arrays.

Such an environment has a method ``array_form()``, which returns its rules as an :class:`ArrayForm`. States are dictionaries of
arrays with one row per state, and a step is a function of them. Rules in torch, and searches with them, run on any device.

Two environments share a simulator only if their forms have equal attributes or, for forms with an attribute ``settings``,
equal settings. A form that stores more than its rules, such as the environment, should have ``settings``.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch

from rlspo.simulators.alike import difference
from rlspo.simulators.base import Array, Core, Outcome, joined, where


class ArrayForm(Protocol):
    """The rules of an environment, for many states at once."""

    #: Device of the arrays; None for NumPy.
    device: torch.device | None
    #: Whether a step draws random numbers.
    stochastic: bool

    def capture(self, env: Any) -> dict[str, Array]:
        """The state(s) of an environment, or of all copies in a vectorised one, each array ``(n, ...)``."""

    def restore(self, env: Any, states: dict[str, Array]) -> None:
        """Put an environment into the state(s)."""

    def generator(self, env: Any) -> np.random.Generator | None:
        """The environment's random generator; None if it draws nothing."""

    def step(
        self, states: dict[str, Array], actions: Array, generator: np.random.Generator | None
    ) -> tuple[dict[str, Array], Any, Array, Array, Array]:
        """New states, observations, rewards, terminated and truncated; the arguments are not written to."""


def _rules(form: ArrayForm) -> Any:
    """What the steps of a form depend on, besides the states."""
    return getattr(form, "settings", None) or {"form": type(form), **vars(form)}


class ArrayStates:
    """States of an :class:`ArrayCore`.

    :param arrays: one row per state
    :param generator: used by their steps
    :param own: for states of several environments that were not stepped yet: the generator of each environment
    :param follows: whether ``generator`` is in the same state as the environment's would be
    """

    def __init__(
        self,
        arrays: dict[str, Array],
        generator: np.random.Generator | None,
        own: list[np.random.Generator | None] | None = None,
        follows: bool = True,
    ) -> None:
        self.arrays, self.generator, self.own, self.follows = arrays, generator, own, follows


class ArrayCore(Core):
    """Steps the states of an :class:`ArrayForm`.

    All states of a batch draw from one generator, row after row. So states of several stochastic environments that are stepped
    together do not predict their random numbers, and restoring one of them does not change the environment's generator.

    :param form: the rules
    :param env: the environment of the form; others are captured only if their rules are the same
    """

    def __init__(self, form: ArrayForm, env: Any = None) -> None:
        self.form = form
        self.device, self.stochastic = form.device, form.stochastic
        self._alike: weakref.WeakSet[Any] = weakref.WeakSet([] if env is None else [env])

    def unlike(self, env: Any) -> str:
        """Where the rules of an innermost environment differ from these; empty if they are the same.

        For an environment without ``array_form()`` the form itself must check this in ``capture``.
        """
        if env in self._alike:
            return ""
        where = ""
        if callable(getattr(env, "array_form", None)):
            form = env.array_form()
            if form.device != self.device:
                form = env.array_form(self.device)
            where = difference(_rules(self.form), _rules(form))
        if not where:
            self._alike.add(env)
        return where

    def capture(self, env: Any) -> ArrayStates:
        """
        :raises ValueError: for an environment with other rules
        """
        where = self.unlike(env)
        if where:
            raise ValueError(
                f"This simulator cannot capture {env}: its rules differ in {where}. Make one for it with simulator_for(env); "
                "if this is no matter of rules, give the array form an attribute settings with all that is."
            )
        return ArrayStates(self.form.capture(env), copy.deepcopy(self.form.generator(env)))

    def restore(self, env: Any, states: ArrayStates) -> None:
        self.form.restore(env, states.arrays)
        generator, saved = self.form.generator(env), states.generator
        if states.own is not None:
            saved = states.own[0]
        if generator is not None and saved is not None and states.follows:
            generator.bit_generator.state = saved.bit_generator.state

    def size(self, states: ArrayStates) -> int:
        return len(next(iter(states.arrays.values())))

    def join(self, parts: Sequence[ArrayStates]) -> ArrayStates:
        arrays = joined([part.arrays for part in parts])
        first, follows = copy.deepcopy(parts[0].generator), all(part.follows for part in parts)
        if len(parts) == 1 or first is None:
            return ArrayStates(arrays, first, parts[0].own if len(parts) == 1 else None, follows)
        own = [one for part in parts for one in part.own or [part.generator] * self.size(part)]
        return ArrayStates(arrays, first, own, follows)

    def select(self, states: ArrayStates, index: Array) -> ArrayStates:
        arrays = {name: array[index] for name, array in states.arrays.items()}
        if states.own is None:
            return ArrayStates(arrays, copy.deepcopy(states.generator), None, states.follows)
        own = [states.own[i] for i in index.tolist()]
        if all(one is own[0] for one in own):
            return ArrayStates(arrays, copy.deepcopy(own[0]), None, states.follows)
        return ArrayStates(arrays, copy.deepcopy(states.generator), own, states.follows)

    def reseed(self, states: ArrayStates, seed: int) -> ArrayStates:
        generator = np.random.default_rng(seed) if self.stochastic else None
        return ArrayStates(states.arrays, generator, follows=not self.stochastic)

    def step(self, states: ArrayStates, actions: Array, live: Array) -> Outcome:
        new, observations, rewards, terminated, truncated = self.form.step(states.arrays, actions, states.generator)
        follows = states.follows and states.own is None
        after = ArrayStates(where(live, new, states.arrays), states.generator, None, follows)
        return Outcome(after, observations, rewards, terminated, truncated)
