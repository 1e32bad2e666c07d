"""The plant: the two halves of a period, produce and sell, for any number of copies at once.

Order of events (arXiv 2504.05150, released code): each machine that is not idle starts its item, at a cost and with a loss of
production if it made another one before, and produces; *this is the post-decision state*; then demand is met from stock, unmet
demand is lost at a cost, stock above the cap is lost for free, and the remaining stock has holding costs.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from rlspo.envs.lot_sizing.instance import Instance

Array = np.ndarray


class Produced(NamedTuple):
    """The post-decision state.

    :param inventory: before demand; may exceed the cap, or be negative after a loss of production, ``(B, n_items)``
    :param setups: item of each machine, 0 for idle, ``(B, n_machines)``
    :param setup_cost: of the decision, ``(B,)``; r^x is minus this
    """

    inventory: Array
    setups: Array
    setup_cost: Array


class Sold(NamedTuple):
    """The state at the end of the period.

    :param inventory: ``(B, n_items)``, between 0 and the cap
    :param lost_sales_cost: ``(B,)``
    :param holding_cost: ``(B,)``; r^w is minus the sum of the two
    """

    inventory: Array
    lost_sales_cost: Array
    holding_cost: Array


class Plant:
    """The dynamics of an instance, as pure functions of arrays.

    :param instance: of the plant
    """

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.n_actions = instance.n_items + 1
        # With a first column for idle (0), so that an action is a column index.
        self._production, self._cost, self._loss = (
            np.pad(matrix, ((0, 0), (1, 0))).ravel()
            for matrix in (instance.machine_production, instance.setup_costs, instance.setup_loss)
        )
        self._row = np.arange(instance.n_machines) * self.n_actions
        can = [np.flatnonzero(row) + 1 for row in instance.makeable]
        self._n_makeable = np.array([len(items) for items in can])
        self._makeable = np.array([np.resize(items, max(self._n_makeable)) for items in can])
        self._machines = np.arange(instance.n_machines)

    def checked(self, actions: Array, copies: tuple[int, ...]) -> Array:
        """``actions``, ``(*copies, n_machines)``, as int64.

        :raises ValueError: for an invalid action
        """
        given = np.asarray(actions)
        expected, most = (*copies, self.instance.n_machines), self.n_actions - 1
        means = f"whole numbers of shape {expected}, one for each machine: 0 for idle, or an item from 1 to {most}"
        if given.shape != expected or given.dtype.kind not in "iu":
            raise ValueError(f"actions are {given.dtype} of shape {given.shape}; they must be {means}.")
        if given.min() < 0 or given.max() > most:
            wrong = given[(given < 0) | (given > most)]
            raise ValueError(f"{wrong[0]} is among the actions; they must be {means}.")
        return given.astype(np.int64, copy=False)

    def action_masks(self) -> Array:
        """Which actions have an effect, ``(n_machines * (n_items + 1),)``: idle, and items that the machine can make."""
        idle = np.ones((self.instance.n_machines, 1), bool)
        return np.hstack([idle, self.instance.makeable]).ravel()

    def initial(self, generator: np.random.Generator, copies: int) -> tuple[Array, Array]:
        """Draw initial states: stock uniform on 0 to cap - 1, each machine set up for an item that it can make.

        :return: inventory ``(copies, n_items)`` and setups ``(copies, n_machines)``
        """
        cap = self.instance.max_inventory_level
        inventory = np.floor(generator.random((copies, self.instance.n_items)) * cap)
        which = (generator.random((copies, self.instance.n_machines)) * self._n_makeable).astype(np.int64)
        return inventory, self._makeable[self._machines, which]

    def produce(self, inventory: Array, setups: Array, actions: Array) -> Produced:
        """From the state and the decision to the post-decision state.

        :param inventory: ``(B, n_items)``
        :param setups: ``(B, n_machines)``
        :param actions: item of each machine, 0 for idle, ``(B, n_machines)``, integers
        """
        where = actions + self._row
        change = (actions != setups) & (actions != 0)
        made = self._production.take(where) - self._loss.take(where) * change
        cost = (self._cost.take(where) * change).sum(axis=1)
        copies = len(actions)
        numbered = actions + _first_actions(copies, self.n_actions)
        by_item = np.bincount(numbered.ravel(), made.ravel(), copies * self.n_actions)
        return Produced(inventory + by_item.reshape(copies, -1)[:, 1:], actions, cost)

    def sell(self, inventory: Array, demand: Array) -> Sold:
        """From the post-decision inventory and the demand to the end of the period, both ``(B, n_items)``."""
        left = inventory - demand
        kept = np.minimum(np.maximum(left, 0.0), self.instance.max_inventory_level)
        lost = np.maximum(-left, 0.0) @ self.instance.lost_sales_costs
        return Sold(kept, lost, kept @ self.instance.holding_costs)


@functools.lru_cache(maxsize=64)
def _first_actions(copies: int, n_actions: int) -> Array:
    """The number of each copy's first action where the actions of all copies are numbered in a row, ``(copies, 1)``."""
    return np.arange(copies)[:, None] * n_actions
