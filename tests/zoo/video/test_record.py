"""`rlspo record`: what is recorded, where it goes, and what is printed about it."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from rlspo.zoo.envs.recipe import EnvRecipe
from rlspo.zoo.evaluate.play import Episode
from rlspo.zoo.runs.saved_agent import SavedAgent
from rlspo.zoo.video import record as command
from rlspo.zoo.video import writing
from rlspo.zoo.video.render import RecordingFailed
from rlspo.zoo.video.spec import Recording, Video

pytest.importorskip("imageio_ffmpeg")


@pytest.fixture
def record(call):
    """Run ``rlspo record``; gives exit code, output and errors."""
    return functools.partial(call, command.main)


@pytest.fixture
def ordered(monkeypatch):
    """Specs of videos are collected, and no video is made."""
    specs = []

    def make_video(spec):
        specs.append(spec)
        spec.file.write_bytes(b"video")
        recordings = [
            Recording(str(agent.model_file), agent.num_timesteps, 10, (Episode(0, 10.0, 10),)) for agent in spec.agents
        ]
        return Video(640, 480, 50, 25.0, tuple(recordings))

    monkeypatch.setattr(writing, "make_video", make_video)
    return specs


def test_a_video_is_really_made(run, record):
    import imageio.v2 as imageio

    code, out, err = record(run, "--checkpoints", "--max-agents", "3", "--steps", "5", "--json", "-o", "new/folder/video.mp4")
    assert (code, err) == (0, "")
    data = json.loads(out)
    assert [agent["num_timesteps"] for agent in data["agents"]] == [16, 32, 64]
    assert [agent["steps"] for agent in data["agents"]] == [5, 5, 5]
    with imageio.get_reader(data["file"]) as reader:
        pictures = np.stack([np.asarray(picture) for picture in reader])
    assert pictures.shape == (data["pictures"], data["height"], data["width"], 3)
    blue = np.abs(pictures[0].astype(int) - (0, 0, 200)).max(axis=2) < 25
    columns = np.flatnonzero(blue[-100:].all(axis=0))
    gaps = np.flatnonzero(np.diff(columns) > 1)
    assert len(gaps) == 2  # three blue places side by side


def test_default_video_of_a_run(run, record, ordered):
    code, out, err = record(run)
    assert (code, err) == (0, "")
    (spec,) = ordered
    assert spec.file == run / "videos" / "last_model.mp4" and spec.file.is_file()
    assert (spec.episodes, spec.steps, spec.fps, spec.deterministic, spec.captions) == (None, None, None, True, True)
    assert spec.device == "cpu"
    for data in ("64 steps", "return 10.0 (10 steps)", "videos/last_model.mp4", "640 x 480"):
        assert data in out


def test_flags_set_the_spec_of_the_video(run, record, ordered):
    flags = ["--which", "32", "--episodes", "3", "-n", "99", "--fps", "12.5", "--stochastic", "--seed", "7"]
    assert record(run, *flags, "--no-captions", "-o", "a.gif")[0] == 0
    (spec,) = ordered
    assert spec.agents[0].num_timesteps == 32
    assert (spec.episodes, spec.steps, spec.fps, spec.seed) == (3, 99, 12.5, 7)
    assert (spec.deterministic, spec.captions, str(spec.file)) == (False, False, "a.gif")


def test_checkpoints_are_recorded_in_order_with_the_last_agent(run, record, ordered):
    assert record(run, "--checkpoints", "--env-kwargs", "length:4")[0] == 0
    (spec,) = ordered
    assert [agent.num_timesteps for agent in spec.agents] == [16, 32, 48, 64]
    assert {agent.recipe.env_kwargs["length"] for agent in spec.agents} == {4}
    assert (spec.episodes, spec.file) == (1, run / "videos" / "checkpoints.mp4")


def test_checkpoints_of_a_run_found_by_agent_and_environment(run, record, ordered):
    assert record("--algo", "ppo", "--env", "Lamp-v0", "--checkpoints", "--steps", "5")[0] == 0
    (spec,) = ordered
    assert len(spec.agents) == 4 and spec.episodes is None


def test_a_model_file_alone(run, record, ordered, workplace):
    (workplace / "mine.zip").write_bytes((run / "last_model.zip").read_bytes())
    assert record("mine.zip", "--env", "Lamp-v0", "--gym-packages", "video_environments")[0] == 0
    assert str(ordered[0].file) == "videos/mine.mp4"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--max-agents", "3"], "--max-agents needs --checkpoints"),
        (["--checkpoints", "--which", "best"], "--which chooses one agent"),
        (["-o", "video.avi"], "video.avi: a video ends in .mp4 or .gif"),
        (["-o", "."], "a video ends in"),
        (["-o", "config.yml/video.mp4"], "config.yml/video.mp4: cannot be written"),
        (["--steps", "0"], "must be at least 1"),
        (["--fps", "-3"], "is not a number above 0"),
        (["--step", "5"], "Did you mean --steps?"),
    ],
)
def test_mistakes_are_reported_before_anything_is_made(run, record, ordered, monkeypatch, flags, message):
    monkeypatch.chdir(run)
    before = sorted(run.rglob("*"))
    code, out, err = record(run, "--gym-packages", "video_environments", *flags)
    assert (code, out) == (2, "") and message in err
    assert sorted(run.rglob("*")) == before and not ordered


def test_runs_without_checkpoints_say_how_to_get_them(train, workplace, record):
    assert train("--no-report", "--eval-freq", "-1")[0] == 0
    code, _, err = record(workplace / "logs" / "ppo" / "Ledger-v0_1", "--checkpoints")
    assert code == 2 and "--save-freq" in err
    (workplace / "mine.zip").write_bytes((workplace / "logs" / "ppo" / "Ledger-v0_1" / "last_model.zip").read_bytes())
    code, _, err = record("mine.zip", "--checkpoints", "--env", "Ledger-v0", "--gym-packages", "zoo_environments")
    assert code == 2 and "needs a run folder" in err


def test_no_arguments_are_a_mistake(record):
    code, _, err = record()
    assert code == 2 and "Give a run folder or a model file, such as logs/" in err


def test_a_folder_that_cannot_be_written_is_reported(run, record, workplace):
    (workplace / f"partial_{os.getpid()}_video.mp4").mkdir()
    code, out, err = record(run, "-o", "video.mp4")
    assert (code, out) == (2, "") and "video.mp4: cannot be written" in err


@pytest.mark.parametrize(("number", "code"), [(None, 1), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_failed_recording_leaves_nothing_behind(run, record, monkeypatch, number, code):
    def make_video(spec):
        assert spec.file.parent.is_dir()
        if number is not None:
            signal.raise_signal(number)
        raise RecordingFailed("the lamp has burnt out")

    monkeypatch.setattr(writing, "make_video", make_video)
    got, out, err = record(run, "-o", "new/folder/video.mp4")
    assert (got, out) == (code, "")
    assert ("the lamp has burnt out" in err) == (code == 1)
    assert not (run / "videos").exists()
    assert not Path("new").exists()


def test_a_signal_from_outside_ends_the_recording_process_too(run, workplace):
    """SIGTERM reaches this process only, unlike Ctrl-C in a terminal."""
    command = [sys.executable, "-m", "rlspo.zoo.record", str(run), "--env-kwargs", "length:1000000", "--steps", "1000000"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen([*command, "-o", "video.mp4"], env=environment, stderr=subprocess.PIPE, text=True)
    partial = workplace / f"partial_{process.pid}_video.mp4"
    for _ in range(1200):  # until ffmpeg has begun to write
        if partial.is_file() and partial.stat().st_size:
            break
        time.sleep(0.05)
    process.terminate()
    # Standard error is open as long as any process that inherited it lives.
    assert "Stopped by SIGTERM." in process.communicate(timeout=60)[1]
    assert process.returncode == 143
    assert not list(workplace.glob("*video.mp4"))


def agents(*steps, best=None):
    recipe = EnvRecipe("Lamp-v0")
    return [
        SavedAgent(Path(f"{n}.zip"), "ppo", "Lamp-v0", recipe, which="best" if n == best else "checkpoint", num_timesteps=n)
        for n in steps
    ]


@pytest.mark.parametrize(
    ("given", "at_most", "expected"),
    [
        (agents(30, 10, 20), 6, [10, 20, 30]),
        (agents(*range(10, 101, 10)), 4, [10, 40, 70, 100]),
        (agents(*range(10, 101, 10), best=90), 4, [10, 50, 90, 100]),
        (agents(*range(10, 101, 10), best=90), 2, [90, 100]),
        (agents(*range(10, 101, 10)), 1, [100]),
        (agents(1, 2, 3, 4, 1000), 3, [1, 4, 1000]),
        (agents(8, 16, 25, 33, 41, 49, 57, 60, 61, best=60), 6, [8, 25, 33, 49, 60, 61]),
    ],
)
def test_agents_are_spread_over_training(given, at_most, expected):
    assert [agent.num_timesteps for agent in command.chosen(given, at_most)] == expected


def test_of_agents_with_the_same_steps_the_best_is_recorded():
    for given in (agents(10) + agents(10, best=10), agents(10, best=10) + agents(10)):
        assert [agent.which for agent in command.chosen(given, 6)] == ["best"]
