"""Workers that hang or do not start."""

import multiprocessing
import time

import pytest

from rlspo.zoo.errors import UserError
from rlspo.zoo.tune import workers
from rlspo.zoo.tune.workers import Died, Finished, Job, Pool, Progress, Worker


class Process:
    """One that never ends by itself."""

    exitcode = None

    def __init__(self, **kwargs):
        pass

    def start(self):
        pass

    def kill(self):
        self.exitcode = -9

    def join(self):
        pass


def test_a_worker_that_hangs_is_told_and_ended_and_the_next_job_begins(monkeypatch):
    pipes = []

    def start(key, job):
        ours, theirs = multiprocessing.Pipe()
        pipes.append(theirs)
        if key == "works":
            theirs.send(Progress(0, 1))
            theirs.send(Finished())
        return Worker(key, Process(), ours)

    monkeypatch.setattr(workers, "_start", start)
    monkeypatch.setattr(workers, "SILENCE", 0.1)
    jobs = [("hangs", None), ("works", None)]
    told = [(worker.key, message) for worker, message in Pool(1).run(lambda: jobs.pop(0) if jobs else None)]
    (key, death), *rest = told
    assert key == "hangs" and isinstance(death, Died)
    assert death.reason == "its process hung: it gave no sign of life for 0 min"
    assert [(key, type(message)) for key, message in rest] == [("works", Progress), ("works", Finished)]


@pytest.mark.parametrize("failures", [0, 2, 3])
def test_a_server_of_processes_that_is_killed_is_started_again(monkeypatch, failures):
    """What multiprocessing says where its fork server is gone is EOFError or ConnectionRefusedError."""
    left = [EOFError(), ConnectionRefusedError("refused"), BrokenPipeError("broken")][:failures]

    class Fragile(Process):
        def start(self):
            if left:
                raise left.pop(0)

    monkeypatch.setattr(workers, "_START", Fragile)
    job = Job({}, {}, (), None)
    if failures < 3:
        assert workers._start("key", job).heard <= time.monotonic()
    else:
        with pytest.raises(UserError, match="Processes for trainings cannot be started: BrokenPipeError"):
            workers._start("key", job)
