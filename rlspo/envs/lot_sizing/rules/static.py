"""A static assignment of items to machines."""

from __future__ import annotations

import numpy as np

from rlspo.envs.lot_sizing.instance import Instance

Array = np.ndarray


class StaticAssignment:
    """Each machine always makes the same item, and each item is made by at most one machine; other machines are idle.

    The assignment saves the most lost sales: it maximises the sum of ``min(production, mean demand) * lost-sales cost``, by
    the Hungarian algorithm. There are no setup costs after the first period, but stock stays at the cap.

    :param instance: of the plant
    """

    def __init__(self, instance: Instance) -> None:
        from scipy.optimize import linear_sum_assignment

        saved = np.minimum(instance.machine_production, instance.demand.mean) * instance.lost_sales_costs
        machines, items = linear_sum_assignment(saved, maximize=True)
        self._actions = np.zeros(instance.n_machines, np.int64)
        self._actions[machines] = np.where(saved[machines, items] > 0, items + 1, 0)

    def __call__(self, inventory: Array, setups: Array, elapsed: int) -> Array:
        """The item of each machine, 0 for idle, ``(n_machines,)``."""
        return self._actions.copy()
