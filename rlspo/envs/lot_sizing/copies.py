"""Parallel copies of a plant: one for the scalar environment, many for the vectorised one."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rlspo.envs.lot_sizing.instance import Instance
from rlspo.envs.lot_sizing.observation import PlantObservation
from rlspo.envs.lot_sizing.plant import Plant, Produced
from rlspo.envs.lot_sizing.stream import DemandStream

Array = np.ndarray


class Period(NamedTuple):
    """The results of one period, a row for each copy."""

    post_decision: Array
    observation: Array
    setup_cost: Array
    lost_sales_cost: Array
    holding_cost: Array
    demand: Array
    over: Array


class Copies:
    """The state of ``n`` copies and its dynamics.

    :param instance: of the plant
    :param view: the observation
    :param n: number of copies
    """

    def __init__(self, instance: Instance, view: PlantObservation, n: int) -> None:
        self.instance, self.view, self.n = instance, view, n
        self.plant = Plant(instance)
        self.stream = DemandStream(instance.demand, n)
        self.inventory = np.zeros((n, instance.n_items))
        self.setups = np.zeros((n, instance.n_machines), np.int64)
        self.elapsed = np.zeros(n, np.int64)

    def seed(self, generator: np.random.Generator) -> None:
        """Draw from ``generator`` from now on."""
        self.stream.seed(generator)

    def begin(self, mask: Array, options: dict[str, Any]) -> None:
        """Start the episodes of the copies in ``mask``, ``(n,)``.

        :param options: ``inventory`` and ``setups`` to start from instead of a draw, ``start="instance"`` for those of the
            instance's file, and ``demand`` ``(time_horizon, n_items)`` to come in place of draws, in all copies
        :raises ValueError: for unknown options or invalid values
        """
        unknown = sorted(set(options) - {"inventory", "setups", "start", "demand", "reset_mask"})
        if unknown:
            raise ValueError(f"reset has no option {', '.join(unknown)}; it has inventory, setups, start and demand.")
        start = options.get("start", "random")
        if start not in ("random", "instance"):
            raise ValueError(f"start is {start!r}; it must be 'random' or 'instance' (what the instance's file says).")
        path = options.get("demand")
        expected = (self.instance.time_horizon, self.instance.n_items)
        if path is not None and np.shape(path) != expected:
            raise ValueError(f"demand has the shape {np.shape(path)}; it must be (time_horizon, n_items) = {expected}.")
        if path is not None and not (np.asarray(path, float) >= 0).all():
            raise ValueError("demand has numbers that are negative or none; it must be at least 0 everywhere.")
        if path is not None and not mask.all():
            raise ValueError("demand is one path for all copies; it cannot be given to some of them (reset_mask).")
        if path is None and self.stream.path is not None and not mask.all():
            raise ValueError("The copies follow one path of demand, and some cannot leave it alone: reset all (reset_mask).")
        inventory, setups = self.plant.initial(self.stream.generator, int(mask.sum()))
        if start == "instance":
            if self.instance.initial_inventory is None or self.instance.initial_setup is None:
                raise ValueError(f"{self.instance.name} has no initial_inventory and initial_setup to start from.")
            inventory[:], setups[:] = self.instance.initial_inventory, self.instance.initial_setup
        if options.get("inventory") is not None:
            cap, whole = self.instance.max_inventory_level, self.instance.demand.integer
            inventory[:] = _within("inventory", options["inventory"], cap, whole)
        if options.get("setups") is not None:
            setups[:] = _within("setups", options["setups"], np.full(self.instance.n_machines, self.instance.n_items), True)
        self.inventory[mask], self.setups[mask], self.elapsed[mask] = inventory, setups, 0
        self.stream.path = None if path is None else np.asarray(path, float)

    @property
    def time_left(self) -> Array:
        """Fraction of the episode that is left, ``(n,)``."""
        return _time_left(self.elapsed, self.instance)

    def observe(self) -> Array:
        """The current observations, ``(n, size)``."""
        return self.view(self.inventory, self.setups, self.time_left)

    def decide(self, actions: Array) -> tuple[Produced, Array]:
        """The post-decision state of ``actions``, ``(n, n_machines)``, and its observation; nothing changes."""
        produced = self.plant.produce(self.inventory, self.setups, actions)
        return produced, self.view(produced.inventory, produced.setups, self.time_left)

    def look_ahead(self, actions: Array) -> tuple[Array, Array]:
        """Post-decision observations and rewards of several actions of each copy, ``(n, M, n_machines)``; nothing changes.

        :return: ``(n, M, size)`` and ``(n, M)``
        """
        many = actions.shape[1]
        state = (np.repeat(self.inventory, many, axis=0), np.repeat(self.setups, many, axis=0))
        produced = self.plant.produce(*state, actions.reshape(self.n * many, -1))
        seen = self.view(produced.inventory, produced.setups, np.repeat(self.time_left, many))
        return seen.reshape(self.n, many, -1), -produced.setup_cost.reshape(self.n, many)

    def step(self, actions: Array) -> Period:
        """One period of every copy."""
        states = {"inventory": self.inventory, "setups": self.setups, "elapsed": self.elapsed}
        period, new = one_period(self.plant, self.view, states, actions, self.stream(self.elapsed))
        self.inventory, self.setups, self.elapsed = new["inventory"], new["setups"], new["elapsed"]
        return period


def one_period(
    plant: Plant, view: PlantObservation, states: dict[str, Array], actions: Array, demand: Array
) -> tuple[Period, dict[str, Array]]:
    """One period from any states: its results, and the next states. Arguments are not written to.

    :param states: ``inventory`` ``(n, n_items)``, ``setups`` ``(n, n_machines)`` and ``elapsed`` ``(n,)``
    :param actions: ``(n, n_machines)``, checked
    :param demand: ``(n, n_items)``
    """
    instance, elapsed = plant.instance, states["elapsed"] + 1
    produced = plant.produce(states["inventory"], states["setups"], actions)
    post_decision = view(produced.inventory, produced.setups, _time_left(states["elapsed"], instance))
    sold = plant.sell(produced.inventory, demand)
    observation = view.after_demand(post_decision, sold.inventory, _time_left(elapsed, instance))
    costs = (produced.setup_cost, sold.lost_sales_cost, sold.holding_cost)
    period = Period(post_decision, observation, *costs, demand, elapsed >= instance.time_horizon)
    # The actions are the caller's.
    return period, {"inventory": sold.inventory, "setups": produced.setups.copy(), "elapsed": elapsed}


def _time_left(elapsed: Array, instance: Instance) -> Array:
    """Fraction of the episode that is left, ``(n,)``."""
    return np.maximum(1.0 - elapsed / instance.time_horizon, 0.0)


def _within(name: str, value: Any, most: Array, whole: bool) -> Array:
    """``value`` as an array of the shape of ``most``, between 0 and it."""
    array = np.asarray(value, float)
    if array.shape != most.shape or not ((array >= 0) & (array <= most)).all() or (whole and (array % 1).any()):
        kind = "whole numbers" if whole else "numbers"
        raise ValueError(f"{name} is {value}; it must be {len(most)} {kind} from 0 to {most.astype(int).tolist()}.")
    return array
