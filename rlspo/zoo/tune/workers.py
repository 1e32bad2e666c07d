"""Trainings in processes of their own: what a worker is told and what it tells."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from typing import Any

import torch

from rlspo.zoo.jobs.pool import Died, Failed, Finished, Pool, Worker
from rlspo.zoo.tune.training import Abandoned, EvaluationProtocol, Outcome, train_seed

_REPORT_EVERY = 0.5  # seconds between messages about progress
#: Seconds without a message after which a worker counts as hanging; a step, or an evaluation, may take so long.
SILENCE = 1800.0
# Workers are forked, where that is possible, from a server that has imported everything and done nothing: they begin in no
# time, alike, and without the threads and locks of the program that searches.
if "forkserver" in multiprocessing.get_all_start_methods():
    multiprocessing.set_forkserver_preload(["rlspo.zoo.tune.command", "torch._dynamo"])
    _CONTEXT: BaseContext = multiprocessing.get_context("forkserver")
else:
    _CONTEXT = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Job:
    """Work for one process.

    :param base: what ``rlspo train`` would have parsed
    :param overrides: settings on top of it
    :param seeds: trained one after the other
    """

    base: dict[str, Any]
    overrides: dict[str, Any]
    seeds: tuple[int, ...]
    protocol: EvaluationProtocol


@dataclass(frozen=True)
class Progress:
    """A training goes on.

    :param steps: done with this seed
    """

    seed: int
    steps: int


@dataclass(frozen=True)
class Evaluated:
    """An evaluation on the way. As after an :class:`Outcome`, the worker waits for an answer: True to go on, False to stop."""

    seed: int
    checkpoint: int
    value: float


Message = Progress | Evaluated | Outcome | Failed | Died | Finished


def _work(job: Job, pipe: Connection) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # bars are being drawn, and --json is to be one document
    torch.set_num_threads(1)
    told = time.monotonic()

    def on_step(steps: int) -> None:
        nonlocal told
        if time.monotonic() - told > _REPORT_EVERY:
            told = time.monotonic()
            pipe.send(Progress(seed, steps))

    def on_evaluation(checkpoint: int, value: float) -> None:
        pipe.send(Evaluated(seed, checkpoint, value))
        if not pipe.recv():
            raise Abandoned

    try:
        for seed in job.seeds:
            pipe.send(train_seed(job.base, job.overrides, seed, job.protocol, on_step, on_evaluation))
            if not pipe.recv():
                return
    except Abandoned:
        return


def at_work(n_workers: int, next_job: Callable[[], tuple[Any, Job] | None]) -> Iterator[tuple[Worker, Message]]:
    """Give out jobs until there are none, and pass on what the workers tell.

    :param n_workers: processes at once
    :param next_job: gives a key and a job, or None when there is none at this moment; asked again whenever a worker ends
    """

    pool = Pool(n_workers)

    def begin() -> Worker | None:
        job = next_job()
        return None if job is None else pool.start(_CONTEXT, job[0], _work, job[1], SILENCE)

    return pool.run(begin)
