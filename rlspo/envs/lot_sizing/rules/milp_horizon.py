"""Planning by a mixed-integer program on expected demand: carry out the first period, then plan again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlspo.envs.lot_sizing.instance import Instance
from rlspo.envs.lot_sizing.program import PlantProgram
from rlspo.envs.lot_sizing.rules.rolling_horizon import worth_of_stock

Array = np.ndarray


class MilpHorizon:
    """Plans with :class:`~rlspo.envs.lot_sizing.program.PlantProgram` for expected demand, solved by SciPy's HiGHS.

    HiGHS is stopped after ``time_limit`` and returns its best plan, so on large plants the result depends on the computer, and
    :class:`~rlspo.envs.lot_sizing.rules.RollingHorizon`, which searches for plans itself, is better in less time. 20 items on
    10 machines need ``lengths=(1, 1, 1, 1)``: the default blocks are not solved in a second, and the plan is close to idling.
    On small plants the plan is optimal for demand equal to its mean; it ignores the variance of demand.

    :param instance: of the plant
    :param lengths: periods of each block of the plan, the first of them 1; later blocks are longer, to look far ahead at
        little cost
    :param time_limit: seconds for each plan
    :param gap: relative gap to the optimum at which HiGHS may stop
    :raises ValueError: for a first block that is longer than a period
    """

    def __init__(
        self, instance: Instance, lengths: Sequence[int] = (1, 1, 1, 1, 2, 3, 4), time_limit: float = 1.0, gap: float = 0.01
    ) -> None:
        if not lengths or lengths[0] != 1 or min(lengths) < 1:
            raise ValueError(f"lengths is {lengths}; it must hold whole numbers of at least 1, the first of them 1.")
        self.instance, self.lengths = instance, tuple(lengths)
        self.time_limit, self.gap = time_limit, gap
        self._programs: dict[tuple[int, ...], PlantProgram] = {}

    def __call__(self, inventory: Array, setups: Array, elapsed: int) -> Array:
        """The first period of the plan; machines keep their items if HiGHS found none within the time limit."""
        left = self.instance.time_horizon - elapsed
        lengths = self._within(left)
        if lengths not in self._programs:
            self._programs[lengths] = PlantProgram(self.instance, np.array(lengths))
        program = self._programs[lengths]
        costs = program.costs()
        if sum(lengths) < left:  # stock has a value if the episode continues after the plan
            last = slice(program.stock.stop - self.instance.n_items, program.stock.stop)
            costs[last] -= worth_of_stock(self.instance)
        demand = np.outer(lengths, self.instance.demand.mean)
        result = program.solve(costs, inventory, setups, demand, time_limit=self.time_limit, mip_rel_gap=self.gap)
        if result.x is None:
            return np.asarray(setups, np.int64).copy()
        first = result.x[program.x][: len(program.machine)] > 0.5
        actions = np.zeros(self.instance.n_machines, np.int64)
        actions[program.machine[first]] = program.item[first] + 1
        return actions

    def _within(self, left: int) -> tuple[int, ...]:
        """The blocks that fit into the remaining periods."""
        chosen: list[int] = []
        for length in self.lengths:
            if sum(chosen) + length > left:
                break
            chosen.append(length)
        return tuple(chosen)
