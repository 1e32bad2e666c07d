"""Bounds: on nobody's side of what is possible."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from rlspo.envs.lot_sizing import load_instance
from rlspo.envs.lot_sizing.bounds import perfect_information_bound
from rlspo.envs.lot_sizing.exact import ExactPlant
from rlspo.envs.lot_sizing.plant import Plant
from rlspo.envs.lot_sizing.program import PlantProgram
from rlspo.envs.lot_sizing.rules import AlwaysIdle, ReorderPoint, StaticAssignment, draw_episodes, evaluate_rule
from tests.envs.lot_sizing.plants import plant


def test_bound_hindsight_optimum_and_rules_come_in_this_order() -> None:
    """On the same episodes; with 12 periods, so that the program is solved."""
    instance, episodes, seed = replace(load_instance("2x1"), time_horizon=12), 4, 7
    exact = ExactPlant(instance)
    bound = perfect_information_bound(instance, episodes, seed, time_limit=20)
    relaxed = perfect_information_bound(instance, episodes, seed, relax=True)
    hindsight = np.array([exact.in_hindsight(episode) for episode in draw_episodes(instance, episodes, seed)])
    policy = exact.finite_horizon().policy
    optimal = evaluate_rule(lambda stock, z, t: policy[(t, *z, *stock.astype(int))], instance, episodes, seed)
    assert (relaxed >= bound - 1e-6).all() and (bound >= hindsight - 1e-6).all() and (hindsight >= optimal - 1e-9).all()
    for rule in (AlwaysIdle(instance), StaticAssignment(instance), ReorderPoint(instance)):
        assert (evaluate_rule(rule, instance, episodes, seed) <= hindsight + 1e-9).all()
    assert (bound < 0).all() and (bound > 2 * hindsight).all(), "and it is of some use"


def test_in_expectation_the_optimum_lies_between() -> None:
    instance = replace(load_instance("2x1"), time_horizon=8)
    exact = ExactPlant(instance)
    optimum = exact.finite_horizon().expected_return
    bounds = perfect_information_bound(instance, 20, 1)
    idle = exact.expected_return(exact.evaluate(np.zeros((*exact.state_shape, 1), int)))
    assert idle < optimum < bounds.mean() - 2 * bounds.std() / np.sqrt(20)


def test_the_program_is_the_plant_where_waste_does_not_pay() -> None:
    """Without holding nobody wastes stock below the cap: the program's optimum is that of all plans, enumerated."""
    instance = plant(holding_costs=[0, 0], time_horizon=3)
    for seed in range(3):
        episode = next(draw_episodes(instance, 1, seed))
        program = PlantProgram(instance, np.ones(3, int))
        result = program.solve(program.costs(), episode.inventory, episode.setups, episode.demand)
        plans = [np.array(p).reshape(3, 2) for p in product(range(3), repeat=6)]
        returns = []
        for plan in plans:
            rule = iter(plan)
            step, stock, setups, total = Plant(instance), episode.inventory[None], episode.setups[None], 0.0
            for demand in episode.demand:
                produced = step.produce(stock, setups, next(rule)[None])
                sold = step.sell(produced.inventory, demand[None])
                stock, setups = sold.inventory, produced.setups
                total += float(produced.setup_cost[0] + sold.lost_sales_cost[0])
            returns.append(total)
        assert result.fun == pytest.approx(min(returns), abs=1e-6)


def test_a_bound_that_did_not_come_in_time_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="raise time_limit"):
        perfect_information_bound(load_instance("25x15"), 1, 0, time_limit=0.0, relax=True)
