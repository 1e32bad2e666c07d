"""Every random number of an agent comes from its own generators, derived from one seed; global generators are not changed.

Other code draws from the global generators of Python, NumPy and torch: dropout, and many environments. While an agent with a
seed learns, these are seeded from the agent's seed and restored afterwards. An agent without a seed leaves them to the
program, as in SB3.
"""

from __future__ import annotations

import contextlib
import random
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

#: The global generators belong to the whole process. If agents learn in several threads, the first one seeds them, the others
#: use that, and the last one restores the state from before. Here: the threads that use them, and the state to restore.
_LENDING = threading.RLock()
#: One thread at a time has torch's generators for what it initialises.
_FORKED = threading.RLock()
_in_use: list[int] = []
_before_all: list[dict[str, Any]] = []


def fresh_state(seed: int | Sequence[int] | None, device: torch.device | str = "cpu") -> dict[str, Any]:
    """A state of the global generators of Python, NumPy and torch, each with its own seed.

    :param seed: one number or several; None draws fresh entropy from the operating system
    :param device: device of torch's generator, besides the CPU
    """
    of_python, of_numpy, of_torch = map(int, np.random.SeedSequence(seed).generate_state(3))
    version, words, gauss = random.Random(of_python).getstate()
    state = {
        "python": (version, np.array(words, np.uint32), gauss),
        "numpy": np.random.RandomState(of_numpy).get_state(),
        "torch": torch.Generator().manual_seed(of_torch).get_state().numpy(),
    }
    if torch.device(device).type == "cuda":
        state["cuda"] = [torch.Generator(device).manual_seed(of_torch).get_state().numpy()] * torch.cuda.device_count()
    return state


def global_state() -> dict[str, Any]:
    """The state of the global generators, as :func:`restore_globals` takes it; picklable."""
    version, words, gauss = random.getstate()
    state = {
        "python": (version, np.array(words, np.uint32), gauss),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state().numpy(),
    }
    if torch.cuda.is_initialized():
        state["cuda"] = [one.numpy() for one in torch.cuda.get_rng_state_all()]
    return state


def restore_globals(state: dict[str, Any]) -> None:
    """Restore the global generators to a state from :func:`global_state`."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    np.random.set_state(state["numpy"])
    torch.set_rng_state(torch.as_tensor(state["torch"]))
    for index, one in enumerate(state.get("cuda", [])[: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(torch.as_tensor(one), index)


@contextlib.contextmanager
def generators_kept() -> Iterator[None]:
    """Context that restores the global generators of Python, NumPy and torch at its end."""
    before = global_state()
    try:
        yield
    finally:
        restore_globals(before)


@contextlib.contextmanager
def generators_seeded(seed: int | Sequence[int]) -> Iterator[None]:
    """Context in which the global generators are seeded; their state is restored at its end.

    :param seed: one number or several
    """
    with generators_kept():
        restore_globals(fresh_state(seed, "cuda" if torch.cuda.is_initialized() else "cpu"))
        yield


class Randomness:
    """Generators from one seed: ``numpy`` and ``torch`` for training, ``predict`` for samples in :meth:`predict`; and a state
    of the global ones, for other code.

    So an evaluation during training does not change how an agent learns, unless environments draw from the global generators.
    Then put :func:`generators_seeded` around the evaluation, as the zoo does.

    :param seed: None draws fresh entropy from the operating system, and leaves the global generators to the program
    :param device: device of the torch generator
    """

    def __init__(self, seed: int | None, device: torch.device | str) -> None:
        numpy_seed, *torch_seeds, global_seed = np.random.SeedSequence(seed).spawn(4)
        self.numpy = np.random.default_rng(numpy_seed)
        self.torch, self.predict = (
            torch.Generator(device=device).manual_seed(int(child.generate_state(1, np.uint64)[0] >> 1))
            for child in torch_seeds
        )
        self._for_others = None if seed is None else fresh_state(int(global_seed.generate_state(1)[0]), device)
        self._lent = False

    def state(self) -> dict[str, Any]:
        """The state for :meth:`restore`, picklable."""
        torch_states = {name: getattr(self, name).get_state().numpy() for name in ("torch", "predict")}
        for_others = global_state() if self._lent else self._for_others
        return {"numpy": self.numpy.bit_generator.state, **torch_states, "for_others": for_others}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a state from :meth:`state`."""
        self.numpy.bit_generator.state = state["numpy"]
        for name in ("torch", "predict"):
            # Generators of a CPU and a GPU have different states: after a change of device the stream is a new one.
            with contextlib.suppress(RuntimeError):
                getattr(self, name).set_state(torch.as_tensor(state[name]))
        self._for_others = state.get("for_others", self._for_others)

    @contextlib.contextmanager
    def lend_globals(self) -> Iterator[None]:
        """Context for code that draws from the global generators: they continue from the agent's last state and are restored
        at the end.

        Without a seed they are not changed.
        """
        if self._for_others is None:
            yield
            return
        thread = threading.get_ident()
        with _LENDING:
            alone, before = all(other == thread for other in _in_use), global_state()
            _before_all.extend([] if _in_use else [before])
            _in_use.append(thread)
            if alone:
                restore_globals(self._for_others)
                self._lent = True
        if not alone:
            warnings.warn(
                "Agents learn in several threads at the same time: what environments and dropout draw from the global "
                "generators of Python, NumPy and torch is not decided by seed then. Train in processes where it is to be.",
                stacklevel=2,
            )
        try:
            yield
        finally:
            with _LENDING:
                _in_use.remove(thread)
                if alone:
                    self._for_others, self._lent = global_state(), False
                if not _in_use:
                    restore_globals(_before_all.pop())
                elif alone and all(other == thread for other in _in_use):  # training inside of another training
                    restore_globals(before)

    @staticmethod
    @contextlib.contextmanager
    def fork(seed: int | None, device: torch.device | str = "cpu") -> Iterator[None]:
        """Context for code that draws from torch's global generators (network initialisation): they are seeded, and restored
        afterwards.

        :param seed: for the generators inside; None draws fresh entropy
        :param device: whose generator is drawn from besides the CPU's; those of others are not touched, nor initialised
        """
        number = int(np.random.SeedSequence(seed).generate_state(1)[0])
        on_gpu = torch.device(device).type == "cuda"
        with _FORKED, torch.random.fork_rng(devices=[torch.device(device)] if on_gpu else []):
            torch.default_generator.manual_seed(number)
            if on_gpu:
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(number)
            yield

    @contextlib.contextmanager
    def lend_numpy(self) -> Iterator[None]:
        """Context that seeds NumPy's global generator from ``numpy`` and restores it afterwards, for code that draws from
        it."""
        state = np.random.get_state()
        np.random.seed(int(self.numpy.integers(2**32)))
        try:
            yield
        finally:
            np.random.set_state(state)
