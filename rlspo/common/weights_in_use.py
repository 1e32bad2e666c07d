"""Values and log-probabilities of a step are those of the weights that acted, also where a callback changes them."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback, EventCallback

from rlspo.common.collector import EVALUATED, evaluated_fields
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
        self.policy, self.weights = policy, weights
        #: The first step that was not evaluated yet.
        self.step = 0
        self._before = weights.detach().clone() if of_users(callback) else None

    def changed(self) -> bool:
        """Whether a callback has written to the weights since the last look."""
        return self._before is not None and not torch.equal(self._before, self.weights)

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
        now = self.weights.detach().clone()
        try:
            self._write(self._before)
            self._evaluate(rows, buffer, missing)
        finally:
            self._write(now)
        self._before = now

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
    def _write(self, weights: Any) -> None:
        self.weights.copy_(weights)


def of_users(callback: BaseCallback) -> bool:
    """Whether a callback, or one inside of it, is neither SB3's nor this package's."""
    if isinstance(callback, CallbackList):
        return any(map(of_users, callback.callbacks))
    if isinstance(callback, ConvertCallback):
        return callback.callback is not None
    events = ("callback", "callback_on_new_best", "callback_after_eval") if isinstance(callback, EventCallback) else ()
    inside = [found for name in events if (found := getattr(callback, name, None)) is not None]
    return not type(callback).__module__.startswith(_KNOWN) or any(map(of_users, inside))
