"""Every random number of an agent comes from its own generators, derived from one seed; global ones are left alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


class Randomness:
    """Generators from one seed: ``numpy`` and ``torch`` for training, ``predict`` for samples that users ask for (so that
    evaluating an agent on the way does not change how it learns).

    :param seed: None draws fresh entropy from the operating system
    :param device: where the torch generator lives
    """

    def __init__(self, seed: int | None, device: torch.device | str) -> None:
        numpy_seed, *torch_seeds = np.random.SeedSequence(seed).spawn(3)
        self.numpy = np.random.default_rng(numpy_seed)
        self.torch, self.predict = (
            torch.Generator(device=device).manual_seed(int(child.generate_state(1, np.uint64)[0] >> 1))
            for child in torch_seeds
        )

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` needs, picklable."""
        torch_states = {name: getattr(self, name).get_state().numpy() for name in ("torch", "predict")}
        return {"numpy": self.numpy.bit_generator.state, **torch_states}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state` was taken."""
        self.numpy.bit_generator.state = state["numpy"]
        for name in ("torch", "predict"):
            # Generators of a CPU and of a GPU have no common state: from one to the other the stream is a new one.
            with contextlib.suppress(RuntimeError):
                getattr(self, name).set_state(torch.as_tensor(state[name]))

    @staticmethod
    @contextlib.contextmanager
    def fork(seed: int | None) -> Iterator[None]:
        """Run code that draws from torch's global generator (network initialisation) without leaving a trace on it.

        :param seed: for the generator inside; None draws fresh entropy
        """
        with torch.random.fork_rng():
            torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
            yield

    @contextlib.contextmanager
    def lend_numpy(self) -> Iterator[None]:
        """Run code of others that draws from NumPy's global generator: what it draws comes from here, without a trace."""
        state = np.random.get_state()
        np.random.seed(int(self.numpy.integers(2**32)))
        try:
            yield
        finally:
            np.random.set_state(state)
