"""What is sent to Weights & Biases: by a stand-in that notes it, and by the real package, offline."""

import importlib.machinery
import importlib.util
import sys
import time
import types
from pathlib import Path

import pytest

from rlspo.zoo.train.tracking import check_installed
from rlspo.zoo.video import render

RUN = Path("logs/ppo/Ledger-v0_1")


class FakeRun:
    """Records what a run is given."""

    offline = False
    url = "https://example.org/run"
    dir = "files"

    def __init__(self, **given):
        self.given = given
        self.sent: list[tuple[int, dict]] = []
        self.exit_code: int | None = None

    def log(self, values, step):
        self.sent.append((step, values))

    def finish(self, exit_code):
        assert self.exit_code is None, "finished twice"
        self.exit_code = exit_code

    @property
    def summary(self):
        """The value last sent, of each key."""
        return {key: value for _, values in self.sent for key, value in values.items()}


@pytest.fixture
def wandb(monkeypatch):
    """A stand-in for the package; `runs` are those it was asked to begin."""
    module = types.ModuleType("wandb")
    module.__spec__ = importlib.machinery.ModuleSpec("wandb", None, origin="a test")
    module.runs = []
    module.Error = type("Error", (Exception,), {})
    module.Settings = dict
    module.Video = lambda path: ("video", path)

    def init(**given):
        module.runs.append(FakeRun(**given))
        return module.runs[-1]

    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setattr(render, "record_run", lambda folder: folder.video.write_bytes(b"video") and None)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return module


def test_settings_numbers_and_ending_are_sent(train, wandb):
    flags = ["--eval-freq", "32", "--log-format", "csv", "--env-kwargs", "pay:2.0"]
    code, output, _ = train("--track", "--wandb-entity", "us", "--wandb-tags", "one", "two", *flags)
    assert code == 0
    (run,) = wandb.runs
    assert {key: run.given[key] for key in ("project", "entity", "tags", "name", "dir")} == {
        "project": "rlspo",
        "entity": "us",
        "tags": ["one", "two"],
        "name": "ppo/Ledger-v0_1",
        "dir": str(RUN),
    }
    assert run.given["config"]["agent"]["n_steps"] == 16
    assert run.given["config"]["settings"]["env_kwargs"] == {"pay": 2.0}
    assert [step for step, values in run.sent if "eval/mean_reward" in values] == [32, 64]
    steps = [step for step, _ in run.sent]
    assert steps == sorted(steps)  # W&B drops what goes back
    assert run.summary["Result/natural_return"] == 20
    assert run.summary["Result/attacked_return"] == 20
    assert "time/total_timesteps" not in run.summary
    assert "hparams" not in run.summary
    assert run.exit_code == 0
    assert "https://example.org/run" in output
    assert (RUN / "progress.csv").is_file()


@pytest.mark.parametrize(
    ("env_kwargs", "code"), [(["fail_at:40"], 1), (["signal_at:40", "number:2"], 130), (["signal_at:40", "number:15"], 143)]
)
def test_exit_code_is_that_of_the_run(train, wandb, env_kwargs, code):
    assert train("--track", "--eval-freq", "-1", "--env-kwargs", *env_kwargs)[0] == code
    assert wandb.runs[0].exit_code == code


def test_clip_is_sent_where_one_is_asked_for(train, wandb, monkeypatch):
    monkeypatch.setattr("rlspo.zoo.train.tensorboard.TensorBoardLog.show_clip", lambda self, file, step: None)
    assert train("--track", "--no-report", "--tensorboard-video")[0] == 0
    assert (64, {"clip/last_model": ("video", str(RUN / "video.mp4"))}) in wandb.runs[0].sent
    assert train("--track", "--no-report")[0] == 0
    assert "clip/last_model" not in wandb.runs[1].summary


def test_project_is_the_flags_or_the_environments(train, wandb, monkeypatch):
    assert train("--track", "--no-report", "--wandb-project-name", "mine")[0] == 0
    monkeypatch.setenv("WANDB_PROJECT", "ours")
    assert train("--track", "--no-report")[0] == 0
    assert train("--track", "--no-report", "--wandb-project", "mine")[0] == 0
    assert [run.given["project"] for run in wandb.runs] == ["mine", "ours", "mine"]


def test_refused_by_the_service(train, wandb):
    def refuse(**given):
        Path(given["dir"], "wandb").mkdir()
        raise wandb.Error("No API key configured.")

    wandb.init = refuse
    code, _, errors = train("--track", "-tb", "board")
    assert code == 2
    assert "--track: Weights & Biases says: No API key configured." in errors
    assert "WANDB_MODE=offline" in errors
    assert not [*Path().iterdir()]


def test_a_connection_that_breaks_does_not_spoil_the_run(train, wandb, monkeypatch):
    def broken(self, exit_code):
        raise wandb.Error("connection lost")

    monkeypatch.setattr(FakeRun, "finish", broken)
    code, _, errors = train("--track", "--no-report")
    assert (code, "log cut short: Error: connection lost" in errors) == (0, True)


def test_not_installed_is_told_before_anything_is_made(train, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, _, errors = train("--track")
    assert (code, "pip install wandb" in errors) == (2, True)
    assert not [*Path().iterdir()]


def test_a_folder_named_wandb_is_not_the_package(monkeypatch):
    folder = importlib.machinery.ModuleSpec("wandb", None, is_package=True)  # what Python makes of a plain folder
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: folder)
    with pytest.raises(Exception, match="not installed"):
        check_installed()


@pytest.mark.parametrize("flag", ["--wandb-project", "--wandb-entity", "--wandb-tags"])
def test_flags_that_need_tracking(train, flag):
    code, _, errors = train(flag, "x")
    assert (code, f"{flag} needs --track" in errors) == (2, True)


def test_the_real_package_offline(train, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    code, output, _ = train("--track", "--no-report", "--eval-freq", "-1")
    assert code == 0
    (run,) = (RUN / "wandb").glob("offline-run-*")
    assert f"wandb sync {run}" in output
    (stored,) = run.glob("run-*.wandb")
    expected = (b"Result/train_return", b"time/collect_seconds", b"rollout/ep_rew_mean", b"n_timesteps")
    # A process of wandb's writes the file, and ends when ours does, which goes on here.
    deadline = time.monotonic() + 60
    while not all(written in stored.read_bytes() for written in expected) and time.monotonic() < deadline:
        time.sleep(0.1)
    for written in expected:
        assert written in stored.read_bytes()
