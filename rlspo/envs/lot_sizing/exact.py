"""Exact solutions of small plants by dynamic programming over the post-decision state.

With V for the state (setups, stock) and V^x for the post-decision state, both in rewards (minus costs),

::

    V^x(z, x) = E_d[ r^w(x, d) + gamma V(z, g(x, d)) ]          g: stock x after demand and cap
    V(z, I)   = max_a [ r^x(z, a) + V^x(a, I + made(z, a)) ]     the setups after a are a itself

Demand is independent across items, so the expectation is one matrix per item, applied axis by axis.

Index order, everywhere: setups first, then stock. ``value[z_1, ..., z_m, I_1, ..., I_n]`` with z from 0 (idle) to
``n_items`` and I from 0 to the cap; ``post_decision_value[z_1, ..., z_m, x_1, ..., x_n]`` with x counted from
``post_decision_low``; ``policy[..., k]``, one more axis behind those of ``value``, is the item of machine k. With time, it is
the first axis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from rlspo.envs.lot_sizing.instance import Instance
from rlspo.envs.lot_sizing.observation import PlantObservation
from rlspo.envs.lot_sizing.plant import Plant
from rlspo.envs.lot_sizing.rules.evaluate import Episode

Array = np.ndarray
#: Largest number of pairs of state and joint action; one sweep takes a second or two.
MAX_PAIRS = 10_000_000


class FiniteHorizon(NamedTuple):
    """The optimum over the episode, undiscounted, when the time is known.

    :param value: ``value[t]`` is the best expected return from period t to the end, ``(time_horizon + 1, *state)``
    :param policy: a best action, ``(time_horizon, *state, n_machines)``
    :param expected_return: over the initial states of episodes
    """

    value: Array
    policy: Array
    expected_return: float


class Discounted(NamedTuple):
    """The discounted optimum without a horizon.

    :param value: V, ``(*state)``
    :param post_decision_value: V^x, ``(*post_decision_state)``
    :param policy: a best action, ``(*state, n_machines)``
    """

    value: Array
    post_decision_value: Array
    policy: Array


class Chance(NamedTuple):
    """Demand: the second half of a period.

    :param transitions: for each item, the probabilities from stock before demand to stock after it
    :param reward: E[r^w] of every stock before demand
    """

    transitions: list[Array]
    reward: Array


class ExactPlant:
    """A plant whose states can be listed.

    :param instance: stock, production and demand in whole numbers, and few states: two items on a machine, three on two
    :raises ValueError: for an instance that is too large or not in whole numbers

    >>> from rlspo.envs.lot_sizing import load_instance
    >>> plant = ExactPlant(load_instance("2x1"))
    >>> plant.state_shape
    (3, 11, 11)
    >>> round(plant.finite_horizon().expected_return, 2)
    -135.2
    """

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.n_joint = (instance.n_items + 1) ** instance.n_machines
        _check(instance, self.n_joint)
        caps = instance.max_inventory_level.astype(int)
        setups = (instance.n_items + 1,) * instance.n_machines
        worst = np.minimum(instance.machine_production - instance.setup_loss, 0).sum(axis=0)
        self.post_decision_low = worst.astype(int)
        high = caps + instance.machine_production.sum(axis=0).astype(int)
        self.stock_shape = tuple(int(cap) + 1 for cap in caps)
        self.post_shape = tuple(int(size) for size in high - self.post_decision_low + 1)
        self.state_shape = setups + self.stock_shape
        self.post_decision_shape = setups + self.post_shape
        #: All setups, which are also the actions, ``(n_joint, n_machines)``.
        self.joint = np.stack(np.unravel_index(np.arange(self.n_joint), setups), axis=1)
        #: All stock levels, ``(number of stocks, n_items)``.
        self.stocks = np.stack([axis.ravel() for axis in np.indices(self.stock_shape)], axis=1)
        before, after = np.repeat(self.joint, self.n_joint, axis=0), np.tile(self.joint, (self.n_joint, 1))
        produced = Plant(instance).produce(np.zeros((len(before), instance.n_items)), before, after)
        #: r^x and the production, by index of the setups and of the action.
        self._decision_reward = -produced.setup_cost.reshape(self.n_joint, self.n_joint)
        self._made = produced.inventory.astype(int).reshape(self.n_joint, self.n_joint, -1)
        self._drawn = self._chance(instance.demand.tables)

    def _chance(self, tables: list[tuple[Array, Array]]) -> Chance:
        matrices, reward = [], np.zeros(self.post_shape)
        for item, (values, probabilities) in enumerate(tables):
            before = self.post_decision_low[item] + np.arange(self.post_shape[item])
            left = before[:, None] - values
            kept = np.clip(left, 0, self.stock_shape[item] - 1)
            matrix = np.zeros((self.post_shape[item], self.stock_shape[item]))
            np.add.at(matrix, (np.arange(len(before))[:, None], kept), np.broadcast_to(probabilities, kept.shape))
            costs = self.instance.lost_sales_costs[item] * np.maximum(-left, 0) + self.instance.holding_costs[item] * kept
            axis = [1] * len(self.post_shape)
            axis[item] = -1
            reward -= (costs @ probabilities).reshape(axis)
            matrices.append(matrix)
        return Chance(matrices, reward)

    def post_decision_value(self, value: Array, gamma: float = 1.0) -> Array:
        """V^x from the V of the next period.

        :param value: ``(*state)``
        :param gamma: discount factor
        :return: ``(*post_decision_state)``
        """
        return self._expect(self._drawn, value, gamma)

    def _expect(self, chance: Chance, value: Array, gamma: float) -> Array:
        expected = value.reshape(self.n_joint, *self.stock_shape)
        for item, matrix in enumerate(chance.transitions):
            expected = np.moveaxis(np.tensordot(matrix, expected, axes=(1, item + 1)), 0, item + 1)
        return (chance.reward + gamma * expected).reshape(self.post_decision_shape)

    def decide(self, post_decision_value: Array) -> tuple[Array, Array]:
        """V and a best joint action from V^x.

        :return: value ``(*state)`` and policy ``(*state, n_machines)``; the first of equally good actions
        """
        after = post_decision_value.reshape(self.n_joint, *self.post_shape)
        value = np.full((self.n_joint, *self.stock_shape), -np.inf)
        best = np.zeros(value.shape, np.int64)
        for setups in range(self.n_joint):
            for action in range(self.n_joint):
                start = self._made[setups, action] - self.post_decision_low
                window = tuple(slice(s, s + size) for s, size in zip(start, self.stock_shape, strict=True))
                candidate = self._decision_reward[setups, action] + after[action][window]
                better = candidate > value[setups]
                value[setups][better] = candidate[better]
                best[setups][better] = action
        return value.reshape(self.state_shape), self.joint[best].reshape(*self.state_shape, -1)

    def finite_horizon(self) -> FiniteHorizon:
        """The optimum of an episode with the time known, which also bounds policies without the time."""
        horizon = self.instance.time_horizon
        value = np.zeros((horizon + 1, *self.state_shape))
        policy = np.zeros((horizon, *self.state_shape, self.instance.n_machines), np.int8)
        for t in reversed(range(horizon)):
            value[t], policy[t] = self.decide(self.post_decision_value(value[t + 1]))
        return FiniteHorizon(value, policy, self.expected_return(value[0]))

    def in_hindsight(self, episode: Episode) -> float:
        """The best return in an episode with its demand known, an upper bound for every policy.

        :param episode: of :func:`~rlspo.envs.lot_sizing.rules.draw_episodes`
        """
        value = np.zeros(self.state_shape)
        for demand in episode.demand[::-1].astype(int):
            known = self._chance([(np.array([number]), np.ones(1)) for number in demand])
            value, _ = self.decide(self._expect(known, value, 1.0))
        return float(value[(*episode.setups, *episode.inventory.astype(int))])

    def discounted(self, gamma: float, tolerance: float = 1e-10) -> Discounted:
        """Value iteration. It stops early by the bounds of MacQueen (1966) on the remaining error, and returns their middle.

        :param gamma: discount factor, in [0, 1)
        :param tolerance: largest error of V, or of what rounding leaves of it: iteration ends where values no longer change
        :raises ValueError: for gamma of 1 or more
        """
        if not 0 <= gamma < 1:
            raise ValueError(f"gamma is {gamma}; it must be at least 0 and less than 1. finite_horizon() does not discount.")
        value = np.zeros(self.state_shape)
        while True:
            updated, policy = self.decide(self.post_decision_value(value, gamma))
            missing = gamma / (1 - gamma) * np.array([(updated - value).min(), (updated - value).max()])
            value = updated
            rounding = 8 * np.finfo(float).eps * np.abs(value).max() / (1 - gamma)
            if missing[1] - missing[0] < max(2 * tolerance, rounding):
                break
        value = value + missing.mean()
        return Discounted(value, self.post_decision_value(value, gamma), policy)

    def expected_return(self, value: Array) -> float:
        """Mean of ``value``, ``(*state)``, over the initial states of episodes: stock below the cap, items that the machines
        can make."""
        below = tuple(slice(0, size - 1) for size in self.stock_shape)
        mean = value.reshape(self.n_joint, *self.stock_shape)[(slice(None), *below)].reshape(self.n_joint, -1).mean(axis=1)
        share = self.instance.makeable / self.instance.makeable.sum(axis=1, keepdims=True)
        share = np.hstack([np.zeros((self.instance.n_machines, 1)), share])
        weights = share[np.arange(self.instance.n_machines), self.joint].prod(axis=1)
        return float(weights @ mean)

    def evaluate(self, policy: Array) -> Array:
        """The exact value of a policy over the episode.

        :param policy: ``(*state, n_machines)``, or ``(time_horizon, *state, n_machines)`` if it depends on the time
        :return: expected return to the end, from period 0, ``(*state)``; give it to :meth:`expected_return`
        :raises ValueError: for a policy of another shape, or actions that do not exist
        """
        horizon, shape = self.instance.time_horizon, (*self.state_shape, self.instance.n_machines)
        if policy.shape not in (shape, (horizon, *shape)):
            raise ValueError(f"policy has the shape {policy.shape}; it must be {shape}, or {(horizon, *shape)} with the time.")
        if policy.min() < 0 or policy.max() > self.instance.n_items:
            raise ValueError(f"policy has actions from {policy.min()} to {policy.max()}; items go to {self.instance.n_items}.")
        timed = policy.ndim > len(shape)
        value = np.zeros(self.state_shape)
        where, reward = self._follow(policy[-1] if timed else policy)
        for t in reversed(range(horizon)):
            if timed and t < horizon - 1:
                where, reward = self._follow(policy[t])
            value = (reward + self.post_decision_value(value).ravel()[where]).reshape(self.state_shape)
        return value

    def _follow(self, policy: Array) -> tuple[Array, Array]:
        """Flat index of the post-decision state under a policy, and r^x, for every state: ``(n_joint, stocks)``."""
        one_by_one = np.moveaxis(policy.reshape(self.n_joint, len(self.stocks), -1), -1, 0)
        action = np.ravel_multi_index(tuple(one_by_one.astype(np.int64)), self.state_shape[: self.instance.n_machines])
        setups = np.arange(self.n_joint)[:, None]
        after = self.stocks - self.post_decision_low + self._made[setups, action]
        place = np.ravel_multi_index(tuple(np.moveaxis(after, -1, 0)), self.post_shape)
        return action * int(np.prod(self.post_shape)) + place, self._decision_reward[setups, action]

    def tabulate(
        self,
        act: Callable[[Array], Array],
        observe_setups: bool = True,
        observe_time: bool = False,
        scale_inventory: bool = True,
    ) -> Array:
        """The policy of an agent as an array, for :meth:`evaluate`.

        :param act: from observations ``(B, size)`` to actions ``(B, n_machines)``; for an agent of SB3,
            ``lambda observations: model.predict(observations, deterministic=True)[0]``
        :param observe_setups: as in the agent's environment, like the other arguments
        :return: ``(*state, n_machines)``; with ``observe_time`` ``(time_horizon, *state, n_machines)``
        """
        view = PlantObservation(self.instance, scale_inventory, observe_setups, observe_time)
        setups = np.repeat(self.joint, len(self.stocks), axis=0)
        stocks = np.tile(self.stocks, (self.n_joint, 1)).astype(float)
        horizon = self.instance.time_horizon
        tables = [
            np.asarray(act(view(stocks, setups, np.full(len(stocks), 1 - t / horizon)))).astype(np.int8)
            for t in range(horizon if observe_time else 1)
        ]
        table = np.stack(tables).reshape(-1, *self.state_shape, self.instance.n_machines)
        return table if observe_time else table[0]


def _check(instance: Instance, n_joint: int) -> None:
    whole = (instance.max_inventory_level, instance.machine_production, instance.setup_loss)
    if not instance.demand.integer or any((array % 1).any() for array in whole):
        raise ValueError(f"{instance.name}: an exact solution needs caps, production, losses and demand in whole numbers.")
    states = float(np.prod(instance.max_inventory_level + 1)) * n_joint
    if states * n_joint > MAX_PAIRS:
        raise ValueError(
            f"{instance.name} has {states:.3g} states with {n_joint:.3g} actions each; an exact solution is possible up to "
            f"{MAX_PAIRS:.0e} pairs of state and action. Take a smaller instance, such as 2x1 or 3x2, or rlspo's rules."
        )
