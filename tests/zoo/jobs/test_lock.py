"""One program at a time; what a killed one leaves behind is no obstacle, its workers are waited for."""

import multiprocessing
import os
import signal

import pytest

from rlspo.zoo.jobs import lock
from rlspo.zoo.jobs.lock import AtWork, as_worker, only_one

FORK = multiprocessing.get_context("fork")


def hold(context, folder, pipe):
    """Enter a lock, say so, and leave it when told."""
    with context(folder):
        pipe.send("held")
        pipe.recv()


@pytest.fixture
def holding(tmp_path):
    """Starts a process that holds a lock on the folder."""
    started = []

    def start(context):
        ours, theirs = multiprocessing.Pipe()
        process = FORK.Process(target=hold, args=(context, tmp_path, theirs))
        process.start()
        theirs.close()
        started.append(process)
        assert ours.recv() == "held"
        return process, ours

    yield start
    for process in started:
        process.kill()
        process.join()


def enter(folder):
    return only_one(folder, "somebody is there")


def test_a_second_program_is_refused_at_once_and_a_killed_one_is_no_obstacle(tmp_path, holding, monkeypatch):
    monkeypatch.setattr(lock, "_GRACE", 1000.0)
    process, _ = holding(enter)
    with pytest.raises(AtWork, match="somebody is there"), enter(tmp_path):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with enter(tmp_path), pytest.raises(AtWork), enter(tmp_path):
        pass
    with enter(tmp_path):
        assert [file.name for file in tmp_path.iterdir()] == ["lock"]


def test_a_lock_of_earlier_versions_is_taken_as_it_is(tmp_path):
    (tmp_path / "lock").write_text("")
    (tmp_path / "lock.pid").write_text("1")
    with enter(tmp_path):
        pass
    assert (tmp_path / "lock.pid").read_text() == "1"


def test_workers_of_a_killed_program_are_waited_for(tmp_path, holding, monkeypatch):
    _, pipe = holding(as_worker)
    monkeypatch.setattr(lock, "_GRACE", 0.1)
    with pytest.raises(AtWork), enter(tmp_path):
        pass
    monkeypatch.setattr(lock, "_GRACE", 60.0)
    pipe.send("leave")
    with enter(tmp_path):
        assert not list(tmp_path.glob("lock.worker_*"))


def test_a_worker_whose_parent_is_gone_writes_nothing(tmp_path):
    class Gone:
        def is_alive(self):
            return False

    def late():
        multiprocessing.parent_process = Gone
        with as_worker(tmp_path):
            (tmp_path / "written").touch()

    process = FORK.Process(target=late)
    process.start()
    process.join()
    assert process.exitcode == 1 and not (tmp_path / "written").exists()
