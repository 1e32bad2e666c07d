"""The simulation layer of a perturbed task."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rlspo.common.trees import tree_map
from rlspo.envs.stochastic.perturbation import Perturbation
from rlspo.simulators.base import Array, Layer, Outcome
from rlspo.simulators.rows import numpy_of

Memory = dict[str, Array]


class StochasticLayer(Layer):
    """Applies the wrapper's perturbation to many states, including its random numbers.

    A branch of a captured state has the random numbers and the drift of the environment itself, to the last bit. After
    :meth:`reseed` each row has its own random numbers, and deterministic schedules continue. Drifting physics need a copy of
    MuJoCo's model for each level. In reseeded branches of a random walk the levels are rounded to multiples of 1/32 to limit
    these.

    :param wrapper: its settings are read
    :param perturbation: of the wrapper
    """

    def __init__(self, wrapper: Any, perturbation: Perturbation) -> None:
        super().__init__(wrapper)
        self.perturbation, self.stochastic = perturbation, perturbation.stochastic

    def capture(self, wrapper: Any) -> dict[str, np.ndarray]:
        return {name: array.copy() for name, array in wrapper.chance.memory.items()}

    def restore(self, wrapper: Any, memory: dict[str, np.ndarray]) -> None:
        wrapper.chance.memory = {name: array.copy() for name, array in memory.items()}
        wrapper.follow_drift()

    def reseed(self, memory: Memory, seed: int) -> Memory:
        return _like(memory, self.perturbation.reseeded(numpy_of(memory), seed % 2**64))

    def before(self, memory: Memory, actions: Array) -> tuple[Memory, Array]:
        known, executed = self.perturbation.act(numpy_of(memory), numpy_of(actions))
        return _like(memory, known), _like(actions, executed)

    def reach(self, memory: Memory, states: Any, live: Array) -> Any:
        force, jump = self.perturbation.pushes(numpy_of(memory))
        drift = self.perturbation.model_drift
        if force is None and jump is None and drift is None:
            return states
        # MuJoCo need not be installed.
        from rlspo.simulators.mujoco import reaching_in

        if drift is not None:
            states = reaching_in.with_models(states, self.perturbation.model_levels(memory), drift.model_at)
        if force is not None:
            # Also for states that are not stepped: the forces are removed again.
            reaching_in.push(states, force)
        if jump is not None:
            reaching_in.kick(states, jump * live[:, None])
        return states

    def after(self, memory: Memory, outcome: Outcome) -> tuple[Memory, Outcome]:
        known = numpy_of(memory)
        force, _ = self.perturbation.pushes(known)
        if force is not None:
            from rlspo.simulators.mujoco import reaching_in

            reaching_in.push(outcome.states, force, sign=-1)
        new, rewards, seen = self.perturbation.end(known, numpy_of(outcome.rewards), numpy_of(outcome.observations))
        return _like(memory, new), outcome._replace(
            rewards=_like(outcome.rewards, rewards), observations=_like(outcome.observations, seen)
        )


def _like(given: Any, found: Any) -> Any:
    """NumPy's arrays as tensors where ``given`` are."""
    leaf = next(iter(given.values())) if isinstance(given, dict) else given
    if not isinstance(leaf, torch.Tensor):
        return found
    return tree_map(lambda array: torch.as_tensor(array, device=leaf.device), found)
