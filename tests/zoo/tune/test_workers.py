"""Workers that do not start."""

import multiprocessing

import pytest

from rlspo.zoo.errors import UserError
from rlspo.zoo.jobs.pool import Worker
from rlspo.zoo.tune import workers
from rlspo.zoo.tune.workers import Job


def test_a_system_without_processes_ends_the_study_with_a_word(monkeypatch):
    def none_left(*args):
        raise OSError("BrokenPipeError: broken")

    monkeypatch.setattr(Worker, "start", none_left)
    with pytest.raises(UserError, match="Processes for trainings cannot be started: BrokenPipeError: broken"):
        workers._start("key", Job({}, {}, (), None))


def test_workers_are_forked_from_a_server_where_that_is_possible():
    assert workers._CONTEXT.get_start_method() in ("forkserver", "spawn")
    assert ("forkserver" in multiprocessing.get_all_start_methods()) == (workers._CONTEXT.get_start_method() == "forkserver")
