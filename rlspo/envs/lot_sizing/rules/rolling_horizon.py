"""Rolling-horizon planning: plan the next periods, carry out the first, then plan again."""

from __future__ import annotations

import numpy as np

from rlspo.envs.lot_sizing.instance import Instance
from rlspo.envs.lot_sizing.rules.look_ahead import LookAhead

Array = np.ndarray
#: Distribution of trials: largest number of machines; probability of all periods instead of a few; largest number of inner
#: cuts, and probability of a cut at every period instead.
MACHINES, ALL_PERIODS, CUTS, ALL_CUTS = 3, 0.5, 5, 0.1
#: The first plan of an episode starts from nothing, others from the previous plan: factor on the first one's trials.
FIRST = 5


def worth_of_stock(instance: Instance) -> Array:
    """The value of a unit in stock at the end of a plan: its share of the lowest setup cost, at most the cost of a lost
    sale."""
    setup = np.where(instance.makeable, instance.setup_costs, np.inf).min(axis=0)
    worth = np.minimum(setup / instance.max_inventory_level, instance.lost_sales_costs)
    worth[~instance.makeable.any(axis=0)] = 0.0
    return worth


class RollingHorizon:
    """A plan for ``look_ahead`` periods by large neighbourhood search, period after period.

    A trial removes some machines and periods from the plan and fills them again, machine by machine, each by a shortest path
    over production runs (:meth:`~rlspo.envs.lot_sizing.rules.look_ahead.LookAhead.refill`). The result is kept if it costs
    less. In the next period the search continues from the rest of the plan. A trial takes a millisecond, while the
    mixed-integer program (:class:`~rlspo.envs.lot_sizing.program.PlantProgram`) is far from solved after seconds at ten
    machines. Trials are counted and not timed, so the seed determines the plan.

    Stock at the end of the look-ahead is worth its cost of production: the lowest setup cost of the item per unit of a full
    cap, at most the cost of a lost sale. Without this, plans would run stock down. At the end of the episode stock is worth
    nothing. The rule knows the period, so at the end it has an advantage over agents that do not.

    :param instance: of the plant
    :param look_ahead: periods; more for plants whose setups are rare, less for a quicker rule
    :param trials: per period; more gives better plans, at proportional cost
    :param scenarios: of demand for evaluating plans; 0 for a single one with mean demand
    :param seed: of trials and scenarios
    """

    def __init__(self, instance: Instance, look_ahead: int = 25, trials: int = 120, scenarios: int = 0, seed: int = 0) -> None:
        self.instance = instance
        self.look_ahead, self.trials, self.scenarios, self.seed = look_ahead, trials, scenarios, seed
        self._worth = worth_of_stock(instance)
        self._plan: Array = np.zeros((instance.n_machines, 0), np.int64)
        self._planned_for = -1

    def __call__(self, inventory: Array, setups: Array, elapsed: int) -> Array:
        """The first period of the plan."""
        generator = np.random.default_rng((self.seed, elapsed))
        left = self.instance.time_horizon - elapsed
        periods = min(self.look_ahead, left)
        demand = self._foresee(generator, periods)
        worth = self._worth if periods < left else np.zeros_like(self._worth)
        ahead = LookAhead(self.instance, inventory, setups, demand, worth)
        again = elapsed > 0 and elapsed == self._planned_for
        plan = self._plan if again else np.asarray(setups, np.int64)[:, None]
        plan = np.hstack([plan, np.repeat(plan[:, -1:], self.look_ahead, axis=1)])[:, :periods]
        plan = _search(ahead, plan, self.trials * (1 if again else FIRST), generator)
        self._plan, self._planned_for = plan[:, 1:] if periods > 1 else plan, elapsed + 1
        return plan[:, 0].copy()

    def _foresee(self, generator: np.random.Generator, periods: int) -> Array:
        if self.scenarios:
            return np.moveaxis(self.instance.demand.sample(generator, periods, self.scenarios), 1, 2)
        return np.broadcast_to(self.instance.demand.mean[:, None], (periods, self.instance.n_items, 1))


def _search(ahead: LookAhead, plan: Array, trials: int, generator: np.random.Generator) -> Array:
    """Improve a plan, ``(n_machines, periods)``, by removing parts and filling them again."""
    n_machines, periods = plan.shape
    outputs = [ahead.output(k, plan[k]) for k in range(n_machines)]
    made, setup = np.stack([output for output, _ in outputs]), np.array([cost for _, cost in outputs])
    total = ahead.total(made.sum(axis=0)) + setup.sum()
    for _ in range(trials):
        machines, cuts = _part(n_machines, periods, generator)
        new_plan, new_made, new_setup = plan.copy(), made.copy(), setup.copy()
        new_plan[machines, cuts[0] : cuts[-1]] = 0
        for k in machines:
            new_made[k], new_setup[k] = ahead.output(k, new_plan[k])
        for k in machines:
            new_plan[k] = ahead.refill(k, new_plan[k], new_made.sum(axis=0), cuts)
            new_made[k], new_setup[k] = ahead.output(k, new_plan[k])
        new_total = ahead.total(new_made.sum(axis=0)) + new_setup.sum()
        if new_total < total - 1e-9:
            plan, made, setup, total = new_plan, new_made, new_setup, new_total
    return plan


def _part(n_machines: int, periods: int, generator: np.random.Generator) -> tuple[list[int], Array]:
    """The part that a trial removes: machines in random order, and cuts, of which the first and last are its ends."""
    size = int(generator.integers(1, min(MACHINES, n_machines) + 1))
    machines = generator.choice(n_machines, size, replace=False).tolist()
    first, last = 0, periods
    if generator.random() >= ALL_PERIODS:
        first, last = sorted(generator.choice(periods + 1, 2, replace=False).tolist())
    inside = np.arange(first + 1, last)
    if generator.random() >= ALL_CUTS:
        inside = np.sort(generator.choice(inside, min(int(generator.integers(1, CUTS + 1)), len(inside)), replace=False))
    return machines, np.concatenate([[first], inside, [last]]).astype(np.int64)
