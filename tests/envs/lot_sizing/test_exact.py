"""Exact solutions: against enumeration by hand, against simulation, and against each other."""

from itertools import product
from typing import Any

import numpy as np
import pytest

from rlspo.envs.lot_sizing import Instance, load_instance
from rlspo.envs.lot_sizing.exact import ExactPlant
from rlspo.envs.lot_sizing.plant import Plant
from rlspo.envs.lot_sizing.rules import AlwaysIdle, Episode, StaticAssignment, draw_episodes, evaluate_rule
from tests.envs.lot_sizing.plants import plant, tiny


def enumerated(instance: Instance, inventory: Any, setups: Any, periods: int, policy: Any = None) -> float:
    """The best expected return, or a policy's, by following every action and every demand through the plant."""
    if periods == 0:
        return 0.0
    step, state = Plant(instance), np.array([inventory], float)
    actions = list(product(range(instance.n_items + 1), repeat=instance.n_machines))
    outcomes = [list(zip(values, probabilities, strict=True)) for values, probabilities in instance.demand.tables]
    returns = []
    for action in actions if policy is None else [policy(inventory, setups)]:
        produced = step.produce(state, np.array([setups]), np.array([action]))
        total = -float(produced.setup_cost[0])
        for outcome in product(*outcomes):
            demand = np.array([[value for value, _ in outcome]], float)
            sold = step.sell(produced.inventory, demand)
            rest = enumerated(instance, tuple(sold.inventory[0]), action, periods - 1, policy)
            probability = float(np.prod([p for _, p in outcome]))
            total += probability * (rest - float(sold.lost_sales_cost[0] + sold.holding_cost[0]))
        returns.append(total)
    return max(returns)


def test_one_item_one_machine_two_periods_by_hand() -> None:
    """Demand is 0 or, three times out of four, 2; a lost sale costs 4, a unit in stock 0.5, a setup 1 and one of two units.

    In the last period with a setup and no stock: going on makes 2, so cost 0.25 * 1 = 0.25; idle loses 0.75 * 8 = 6. From
    idle: setup 1, one unit, 0.75 * 4 lost, 0.25 * 0.5 held: 4.125, better than 6.
    """
    solved = ExactPlant(tiny()).finite_horizon()
    last = solved.value[1]
    assert last[1, 0] == pytest.approx(-0.25)
    assert last[0, 0] == pytest.approx(-4.125)
    assert last[0, 2] == pytest.approx(-0.25), "stock of 2 is enough without the machine"
    assert last[1, 2] == pytest.approx(-0.25), "idle, the machine's last service is not needed"
    # One unit: idle 0.25 * 0.5 + 0.75 * 4 = 3.125; going on makes 3 units, of which one or, for the cap, two are left.
    assert last[1, 1] == pytest.approx(-(0.25 * 1.0 + 0.75 * 0.5))
    # First period with setup, no stock, going on: 0.25 * (1 + 0.25) + 0.75 * 0.25.
    assert solved.value[0][1, 0] == pytest.approx(-(0.25 * (1.0 + 0.25) + 0.75 * 0.25))
    assert solved.policy[0, 1, 0] == [1] and solved.policy[1, 1, 2] == [0]
    assert (solved.value[2] == 0).all()


@pytest.mark.parametrize("instance", [tiny(time_horizon=3), plant(time_horizon=2, max_inventory_level=[2, 3])])
def test_the_optimum_is_that_of_enumeration(instance: Instance) -> None:
    """The second plant: two machines, no production here and there, losses beyond production, so stock below 0."""
    exact = ExactPlant(instance)
    solved = exact.finite_horizon()
    generator = np.random.default_rng(0)
    for _ in range(4):
        setups = tuple(int(z) for z in generator.integers(0, instance.n_items + 1, instance.n_machines))
        stock = tuple(int(i) for i in generator.integers(0, instance.max_inventory_level + 1))
        expected = enumerated(instance, stock, setups, instance.time_horizon)
        assert solved.value[0][setups + stock] == pytest.approx(expected)


def test_a_policy_is_worth_what_enumeration_says() -> None:
    instance = plant(time_horizon=3, max_inventory_level=[2, 3])
    exact = ExactPlant(instance)
    policy = np.random.default_rng(1).integers(0, 3, (*exact.state_shape, 2))
    value = exact.evaluate(policy)
    for setups, stock in (((0, 0), (0, 0)), ((2, 1), (1, 3)), ((1, 2), (2, 0))):
        expected = enumerated(
            instance, stock, setups, 3, lambda inventory, z: policy[(*z, *np.array(inventory, int))].tolist()
        )
        assert value[setups + stock] == pytest.approx(expected)


@pytest.mark.parametrize("name", ["2x1", "3x2"])
def test_simulation_agrees_and_nothing_does_better(name: str) -> None:
    instance, episodes = load_instance(name), 200
    exact = ExactPlant(instance)
    solved = exact.finite_horizon()
    played = evaluate_rule(lambda stock, z, t: solved.policy[(t, *z, *stock.astype(int))], instance, episodes, 1)
    assert played.mean() == pytest.approx(solved.expected_return, abs=4 * played.std() / np.sqrt(episodes))
    assert exact.expected_return(exact.evaluate(solved.policy)) == pytest.approx(solved.expected_return)
    for rule in (AlwaysIdle(instance), StaticAssignment(instance)):
        actions = rule(np.zeros(instance.n_items), np.zeros(instance.n_machines, int), 0)
        worth = exact.expected_return(exact.evaluate(np.broadcast_to(actions, (*exact.state_shape, len(actions)))))
        judged = evaluate_rule(rule, instance, episodes, 1)
        assert worth == pytest.approx(judged.mean(), abs=4 * judged.std() / np.sqrt(episodes))
        assert worth < solved.expected_return


