"""The video is made in a process of its own, and its failure is one line."""

import io
import itertools
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env

from rlspo.zoo.runs.folder import RunFolder
from rlspo.zoo.runs.saved_agent import find_agent
from rlspo.zoo.video import recorded_agent, render, worker
from rlspo.zoo.video.spec import VideoSpec

pytest.importorskip("imageio_ffmpeg")

LAMP = ["--no-report", "--eval-freq", "-1", "--gym-packages", "video_environments"]


@pytest.fixture
def run_folder(train, workplace):
    """A finished run, not recorded yet."""

    def make(env: str = "Ledger-v0", *flags: str) -> RunFolder:
        assert train("--no-report", "--eval-freq", "-1", *flags, env=env)[0] == 0
        path = workplace / "logs" / "ppo" / f"{env}_1"
        return RunFolder(path, path / "tensorboard")

    return make


@pytest.fixture
def lamp(train, workplace):
    """An agent, with any arguments of its environment."""
    assert train(*LAMP, env="Lamp-v0")[0] == 0

    def agent(**env_kwargs):
        return find_agent(workplace / "logs" / "ppo" / "Lamp-v0_1", env_kwargs=env_kwargs)

    return agent


def read(file):
    """Pictures of a video, ``(n, height, width, 3)``."""
    import imageio.v2 as imageio

    with imageio.get_reader(file) as reader:
        return np.stack([np.asarray(picture)[..., :3] for picture in reader])


def nothing(share):
    """In place of a progress bar."""


def test_the_video_of_a_run_shows_what_the_environment_draws(run_folder):
    from zoo_environments import GREEN

    folder = run_folder("Ledger-v0", "-params", "normalize:true")
    assert render.record_run(folder, max_steps=20) is None
    pictures = read(folder.video)
    assert len(pictures) > 20
    assert min(pictures.shape[1:3]) >= 400 and not any(side % 2 for side in pictures.shape[1:3])  # enlarged, sides even
    np.testing.assert_allclose(pictures[:, -400:].mean(axis=(0, 1, 2)), GREEN, atol=8)
    assert pictures[:, :40].max() > 200 and pictures[:, :10].max() < 60  # white words on a dark ground
    assert not list(folder.path.glob("partial*"))


def test_a_model_of_a_run_can_be_recorded_into_any_file(run_folder, recorded_in_process):
    folder = run_folder("Ledger-v0", "--save-freq", "16")
    checkpoint = folder.checkpoints / "rl_model_32_steps.zip"
    assert render.record_run(folder, checkpoint, folder.path / "clip.gif", max_steps=5) is None
    assert len(read(folder.path / "clip.gif")) > 1
    assert not folder.video.exists()


def test_an_episode_ends_with_its_last_picture_and_a_pause(lamp, workplace):
    spec = VideoSpec((lamp(),), workplace / "video.mp4", seed=0, episodes=2, captions=False)
    video = worker.record_agents(spec, nothing)
    # The start, 10 steps, 0.6 s of standing still (in the last picture of which the next episode begins), 10 steps, 1.5 s.
    assert video.pictures == 1 + 10 + 12 + 10 + 30
    assert [(episode.total, episode.length) for episode in video.recordings[0].episodes] == [(10.0, 10), (10.0, 10)]
    pictures = read(spec.file)
    assert pictures.shape == (video.pictures, video.height, video.width, 3) and video.fps == 20
    white = pictures.min(axis=(1, 2, 3)) > 240
    assert not white[:10].any() and white[10:22].all() and not white[22:32].any() and white[32:].all()


@pytest.mark.parametrize(
    ("wish", "steps", "episodes"),
    [({"steps": 25}, 25, 2), ({"episodes": 3}, 30, 3), ({"steps": 25, "episodes": 1}, 10, 1), ({}, 160, 16)],
)
def test_a_video_is_as_long_as_asked_for(lamp, workplace, wish, steps, episodes):
    video = worker.record_agents(VideoSpec((lamp(),), workplace / "video.mp4", seed=0, **wish), nothing)
    assert (video.recordings[0].steps, len(video.recordings[0].episodes)) == (steps, episodes)


