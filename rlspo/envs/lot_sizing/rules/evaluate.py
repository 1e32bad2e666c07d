"""Evaluate a rule on episodes whose random numbers are the same for every rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from rlspo.envs.lot_sizing.instance import Instance
from rlspo.envs.lot_sizing.plant import Plant

Array = np.ndarray
#: From inventory ``(n_items,)`` in units, setups ``(n_machines,)`` and elapsed periods to actions ``(n_machines,)``.
Rule = Callable[[Array, Array, int], Array]


class Episode(NamedTuple):
    """All random quantities of an episode.

    :param inventory: the initial stock, ``(n_items,)``
    :param setups: the initial setups, ``(n_machines,)``
    :param demand: in each period, ``(time_horizon, n_items)``
    """

    inventory: Array
    setups: Array
    demand: Array


def draw_episodes(instance: Instance, n_episodes: int, seed: int) -> Iterator[Episode]:
    """Draw episodes. The k-th episode of a seed does not depend on their number.

    :param instance: of the plant
    :param n_episodes: number of episodes
    :param seed: of the draw
    """
    plant = Plant(instance)
    for sequence in np.random.SeedSequence(seed).spawn(n_episodes):
        generator = np.random.default_rng(sequence)
        inventory, setups = plant.initial(generator, 1)
        yield Episode(inventory[0], setups[0], instance.demand.sample(generator, instance.time_horizon))


def evaluate_rule(rule: Rule, instance: Instance, n_episodes: int, seed: int) -> Array:
    """Undiscounted returns of a rule. Rules evaluated with one seed get the same episodes, so compare them pairwise.

    :param rule: see :data:`Rule`
    :param instance: of the plant
    :param n_episodes: number of episodes
    :param seed: of the episodes; the same for rules that are compared
    :return: returns, minus the costs, ``(n_episodes,)``
    """
    plant = Plant(instance)
    returns = np.zeros(n_episodes)
    for k, (inventory, setups, path) in enumerate(draw_episodes(instance, n_episodes, seed)):
        for elapsed, demand in enumerate(path):
            actions = np.asarray(rule(inventory, setups, elapsed), np.int64)
            produced = plant.produce(inventory[None], setups[None], actions[None])
            sold = plant.sell(produced.inventory, demand[None])
            inventory, setups = sold.inventory[0], actions
            returns[k] -= float(produced.setup_cost[0]) + float(sold.lost_sales_cost[0]) + float(sold.holding_cost[0])
    return returns
