"""One damaged file, or one process that hangs, costs its own run; everything else goes on."""

import json
import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest

from rlspo.zoo.benchmark import runner
from rlspo.zoo.benchmark.command import _clear_stale, main
from rlspo.zoo.benchmark.progress import Progress
from rlspo.zoo.benchmark.runner import Runner
from rlspo.zoo.benchmark.worker import _curve
from rlspo.zoo.jobs.pool import Worker
from rlspo.zoo.runs.folder import RunFolder
from tests.zoo.benchmark.tiny_grids import TINY, fake, read, runs_of, write_grid

GRID = {"agents": {"ppo": {"params": TINY}}, "seeds": 3, "evaluations": {"natural": {}}}


@pytest.fixture
def runs(workplace):
    """Three runs that are done."""
    found = runs_of(write_grid(workplace, **GRID), workplace / "out")
    for run in found:
        fake(run, {"natural": [1.0, 2.0]}, {32: [1.0, 1.0], 64: [2.0, 2.0]})
    return found


def record_of(run):
    return run.folder.record


def evaluation_of(run):
    return run.folder.evaluation("natural")


def cut(file):
    file.write_bytes(file.read_bytes()[:40])


def emptied(file):
    file.write_bytes(b"")


def of_another_seed(file):
    data = json.loads(file.read_text())
    about = {"agent": "ppo", "env": "Ledger-v0", "seed": 7}
    file.write_text(json.dumps({**data, **about, "of": about}))


def without_content(file):
    file.write_text("{}")


def binary(file):
    file.write_bytes(b"\xff\xfe\x00")


@pytest.mark.parametrize("damage", [cut, emptied, of_another_seed, without_content, binary])
@pytest.mark.parametrize("place", [record_of, evaluation_of])
def test_a_damaged_file_names_itself_and_costs_its_own_run(runs, capsys, monkeypatch, place, damage):
    file = place(runs[1])
    damage(file)
    monkeypatch.setattr(Runner, "_start", lambda *args: pytest.fail("nothing is to be done"))
    for flags in (["--report"], [], ["--dry-run"]):
        code = main(["tiny.yml", "-o", "out", *flags])
        captured = capsys.readouterr()
        if flags == ["--dry-run"]:
            assert code == 0 and captured.out.count("damaged") == 1 and captured.out.count("done") == 3
        else:
            assert code == 1
            assert str(file.relative_to(Path.cwd())) in captured.err.replace("\n", "") and "--redo" in captured.err
            assert "Traceback" not in captured.err
            assert read(runs[0].folder.path.parents[2] / "summary.json")["cells"] == {"complete": 2, "total": 3}


@pytest.mark.parametrize(("place", "word"), [(record_of, "missing"), (evaluation_of, "trained")])
def test_redo_clears_what_is_damaged_and_nothing_else(runs, place, word):
    cut(place(runs[1]))
    _clear_stale(runs)
    assert [run.standing().word for run in runs] == ["done", word, "done"]


@pytest.mark.parametrize("seed", [None, 9])
def test_a_learning_curve_that_cannot_be_read_or_is_another_runs_is_left_out(runs, capsys, seed):
    file = RunFolder.existing(runs[1].folder.run_folder).evaluations
    if seed is None:
        file.write_bytes(file.read_bytes()[:100])
    else:
        np.savez(file, timesteps=[32, 64], results=[[1.0], [2.0]], seed=seed)
    assert main(["tiny.yml", "-o", "out", "--report"]) == 0
    assert "ppo/Ledger-v0/1 has no learning curve" in capsys.readouterr().err
    summary = read(file.parents[5] / "out/summary.json")
    assert summary["cells"]["complete"] == 3


def test_a_curve_that_cannot_be_read_does_not_cost_the_training(runs, capsys):
    folder = RunFolder.existing(runs[0].folder.run_folder)
    assert _curve(folder, runs[0].seed) != []
    folder.evaluations.write_bytes(folder.evaluations.read_bytes()[:100])
    assert _curve(folder, runs[0].seed) == []
    assert str(folder.evaluations) in capsys.readouterr().out


class Silent:
    def changed(self, run, progress):
        pass

    def look(self):
        pass


def sleep(job, pipe):
    time.sleep(1000)


def sleeping(self, run, pool):
    """A process of a run that does nothing."""
    self._enter(run, "training")
    return pool.start(multiprocessing.get_context("fork"), run, sleep, None, 60.0)


def test_a_run_that_hangs_is_told_and_ended_and_the_next_one_runs(runs, monkeypatch):
    monkeypatch.setattr(Runner, "_start", sleeping)
    monkeypatch.setattr(runner, "_SILENCE", {"training": 0.2, "evaluating": 0.2})
    for run in runs[:2]:
        run.folder.record.unlink()
    progress = {run.key: Progress() for run in runs}
    Runner(runs[:2], progress, Silent(), Path("out")).run(jobs=1)
    for run in runs[:2]:
        assert progress[run.key].state == "failed"
        assert "its process hung: it gave no sign of life for" in progress[run.key].reason


def test_a_run_that_writes_is_alive(runs):
    at_work = Runner([], {runs[0].key: Progress("training")}, Silent(), Path("out"))
    worker = Worker(runs[0], None, None, 1.0)
    at_work._look_at(worker)
    worker.heard -= 100
    silent_since = worker.heard
    at_work._look_at(worker)
    assert worker.heard == silent_since and worker.patience == runner._SILENCE["evaluating"]
    runs[0].folder.log.write_text(f"a line {time.monotonic()}")
    at_work._look_at(worker)
    assert worker.heard > silent_since


def test_a_run_that_cannot_start_is_told_and_the_next_one_runs(runs, monkeypatch):
    tried = []

    def start(self, run, pool):
        tried.append(run)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Runner, "_start", start)
    progress = {run.key: Progress() for run in runs}
    Runner(runs, progress, Silent(), Path("out")).run(jobs=1)
    assert tried == list(runs)
    assert {each.state for each in progress.values()} == {"failed"}
