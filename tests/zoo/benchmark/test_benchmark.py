"""`rlspo benchmark` from end to end, with real processes: resuming, failing, being killed."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from rlspo.zoo.benchmark.command import main
from rlspo.zoo.benchmark.grid import read_grid
from tests.zoo.benchmark.tiny_grids import TINY, read, runs_of, write_grid

PPO = {"ppo": {"params": TINY}}
NATURAL = {"natural": {}}


@pytest.fixture
def done(done_grid, workplace):
    """A copy of the grid that is done, to be spoiled at will."""
    shutil.copytree(done_grid / "out", "out")
    return workplace


def run(folder, *flags, **changes):
    return main([str(write_grid(folder, **changes)), "-o", "out", *flags])


def start(folder, *flags, **changes):
    """A parent process of its own."""
    trusted = ["--trust", "zoo_environments", "--trust", "benchmark_environments"]
    command = [sys.executable, "-m", "rlspo.zoo.benchmark", str(write_grid(folder, **changes)), "-o", "out", *trusted, *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(condition, what):
    """Wait for something that will surely come."""
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"waited in vain for {what}")


@contextlib.contextmanager
def once_held(do):
    """While this process is at work on a grid, do something as soon as a run is held."""

    def wait():
        until(Path("held").exists, "a run to begin")
        do()

    waiting = threading.Thread(target=wait)
    waiting.start()
    yield
    waiting.join()


def free(folder):
    """Whether nobody works in a folder any more: neither the parent nor a process of the grid lives."""
    for file in (folder / "lock", *folder.glob("lock.worker_*")):
        try:
            with FileLock(file).acquire(timeout=0):
                pass
        except Timeout:
            return False
    return True


def test_a_grid_leaves_runs_and_tables(done_grid):
    assert (done_grid / "trainings.txt").read_text().split() == ["PPO/0", "PPO/0"]
    out = done_grid / "out"
    assert {path.name for path in (out / "ppo/Ledger-v0/seed_0").iterdir()} == {
        "cell.json", "evaluation_natural.json", "evaluation_random.json", "log.txt", "run"
    }  # fmt: skip
    record = read(out / "twin/Ledger-v0/seed_0/cell.json")
    assert (record["agent"], record["env"], record["seed"], record["n_timesteps"]) == ("twin", "Ledger-v0", 0, 64)
    assert record["settings"]["agent"]["gamma"] == 0.5
    assert record["versions"]["omp_num_threads"] == "1"
    assert "--env-kwargs pay:2.0" in record["command"] and "run-folder" not in record["command"]
    natural = read(out / "summary.json")["envs"]["Ledger-v0"]["natural"]
    assert natural["agents"]["ppo"]["mean"]["value"] == 20.0  # ten steps of two each
    assert read_grid(out / "grid.yml") == read_grid(done_grid / "tiny.yml")


def test_nothing_is_done_twice(done, trainings, capsys):
    before = {path: path.read_bytes() for path in Path("out").rglob("*.json") if path.parent.name == "seed_0"}
    assert run(done) == 0
    assert trainings() == []
    assert {path: path.read_bytes() for path in before} == before
    captured = capsys.readouterr()
    assert "Ledger-v0: interquartile mean" in captured.out and captured.err == ""


def test_an_evaluation_added_later_needs_no_training(done, trainings, capsys):
    added = {"natural": {}, "random": {"attack": "random", "epsilon": 0.1}, "critic": {"attack": "critic", "epsilon": 0.2}}
    natural = Path("out/ppo/Ledger-v0/seed_0/evaluation_natural.json")
    before = natural.read_bytes()
    assert run(done, agents=PPO, evaluations=added) == 0
    assert trainings() == []
    assert natural.read_bytes() == before
    assert "ppo/Ledger-v0/0 evaluating" in capsys.readouterr().err
    critic = read(Path("out/ppo/Ledger-v0/seed_0/evaluation_critic.json"))
    assert critic["attack"]["epsilon"] == 0.2 and len(critic["episodes"]) == 3
    assert list(read(Path("out/summary.json"))["envs"]["Ledger-v0"]) == [*added, "worst", "area_under_curve"]


def test_agents_are_evaluated_in_other_environments_and_by_samples(done, capsys):
    evaluations = {"natural": {}, "rich": {"env_kwargs": {"pay": 4.0}}, "sampled": {"deterministic": False}}
    assert run(done, evaluations=evaluations) == 0
    natural, rich, sampled = (read(Path(f"out/ppo/Ledger-v0/seed_0/evaluation_{name}.json")) for name in evaluations)
    assert [one["deterministic"] for one in (natural, rich, sampled)] == [True, True, False]
    assert [one["agent"]["env_kwargs"]["pay"] for one in (natural, rich, sampled)] == [2.0, 4.0, 2.0]
    assert run(done, evaluations={"wrong": {"env_kwargs": {"pai": 4.0}}}) == 2
    assert "pai" in capsys.readouterr().err


def test_other_settings_are_never_mixed_in(done, trainings, capsys):
    changed = {
        "agents": {"ppo": {"params": {**TINY, "gamma": 0.7}}, "twin": {"algo": "ppo", "params": {**TINY, "gamma": 0.5}}}
    }
    for flags in ([], ["--report"]):
        assert run(done, *flags, **changed) == 2
        error = capsys.readouterr().err
        assert "ppo/Ledger-v0/0: agent.gamma: 0.99 -> 0.7" in error and "--redo" in error and "twin" not in error
    twin = Path("out/twin/Ledger-v0/seed_0/cell.json").read_bytes()
    assert run(done, "--redo", **changed) == 0
    assert trainings() == ["PPO/0"]
    assert read(Path("out/ppo/Ledger-v0/seed_0/cell.json"))["settings"]["agent"]["gamma"] == 0.7
    assert Path("out/twin/Ledger-v0/seed_0/cell.json").read_bytes() == twin


def test_redo_of_some_runs_removes_nothing_where_others_are_stale_too(done, capsys):
    """What is refused must not have been begun."""
    changed = {"agents": {name: {"algo": "ppo", "params": {**TINY, "gamma": 0.7}} for name in ("ppo", "twin")}}
    before = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    assert run(done, "--redo", "--only", "ppo/*", **changed) == 2
    assert "twin/Ledger-v0/0" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before


def test_redo_of_an_evaluation_keeps_the_training(done, trainings, capsys):
    assert run(done, episodes=4) == 2
    assert "natural: episodes: 3 -> 4" in capsys.readouterr().err
    assert run(done, "--redo", agents=PPO, episodes=4) == 0
    assert trainings() == []
    assert len(read(Path("out/ppo/Ledger-v0/seed_0/evaluation_natural.json"))["episodes"]) == 4


def test_an_option_that_agents_got_later_makes_nothing_stale(done):
    file = Path("out/ppo/Ledger-v0/seed_0/cell.json")
    record = read(file)
    del record["settings"]["agent"]["target_kl"], record["settings"]["settings"]["frame_stack"]
    record["settings"]["seeds"] |= {"evaluation": 100_000, "report": 200_000}  # as it was derived once
    file.write_text(json.dumps(record))
    assert run(done) == 0
    record["settings"]["agent"]["target_kl"] = 0.1
    file.write_text(json.dumps(record))
    assert run(done) == 2


def test_a_dry_run_starts_and_makes_nothing(workplace, trainings, capsys):
    assert run(workplace, "--dry-run", seeds=2) == 0
    assert "4 runs, 0 done; 256 steps to train" in capsys.readouterr().out
    assert not Path("out").exists()
    assert run(workplace, "--dry-run", "--json", "--only", "twin/*", seeds=2) == 0
    runs = json.loads(capsys.readouterr().out)["cells"]
    assert [(run["agent"], run["seed"], run["state"]) for run in runs] == [("twin", 0, "missing"), ("twin", 1, "missing")]
    assert trainings() == []


def test_standard_output_is_one_document(done, capsys):
    assert run(done, "--json", "--only", "ppo/*", seeds=2) == 0
    captured = capsys.readouterr()
    summary = json.loads(captured.out)
    assert summary["cells"] == {"complete": 3, "total": 4}  # the one of seed 1 that was asked for
    assert summary["failed"] == {}
    assert "[1/1] ppo/Ledger-v0/1 done: natural 20.0" in captured.err


def test_a_report_of_some_runs_has_no_others(done, capsys):
    assert run(done, "--report", "--json") == 0
    assert json.loads(capsys.readouterr().out)["cells"] == {"complete": 2, "total": 2}
    assert run(done, "--report", "--json", "--only", "ppo/*") == 0
    captured = json.loads(capsys.readouterr().out)
    assert captured["cells"] == {"complete": 1, "total": 1}
    assert [*captured["envs"]["Ledger-v0"]["natural"]["agents"]] == ["ppo"]
    assert run(done, "--report", "--json") == 0  # nothing is lost
    assert json.loads(capsys.readouterr().out)["cells"] == {"complete": 2, "total": 2}


def test_what_is_worth_keeping_is_exported(done):
    assert run(done, "--report", "--export", "kept") == 0
    names = {path.name for path in Path("kept").iterdir()}
    assert names == {"grid.yml", "results.csv", "curves.csv", "episodes.json", "summary.json", "tables.md"}


def test_tables_need_no_run_folders(done):
    """Kept results are small: what a run's folder holds beside its own is enough, its learning curve included."""
    assert run(done, "--report") == 0
    names = ("results.csv", "curves.csv", "episodes.json", "tables.md")
    before = [Path("out", name).read_text() for name in names]
    assert before[1].count("\n") > 2
    for folder in Path("out").glob("*/*/seed_*/run"):
        shutil.rmtree(folder)
    assert run(done, "--report") == 0
    assert [Path("out", name).read_text() for name in names] == before


