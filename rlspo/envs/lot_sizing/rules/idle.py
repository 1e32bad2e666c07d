"""Two uninformed rules: never produce, and produce at random."""

from __future__ import annotations

import numpy as np

from rlspo.envs.lot_sizing.instance import Instance

Array = np.ndarray


class AlwaysIdle:
    """No machine makes anything: the cost of losing all sales that the initial stock does not meet.

    :param instance: of the plant
    """

    def __init__(self, instance: Instance) -> None:
        self._actions = np.zeros(instance.n_machines, np.int64)

    def __call__(self, inventory: Array, setups: Array, elapsed: int) -> Array:
        """Idle (0) for every machine, ``(n_machines,)``."""
        return self._actions.copy()


class UniformRandom:
    """Each machine draws from idle and all items, including those that it cannot make, like an untrained agent.

    :param instance: of the plant
    :param generator: of the draws
    """

    def __init__(self, instance: Instance, generator: np.random.Generator) -> None:
        self._n_machines, self._n_actions = instance.n_machines, instance.n_items + 1
        self._generator = generator

    def __call__(self, inventory: Array, setups: Array, elapsed: int) -> Array:
        """Random actions, ``(n_machines,)``."""
        return self._generator.integers(self._n_actions, size=self._n_machines)
