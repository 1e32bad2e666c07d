"""The (s, S) rule for machines that share items."""

from __future__ import annotations

from itertools import product

import numpy as np

from rlspo.envs.lot_sizing.instance import Instance
from rlspo.envs.lot_sizing.rules.evaluate import evaluate_rule

Array = np.ndarray
#: The grid of the search: s in periods of mean demand, and S as a fraction of the cap.
REORDER_PERIODS = (0.5, 1.0, 2.0, 3.0, 5.0)
UP_TO = (0.2, 0.4, 0.6, 0.8, 1.0)


class ReorderPoint:
    """An item whose stock is below s gets a machine, which makes it until stock reaches S.

    Items are served in the order of the sales that they are about to lose. Free machines are those that are idle or whose item
    has reached S. Among free machines that can make it, an item takes the one with the lowest setup cost minus the lost sales
    that the first period's production saves. It gets none if even filling up to S would save less than the setup cost.

    :param instance: of the plant
    :param reorder_periods: s, in periods of mean demand; higher to lose fewer sales
    :param up_to: S as a fraction of the cap, at most 1; higher for fewer setups and more holding. S is never below s
    :param stay: a free machine that no item needs continues with its item and keeps its setup; False: it is idle
    """

    def __init__(self, instance: Instance, reorder_periods: float = 2.0, up_to: float = 0.8, stay: bool = True) -> None:
        self.instance = instance
        self.reorder_periods, self.up_to, self.stay = reorder_periods, up_to, stay
        mean, cap = instance.demand.mean, instance.max_inventory_level
        self._s = np.minimum(reorder_periods * mean, cap)
        self._S = np.maximum(up_to * cap, self._s)
        self._first = np.maximum(instance.machine_production - instance.setup_loss, 0)
        self._machines = np.arange(instance.n_machines)

    @classmethod
    def searched(cls, instance: Instance, seed: int = 0, n_episodes: int = 10) -> ReorderPoint:
        """The best of :data:`REORDER_PERIODS` times :data:`UP_TO` times staying or not, on simulated demand.

        :param instance: of the plant
        :param seed: of the demand; use another one than for evaluating the rule
        :param n_episodes: for each candidate; all candidates get the same episodes
        """
        candidates = [cls(instance, s, up_to, stay) for s, up_to, stay in product(REORDER_PERIODS, UP_TO, (True, False))]
        return max(candidates, key=lambda rule: float(evaluate_rule(rule, instance, n_episodes, seed).mean()))

    def __call__(self, inventory: Array, setups: Array, elapsed: int) -> Array:
        """The item of each machine, 0 for idle, ``(n_machines,)``."""
        actions = np.array(setups)
        item = np.maximum(setups - 1, 0)
        busy = (setups > 0) & (inventory[item] < self._S[item]) & self.instance.makeable[self._machines, item]
        free = ~busy
        short = self._s - inventory
        short[setups[busy] - 1] = 0.0
        if not self.stay:
            actions[free] = 0
        urgency = short * self.instance.lost_sales_costs
        for wanted in np.argsort(-urgency, kind="stable"):
            if urgency[wanted] <= 0 or not free.any():
                break
            machine = self._choose(int(wanted), inventory, setups, free)
            if machine is not None:
                actions[machine] = wanted + 1
                free[machine] = False
        return actions

    def _choose(self, item: int, inventory: Array, setups: Array, free: Array) -> int | None:
        """The machine for an item; None if none is worth its setup."""
        room, price = self._S[item] - inventory[item], self.instance.lost_sales_costs[item]
        cost = np.where(setups == item + 1, 0.0, self.instance.setup_costs[:, item])
        score = cost - price * np.minimum(self._first[:, item], room)
        allowed = free & self.instance.makeable[:, item] & (cost < price * room)
        return int(np.where(allowed, score, np.inf).argmin()) if allowed.any() else None
