"""The film is made in a process of its own, and its failure is one line."""

import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env

from rlspo.zoo import video
from rlspo.zoo.run_folder import RunFolder

pytest.importorskip("imageio_ffmpeg")


@pytest.fixture
def run_folder(train, workplace):
    """A finished run, not filmed yet."""

    def make(env: str = "Ledger-v0", *flags: str) -> RunFolder:
        assert train("--no-report", "--eval-freq", "-1", *flags, env=env)[0] == 0
        path = workplace / "logs" / "ppo" / f"{env}_1"
        return RunFolder(path, path / "tensorboard")

    return make


@pytest.mark.parametrize("process", ["child", "this one"])
def test_film_shows_what_the_environment_draws(run_folder, process):
    import imageio.v2 as imageio
    from zoo_worlds import GREEN

    folder = run_folder("Ledger-v0", "-params", "normalize:true")
    if process == "child":
        assert video.film(folder) is None
    else:
        assert video.main([str(folder.path)]) == 0
    frames = np.stack([frame for frame in imageio.get_reader(folder.video)])
    assert frames.shape[0] >= 8 * 20  # eight seconds of twenty frames
    assert min(frames.shape[1:3]) >= 400  # enlarged, sides even
    assert not any(side % 2 for side in frames.shape[1:3])
    np.testing.assert_allclose(frames.mean(axis=(0, 1, 2)), GREEN, atol=8)
    assert not list(folder.path.glob("partial*"))


def test_environment_without_pictures_is_said_to_be_so(run_folder, capsys):
    folder = run_folder("Blind-v0")
    assert video.main([str(folder.path)]) == video._NO_OTHER_RENDERER_HELPS
    assert capsys.readouterr().out.splitlines()[-1] == "Blind-v0 has no render mode 'rgb_array'"


def test_crash_while_drawing_is_one_line(run_folder, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "egl")  # one attempt only
    folder = run_folder("Ledger-v0", "--env-kwargs", "crash_when_drawn:true")
    reason = video.film(folder)
    assert reason is not None and reason.startswith("no off-screen renderer works here; install EGL or OSMesa")
    assert "\n" not in reason
    assert not folder.video.exists()


def test_renderers_are_tried_in_turn(monkeypatch):
    for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(video.sys, "platform", "linux")
    assert video._renderers() == ["egl", "osmesa"]
    monkeypatch.setenv("DISPLAY", ":0")
    assert video._renderers() == ["egl", "osmesa", "glfw"]
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert video._renderers() == [None]  # the user's choice is inherited


def test_the_camera_follows_a_mujoco_body():
    """Gymnasium's free camera stays where the body started, and the film would show an empty floor."""
    mujoco = pytest.importorskip("mujoco")
    env = make_vec_env("Hopper-v5", 1, env_kwargs={"render_mode": "rgb_array"})
    video._follow_the_body(env)
    renderer = env.get_attr("unwrapped")[0].mujoco_renderer
    name = mujoco.mj_id2name(renderer.model, mujoco.mjtObj.mjOBJ_CAMERA, renderer.camera_id)
    assert name == "track"
    video._follow_the_body(make_vec_env("CartPole-v1", 1))
