"""A plant over several periods as a mixed-integer linear program, for the planning rule and for the bound.

Columns, by block of periods t: start-ups and set-ups of the pairs of a machine and an item that it can make, and for each item
the stock at the end, the lost sales, the waste, and whether the stock is at its cap,

::

    x[t, p] in {0, 1}, y[t, p] in [0, 1]                                          y >= x[t] - x[t - 1]
    sum of x[t, p] over the pairs of a machine <= 1
    stock[t] = stock[t - 1] + length[t] production x[t] - loss y[t] - demand[t] + lost[t] - waste[t]
    0 <= stock[t] <= cap, 0 <= lost[t], 0 <= waste[t]
    full[t] in {0, 1}, waste[t] <= M full[t], stock[t] >= cap full[t]                 only stock above the cap is wasted

With blocks of one period this is the exact plant with known demand.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rlspo.envs.lot_sizing.instance import Instance

Array = np.ndarray


class PlantProgram:
    """The program's matrix, which depends on the instance and the blocks, and its solution for a state and a demand.

    :param instance: of the plant
    :param lengths: periods of each block; a machine makes one item in a block, whose setup is paid once
    """

    def __init__(self, instance: Instance, lengths: Array) -> None:
        from scipy import sparse

        self.instance, self.lengths = instance, np.asarray(lengths, int)
        self.n_blocks = len(self.lengths)
        self.machine, self.item = np.nonzero(instance.makeable)
        n_pairs, items, blocks = len(self.machine), instance.n_items, self.n_blocks
        sizes = np.array([n_pairs, n_pairs, items, items, items, items]) * blocks
        ends = np.cumsum(sizes)
        self.n_columns = int(ends[-1])
        #: Indices of the columns of each kind, by block and then pair or item.
        columns = [slice(e - s, e) for e, s in zip(ends, sizes, strict=True)]
        self.x, self.y, self.stock, self.lost, self.waste, self.full = columns
        one, before = sparse.identity(blocks), sparse.eye(blocks, k=-1)
        each_pair, each_item = sparse.identity(n_pairs), sparse.identity(items)
        to_machine = _incidence(self.machine, instance.n_machines)
        made = _incidence(self.item, items, instance.machine_production[self.machine, self.item])
        short = _incidence(self.item, items, instance.setup_loss[self.machine, self.item])
        every_item = sparse.kron(one, each_item)
        cap = instance.max_inventory_level
        most = cap + instance.machine_production.sum(axis=0) * int(self.lengths.max())
        self._matrix = sparse.bmat(
            [
                [sparse.kron(one - before, each_pair), -sparse.kron(one, each_pair), None, None, None, None],
                [sparse.kron(one, to_machine), None, None, None, None, None],
                [None, None, None, None, every_item, -sparse.kron(one, sparse.diags(most))],
                [None, None, -every_item, None, None, sparse.kron(one, sparse.diags(cap))],
                [
                    -sparse.kron(sparse.diags(self.lengths.astype(float)), made),
                    sparse.kron(one, short),
                    sparse.kron(one - before, each_item),
                    -every_item,
                    every_item,
                    None,
                ],
            ],
            format="csc",
        )
        self._integral = np.zeros(self.n_columns)
        self._integral[self.x] = self._integral[self.full] = 1
        self._upper = np.full(self.n_columns, np.inf)
        self._upper[: self.y.stop] = self._upper[self.full] = 1
        self._upper[self.stock] = np.tile(instance.max_inventory_level, blocks)

    def costs(self) -> Array:
        """The plant's cost of each column; holding is that of the stock at the end of a block, times its periods."""
        cost = np.zeros(self.n_columns)
        cost[self.y] = np.tile(self.instance.setup_costs[self.machine, self.item], self.n_blocks)
        cost[self.stock] = np.outer(self.lengths, self.instance.holding_costs).ravel()
        cost[self.lost] = np.tile(self.instance.lost_sales_costs, self.n_blocks)
        return cost

    def solve(
        self,
        costs: Array,
        inventory: Array,
        setups: Array,
        demand: Array,
        **options: Any,
    ) -> Any:
        """Minimise.

        :param costs: of the columns
        :param inventory: initial stock, ``(n_items,)``
        :param setups: initial setups, ``(n_machines,)``
        :param demand: of each block, ``(n_blocks, n_items)``
        :param options: ``relax=True`` for the linear relaxation; the others go to :func:`scipy.optimize.milp`
        :return: the result of :func:`scipy.optimize.milp`
        """
        from scipy.optimize import Bounds, LinearConstraint, milp

        relax = options.pop("relax", False)
        starting = np.zeros((self.n_blocks, len(self.machine)))
        starting[0] = setups[self.machine] == self.item + 1
        balance = -np.array(demand, float)
        balance[0] += inventory
        once = np.ones(self.n_blocks * self.instance.n_machines)
        at_cap = np.zeros(2 * self.n_blocks * self.instance.n_items)
        most = np.concatenate([starting.ravel(), once, at_cap, balance.ravel()])
        least = np.concatenate([np.full(len(most) - balance.size, -np.inf), balance.ravel()])
        constraints = LinearConstraint(self._matrix, least, most)
        integrality = np.zeros(self.n_columns) if relax else self._integral
        return milp(costs, integrality=integrality, bounds=Bounds(0, self._upper), constraints=constraints, options=options)


def _incidence(rows: Array, n_rows: int, values: Array | None = None) -> Any:
    """A column for each pair with its value in its row."""
    from scipy import sparse

    return sparse.csr_matrix(
        (np.ones(len(rows)) if values is None else values, (rows, np.arange(len(rows)))), (n_rows, len(rows))
    )