def test_an_endless_episode_is_cut(lamp, workplace):
    video = worker.record_agents(VideoSpec((lamp(length=10**6),), workplace / "video.mp4", seed=0, fps=1000), nothing)
    assert video.recordings[0].steps == 1000 and video.pictures < 100
    assert 25 < video.fps <= 30  # and not every step is drawn


def test_agents_side_by_side_wait_for_the_longest(lamp, workplace):
    red, blue = (220, 30, 30), (30, 30, 220)
    agents = (lamp(colour=red, length=5), lamp(colour=blue, length=15))
    spec = VideoSpec(agents, workplace / "video.mp4", seed=0, episodes=1, captions=False)
    video = worker.record_agents(spec, nothing)
    assert video.pictures == 1 + 15 + 30
    pictures = read(spec.file).astype(int)
    left, right = pictures[:, :, :280].mean(axis=(1, 2)), pictures[:, :, -280:].mean(axis=(1, 2))
    np.testing.assert_allclose(left[:5], [red] * 5, atol=12)
    np.testing.assert_allclose(right[:15], [blue] * 15, atol=12)
    assert (left[6:] < 130).all()  # stopped: its white last picture is dimmed
    assert (right[15:] > 240).all()  # and that of the one that lasted longest is not


def test_captions_show_the_return(lamp, workplace):
    spec = VideoSpec((lamp(),), workplace / "video.mp4", seed=0, steps=9)
    worker.record_agents(spec, nothing)
    caption = read(spec.file)[:10, :60].astype(int)
    changes = [np.abs(later - before).max() > 80 for before, later in itertools.pairwise(caption)]
    assert all(changes)  # the return and the step grow


def test_sampled_actions_follow_from_the_seed(lamp, workplace):
    def total(seed, deterministic):
        spec = VideoSpec((lamp(length=40, prize=1.0),), workplace / "video.mp4", seed, episodes=1, deterministic=deterministic)
        return worker.record_agents(spec, nothing).recordings[0].episodes[0].total

    assert total(1, deterministic=True) == total(1, deterministic=True)
    sampled = [total(seed, deterministic=False) for seed in (1, 1, 2, 3)]
    assert sampled[0] == sampled[1]
    assert len({*sampled, total(1, deterministic=True)}) > 2


def test_progress_and_result_are_reported_as_lines_of_json(lamp, workplace):
    channel = io.StringIO()
    spec = VideoSpec((lamp(),), workplace / "video.mp4", seed=0, episodes=1)
    assert worker.serve(lambda: spec, channel) == worker.RECORDED
    *shares, last = map(json.loads, channel.getvalue().splitlines())
    assert shares and all(0 <= line["share"] <= 1 for line in shares)
    assert last["video"]["pictures"] == 41


def test_an_environment_that_cannot_be_drawn_is_reported(run_folder, recorded_in_process):
    folder = run_folder("Blind-v0")
    assert render.record_run(folder) == "Blind-v0 has no render mode 'rgb_array'"
    assert not folder.video.exists()


def test_crash_while_drawing_is_one_line(run_folder, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "egl")  # one attempt only
    folder = run_folder("Ledger-v0", "--env-kwargs", "crash_when_drawn:true")
    reason = render.record_run(folder)
    assert reason is not None and reason.startswith("no off-screen renderer works here; install EGL or OSMesa")
    assert reason.endswith("tried only MUJOCO_GL, which is set, egl: crashed") and "\n" not in reason
    assert not folder.video.exists() and not list(folder.path.glob("partial*"))


def test_a_failing_environment_tries_no_other_renderer(lamp, workplace):
    channel = io.StringIO()
    spec = VideoSpec((lamp(fail_at=4),), workplace / "video.mp4", seed=0, episodes=1)
    sys.modules.setdefault("OpenGL", sys.modules[__name__])  # as if it drew with OpenGL
    try:
        assert worker.serve(lambda: spec, channel) == worker.FAILED
    finally:
        if sys.modules["OpenGL"] is sys.modules[__name__]:
            del sys.modules["OpenGL"]
    assert json.loads(channel.getvalue().splitlines()[-1]) == {"reason": "RuntimeError: the lamp has burnt out"}
    assert not spec.file.exists()


