"""Weights, moments and statistics that are known to be sound, to go back to where numbers stop being finite."""

from __future__ import annotations

from collections.abc import Callable

import torch

Tensor = torch.Tensor


class LastGood:
    """Keeps a copy that is trusted once a loss computed with it was finite.

    Finite weights are no proof: after a step at an absurd learning rate they may be 1e30, and only the next loss shows it.

    :param tensors: those to be kept, the same ones in the same order at each call
    """

    def __init__(self, tensors: Callable[[], list[Tensor]]) -> None:
        self._tensors = tensors
        self.forget()

    def forget(self) -> None:
        """Weights came from outside: what was kept is not theirs."""
        self._noted: list[Tensor] | None = None
        self._trusted: list[Tensor] | None = None

    @property
    def pending(self) -> bool:
        """Whether a copy waits for the proof."""
        return self._noted is not None

    def note(self) -> None:
        """Copy what is there before it is used."""
        self._noted = [tensor.detach().clone() for tensor in self._tensors()]

    def trust(self) -> None:
        """What was noted gave a finite loss."""
        if self._noted is not None:
            self._trusted, self._noted = self._noted, None

    @torch.no_grad()
    def restore(self) -> None:
        """Put back what was last trusted or, before that, noted."""
        kept = self._trusted or self._noted or []
        for tensor, copy in zip(self._tensors(), kept, strict=False):
            tensor.copy_(copy)
        self._noted = None
