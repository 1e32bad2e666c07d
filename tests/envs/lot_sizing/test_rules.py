"""Rules: each does what it says, is judged as the environment judges, and knows its place among the others."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlspo.envs.lot_sizing import LotSizingEnv, load_instance
from rlspo.envs.lot_sizing.exact import ExactPlant
from rlspo.envs.lot_sizing.rules import (
    AlwaysIdle,
    MilpHorizon,
    ReorderPoint,
    RollingHorizon,
    StaticAssignment,
    UniformRandom,
    draw_episodes,
    evaluate_rule,
)
from rlspo.envs.lot_sizing.rules.look_ahead import LookAhead
from tests.envs.lot_sizing.plants import plant

PUBLISHED = Path(__file__).parents[4] / "shared" / "data" / "lot_sizing"


def rules(instance: Any) -> dict[str, Any]:
    """One of each, quick ones."""
    return {
        "idle": AlwaysIdle(instance),
        "random": UniformRandom(instance, np.random.default_rng(0)),
        "static": StaticAssignment(instance),
        "reorder": ReorderPoint(instance),
        "rolling": RollingHorizon(instance, look_ahead=6, trials=5),
        "milp": MilpHorizon(instance, lengths=(1, 1, 2), time_limit=0.5),
    }


@pytest.mark.parametrize("name", ["idle", "random", "static", "reorder", "rolling"])
def test_a_rule_is_evaluated_exactly_as_the_environment_evaluates_it(name: str) -> None:
    instance = load_instance("3x2")
    judged = evaluate_rule(rules(instance)[name], instance, 3, seed=5)
    env, rule = LotSizingEnv(instance), rules(instance)[name]
    for k, episode in enumerate(draw_episodes(instance, 3, seed=5)):
        env.reset(seed=0, options=episode._asdict())
        total, over = 0.0, False
        while not over:
            _, reward, terminated, truncated, _ = env.step(rule(env.inventory, env.setups, env.elapsed))
            total, over = total + float(reward), terminated or truncated
        assert total == judged[k]


@pytest.mark.parametrize("name", ["static", "reorder", "rolling", "milp"])
def test_a_rule_makes_only_what_can_be_made(name: str) -> None:
    instance = load_instance("15x5")
    rule, generator = rules(instance)[name], np.random.default_rng(0)
    for t in range(10):
        stock, setups = generator.integers(0, 100, 15).astype(float), generator.integers(0, 16, 5)
        actions = rule(stock, setups, 3 * t)
        assert actions.shape == (5,) and actions.dtype.kind == "i"
        if name != "static":  # to go on with what a machine is set up for costs nothing, whatever that is
            actions = np.where(actions == setups, 0, actions)
        assert all(a == 0 or instance.makeable[k, a - 1] for k, a in enumerate(actions))


def test_episodes_of_a_seed_do_not_hang_on_their_number() -> None:
    instance = load_instance("2x1")
    for one, other in zip(draw_episodes(instance, 2, 3), draw_episodes(instance, 5, 3), strict=False):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    first, second = draw_episodes(instance, 2, 3)
    assert (first.demand != second.demand).any()


def test_the_static_assignment_is_the_best_of_all() -> None:
    instance = load_instance("15x5")
    saved = np.minimum(instance.machine_production, instance.demand.mean) * instance.lost_sales_costs
    actions = StaticAssignment(instance)(np.zeros(15), np.zeros(5, int), 0)
    made = actions[actions > 0]
    assert len(set(made)) == len(made), "at most one machine for an item"
    ours = sum(saved[k, a - 1] for k, a in enumerate(actions) if a)
    small = plant()
    by_hand = np.minimum(small.machine_production, 1.5) * small.lost_sales_costs
    every = [sum(by_hand[k, a - 1] for k, a in enumerate(p) if a) for p in product(range(3), repeat=2) if len(set(p)) == 2]
    chosen = StaticAssignment(small)(np.zeros(2), np.zeros(2, int), 0)
    assert sum(by_hand[k, a - 1] for k, a in enumerate(chosen) if a) == max(every)
    greedy = sum(sorted(saved.max(axis=0))[-5:])
    assert 0 < ours <= greedy


@pytest.mark.parametrize(
    ("name", "idle", "random", "static"),
    [("20x10", -7527, -22357, -1924), ("25x10", -12419, -27825, -5316), ("25x15", -10921, -33830, -2523)],
)
def test_the_published_instances_give_the_known_returns(name: str, idle: float, random: float, static: float) -> None:
    """Means of 100 episodes of an independent simulator, so both sides have an error."""
    file = PUBLISHED / f"published_{name}.json"
    if not file.is_file():
        pytest.skip("the published instances do not come with the package")
    instance = load_instance(file)
    known = {"idle": idle, "random": random, "static": static}
    for rule, expected in known.items():
        returns = evaluate_rule(rules(instance)[rule], instance, 100, 0)
        assert returns.mean() == pytest.approx(expected, abs=4 * np.sqrt(2) * returns.std() / 10), rule


def test_reorder_goes_on_until_up_to_and_starts_below_s() -> None:
    """One machine at cap 10: s is 2 periods of 1.5, S is 8."""
    instance = plant(
        n_machines=1, machine_production=[[5, 4]], setup_costs=[[1, 1]], setup_loss=[[1, 2]], max_inventory_level=[10, 10]
    )
    rule = ReorderPoint(instance, reorder_periods=2, up_to=0.8, stay=True)
    assert rule(np.array([7.0, 0.0]), np.array([1]), 0).tolist() == [1], "goes on below S, whatever the other item's stock"
    assert rule(np.array([8.0, 2.9]), np.array([1]), 0).tolist() == [2], "is free at S, the other item is below s"
    assert rule(np.array([8.0, 3.0]), np.array([1]), 0).tolist() == [1], "nothing is below s: it stays"
    idle = ReorderPoint(instance, reorder_periods=2, up_to=0.8, stay=False)
    assert idle(np.array([8.0, 3.0]), np.array([1]), 0).tolist() == [0], "or goes idle"
    assert rule(np.array([2.0, 1.0]), np.array([0]), 0).tolist() == [2], "the item that loses more comes first"


def test_reorder_does_not_pay_more_for_a_setup_than_it_can_save() -> None:
    instance = plant(
        n_machines=1, machine_production=[[5, 4]], setup_costs=[[19, 30]], setup_loss=[[1, 2]], max_inventory_level=[10, 10]
    )
    rule = ReorderPoint(instance, reorder_periods=2, up_to=1.0)
    assert rule(np.array([0.0, 9.0]), np.array([0]), 0).tolist() == [1], "ten units at 2 are worth more than 19"
    assert rule(np.array([1.0, 9.0]), np.array([0]), 0).tolist() == [0], "nine are not"


def test_the_search_for_s_is_a_matter_of_the_seed() -> None:
    instance = load_instance("2x1")
    one, other = (ReorderPoint.searched(instance, seed=1, n_episodes=2) for _ in range(2))
    assert (one.reorder_periods, one.up_to, one.stay) == (other.reorder_periods, other.up_to, other.stay)
    arbitrary = ReorderPoint(instance, reorder_periods=1, up_to=1.0, stay=False)
    assert evaluate_rule(one, instance, 30, 9).mean() > evaluate_rule(arbitrary, instance, 30, 9).mean()


def known_demand(instance: Any, periods: int) -> LookAhead:
    demand = np.random.default_rng(0).integers(0, 4, (periods, 2, 1)).astype(float)
    return LookAhead(instance, np.array([4.0, 3.0]), np.array([1, 0]), demand, np.zeros(2))


def test_a_plan_costs_in_the_look_ahead_what_it_costs_in_the_plant() -> None:
    instance = plant()
    ahead, generator = known_demand(instance, 5), np.random.default_rng(1)
    env = LotSizingEnv(instance)
    for _ in range(20):
        plan = generator.integers(0, 3, (2, 5))
        outputs = [ahead.output(k, plan[k]) for k in range(2)]
        cost = ahead.total(sum(made for made, _ in outputs)) + sum(setup for _, setup in outputs)
        env.reset(seed=0, options={"inventory": [4, 3], "setups": [1, 0], "demand": ahead.demand[:, :, 0]})
        assert -sum(float(env.step(plan[:, t])[1]) for t in range(5)) == pytest.approx(cost)


def runs(plan: tuple[int, ...], item: int) -> int:
    """How often a plan starts an item."""
    return sum(now == item != before for before, now in zip((0, *plan), plan, strict=False))


def test_a_gap_is_filled_with_the_best_single_runs() -> None:
    """Where each item is made at most once, filling is exact: against all plans of one machine."""
    instance = plant()
    ahead, cuts = known_demand(instance, 4), np.arange(5)

    def cost(plan: np.ndarray) -> float:
        made, setup = ahead.output(0, plan)
        return ahead.total(made) + setup

    once = [np.array(p) for p in product(range(3), repeat=4) if all(runs(p, item) <= 1 for item in (1, 2))]
    filled = ahead.refill(0, np.zeros(4, int), np.zeros((2, 4)), cuts)
    assert cost(filled) == pytest.approx(min(cost(plan) for plan in once))


def test_planning_is_a_matter_of_the_seed_and_beats_the_other_rules() -> None:
    instance = replace(load_instance("15x5"), time_horizon=25)
    quick = {"look_ahead": 15, "trials": 15, "seed": 1}
    planned, again = (evaluate_rule(RollingHorizon(instance, **quick), instance, 2, 2) for _ in range(2))
    np.testing.assert_array_equal(planned, again)
    for rule in (StaticAssignment(instance), ReorderPoint(instance), AlwaysIdle(instance)):
        assert (planned > evaluate_rule(rule, instance, 2, 2)).all()


def test_no_rule_is_better_than_the_optimum() -> None:
    instance, episodes = replace(load_instance("2x1"), time_horizon=30), 40
    optimum = ExactPlant(instance).finite_horizon().expected_return
    for rule in (RollingHorizon(instance, look_ahead=6, trials=5), ReorderPoint.searched(instance, n_episodes=5)):
        returns = evaluate_rule(rule, instance, episodes, 4)
        assert 1.6 * optimum < returns.mean() < optimum + 2 * returns.std() / np.sqrt(episodes)


def test_planning_does_not_produce_without_demand_at_the_end() -> None:
    instance = load_instance("2x1")
    rule = RollingHorizon(instance)
    assert rule(np.array([9.0, 9.0]), np.array([1]), 98).tolist() == [0], "stock lasts, and holding costs"
    assert rule(np.array([0.0, 9.0]), np.array([1]), 99).tolist() == [1], "the sales of the last period are worth it"


def test_foreseeing_scenarios_keeps_more_stock_than_foreseeing_the_mean() -> None:
    """Stock for the mean alone, 2 for the only period: with demand 0 or 4 another unit, for 0.1, saves half a sale of 2."""
    instance = plant(
        n_items=1,
        n_machines=1,
        time_horizon=1,
        max_inventory_level=[10],
        holding_costs=[0.1],
        lost_sales_costs=[2.0],
        demand_distribution={"name": "pmf", "vals": [0, 4], "probs": [0.5, 0.5]},
        machine_production=[[2]],
        setup_costs=[[0.5]],
        setup_loss=[[0]],
    )
    stock, setups = np.array([2.0]), np.array([0])
    assert RollingHorizon(instance)(stock, setups, 0).tolist() == [0]
    assert RollingHorizon(instance, scenarios=50)(stock, setups, 0).tolist() == [1]


def test_the_program_finds_the_best_plan_where_demand_is_sure() -> None:
    """With demand that is always its mean and the whole episode in view, replanning each period follows the optimum."""
    instance = plant(demand_distribution={"name": "pmf", "vals": [2], "probs": [1.0]}, holding_costs=[0.3, 0.2])
    exact = ExactPlant(instance).finite_horizon()
    rule = MilpHorizon(instance, lengths=(1,) * instance.time_horizon, time_limit=20.0, gap=0.0)
    for k, episode in enumerate(draw_episodes(instance, 4, seed=2)):
        best = exact.value[(0, *episode.setups, *episode.inventory.astype(int))]
        assert evaluate_rule(rule, instance, k + 1, seed=2)[k] == pytest.approx(best)


def test_blocks_of_the_plan_begin_with_a_period_and_fit_the_episode() -> None:
    for lengths in ((2, 1), (), (1, 0)):
        with pytest.raises(ValueError, match="the first of them 1"):
            MilpHorizon(plant(), lengths=lengths)
    assert MilpHorizon(plant(), lengths=(1, 1, 2, 3))._within(5) == (1, 1, 2)
