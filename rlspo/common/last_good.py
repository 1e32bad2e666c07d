"""The last weights, moments and statistics with a finite loss, to restore when numbers become NaN or infinite."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch

Tensor = torch.Tensor


class LastGood:
    """Keeps a copy, which is trusted once a loss computed with it was finite.

    Finite weights are no proof: after a step at an absurd learning rate they may be 1e30, and only the next loss shows it.

    :param tensors: returns the tensors to copy, in the same order at each call
    :param optimizer: an optimiser whose state is not among them
    """

    def __init__(self, tensors: Callable[[], list[Tensor]], optimizer: torch.optim.Optimizer | None = None) -> None:
        self._tensors, self._optimizer = tensors, optimizer
        self.forget()

    def forget(self) -> None:
        """Discard the copies: weights were set from outside."""
        self._noted: tuple[list[Tensor], Any] | None = None
        self._trusted: tuple[list[Tensor], Any] | None = None

    def holds_nothing(self) -> bool:
        """Whether there is nothing to restore."""
        return self._trusted is None and self._noted is None

    def note(self) -> None:
        """Copy the current values before an update uses them."""
        state = None if self._optimizer is None else copy.deepcopy(self._optimizer.state_dict())
        self._noted = [tensor.detach().clone() for tensor in self._tensors()], state

    def trust(self) -> None:
        """Mark the noted values as good: they gave a finite loss."""
        if self._noted is not None:
            self._trusted, self._noted = self._noted, None

    @torch.no_grad()
    def restore(self) -> bool:
        """Restore the last trusted values or, if there are none, the noted ones.

        :return: whether there were any
        """
        copies, state = self._trusted or self._noted or ([], None)
        if copies:
            for tensor, kept in zip(self._tensors(), copies, strict=True):
                tensor.copy_(kept)
        if self._optimizer is not None and state is not None:
            self._optimizer.load_state_dict(copy.deepcopy(state))
        self._noted = None
        return bool(copies)