def test_a_failed_recording_leaves_the_old_one(lamp, workplace, recorded_in_process):
    spec = VideoSpec((lamp(fail_at=4),), workplace / "video.mp4", seed=0, episodes=1)
    spec.file.write_bytes(b"old")
    with pytest.raises(render.RecordingFailed, match="RuntimeError: the lamp has burnt out"):
        render.make_video(spec)
    assert spec.file.read_bytes() == b"old"
    assert not list(workplace.glob("partial*"))


def test_a_process_that_hangs_is_ended(lamp, workplace, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setattr(render, "_SILENCE", 0.01)  # it has not even started then
    with pytest.raises(render.CannotRecord, match="egl: crashed"):
        render.make_video(VideoSpec((lamp(),), workplace / "video.mp4", seed=0))


def test_ctrl_c_ends_the_process_and_leaves_nothing(lamp, workplace):
    script = """
import signal, sys
from pathlib import Path
from rlspo.zoo.video import render
from rlspo.zoo.video.spec import VideoSpec
from rlspo.zoo.runs.saved_agent import find_agent

signal.signal(signal.SIGINT, signal.default_int_handler)  # programs begun in the background of a shell ignore it

def bar(title):
    import contextlib
    def progressed(share):
        if share > 0:
            signal.raise_signal(signal.SIGINT)
    return contextlib.nullcontext(progressed)

render.bar = bar
agent = find_agent("logs/ppo/Lamp-v0_1", env_kwargs={"length": 10**6})
try:
    render.make_video(VideoSpec((agent,), Path("video.mp4"), 0, steps=10**6))
except KeyboardInterrupt:
    print("stopped")
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=100)
    assert done.stdout == "stopped\n", done.stderr
    assert not list(workplace.glob("*video.mp4"))


def test_renderers_are_tried_in_turn(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(render.sys, "platform", "linux")
    monkeypatch.setattr(render, "no_screen", lambda: "there is no display")
    assert render._renderers() == ["egl", "osmesa"]
    monkeypatch.setattr(render, "no_screen", lambda: None)
    assert render._renderers() == ["egl", "osmesa", "glfw"]
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert render._renderers() == [None]  # the user's choice is inherited


def test_the_camera_follows_a_mujoco_body():
    """Gymnasium's free camera stays where the body started, and the video would show an empty floor."""
    mujoco = pytest.importorskip("mujoco")
    env = make_vec_env("Hopper-v5", 1, env_kwargs={"render_mode": "rgb_array"})
    recorded_agent._use_tracking_camera(env)
    renderer = env.get_attr("unwrapped")[0].mujoco_renderer
    name = mujoco.mj_id2name(renderer.model, mujoco.mjtObj.mjOBJ_CAMERA, renderer.camera_id)
    assert name == "track"
    recorded_agent._use_tracking_camera(make_vec_env("CartPole-v1", 1))


def test_an_ffmpeg_that_ends_early_is_asked_about_the_disk(lamp, workplace, monkeypatch):
    def ended(*args, **kwargs):
        yield
        raise OSError(32, "Broken pipe\n\nFFMPEG COMMAND:\nffmpeg -y -f rawvideo")

    monkeypatch.setattr("imageio_ffmpeg.write_frames", ended)
    with pytest.raises(OSError, match=r"^ffmpeg has stopped after 0 pictures of whole\.mp4; is the disk full\?$"):
        worker.record_agents(VideoSpec((lamp(),), workplace / "whole.mp4", seed=0, steps=5, captions=False), nothing)
    assert not (workplace / "whole.mp4").exists()


@pytest.mark.parametrize("size", [0, 10, 1000])
def test_a_video_with_missing_pictures_is_an_error(lamp, workplace, size):
    """As where the disk was full: ffmpeg does not say so."""
    file = workplace / "whole.mp4"
    pictures = worker.record_agents(VideoSpec((lamp(),), file, seed=0, steps=5, captions=False), nothing).pictures
    worker._check(file, pictures)
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(OSError, match=r"ffmpeg has written 0 of \d+ pictures of whole\.mp4; is the disk full"):
        worker._check(file, pictures)
