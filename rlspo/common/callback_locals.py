"""The local variables that callbacks see during a rollout: SB3's names and types, computed on access."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import obs_as_tensor

from rlspo.common.collector import evaluate_in_batches
from rlspo.common.spaces import as_env_numbers


class _Later:
    """Placeholder in the collector's local variables for a value that only callbacks need."""


LATER = _Later()


class RolloutLocals(dict[str, Any]):
    """The collector's local variables. ``obs_tensor``, ``values`` and ``log_probs`` are tensors as in SB3; where a small
    network acts on a CPU they are computed only when read.

    :param seen: the callbacks' earlier local variables
    :param policy: the acting policy
    """

    def __init__(self, seen: dict[str, Any], policy: Any) -> None:
        super().__init__(dict.items(seen))  # as they are stored: what is read is computed
        self._policy = policy

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        if isinstance(value, _Later):
            value = self[name] = getattr(self, f"_{name}")()
        # The collector numbers discrete actions from 0.
        return as_env_numbers(value, self._policy.action_space) if name == "actions" else value

    def _obs_tensor(self) -> Any:
        return obs_as_tensor(self["acted_on"], self._policy.device)

    def _values(self) -> torch.Tensor:
        if self["rollout_ended"]:  # of the next observations
            values = self["last_values"]
        else:
            values = self["acted_values"] if self["acted_values"] is not None else self._evaluated()[0]
        return torch.as_tensor(values, device=self._policy.device).reshape(-1, 1)

    def _log_probs(self) -> torch.Tensor:
        log_probs = self["acted_log_probs"] if self["acted_log_probs"] is not None else self._evaluated()[1]
        return torch.as_tensor(log_probs, device=self._policy.device)

    def _evaluated(self) -> Any:
        return evaluate_in_batches(self._policy, self["acted_on"], super().__getitem__("actions"))

    # All ways to read use ``__getitem__``; a copy is a plain dictionary.

    def __iter__(self) -> Iterator[str]:
        # Needed so that dict(locals) reads by keys and __getitem__: for a subclass with dict's own __iter__, CPython copies
        # the stored values directly.
        return super().__iter__()

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self[name]
        except KeyError:
            return default

    def values(self) -> Any:
        return [self[name] for name in self]

    def items(self) -> Any:
        return [(name, self[name]) for name in self]

    def copy(self) -> dict[str, Any]:
        return dict(self.items())


def show_locals(callback: BaseCallback, policy: Any) -> None:
    """Give a callback and the callbacks inside it :class:`RolloutLocals`; called once per rollout.

    :param policy: the acting policy in it
    """
    replaced: dict[int, RolloutLocals] = {}
    found, waiting = {id(callback)}, [callback]
    while waiting:
        one = waiting.pop()
        before = one.locals  # nested callbacks may share one dictionary
        one.locals = replaced.setdefault(id(before), RolloutLocals(before, policy))
        for part in vars(one).values():
            inner = [each for each in (part if isinstance(part, list | tuple) else [part]) if isinstance(each, BaseCallback)]
            waiting += [each for each in inner if id(each) not in found]
            found |= set(map(id, inner))
