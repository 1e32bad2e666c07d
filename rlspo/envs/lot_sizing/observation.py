"""Observations of a plant: stock, setups and, optionally, the remaining time."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

from rlspo.envs.arguments import flag
from rlspo.envs.lot_sizing.instance import Instance

Array = np.ndarray


class PlantObservation:
    """Maps arrays of a plant's state to observations.

    An observation is a vector: stock of each item, then for each machine one number for idle and for each item, 1 for its
    setup (one-hot), then the remaining fraction of the episode.

    :param instance: of the plant
    :param scaled: stock as a fraction of the cap; False: in units
    :param setups: include the setups; the published agents do not see them
    :param time: include the remaining time
    :raises ValueError: if one of these is neither True nor False; the message uses the environment's argument name
    """

    def __init__(self, instance: Instance, scaled: bool, setups: bool, time: bool) -> None:
        for name, value in (("scale_inventory", scaled), ("observe_setups", setups), ("observe_time", time)):
            flag(name, value)
        self.n_items, self.n_actions = instance.n_items, instance.n_items + 1
        self.unit = instance.max_inventory_level if scaled else np.ones(instance.n_items)
        self.shows_setups, self.shows_time = setups, time
        self.size = self.n_items + setups * instance.n_machines * self.n_actions + time
        self._columns = self.n_items + np.arange(instance.n_machines) * self.n_actions
        cap = instance.max_inventory_level
        # The loss of production can exceed the production; several machines may make the same item.
        worst = np.minimum(instance.machine_production - instance.setup_loss, 0.0).sum(axis=0)
        most = cap + instance.machine_production.sum(axis=0)
        self.space = self._box(np.zeros_like(cap), cap)
        self.post_decision_space = self._box(worst, most)

    def _box(self, low: Array, high: Array) -> spaces.Box:
        rest = self.size - self.n_items
        lows, highs = np.concatenate([low / self.unit, np.zeros(rest)]), np.concatenate([high / self.unit, np.ones(rest)])
        return spaces.Box(lows.astype(np.float32), highs.astype(np.float32), dtype=np.float32)

    def __call__(self, inventory: Array, setups: Array, time_left: Array) -> Array:
        """Observations ``(B, size)``.

        :param inventory: ``(B, n_items)``
        :param setups: ``(B, n_machines)``
        :param time_left: fraction of the episode, ``(B,)``
        """
        seen = np.zeros((len(inventory), self.size), np.float32)
        seen[:, : self.n_items] = inventory / self.unit
        if self.shows_setups:
            seen[np.arange(len(seen))[:, None], self._columns + setups] = 1.0
        if self.shows_time:
            seen[:, -1] = time_left
        return seen

    def after_demand(self, post_decision: Array, inventory: Array, time_left: Array) -> Array:
        """The observation after demand: the post-decision observation with the remaining stock; setups are the same."""
        seen = post_decision.copy()
        seen[:, : self.n_items] = inventory / self.unit
        if self.shows_time:
            seen[:, -1] = time_left
        return seen
