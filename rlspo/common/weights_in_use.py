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
    :param callback: of the training; those of SB3 and of this package do not write to a policy
    """

    def __init__(self, policy: Any, callback: BaseCallback) -> None:
        self.policy = policy
        #: The first step that was not evaluated yet.
        self.step = 0
        self._before = self._copied() if of_users(callback) else None

    def _copied(self) -> list[torch.Tensor]:
        return [parameter.detach().clone() for parameter in self.policy.parameters()]

    def changed(self) -> bool:
        """Whether a callback has written to the weights since the last look."""
        if self._before is None:
            return False
        return not all(torch.equal(old, new) for old, new in zip(self._before, self.policy.parameters(), strict=True))

    def evaluate_until(self, step: int, buffer: RolloutBuffer, given: tuple[str, ...] = ()) -> None:
        """Fill in the values and log-probabilities of all steps before ``step``, by the weights from before a change.

        :param given: fields that are there already
        """
        missing = [name for name in EVALUATED if name in buffer.data and name not in given]
        rows = slice(self.step * buffer.n_envs, step * buffer.n_envs)
        self.step = step
        if not missing or rows.start == rows.stop:
            return
        now = None if self._before is None else self._copied()
        if now is not None:
            self._write(self._before)
        seen = buffer.flat("observations")
        if MEMORY in buffer.data:
            seen = with_memory(seen, buffer.flat(MEMORY), buffer.flat("episode_starts"))
        if rows != slice(0, len(buffer.flat("actions"))):  # images are put together where they are read
            seen = tree_map(lambda column: column[rows], seen)
        found = evaluated_fields(self.policy, seen, buffer.flat("actions")[rows], missing)
        for name, column in found.items():
            buffer.flat(name)[rows] = column
        if now is not None:
            self._write(now)
            self._before = now

    @torch.no_grad()
    def _write(self, weights: Any) -> None:
        for parameter, new in zip(self.policy.parameters(), weights, strict=True):
            parameter.copy_(new)


def of_users(callback: BaseCallback) -> bool:
    """Whether a callback, or one inside of it, is neither SB3's nor this package's."""
    if isinstance(callback, CallbackList):
        return any(map(of_users, callback.callbacks))
    if isinstance(callback, ConvertCallback):
        return callback.callback is not None
    inside = callback.callback if isinstance(callback, EventCallback) else None
    return not type(callback).__module__.startswith(_KNOWN) or (inside is not None and of_users(inside))
