"""The dynamics against examples worked out by hand, in the order of events; and where episodes start."""

from typing import Any

import numpy as np
import pytest

from rlspo.envs.lot_sizing import LotSizingEnv, load_instance
from rlspo.envs.lot_sizing.plant import Plant
from tests.envs.lot_sizing.plants import plant


def period(inventory: list[int], setups: list[int], actions: list[int], demand: list[int]) -> tuple[Any, Any]:
    """One period of the plant of two items and two machines."""
    step = Plant(plant())
    produced = step.produce(np.array([inventory], float), np.array([setups]), np.array([actions]))
    return produced, step.sell(produced.inventory, np.array([demand], float))


# Production [[5, 4], [2, 0]], setup costs [[7, 11], [13, 17]], losses [[1, 2], [3, 1]], caps 10 and 8, holding 0.1 and 0.5,
# lost sales 2 and 3.
@pytest.mark.parametrize(
    ("inventory", "setups", "actions", "demand", "before_demand", "after", "setup", "lost", "holding"),
    [
        pytest.param([3, 3], [1, 0], [1, 0], [0, 0], [8, 3], [8, 3], 0, 0, 0.8 + 1.5, id="going on costs nothing"),
        pytest.param([3, 3], [2, 0], [1, 0], [0, 0], [7, 3], [7, 3], 7, 0, 0.7 + 1.5, id="changing costs setup and loss"),
        pytest.param([3, 3], [0, 0], [1, 0], [0, 0], [7, 3], [7, 3], 7, 0, 0.7 + 1.5, id="so does starting from idle"),
        pytest.param([3, 3], [1, 1], [0, 0], [0, 0], [3, 3], [3, 3], 0, 0, 0.3 + 1.5, id="stopping is free"),
        pytest.param([3, 3], [1, 1], [1, 1], [0, 0], [10, 3], [10, 3], 0, 0, 1.0 + 1.5, id="two machines make one item"),
        pytest.param([0, 0], [1, 1], [2, 1], [0, 0], [2, 2], [2, 2], 11, 0, 0.2 + 1.0, id="each machine pays for itself"),
        pytest.param([0, 0], [0, 0], [0, 1], [2, 0], [-1, 0], [0, 0], 13, 6, 0, id="a loss beyond production is missing too"),
        pytest.param([3, 3], [0, 0], [0, 2], [0, 0], [3, 2], [3, 2], 17, 0, 0.3 + 1.0, id="what cannot be made costs as well"),
        pytest.param([1, 2], [0, 0], [0, 0], [4, 3], [1, 2], [0, 0], 0, 6 + 3, 0, id="sales are lost, not owed"),
        pytest.param([9, 8], [1, 0], [1, 0], [0, 0], [14, 8], [10, 8], 0, 0, 1.0 + 4.0, id="the cap after demand, for free"),
        pytest.param([9, 8], [1, 0], [1, 0], [6, 0], [14, 8], [8, 8], 0, 0, 0.8 + 4.0, id="demand comes before the cap"),
    ],
)
def test_a_period_by_hand(
    inventory: Any,
    setups: Any,
    actions: Any,
    demand: Any,
    before_demand: Any,
    after: Any,
    setup: float,
    lost: float,
    holding: float,
) -> None:
    produced, sold = period(inventory, setups, actions, demand)
    assert produced.inventory[0].tolist() == before_demand
    assert produced.setups[0].tolist() == actions
    assert produced.setup_cost[0] == setup
    assert sold.inventory[0].tolist() == after
    assert sold.lost_sales_cost[0] == pytest.approx(lost)
    assert sold.holding_cost[0] == pytest.approx(holding)


def test_a_setup_is_lost_in_a_period_of_idleness() -> None:
    env = LotSizingEnv(plant())
    env.reset(seed=0, options={"setups": [1, 0], "inventory": [0, 0], "demand": np.zeros((5, 2))})
    paid = [env.step(np.array([action, 0]))[4]["setup_cost"] for action in (1, 0, 1, 1)]
    assert paid == [0, 0, 7, 0]


def test_lost_sales_are_not_made_up_for_later() -> None:
    env = LotSizingEnv(plant())
    demand = np.zeros((5, 2))
    demand[0] = 3
    env.reset(seed=0, options={"setups": [1, 0], "inventory": [0, 0], "demand": demand})
    assert env.step(np.array([0, 0]))[4]["lost_sales_cost"] == 3 * 2 + 3 * 3
    assert env.step(np.array([0, 0]))[4]["lost_sales_cost"] == 0
    env.step(np.array([1, 0]))
    assert env.inventory.tolist() == [4, 0], "all that is made is in stock"


def test_many_copies_are_each_as_one() -> None:
    instance = load_instance("15x5")
    step, generator = Plant(instance), np.random.default_rng(0)
    inventory, setups = step.initial(generator, 50)
    actions = generator.integers(0, 16, (50, 5))
    demand = instance.demand.sample(generator, 50)
    together = step.produce(inventory, setups, actions)
    sold = step.sell(together.inventory, demand)
    for k in range(50):
        one = step.produce(inventory[k : k + 1], setups[k : k + 1], actions[k : k + 1])
        alone = step.sell(one.inventory, demand[k : k + 1])
        np.testing.assert_array_equal(one.inventory[0], together.inventory[k])
        np.testing.assert_array_equal(alone.inventory[0], sold.inventory[k])
        assert one.setup_cost[0] == together.setup_cost[k]
        assert alone.lost_sales_cost[0] == pytest.approx(sold.lost_sales_cost[k])
        assert alone.holding_cost[0] == pytest.approx(sold.holding_cost[k])


def test_episodes_start_with_uniform_stock_below_the_cap_and_setups_that_can_be_made() -> None:
    instance, copies = plant(), 40_000
    inventory, setups = Plant(instance).initial(np.random.default_rng(1), copies)
    for item, cap in enumerate((10, 8)):
        counts = np.bincount(inventory[:, item].astype(int), minlength=cap + 1)
        assert counts[cap] == 0
        expected = copies / cap
        assert (np.abs(counts[:cap] - expected) < 5 * np.sqrt(expected)).all()
    assert np.bincount(setups[:, 0], minlength=3)[1:] == pytest.approx(copies / 2, rel=0.05)
    assert set(setups[:, 0]) == {1, 2} and set(setups[:, 1]) == {1}


def test_masks_leave_out_what_cannot_be_made_and_never_idleness() -> None:
    assert Plant(plant()).action_masks().reshape(2, 3).tolist() == [[True, True, True], [True, True, False]]
