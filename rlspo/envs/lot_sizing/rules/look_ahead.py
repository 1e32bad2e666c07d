"""The plant over the next periods: costs of plans, and the best way to fill a gap in a machine's plan.

A plan of a machine is its item in each period, 0 for idle, ``(periods,)``. Stock follows the plant's own dynamics, cap and
lost sales included, so a plan's cost is exact for the given demand.
"""

from __future__ import annotations

import numpy as np

from rlspo.envs.lot_sizing.instance import Instance

Array = np.ndarray


class LookAhead:
    """The next periods from one state.

    :param instance: of the plant
    :param inventory: now, ``(n_items,)``
    :param setups: now, ``(n_machines,)``
    :param demand: the forecast, ``(periods, n_items, scenarios)``; costs are means over the scenarios
    :param worth: value of a unit of stock at the end, ``(n_items,)``
    """

    def __init__(self, instance: Instance, inventory: Array, setups: Array, demand: Array, worth: Array) -> None:
        self.instance, self.inventory, self.setups, self.demand, self.worth = instance, inventory, setups, demand, worth
        self.periods = len(demand)

    def stock_costs(self, items: Array, made: Array) -> Array:
        """Lost sales and holding costs, less the worth of the remaining stock at the end.

        :param items: some items, ``(K,)``
        :param made: alternatives for the production of each, ``(K, R, periods)``
        :return: ``(K, R)``
        """
        price, holding, cap, worth = (
            array[items][:, None, None]
            for array in (
                self.instance.lost_sales_costs,
                self.instance.holding_costs,
                self.instance.max_inventory_level,
                self.worth,
            )
        )
        stock = np.broadcast_to(self.inventory[items][:, None, None], (*made.shape[:2], self.demand.shape[2]))
        cost = np.zeros(stock.shape)
        for t in range(self.periods):
            left = stock + made[:, :, t, None] - self.demand[t, items][:, None, :]
            stock = np.minimum(np.maximum(left, 0.0), cap)
            cost += holding * stock - price * np.minimum(left, 0.0)
        return (cost - worth * stock).mean(axis=2)

    def output(self, machine: int, plan: Array) -> tuple[Array, float]:
        """The production of a machine's plan, ``(n_items, periods)``, and its setup costs."""
        before = np.concatenate([self.setups[machine : machine + 1], plan[:-1]])
        starts = (plan != before) & (plan > 0)
        on = np.flatnonzero(plan)
        item = plan[on] - 1
        made = np.zeros((self.instance.n_items, self.periods))
        made[item, on] = self.instance.machine_production[machine, item] - self.instance.setup_loss[machine, item] * starts[on]
        return made, float(self.instance.setup_costs[machine, plan[starts] - 1].sum())

    def total(self, made: Array) -> float:
        """Costs of stock for the production ``made``, ``(n_items, periods)``."""
        return float(self.stock_costs(np.arange(self.instance.n_items), made[:, None, :]).sum())

    def refill(self, machine: int, plan: Array, made: Array, cuts: Array) -> Array:
        """Fill the gap of a plan with production runs, each of one item from one cut to another.

        The saving of each single run is exact; the best sequence of runs is a shortest path from the first cut to the last.
        That two runs of one item save less than their sum is neglected here: the caller compares whole plans.

        :param machine: index of the machine
        :param plan: of the machine, idle from the first cut to the last
        :param made: by all machines, including this one's other runs, ``(n_items, periods)``
        :param cuts: where runs may begin and end, increasing
        """
        first, last = int(cuts[0]), int(cuts[-1])
        items = np.flatnonzero(self.instance.makeable[machine])
        begin, end = np.triu_indices(len(cuts), 1)
        start, stop, time = cuts[begin], cuts[end], np.arange(self.periods)
        runs = (time >= start[:, None]) & (time < stop[:, None])
        before = self.setups[machine] if first == 0 else plan[first - 1]
        going_on = (start == first) & (before == items[:, None] + 1)
        with_run = made[items][:, None, :] + self.instance.machine_production[machine, items][:, None, None] * runs
        with_run[:, np.arange(len(start)), start] -= self.instance.setup_loss[machine, items][:, None] * ~going_on
        setup = self.instance.setup_costs[machine, items][:, None]
        cost = self.stock_costs(items, with_run) - self.stock_costs(items, made[items][:, None, :]) + setup * ~going_on
        if last < self.periods:  # a run that continues into the next one saves that one's setup
            cost -= setup * ((stop == last) & (plan[last] == items[:, None] + 1))
        best_cost, best_item = np.full((len(cuts), len(cuts)), np.inf), np.zeros((len(cuts), len(cuts)), np.int64)
        best_cost[begin, end], best_item[begin, end] = cost.min(axis=0), items[cost.argmin(axis=0)] + 1
        return _fill(plan, cuts, best_cost, best_item)


def _fill(plan: Array, cuts: Array, cost: Array, item: Array) -> Array:
    """The cheapest sequence of runs: ``cost`` and ``item`` of a run from one cut to another; idle in between is free."""
    n = len(cuts)
    value, came_from = np.zeros(n), np.full(n, -1)
    for k in range(1, n):
        value[k] = value[k - 1]
        through = value[:k] + cost[:k, k]
        best = int(through.argmin())
        if through[best] < value[k] - 1e-9:
            value[k], came_from[k] = through[best], best
    filled, k = plan.copy(), n - 1
    while k > 0:
        j = int(came_from[k])
        if j >= 0:
            filled[cuts[j] : cuts[k]] = item[j, k]
        k = j if j >= 0 else k - 1
    return filled
