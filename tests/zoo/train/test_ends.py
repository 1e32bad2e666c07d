"""However a run ends, its agent is saved, and its files record how it ended."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import rlspo
from rlspo.zoo.cli.signals import StopSignal
from rlspo.zoo.envs.recipe import EnvRecipe
from rlspo.zoo.errors import UserError
from rlspo.zoo.runs.evaluation_log import DamagedFile, read_evaluations
from rlspo.zoo.runs.folder import RunFolder, read_status
from rlspo.zoo.runs.models import checkpoints_of, choose_model, existing_file
from rlspo.zoo.runs.saved_agent import find_agent
from rlspo.zoo.train import callbacks, summary, training
from rlspo.zoo.train.callbacks import Evaluate, save_model
from rlspo.zoo.video import render
from tests.zoo.conftest import SMALL

QUIET = ["--no-report", "--eval-freq", "-1"]


def run_of(env: str = "Ledger-v0", number: int = 1) -> RunFolder:
    return RunFolder.existing(Path(f"logs/ppo/{env}_{number}"))


def state(run: RunFolder) -> str:
    return json.loads(run.status.read_text())["state"]


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """No video, and no waiting between attempts."""
    monkeypatch.setattr(render, "record_run", lambda folder: "not in this test")
    monkeypatch.setattr(callbacks, "_PAUSES", (0.0, 0.0))


def test_an_environment_that_leaves_the_program_stops_the_run(train):
    code, output, _ = train(*QUIET, "--env-kwargs", "quit_at:21", env="end_environments:Quitter-v0")
    assert code == 1
    assert rlspo.PPO.load(run_of("Quitter-v0").last_model).num_timesteps == 20
    assert state(run_of("Quitter-v0")) == "stopped"
    assert "stopped by SystemExit of the environment" in output


def test_a_terminal_that_is_closed_stops_the_run(train):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup may have changed it for all of these tests
    code, output, _ = train(*QUIET, "--env-kwargs", "signal_at:21", f"number:{int(signal.SIGHUP)}")
    assert (code, state(run_of())) == (128 + signal.SIGHUP, "stopped")
    assert "stopped by SIGHUP" in output


def test_nohup_is_respected():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignal() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert stop.received is None
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("at", ["save", "second"])
def test_more_signals_do_not_lose_the_agent(train, monkeypatch, at):
    """A second one while it is being saved, and a third one after the second has ended training."""
    really = save_model

    def interrupted(*args):
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
        really(*args)

    def insisted(self):
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(callbacks, "save_model", interrupted)
    if at == "second":
        monkeypatch.setattr(rlspo.PPO, "train", insisted)
    flags = ["--env-kwargs", "signal_at:16", f"number:{int(signal.SIGTERM)}"] if at == "second" else []
    code, _, _ = train(*QUIET, *flags)
    assert code == 128 + signal.SIGTERM
    assert rlspo.PPO.load(run_of().last_model).num_timesteps > 0
    assert state(run_of()) == "stopped"


@pytest.mark.parametrize("attempts", [1, 3, 4, 100])
def test_the_last_save_is_tried_again_and_then_made_elsewhere(train, monkeypatch, workplace, attempts):
    tried = []
    really = save_model
    home = workplace / "home"
    home.mkdir()
    monkeypatch.setattr(callbacks.tempfile, "gettempdir", lambda: str(workplace / "nowhere"))
    monkeypatch.setenv("HOME", str(home))

    def save(model, file, folder):
        tried.append(file)
        if len(tried) <= attempts and home not in file.parents:
            full()
        really(model, file, folder)

    monkeypatch.setattr(callbacks, "save_model", save)
    code, _, errors = train(*QUIET)
    rescued = [*workplace.glob("rlspo_rescued_*/last_model.zip"), *home.glob("rlspo_rescued_*/last_model.zip")]
    if attempts < 3:
        assert (code, rescued, state(run_of())) == (0, [], "done")
        assert run_of().last_model.is_file()
    else:
        assert (code, state(run_of())) == (1, "failed")
        (file,) = rescued
        assert f"The agent is saved in {file}" in errors
        assert rlspo.PPO.load(file).num_timesteps == 64
        assert (home in file.parents) == (attempts > 3)


def test_an_agent_that_cannot_be_saved_anywhere_is_a_failure(train, monkeypatch):
    monkeypatch.setattr(callbacks, "save_model", full)
    monkeypatch.setattr(training, "save_somewhere", full)
    code, _, errors = train(*QUIET)
    assert code == 1
    assert "the agent could not be saved anywhere: OSError" in errors and "training failed" not in errors
    assert state(run_of()) == "failed"


def test_a_full_disk_in_the_middle_costs_only_what_it_kept_from_being_written(train, monkeypatch):
    """Status, checkpoints, the best model and the record of evaluations fail until step 40."""
    times: dict[str, int] = {}

    def until_40(name, work):
        def attempt(*args, **kwargs):
            times[name] = times.get(name, 0) + 1
            if times[name] <= 2:
                full()
            return work(*args, **kwargs)

        return attempt

    monkeypatch.setattr(callbacks, "write_text", until_40("status", callbacks.write_text))
    monkeypatch.setattr(callbacks, "save_model", until_40("model", save_model))
    monkeypatch.setattr(np, "savez", until_40("record", np.savez))
    code, _, errors = train("--no-report", "--eval-freq", "16", "--eval-episodes", "1", "--save-freq", "32")
    assert code == 0
    run = run_of()
    assert read_evaluations(run.evaluations, seed=0)[0].tolist() == [16, 32, 48, 64]
    assert run.best_model.is_file() and run.last_model.is_file()
    assert state(run) == "done"
    assert errors.count("evaluations.npz: OSError") == 1
    assert errors.count("No space left") <= 4


def test_the_agent_is_saved_before_environments_close_and_closing_ends(train, monkeypatch, workplace):
    monkeypatch.setattr(training, "_CLOSING", 0.2)
    flags = ["--run-folder", "runs/one", "--env-kwargs", f"note:{workplace}/note", "run:runs/one"]
    code, _, errors = train(*QUIET, *flags, env="end_environments:Clinger-v0")
    assert code == 0
    assert "closing the environments takes longer than" in errors
    there = (workplace / "note").read_text().split()
    assert {"last_model.zip", "status.json"} <= set(there)
    assert state(RunFolder.existing(Path("runs/one"))) == "done"


def test_a_learner_that_fails_is_saved_as_it_was_and_tells(train, monkeypatch):
    """As where the update finds NaN, and has put the last good weights back."""
    updates = []
    update = rlspo.PPO.train

    def fails(self):
        updates.append(self.num_timesteps)
        if len(updates) == 3:
            raise FloatingPointError("the loss is NaN")
        update(self)

    monkeypatch.setattr(rlspo.PPO, "train", fails)
    code, _, errors = train(*QUIET)
    assert code == 1
    assert "FloatingPointError: the loss is NaN" in errors
    assert "FloatingPointError" in run_of().traceback.read_text()
    assert state(run_of()) == "failed"
    assert rlspo.PPO.load(run_of().last_model).num_timesteps == 48


def test_a_traceback_that_cannot_be_written_is_shown(train, monkeypatch):
    monkeypatch.setattr(summary, "write_text", full)
    code, _, errors = train(*QUIET, "--env-kwargs", "fail_at:20")
    assert code == 1
    assert "Traceback" in errors and "the ledger is on fire" in errors
    assert state(run_of()) == "failed"


def test_pictures_that_fail_are_one_line(train, monkeypatch):
    monkeypatch.setattr(summary.learning_curve, "draw", lambda *args: 1 / 0)
    monkeypatch.setattr(render, "record_run", lambda folder: 1 / 0)
    code, _, errors = train("--eval-freq", "-1")
    assert code == 0
    assert "learning curve skipped: ZeroDivisionError" in errors
    assert "video: ZeroDivisionError" in errors


def test_a_report_that_does_not_end_is_given_up(train, monkeypatch):
    monkeypatch.setattr(summary, "_LONGEST_REPORT", 0.2)
    monkeypatch.setattr(summary, "_write_report", lambda run: time.sleep(1000))
    code, _, errors = train("--eval-freq", "-1")
    assert code == 0
    assert "report skipped: it has not ended after" in errors and "TimeLimit" in errors


def test_evaluations_whose_episodes_do_not_end_are_given_up(workplace, capsys):
    folder = RunFolder.create(workplace, "ppo", "Endless-v0")
    recipe = EnvRecipe("end_environments:Endless-v0")
    model = rlspo.PPO("MlpPolicy", recipe.build(1, 0, True), n_steps=16, batch_size=16, n_epochs=1, device="cpu")
    evaluate = Evaluate(recipe.build(1, 9, False), 16, 1, folder, StopSignal(), 0, most_steps=50)
    model.learn(64, callback=evaluate)
    assert model.num_timesteps == 64
    assert capsys.readouterr().err.count("is stopped, and no further one is made") == 1
    assert not folder.evaluations.exists()


def test_a_run_that_was_killed_is_told_from_one_that_runs(workplace):
    run = RunFolder.at(workplace / "run")
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    status = {"state": "running", "host": os.uname().nodename, "pid": process.pid, "num_timesteps": 40}
    run.status.write_text(json.dumps(status))
    assert read_status(run)["state"] == "running"
    process.communicate()
    assert read_status(run)["state"] == "killed"
    with pytest.raises(UserError, match=r"no last_model\.zip.* The run was killed, or its machine went down, after 40 steps"):
        choose_model(run.path, "last")
    for told in ({"host": "elsewhere"}, {"state": "done"}, {"pid": None}):
        run.status.write_text(json.dumps({**status, **told}))
        assert read_status(run)["state"] == {**status, **told}["state"]
    run.status.write_text('{"state": "run')
    assert read_status(run) is None


def test_a_model_with_the_statistics_of_another_moment_is_refused(train):
    assert train(*QUIET, params=[*SMALL, "normalize:true"])[0] == 0
    run = run_of()
    statistics = run.statistics_of(run.last_model)
    find_agent(run.path)
    before = statistics.read_bytes()
    model = rlspo.PPO.load(run.last_model, env=find_agent(run.path).build_env(1, 0))
    model.get_vec_normalize_env().obs_rms.count += 1
    replace = os.replace
    with pytest.MonkeyPatch.context() as patch:

        def killed(source, target):
            if str(target).endswith(".pkl"):
                raise KeyboardInterrupt  # between the two
            replace(source, target)

        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            save_model(model, run.last_model, run)
    assert statistics.read_bytes() == before
    with pytest.raises(UserError, match=r"holds other statistics than .* was saved with"):
        find_agent(run.path)
    find_agent(run.path, vecnormalize=statistics)  # asked for
    code, _, errors = train(*QUIET, "-i", str(run.last_model), params=["normalize:true", "n_timesteps:16"])
    assert (code, "holds other statistics" in errors) == (2, True)


def test_statistics_that_a_kill_left_under_their_temporary_name_are_found(train):
    """The model was in place, and its statistics were not yet."""
    assert train(*QUIET, params=[*SMALL, "normalize:true"])[0] == 0
    run = run_of()
    statistics = run.statistics_of(run.last_model)
    right = statistics.read_bytes()
    partial = statistics.with_name(f"partial_77_{statistics.name}")
    other = statistics.with_name(f"partial_78_{statistics.name}")
    other.write_bytes(b"of another moment")
    for old in (b"old", None):
        statistics.unlink()
        if old is not None:
            statistics.write_bytes(old)
        with pytest.raises(UserError, match=rf"interrupted save left: .*{other.name}"):
            find_agent(run.path)
        partial.write_bytes(right)
        assert find_agent(run.path).statistics == statistics
        assert statistics.read_bytes() == right
        partial.unlink()
    statistics.unlink()
    partial.write_bytes(right)
    assert train(*QUIET, "-i", str(run.last_model), params=["normalize:true", "n_timesteps:16"])[0] == 0


def test_what_a_kill_leaves_is_no_checkpoint(workplace, train):
    assert train(*QUIET, "--save-freq", "32")[0] == 0
    run = run_of()
    left = run.checkpoints / "partial_77_rl_model_9999_steps.zip"
    left.write_bytes((run.checkpoints / "rl_model_32_steps.zip").read_bytes())
    assert [steps for steps, _ in checkpoints_of(run.path)] == [32]
    with pytest.raises(UserError, match="left by a save that was killed"):
        existing_file(left)
    code, _, errors = train(*QUIET, "-i", str(left), params=["n_timesteps:16"])
    assert (code, "left by a save that was killed" in errors) == (2, True)


def test_a_record_of_evaluations_tells_what_is_wrong_with_it(tmp_path):
    file = tmp_path / "evaluations.npz"
    np.savez(file, timesteps=[1, 2], results=[[1.0], [2.0]], seed=3)
    assert read_evaluations(file, seed=3)[0].tolist() == read_evaluations(file)[0].tolist() == [1, 2]
    with pytest.raises(DamagedFile, match=r"evaluations\.npz is the record of another run: of seed 3, and not of 4"):
        read_evaluations(file, seed=4)
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(DamagedFile, match=r"evaluations\.npz is not a record"):
        read_evaluations(file)


REMOVER = """
import shutil
from stable_baselines3.common.callbacks import BaseCallback

class Remover(BaseCallback):
    def _on_step(self):
        if self.num_timesteps == 24:
            shutil.rmtree("logs")
        return True
"""


def test_a_run_folder_that_is_removed_meanwhile(workplace, capsys):
    (workplace / "remover_module.py").write_text(REMOVER)
    sys.path.insert(0, str(workplace))
    try:
        words = ["--algo", "ppo", "--env", "CartPole-v1", "-n", "64", "--eval-freq", "-1", "--no-report", "--verbose", "0"]
        params = ["n_envs:1", "n_steps:16", "batch_size:16", "n_epochs:1", "callback:remover_module.Remover"]
        code = training.run([*words, "-params", *params])
    finally:
        sys.path.remove(str(workplace))
    run = Path("logs/ppo/CartPole-v1_1")
    assert code == 0
    assert "was removed during training" in " ".join(capsys.readouterr().err.split())
    assert {"config.yml", "args.yml", "command.txt", "versions.json", "owner.txt", "last_model.zip"} <= set(os.listdir(run))
    assert find_agent(run).num_timesteps == 64
