"""One item for each machine, for ever."""

from __future__ import annotations

import numpy as np

from rlspo.envs.lot_sizing.instance import Instance

Array = np.ndarray


class StaticAssignment:
    """Each machine makes one item all the time, each item is made by one machine at most; the others are idle.

    The assignment saves the most lost sales: it maximises the sum of ``min(production, mean demand) * lost-sales cost``, by
    the Hungarian algorithm. After the first setups it pays no more, but stock stands at the cap.

    :param instance: of the plant
    """

    def __init__(self, instance: Instance) -> None:
        from scipy.optimize import linear_sum_assignment

        saved = np.minimum(instance.machine_production, instance.demand.mean) * instance.lost_sales_costs
        machines, items = linear_sum_assignment(saved, maximize=True)
        self._actions = np.zeros(instance.n_machines, np.int64)
        self._actions[machines] = np.where(saved[machines, items] > 0, items + 1, 0)

    def __call__(self, inventory: Array, setups: Array, elapsed: int) -> Array:
        """The assignment."""
        return self._actions.copy()
