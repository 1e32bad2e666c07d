"""Lot sizing in array form, for planning (:class:`rlspo.simulators.arrays.ArrayForm`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlspo.envs.lot_sizing.copies import Copies, one_period
from rlspo.envs.lot_sizing.stream import DemandStream

Array = np.ndarray


class PlantForm:
    """The rules of a plant for any number of states: ``inventory``, ``setups`` and ``elapsed``.

    With the environment's own :class:`~rlspo.envs.lot_sizing.stream.DemandStream` a step uses the demand that the environment
    will use, drawn ahead or given by ``reset``. With any other generator it draws new demand.

    :param copies: the plant copies of the environment
    :param observe_time: whether the end of the horizon terminates; else it truncates
    """

    device = None
    stochastic = True

    def __init__(self, copies: Copies, observe_time: bool) -> None:
        self.plant, self.view, self.instance = copies.plant, copies.view, copies.instance
        self.observe_time = observe_time

    def capture(self, env: Any) -> dict[str, Array]:
        """The states of a scalar or vectorised environment."""
        copies = env.unwrapped.copies()
        return {name: getattr(copies, name).copy() for name in ("inventory", "setups", "elapsed")}

    def restore(self, env: Any, states: dict[str, Array]) -> None:
        """Put an environment into the states; the costs so far, which only pictures show, start at 0."""
        env.unwrapped.put(**{name: array.copy() for name, array in states.items()})

    def generator(self, env: Any) -> DemandStream:
        """The source of demand, which also has the generator of initial states."""
        return env.unwrapped.copies().stream

    def step(
        self, states: dict[str, Array], actions: Array, generator: np.random.Generator | DemandStream | None
    ) -> tuple[dict[str, Array], Array, Array, Array, Array]:
        """New states, observations, rewards, terminated and truncated.

        :raises ValueError: for an invalid action, and without a generator
        """
        n = len(states["elapsed"])
        if generator is None:
            raise ValueError("demand is random: step needs a generator to draw it from.")
        if isinstance(generator, DemandStream):
            demand = generator(states["elapsed"])
        else:
            demand = self.instance.demand.sample(generator, n)
        period, new = one_period(self.plant, self.view, states, self.plant.checked(actions, (n,)), demand)
        never = np.zeros(n, bool)
        terminated, truncated = (period.over, never) if self.observe_time else (never, period.over)
        rewards = -(period.setup_cost + period.lost_sales_cost + period.holding_cost)
        return new, period.observation, rewards, terminated, truncated