def test_discounted_values_satisfy_the_recursion_of_post_decision_states() -> None:
    exact, gamma = ExactPlant(load_instance("2x1")), 0.97
    solved = exact.discounted(gamma)
    value, policy = exact.decide(solved.post_decision_value)
    np.testing.assert_allclose(value, solved.value, atol=1e-9)
    np.testing.assert_array_equal(policy, solved.policy)
    np.testing.assert_allclose(exact.post_decision_value(solved.value, gamma), solved.post_decision_value)


def test_a_discounted_value_in_closed_form() -> None:
    """No demand, so nothing is ever lost: from stock 2, idle, the holding of 1 is paid for ever."""
    exact = ExactPlant(tiny(demand_distribution={"name": "pmf", "vals": [0], "probs": [1.0]}))
    solved = exact.discounted(0.9)
    assert solved.value[0, 2] == pytest.approx(-1 / (1 - 0.9), abs=1e-9)
    assert solved.value[0, 0] == pytest.approx(0, abs=1e-9)


def test_the_reset_distribution_is_the_plants() -> None:
    instance = plant()
    exact = ExactPlant(instance)
    value = np.random.default_rng(0).random(exact.state_shape)
    stock, setups = Plant(instance).initial(np.random.default_rng(1), 40_000)
    drawn = value[(*setups.T, *stock.astype(int).T)]
    assert exact.expected_return(value) == pytest.approx(drawn.mean(), abs=5 * drawn.std() / 200)


@pytest.mark.parametrize("observe_time", [False, True])
def test_an_agent_is_tabulated_by_what_it_sees(observe_time: bool) -> None:
    """An agent that reads the whole state, and the time, off its observations is the rule that does the same."""
    instance = plant()
    exact = ExactPlant(instance)

    def act(seen: np.ndarray) -> np.ndarray:
        low, has_setup = seen[:, 0] * 10 < 4.5, seen[:, 3] == 1
        late = seen[:, -1] < 0.5 if observe_time else np.zeros(len(seen), bool)
        return np.stack([np.where(low & ~late, 1, np.where(has_setup, 0, 2)), low * 1], axis=1)

    def rule(stock: np.ndarray, setups: np.ndarray, elapsed: int) -> np.ndarray:
        low, late = stock[0] < 4.5, observe_time and 1 - elapsed / 5 < 0.5
        return np.array([1 if low and not late else (0 if setups[0] == 1 else 2), int(low)])

    table = exact.tabulate(act, observe_time=observe_time)
    assert table.shape == ((5,) if observe_time else ()) + (*exact.state_shape, 2)
    worth = exact.expected_return(exact.evaluate(table))
    judged = evaluate_rule(rule, instance, 3000, 0)
    assert worth == pytest.approx(judged.mean(), abs=4 * judged.std() / np.sqrt(3000))


def test_hindsight_beats_the_optimum_and_enumeration_confirms_it() -> None:
    instance = load_instance("2x1")
    exact = ExactPlant(instance)
    solved = exact.finite_horizon()
    played = evaluate_rule(lambda stock, z, t: solved.policy[(t, *z, *stock.astype(int))], instance, 5, 3)
    best = np.array([exact.in_hindsight(episode) for episode in draw_episodes(instance, 5, 3)])
    assert (best >= played).all() and best.mean() > solved.expected_return
    small = plant(time_horizon=3)
    stock, setups, path = np.array([1.0, 2.0]), np.array([1, 0]), np.array([[3.0, 0.0], [3.0, 2.0], [1.0, 3.0]])
    totals = []
    for plan in product(product(range(3), repeat=2), repeat=3):
        state, z, total = stock[None], setups[None], 0.0
        for actions, demand in zip(plan, path, strict=True):
            produced = Plant(small).produce(state, z, np.array([actions]))
            sold = Plant(small).sell(produced.inventory, demand[None])
            total -= float(produced.setup_cost[0] + sold.lost_sales_cost[0] + sold.holding_cost[0])
            state, z = sold.inventory, produced.setups
        totals.append(total)
    assert ExactPlant(small).in_hindsight(Episode(stock, setups, path)) == pytest.approx(max(totals))


def test_what_is_too_large_or_not_whole_is_said_with_its_number() -> None:
    with pytest.raises(ValueError, match=r"1\.22e\+36 states"):
        ExactPlant(load_instance("15x5"))
    for changes in ({"demand_distribution": {"name": "normal", "mu": 2, "sigma": 1}}, {"setup_loss": [[1, 0.5], [1, 1]]}):
        with pytest.raises(ValueError, match="whole numbers"):
            ExactPlant(plant(**changes))


def test_bad_arguments_are_named() -> None:
    exact = ExactPlant(tiny())
    with pytest.raises(ValueError, match="gamma is 1"):
        exact.discounted(1)
    with pytest.raises(ValueError, match="policy has the shape"):
        exact.evaluate(np.zeros((3, 3), int))
    with pytest.raises(ValueError, match="actions from 0 to 2"):
        exact.evaluate(np.full((*exact.state_shape, 1), 2) * np.array([1, 0, 1])[:, None])


def test_discounts_near_one_end_where_rounding_does() -> None:
    plant = ExactPlant(load_instance("2x1"))
    found = plant.discounted(0.9999)
    again, _ = plant.decide(found.post_decision_value)
    np.testing.assert_allclose(again, found.value, rtol=1e-9)
