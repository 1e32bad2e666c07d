from __future__ import annotations
from typing import Any
import numpy as np
from rlspo.envs.lot_sizing.instance import Instance
from rlspo.envs.lot_sizing.program import PlantProgram

Array = np.ndarray


class RollingHorizon:
    def __init__(
        self,
        instance: Instance,
        lengths=(1, 1, 1, 1, 2, 2, 3, 4),
        time_limit: float = 2.0,
        gap: float = 0.01,
        noise_periods=3.0,
        waste_charge=0.0,
        stock_value=1.0,
        setup_value=0.0,
        points=(-0.5, 0.5, 1.2, 2.0),
        group=3,
        rounds=1,
        memory=True,
        seed=0,
    ) -> None:
        self.instance, self.lengths = instance, lengths
        self.time_limit, self.gap, self.group, self.rounds, self.memory = time_limit, gap, group, rounds, memory
        self.noise_periods, self.waste_charge, self.stock_value, self.setup_value, self.points = (
            noise_periods,
            waste_charge,
            stock_value,
            setup_value,
            points,
        )
        self._programs = {}
        v = np.array([((vals - vals @ p) ** 2) @ p for vals, p in instance.demand.tables])
        self._sd = np.sqrt(v)
        setup = np.where(instance.makeable, instance.setup_costs, np.inf).min(axis=0)
        cap = instance.max_inventory_level
        self._worth = np.minimum(setup / cap, instance.lost_sales_costs) - 0
        self._worth[~np.isfinite(self._worth)] = 0
        self._plan = None
        self._rng = np.random.default_rng(seed)
        self.solves = 0

    def _program(self, lengths, machines):
        key = (tuple(lengths), tuple(machines))
        if key in self._programs:
            return self._programs[key]
        from scipy import sparse
        from scipy.special import ndtr

        inst = self.instance
        total = sum(lengths)
        pairs = (inst.lost_sales_costs * inst.demand.mean * total > inst.setup_costs) & np.isin(
            np.arange(inst.n_machines), machines
        )[:, None]
        pr = PlantProgram(inst, np.array(lengths), pairs)
        n = inst.n_items
        P = len(pr.machine)
        cost = pr.costs()
        cost[pr.waste] = self.waste_charge * np.tile(inst.holding_costs, pr.n_blocks)
        if not self._ends:
            last = np.arange(pr.stock.stop - n, pr.stock.stop)
            cost[last] -= self.stock_value * self._worth
            cost[pr.x.stop - P : pr.x.stop] -= self.setup_value * inst.setup_costs[pr.machine, pr.item]
        cum = np.minimum(np.cumsum(lengths), np.maximum(self.noise_periods, lengths))
        sd = np.sqrt(cum)[:, None] * self._sd  # (B,n)
        mats, lows = [], []
        k = sd.size
        eye = sparse.identity(k)
        zero = sparse.csr_matrix((k, 2 * P * pr.n_blocks))
        for u in self.points:
            b = 1 - ndtr(u)
            g = np.exp(-u * u / 2) / np.sqrt(2 * np.pi) - u * b
            mats.append(sparse.hstack([zero, b * eye, (1 - b) * eye, b * eye]))
            lows.append((sd * (g + b * u)).ravel())
        more = (sparse.vstack(mats).tocsc(), np.concatenate(lows)) if self.points else None
        self._programs[key] = (pr, cost, more)
        return self._programs[key]

    def __call__(self, inventory: Array, setups: Array, elapsed: int) -> Array:
        inst = self.instance
        left = inst.time_horizon - elapsed
        lengths = []
        for l in self.lengths:
            if sum(lengths) >= left:
                break
            lengths.append(min(l, left - sum(lengths)))
        self._ends = sum(lengths) == left
        L = np.array(lengths)
        B = len(L)
        m = inst.n_machines
        # plan (T ahead periods, m) items
        fresh = not (self.memory and self._plan is not None and elapsed == self._elapsed + 1)
        if fresh:
            path = np.tile(setups, (sum(lengths), 1))
        else:
            path = np.vstack([self._plan[1:], self._plan[-1:]])[: sum(lengths)]
            if len(path) < sum(lengths):
                path = np.vstack([path, np.tile(path[-1:], (sum(lengths) - len(path), 1))])
        starts = np.cumsum(L) - L
        plan = path[starts].copy()  # (B, m)
        demand0 = L[:, None] * inst.demand.mean
        g = min(self.group, m)
        groups = []
        for _ in range(self.rounds * (3 if fresh and g < m else 1)):
            perm = self._rng.permutation(m)
            groups += [np.sort(perm[j : j + g]) for j in range(0, m, g)]
        for machines in groups:
            others = np.setdiff1d(np.arange(m), machines)
            demand = demand0.copy()
            for k in others:
                prev = setups[k]
                for b in range(B):
                    a = plan[b, k]
                    if a:
                        demand[b, a - 1] -= L[b] * inst.machine_production[k, a - 1] - (
                            inst.setup_loss[k, a - 1] if a != prev else 0
                        )
                    prev = a
            pr, cost, more = self._program(lengths, machines)
            r = pr.solve(cost, inventory, setups, demand, more, time_limit=self.time_limit, mip_rel_gap=self.gap)
            self.last = r
            self.solves += 1
            if r.x is None:
                continue
            x = r.x[pr.x].reshape(B, -1) > 0.5
            plan[:, machines] = 0
            b, p_ = np.nonzero(x)
            plan[b, pr.machine[p_]] = pr.item[p_] + 1
        self._plan = np.repeat(plan, L, axis=0)
        self._elapsed = elapsed
        return plan[0].astype(np.int64)