def test_an_agent_that_was_not_kept_cannot_be_evaluated_again(done, capsys):
    for folder in Path("out").glob("*/*/seed_*/run"):
        shutil.rmtree(folder)
    assert run(done, evaluations={**NATURAL, "sampled": {"deterministic": False}}) == 1
    assert "is not there, and with it the agent" in " ".join(capsys.readouterr().err.split())


def test_an_export_that_fails_leaves_the_kept_tables(done, monkeypatch, capsys):
    assert run(done, "--report", "--export", "kept") == 0
    before = {path.name: path.read_bytes() for path in Path("kept").iterdir()}

    def fill_the_disk(source, to):
        Path(to).write_bytes(Path(source).read_bytes()[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rlspo.zoo.benchmark.results.shutil.copyfile", fill_the_disk)
    assert run(done, "--report", "--export", "kept") == 2
    assert "No space left" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in Path("kept").iterdir()} == before


def test_a_disk_too_full_for_tables_is_no_mistake_of_the_user(done, monkeypatch, capsys):
    """The runs are done: exit code 1, as for runs that failed; 2 where the tables alone were asked for."""

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rlspo.zoo.benchmark.command.report.write", full)
    assert run(done) == 1
    assert "cannot write the tables to out: No space left on device. Make them later: --report" in capsys.readouterr().err
    assert run(done, "--report") == 2


def test_the_grid_that_is_kept_is_the_one_that_was_run(done, trainings):
    assert run(done, "--seeds", "[0, 7]", "--report", "--export", "kept") == 0
    for kept in (Path("out/grid.yml"), Path("kept/grid.yml")):
        assert read_grid(kept) == read_grid(Path("tiny.yml"), [0, 7])
    assert run(done, "--report") == 0  # of the runs that are there, whatever the file says
    assert read_grid(Path("out/grid.yml")).seeds == [0, 7]
    assert run(done, "--report", "--seeds", "[0]") == 0
    assert read_grid(Path("out/grid.yml")).seeds == [0]
    assert main(["out/grid.yml", "-o", "out"]) == 0  # it can be run again, and nothing is left to do
    assert trainings() == []


def test_files_of_hyperparameters_are_kept_with_the_grid(workplace, trainings):
    text = "default: {policy: MlpPolicy, n_timesteps: 64, n_steps: 16, batch_size: 16, n_epochs: 1}\n"
    Path("mine.yml").write_text(text)
    agents = {"ppo": {"conf_file": "mine.yml", "params": {"callback": "benchmark_environments.Count"}}}
    assert run(workplace, "--export", "deep/down/kept", agents=agents, evaluations=NATURAL, n_timesteps=None) == 0
    Path("mine.yml").unlink()
    for place in ("out", "deep/down/kept"):
        assert main([f"{place}/grid.yml", "-o", "out"]) == 0
    assert trainings() == ["PPO/0"]
    assert Path("deep/down/kept/hyperparams_ppo.yml").read_text() == text


def test_there_must_be_something_to_report(workplace, capsys):
    assert run(workplace, "--report") == 1
    assert "no run is done yet" in capsys.readouterr().err
    assert run(workplace, "--report", "--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert said == {"grid": "tiny", "cells": {"complete": 0, "total": 2}, "envs": {}, "failed": {}}
    assert not Path("out").exists()


@pytest.mark.parametrize("seeds", ["abc", "1.5", "[1, x]", "[1", "", "true", "{a: 1}"])
def test_seeds_are_numbers(workplace, capsys, seeds):
    assert run(workplace, "--seeds", seeds) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert f"--seeds: {seeds!r} is neither how many nor a list, such as 5 or '[3, 4]'." in error


def test_a_pattern_must_name_a_run(workplace, capsys):
    assert run(workplace, "--only", "ppo/Ledger") == 2
    assert "--only: no run is called 'ppo/Ledger'. The first is ppo/Ledger-v0/0" in capsys.readouterr().err


def test_a_run_that_fails_stops_no_other_and_is_tried_again(workplace, trainings, capsys):
    Path("fail_0").touch()
    assert run(workplace, "-j", "2", agents=PPO, seeds=2, evaluations=NATURAL) == 1
    error = capsys.readouterr().err
    assert "ppo/Ledger-v0/0 failed: its process ended with exit code 1" in error and "the ledger is on fire" in error
    assert not Path("out/ppo/Ledger-v0/seed_0/cell.json").exists()
    assert read(Path("out/summary.json"))["cells"] == {"complete": 1, "total": 2}
    Path("fail_0").unlink()
    assert run(workplace, agents=PPO, seeds=2, evaluations=NATURAL) == 0
    assert trainings() == ["PPO/0", "PPO/0", "PPO/1"]


def test_killing_the_parent_ends_its_runs_and_loses_only_those(workplace, trainings, capsys):
    grid = {"agents": PPO, "seeds": 2, "evaluations": NATURAL}
    Path("hold").write_text("1")
    parent = start(workplace, "-j", "2", **grid)
    first, second = runs_of(Path("tiny.yml"), Path("out"))
    until(lambda: first.standing().complete and Path("held").exists(), "the first run, and the second to begin")
    assert run(workplace, **grid) == 2
    assert "another rlspo benchmark is at work" in capsys.readouterr().err
    assert run(workplace, "--report", **grid) == 0  # looking is always allowed
    parent.kill()
    parent.wait()
    until(lambda: free(Path("out")), "the held run to end with its parent")
    assert not second.standing().trained
    # Whatever lies in the run folder, it is not read: the training begins again, in an empty one.
    assert second.folder.run_folder.is_dir()
    (second.folder.run_folder / "last_model.zip").write_text("half a model")
    Path("hold").unlink()
    assert run(workplace, **grid) == 0
    assert trainings() == ["PPO/0", "PPO/1", "PPO/1"]
    assert read(Path("out/summary.json"))["cells"] == {"complete": 2, "total": 2}


def test_ctrl_c_ends_the_runs_too(workplace):
    Path("hold").write_text("0")
    with once_held(lambda: os.kill(os.getpid(), signal.SIGINT)):
        assert run(workplace, agents=PPO, evaluations=NATURAL) == 130
    assert free(Path("out"))
    assert not Path("out/ppo/Ledger-v0/seed_0/cell.json").exists()


def test_a_program_that_is_terminated_ends_its_runs_too(workplace):
    Path("hold").write_text("0")
    parent = start(workplace, agents=PPO, evaluations=NATURAL)
    until(Path("held").exists, "the run to begin")
    parent.terminate()
    assert parent.wait() == 143
    assert free(Path("out"))
    assert not Path("out/ppo/Ledger-v0/seed_0/cell.json").exists()


def test_a_killed_run_is_told_and_others_go_on(workplace, trainings, capsys):
    def kill():
        (lock,) = Path("out").glob("lock.worker_*")
        os.kill(int(lock.name.partition("_")[2]), signal.SIGKILL)

    Path("hold").write_text("0")
    with once_held(kill):
        assert run(workplace, "--json", agents=PPO, seeds=2, evaluations=NATURAL) == 1
    output, errors = capsys.readouterr()
    assert json.loads(output)["failed"]["ppo/Ledger-v0/0"].startswith("its process was killed by SIGKILL")
    assert "[1/2] ppo/Ledger-v0/0 failed: its process was killed by SIGKILL" in errors
    assert trainings() == ["PPO/0", "PPO/1"]


def test_results_of_another_grid_are_not_replaced(done, capsys):
    before = {file.name: file.read_bytes() for file in Path("out").glob("*.*")}
    other = write_grid(done, agents={"someone": {"algo": "ppo", "params": TINY}})
    for flags in (["-o", "out"], ["-o", "new", "--report", "--export", "out"]):
        assert main([str(other), *flags]) == 2
        message = capsys.readouterr().err
        assert "out holds the results of another grid, whose agents are ppo, twin" in " ".join(message.split())
    assert {file.name: file.read_bytes() for file in Path("out").glob("*.*")} == before
