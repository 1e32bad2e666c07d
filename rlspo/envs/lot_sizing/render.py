"""A picture of a plant."""

from __future__ import annotations

import numpy as np

from rlspo.envs.lot_sizing.instance import Instance

Array = np.ndarray


def draw_plant(
    instance: Instance, inventory: Array, setups: Array, demand: Array | None, elapsed: int, costs: Array
) -> Array:
    """Placeholder."""
    raise NotImplementedError
