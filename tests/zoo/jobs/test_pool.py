"""Workers that finish, raise, die, hang, do not start, leave something behind, or lose their parent."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from rlspo.zoo.errors import UserError
from rlspo.zoo.jobs.pool import Died, Failed, Finished, Pool, Worker

FORK = multiprocessing.get_context("fork")


def obey(job, pipe):
    """Do what the job says."""
    if job == "tell":
        pipe.send("half")
        assert pipe.recv() is True
    if job == "mistake":
        raise UserError("--flag: wrong")
    if job == "raise":
        raise KeyError("the ledger")
    if job == "exit":
        sys.exit(3)
    if job == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if job in ("leave", "leave and die"):
        pipe.send(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], close_fds=False).pid)
    if job == "leave and die":
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "hang":
        time.sleep(1000)


def played(*jobs, n_workers=1, patience=60.0, look=lambda worker: None):
    """Keys with what was told for them."""
    left = list(jobs)

    pool = Pool(n_workers)

    def begin():
        return pool.start(FORK, left[0], obey, left.pop(0), patience) if left else None

    told = []
    for worker, message in pool.run(begin, look):
        told.append((worker.key, message))
        if message == "half":
            worker.answer(True)
    return told


def gone(pid):
    """Whether a process has ended; nobody may have noticed yet."""
    for _ in range(1200):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                time.sleep(0.05)
                continue
        return True
    return False


def test_how_each_job_ends_is_told_and_the_next_one_begins():
    told = played("tell", "mistake", "raise", "exit", "kill", "nothing")
    assert told[:3] == [("tell", "half"), ("tell", Finished()), ("mistake", Failed("--flag: wrong"))]
    (_, failed), *rest = told[3:]
    assert failed.reason.startswith("KeyError: 'the ledger'") and "in obey" in failed.trace
    assert rest == [("exit", Died(3)), ("kill", Died(-9)), ("nothing", Finished())]
    assert Died(3).reason == "its process ended with exit code 3"
    assert Died(-9).reason == "its process was killed by SIGKILL"


def test_several_run_at_once():
    running = []
    played("tell", "nothing", "tell", n_workers=3, look=lambda worker: running.append(worker.key))
    assert len(played(*["nothing"] * 3, n_workers=2)) == 3


def test_a_worker_that_hangs_is_told_and_ended_and_the_next_job_begins():
    (key, death), *rest = played("hang", "nothing", patience=0.5)
    assert key == "hang" and death.reason == "its process hung: it gave no sign of life for 0 min"
    assert rest == [("nothing", Finished())]


def test_other_signs_of_life_count():
    looks = []

    def look(worker):
        looks.append(worker.key)
        if len(looks) < 4:
            worker.heard = time.monotonic()

    ((_, death),) = played("hang", patience=0.1, look=look)
    assert len(looks) >= 4 and death.silent > 0.1


@pytest.mark.parametrize("job", ["leave", "leave and die"])
def test_what_a_worker_leaves_behind_ends_with_it(job):
    """Even where it holds the worker's pipe open."""
    (_, pid), (_, last) = played(job)
    assert last == (Finished() if job == "leave" else Died(-9))
    assert gone(pid)


def test_workers_end_with_the_pool_and_hear_no_ctrl_c():
    pool = Pool(1)
    messages = pool.run(lambda: pool.start(FORK, "key", obey, "leave", 60.0))
    worker, pid = next(messages)
    assert os.getpgid(pid) == worker.process.pid != os.getpgid(0)
    messages.close()
    assert worker.process.exitcode is not None and gone(pid)


class Interrupted(BaseException):
    """What a signal raises."""


class Interrupting:
    """A context as whose process starts a signal arrives."""

    def __init__(self, number, elsewhere):
        self.number, self.started = number, threading.Event()
        # It was there before anything was masked, and gets the signal; the main thread runs the handler.
        self.other = threading.Thread(target=self.wait_and_raise, daemon=True) if elsewhere else None
        if self.other:
            self.other.start()

    def wait_and_raise(self):
        if self.started.wait(60):
            signal.raise_signal(self.number)

    def Process(self, **kwargs):
        process = self.process = FORK.Process(**kwargs)
        start = process.start

        def interrupted():
            start()
            self.started.set()
            if self.other:
                self.other.join()
            else:
                os.kill(os.getpid(), self.number)

        process.start = interrupted
        return process


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_as_a_worker_starts_leaves_none_behind(number, elsewhere):
    def interrupt(number, frame):
        raise Interrupted

    context, pool, before = Interrupting(number, elsewhere), Pool(1), signal.signal(number, interrupt)
    try:
        with pytest.raises(Interrupted):
            list(pool.run(lambda: pool.start(context, "key", obey, "hang", 60.0)))
        assert context.process.exitcode == -signal.SIGKILL
    finally:
        signal.signal(number, before)
        context.process.kill()


def test_a_worker_can_be_ended_from_outside():
    pool, jobs = Pool(1), ["hang"]

    def begin():
        if not jobs:
            return None
        worker = pool.start(FORK, "key", obey, jobs.pop(), 60.0)
        os.kill(worker.process.pid, signal.SIGTERM)
        return worker

    assert [message for _, message in pool.run(begin)] == [Died(-signal.SIGTERM)]


def test_all_workers_are_killed_before_one_is_waited_for(monkeypatch):
    """A second signal in the middle of this leaves none at work."""
    killed, buried = [], []
    monkeypatch.setattr(Worker, "kill", lambda worker: killed.append(worker))
    monkeypatch.setattr(Worker, "bury", lambda worker: buried.append((worker, len(killed))))
    pool = Pool(3)
    pool.workers = [Worker(key, None, None, 1.0) for key in "abc"]
    messages = pool.run(lambda: None)
    monkeypatch.setattr("rlspo.zoo.jobs.pool.wait", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        next(messages)
    assert [before for _, before in buried] == [3, 3, 3]


def test_workers_end_with_a_parent_that_is_killed():
    def parent(pipe):
        worker = Pool(1).start(FORK, "key", obey, "hang", 60.0)
        pipe.send(worker.process.pid)
        time.sleep(1000)

    ours, theirs = multiprocessing.Pipe()
    process = FORK.Process(target=parent, args=(theirs,))
    process.start()
    pid = ours.recv()
    process.kill()
    process.join()
    assert gone(pid)


class Fragile:
    """A context whose processes do not start."""

    def __init__(self, *failures):
        self.left = list(failures)

    def Process(self, **kwargs):
        return self

    def start(self):
        if self.left:
            raise self.left.pop(0)


@pytest.mark.parametrize("failures", [0, 2, 3])
def test_a_server_of_processes_that_is_killed_is_started_again(failures):
    """What multiprocessing says where its fork server is gone is EOFError or ConnectionRefusedError."""
    context = Fragile(*[EOFError(), ConnectionRefusedError("refused"), BrokenPipeError("broken")][:failures])
    if failures < 3:
        worker = Pool(1).start(context, "key", obey, "nothing", 1.0)
        assert isinstance(worker.pipe, Connection) and worker.heard <= time.monotonic()
    else:
        with pytest.raises(UserError, match="Processes for trainings cannot be started: BrokenPipeError: broken"):
            Pool(1).start(context, "key", obey, "nothing", 1.0)
