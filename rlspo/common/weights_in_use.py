"""Values and log-probabilities of a step are those of the weights that acted, also where a callback changes them."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback, EventCallback

from rlspo.common.collector import EVALUATED, evaluated_fields
from rlspo.common.module_contents import ModuleContents
from rlspo.common.rollout_buffer import RolloutBuffer
from rlspo.common.sequences import MEMORY, with_memory
from rlspo.common.trees import tree_map

_KNOWN = ("stable_baselines3.", "rlspo.")


class WeightsInUse:
    """Evaluates the steps of a rollout, which acting with NumPy leaves for later, in as few passes as there were weights.

    :param policy: that acts
    :param weights: all that it learns, in one vector
    :param callback: of the training; those of SB3 and of this package do not write to a policy
    """

    def __init__(self, policy: Any, weights: torch.Tensor, callback: BaseCallback) -> None:
        self.policy = policy
        #: The first step that was not evaluated yet.
        self.step = 0
        self._looks = of_users(callback)
        self.look(weights)

    def look(self, weights: torch.Tensor) -> None:
        """Remember the policy as it is now.

        :param weights: where they are now
        """
        self.weights = weights
        if self._looks:
            self._contents, self._buffers = ModuleContents(self.policy), [*self.policy.buffers()]
            self._before = [tensor.detach().clone() for tensor in self._tensors]

    @property
    def _tensors(self) -> list[torch.Tensor]:
        return [self.weights, *self._buffers]

    def changed(self) -> bool:
        """Whether a callback has written to the weights since the last look, moved them, or replaced a layer."""
        return self._looks and not (self._contents.are_same() and all(map(torch.equal, self._before, self._tensors)))

    def evaluate_until(self, step: int, buffer: RolloutBuffer, given: tuple[str, ...] = ()) -> None:
        """Fill in the values and log-probabilities of all steps before ``step``, by the weights from before a change.

        :param given: fields that are there already
        """
        missing = [name for name in EVALUATED if name in buffer.data and name not in given]
        rows = slice(self.step * buffer.n_envs, step * buffer.n_envs)
        self.step = step
        if not missing or rows.start == rows.stop:
            return
        if not self.changed():
            self._evaluate(rows, buffer, missing)
            return
        now = [tensor.detach().clone() for tensor in self._tensors]
        with self._contents.as_before():
            try:
                self._write(self._before)
                self._evaluate(rows, buffer, missing)
            finally:
                self._write(now)
        self.look(self.weights)

    def _evaluate(self, rows: slice, buffer: RolloutBuffer, missing: list[str]) -> None:
        seen = buffer.flat("observations")
        if MEMORY in buffer.data:
            seen = with_memory(seen, buffer.flat(MEMORY), buffer.flat("episode_starts"))
        if rows != slice(0, len(buffer.flat("actions"))):  # images are put together where they are read
            seen = tree_map(lambda column: column[rows], seen)
        found = evaluated_fields(self.policy, seen, buffer.flat("actions")[rows], missing)
        for name, column in found.items():
            buffer.flat(name)[rows] = column

    @torch.no_grad()
    def _write(self, values: list[torch.Tensor]) -> None:
        for tensor, value in zip(self._tensors, values, strict=True):
            tensor.copy_(value)


def of_users(callback: BaseCallback) -> bool:
    """Whether a callback, or one inside of it, is neither SB3's nor this package's."""
    inside: list[BaseCallback] = list(callback.callbacks) if isinstance(callback, CallbackList) else []
    if isinstance(callback, ConvertCallback):
        return callback.callback is not None
    events = ("callback", "callback_on_new_best", "callback_after_eval") if isinstance(callback, EventCallback) else ()
    inside += [found for name in events if (found := getattr(callback, name, None)) is not None]
    return not type(callback).__module__.startswith(_KNOWN) or any(map(of_users, inside))
