"""The frozen lake and the admission queue in array form, for planning (:class:`rlspo.simulators.arrays.ArrayForm`).

Random numbers are drawn in the environments' order: from the same state and generator, a form with one state and its
environment give the same results.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from rlspo.envs.arguments import discrete_actions
from rlspo.envs.frozen_lake_model import N_ACTIONS, Lake

Array = np.ndarray
LAKE_ACTIONS = "left, down, right, up"
QUEUE_ACTIONS = "0 to reject, 1 to accept"


def cumulative(probabilities: Array) -> Array:
    """Cumulative probabilities along the last axis, as in ``Generator.choice``."""
    sums = np.cumsum(probabilities, axis=-1)
    return sums / sums[..., -1:]


def chosen(generator: np.random.Generator, sums: Array, n: int) -> Array:
    """Draw ``n`` numbers, ``(n,)``, one double each, as ``Generator.choice(..., p=...)`` draws one.

    :param sums: of :func:`cumulative`, ``(k,)`` or ``(n, k)``
    """
    return (sums <= generator.random(n)[:, None]).sum(axis=1)


class LakeForm:
    """The rules of a frozen lake for any number of states: ``cell``.

    :param lake: the map and its ice
    """

    device = None
    stochastic = True

    def __init__(self, lake: Lake) -> None:
        self._actions = spaces.Discrete(N_ACTIONS)
        shape = (lake.n_cells, N_ACTIONS, 1 + N_ACTIONS)
        chances, self._rewards = np.zeros(shape), np.zeros(shape)
        self._cells, self._over = np.zeros(shape, np.int64), np.zeros(shape, bool)
        for cell in range(lake.n_cells):
            for action in range(N_ACTIONS):
                _, decided, outcomes = lake.transitions(cell, action)
                for k, (chance, after, earned, over) in enumerate(outcomes):
                    chances[cell, action, k] = chance
                    self._cells[cell, action, k], self._over[cell, action, k] = after, over
                    self._rewards[cell, action, k] = decided + earned
        self._sums = cumulative(chances)

    def capture(self, env: Any) -> dict[str, Array]:
        """The cell."""
        return {"cell": np.array([env.unwrapped.cell])}

    def restore(self, env: Any, states: dict[str, Array]) -> None:
        """Put the environment into a cell; the return so far, of which only pictures tell, begins at 0."""
        env.unwrapped.put(int(states["cell"][0]))

    def generator(self, env: Any) -> np.random.Generator:
        """The generator of slips."""
        return env.unwrapped.np_random

    def step(
        self, states: dict[str, Array], actions: Array, generator: np.random.Generator | None
    ) -> tuple[dict[str, Array], Array, Array, Array, Array]:
        """New states, observations, rewards, terminated and truncated.

        :raises ValueError: for an invalid action, and without a generator
        """
        cells = states["cell"]
        n = len(cells)
        where = (cells, discrete_actions(actions, n, self._actions, LAKE_ACTIONS))
        outcome = (*where, chosen(needed(generator), self._sums[where], n))
        after = self._cells[outcome]
        return {"cell": after}, after, self._rewards[outcome], self._over[outcome], np.zeros(n, bool)


class QueueForm:
    """The rules of admission control for any number of states: customers ``in_system``, and the class at the ``door``.

    :param env: :class:`~rlspo.envs.admission_control.AdmissionControlEnv`
    """

    device = None
    stochastic = True

    def __init__(self, env: Any) -> None:
        self._env = env

    @property
    def settings(self) -> dict[str, Any]:
        """The rules, as they are now: attributes of the environment may be changed."""
        names = ("action_space", "capacity", "servers", "rewards", "service_probability", "holding_cost", "arrivals")
        return {name: getattr(self._env, name) for name in names}

    def capture(self, env: Any) -> dict[str, Array]:
        """Customers and door."""
        in_system, door = env.unwrapped.queue
        return {"in_system": np.array([in_system]), "door": np.array([door])}

    def restore(self, env: Any, states: dict[str, Array]) -> None:
        """Put the environment into a state; the sums so far, which only pictures show, start at 0."""
        env.unwrapped.put(int(states["in_system"][0]), int(states["door"][0]))

    def generator(self, env: Any) -> np.random.Generator:
        """The generator of services and arrivals."""
        return env.unwrapped.np_random

    def step(
        self, states: dict[str, Array], actions: Array, generator: np.random.Generator | None
    ) -> tuple[dict[str, Array], Array, Array, Array, Array]:
        """New states, observations, rewards, terminated and truncated.

        :raises ValueError: for an invalid action, and without a generator
        """
        in_system, door = states["in_system"], states["door"]
        n, generator = len(in_system), needed(generator)
        env = self._env
        accepted = discrete_actions(actions, n, env.action_space, QUEUE_ACTIONS) == 1
        enters = accepted & (door > 0) & (in_system < env.capacity)
        post = in_system + enters
        left = post - generator.binomial(np.minimum(post, env.servers), env.service_probability)
        rewards = env.rewards[door] * enters - env.holding_cost * left
        arrived = chosen(generator, cumulative(env.arrivals), n)
        never = np.zeros(n, bool)
        return {"in_system": left, "door": arrived}, np.stack([left, arrived], axis=1), rewards, never, never.copy()


def needed(generator: np.random.Generator | None) -> np.random.Generator:
    """Check that there is a generator.

    :raises ValueError: if there is none
    """
    if generator is None:
        raise ValueError("the environment is random: step needs a generator to draw from.")
    return generator
