"""Weights, moments and statistics that are known to be sound, to go back to where numbers stop being finite."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch

Tensor = torch.Tensor


class LastGood:
    """Keeps a copy that is trusted once a loss computed with it was finite.

    Finite weights are no proof: after a step at an absurd learning rate they may be 1e30, and only the next loss shows it.

    :param tensors: those to be kept, the same ones in the same order at each call
    :param optimizer: one whose state is not among them
    """

    def __init__(self, tensors: Callable[[], list[Tensor]], optimizer: torch.optim.Optimizer | None = None) -> None:
        self._tensors, self._optimizer = tensors, optimizer
        self.forget()

    def forget(self) -> None:
        """Weights came from outside: what was kept is not theirs."""
        self._noted: tuple[list[Tensor], Any] | None = None
        self._trusted: tuple[list[Tensor], Any] | None = None

    def holds_nothing(self) -> bool:
        """Whether there is nothing to go back to."""
        return self._trusted is None and self._noted is None

    def note(self) -> None:
        """Copy what is there before it is used."""
        state = None if self._optimizer is None else copy.deepcopy(self._optimizer.state_dict())
        self._noted = [tensor.detach().clone() for tensor in self._tensors()], state

    def trust(self) -> None:
        """What was noted gave a finite loss."""
        if self._noted is not None:
            self._trusted, self._noted = self._noted, None

    @torch.no_grad()
    def restore(self) -> bool:
        """Put back what was last trusted or, before that, noted.

        :return: whether there was anything
        """
        copies, state = self._trusted or self._noted or ([], None)
        if copies:
            for tensor, kept in zip(self._tensors(), copies, strict=True):
                tensor.copy_(kept)
        if self._optimizer is not None and state is not None:
            self._optimizer.load_state_dict(copy.deepcopy(state))
        self._noted = None
        return bool(copies)
