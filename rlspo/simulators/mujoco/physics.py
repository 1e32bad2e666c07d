"""MuJoCo's own part of a step, for many states on several threads.

States are rows of ``mjSTATE_INTEGRATION``: positions, velocities, controls, applied forces and the solver's warm start. So a
step from a row equals, to the last bit, the step of the ``MjData`` that the row was read from.
"""

from __future__ import annotations

import importlib.util
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import mujoco
import numpy as np

INTEGRATION = int(mujoco.mjtState.mjSTATE_INTEGRATION)


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def component(model: Any, name: str) -> slice:
    """Where a part of the state lies in a row.

    :param name: as in ``mujoco.mjtState``, such as ``"QPOS"``
    """
    bit = int(getattr(mujoco.mjtState, f"mjSTATE_{name}"))
    # The parts are in the order of their bits.
    start = mujoco.mj_stateSize(model, INTEGRATION & (bit - 1))
    return slice(start, start + mujoco.mj_stateSize(model, bit))


class Physics(ABC):
    """Steps rows.

    :param fields: arrays of ``MjData`` that a step returns besides the rows
    :param threads: largest number, including the caller's
    """

    #: Smallest number of states per thread that is worth the overhead.
    rows_per_thread: int

    def __init__(self, fields: Sequence[str], threads: int) -> None:
        self.fields, self.threads = (*fields,), threads

    @abstractmethod
    def step(self, rows: np.ndarray, models: Sequence[Any], n_substeps: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """New rows, ``(n, row size)``, and the fields, ``(n, ...)`` each; all arrays are new.

        :param rows: ``(n, row size)``, n > 0, with the controls in them
        :param models: one for all rows, or one for each; all of the same sizes
        """

    def threads_for(self, n: int) -> int:
        """The number of threads worth using for ``n`` rows."""
        return max(1, min(self.threads, n // self.rows_per_thread))


class BatchPhysics(Physics):
    """Uses ``mujoco.batch`` (MuJoCo 4.0) with native threads. It returns only what ``mj_step`` itself computes."""

    rows_per_thread = 2

    def __init__(self, fields: Sequence[str], threads: int) -> None:
        super().__init__(fields, threads)
        #: Batches by their number of threads, and the one that serves each number of rows.
        self._batches: dict[int, Any] = {}
        self._serving: dict[int, Any] = {}

    def step(self, rows: np.ndarray, models: Sequence[Any], n_substeps: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        n = len(rows)
        batch = self._batch(n, models[0])
        # Built anew each time: MuJoCo requires this after changes to a model, and such changes cannot be detected.
        batch.set_models(models[0] if len(models) == 1 else [*models, *[models[0]] * (batch.nsim - n)])
        batch.state[:n] = rows
        batch.step(None if n == batch.nsim else np.arange(n, dtype=np.int32), nstep=n_substeps)
        return batch.state[:n].copy(), {name: batch.bind(name)[:n].copy() for name in self.fields}

    def _batch(self, n: int, model: Any) -> Any:
        if n not in self._serving:
            from mujoco.batch import Batch

            threads = self.threads_for(n)
            if threads not in self._batches or self._batches[threads].nsim < n:
                self._batches[threads] = Batch(model, 1 << (n - 1).bit_length(), threads)
                for name in self.fields:
                    self._batches[threads].bind(name)
            self._serving[n] = self._batches[threads]
        return self._serving[n]


class LoopPhysics(Physics):
    """Uses one ``MjData`` per thread: for fields that need ``mj_rnePostConstraint`` after ``mj_step``, and for older
    MuJoCo."""

    rows_per_thread = 4

    def __init__(self, fields: Sequence[str], threads: int) -> None:
        super().__init__(fields, threads)
        self._data: list[Any] = []
        self._pool = ThreadPoolExecutor(threads - 1) if threads > 1 else None

    def step(self, rows: np.ndarray, models: Sequence[Any], n_substeps: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        n, threads = len(rows), self.threads_for(len(rows))
        while len(self._data) < threads:
            self._data.append(mujoco.MjData(models[0]))
        new = np.empty_like(rows)
        derived = {name: np.empty((n, *getattr(self._data[0], name).shape)) for name in self.fields}

        def part(thread: int) -> None:
            data = self._data[thread]
            outputs = [(array, getattr(data, name)) for name, array in derived.items()]
            for row in range(thread * n // threads, (thread + 1) * n // threads):
                model = models[row] if len(models) > 1 else models[0]
                mujoco.mj_setState(model, data, rows[row], INTEGRATION)
                mujoco.mj_step(model, data, n_substeps)
                mujoco.mj_rnePostConstraint(model, data)
                mujoco.mj_getState(model, data, new[row], INTEGRATION)
                for array, value in outputs:
                    array[row] = value

        others = [self._pool.submit(part, thread) for thread in range(1, threads)] if self._pool else []
        try:
            part(0)
        finally:
            wait(others)  # also after an error: data that a thread still writes to must not be used again
        for other in others:
            other.result()
        return new, derived


def physics_for(fields: Sequence[str], threads: int | None) -> Physics:
    """The fastest implementation that returns ``fields``.

    :param threads: largest number; None: the number of cores
    """
    if threads is None:
        threads = usable_cores()
    if threads < 1:
        raise ValueError(f"threads is {threads}; it must be at least 1, or None for one per core.")
    native = importlib.util.find_spec("mujoco.batch") is not None and "cfrc_ext" not in fields
    return (BatchPhysics if native else LoopPhysics)(fields, threads)
