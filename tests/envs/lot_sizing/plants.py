"""Small plants that several tests share."""

from typing import Any

from rlspo.envs.lot_sizing import Instance

#: Two items, two machines; machine 2 cannot make item 2, and loses more than it makes of item 1 when it starts.
TWO_BY_TWO: dict[str, Any] = {
    "time_horizon": 5,
    "n_items": 2,
    "n_machines": 2,
    "max_inventory_level": [10, 8],
    "holding_costs": [0.1, 0.5],
    "lost_sales_costs": [2.0, 3.0],
    "demand_distribution": {"name": "discrete_uniform", "low": 0, "high": 4},
    "machine_production": [[5, 4], [2, 0]],
    "setup_costs": [[7, 11], [13, 17]],
    "setup_loss": [[1, 2], [3, 1]],
}


def plant(**changes: Any) -> Instance:
    """The instance above, changed."""
    return Instance.from_mapping({**TWO_BY_TWO, **changes}, "two by two")


def tiny(**changes: Any) -> Instance:
    """One item, one machine, two units of cap, two periods: small enough to enumerate."""
    return plant(
        **{
            "time_horizon": 2,
            "n_items": 1,
            "n_machines": 1,
            "max_inventory_level": [2],
            "holding_costs": [0.5],
            "lost_sales_costs": [4.0],
            "demand_distribution": {"name": "pmf", "vals": [0, 2], "probs": [0.25, 0.75]},
            "machine_production": [[2]],
            "setup_costs": [[1.0]],
            "setup_loss": [[1]],
            **changes,
        }
    )
