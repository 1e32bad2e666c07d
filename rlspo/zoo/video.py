"""A film of the agent, made in a process of its own: a broken graphics driver can end that process, but not the run."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import load_env_creator
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_normalize

from rlspo.common.registry import agent_class
from rlspo.zoo.config import RunConfig
from rlspo.zoo.envs import find_spec
from rlspo.zoo.plan import evaluation_recipe
from rlspo.zoo.run_folder import RunFolder

_MAX_STEPS = 1000
_MIN_SECONDS = 8  # episodes of a young agent are short: show several
_MAX_FPS = 30  # drawing without a graphics card takes about 0.1 s for each picture
_MIN_HEIGHT = 400  # pixels; smaller pictures are enlarged
_TIMEOUT = 300.0  # seconds
# Exit codes of the filming process; a crash has others, and another renderer may help there too.
_NO_OTHER_RENDERER_HELPS = 3
_ANOTHER_RENDERER_MAY_HELP = 4

INSTALL_RENDERER = (
    "no off-screen renderer works here; install EGL or OSMesa "
    "(Debian, Ubuntu: apt-get install libegl1 libgl1-mesa-dri, or libosmesa6)"
)


def film(folder: RunFolder) -> str | None:
    """Film the last agent of a run.

    MuJoCo draws through EGL or OSMesa where there is no screen. Which of them works is found by trying: each attempt
    is a process of its own, because one that does not work may crash the interpreter or hang.

    :param folder: of a run that is over
    :return: None if ``folder.video`` has been made, else one line that says why not and what to install
    """
    for renderer in _renderers():
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        if renderer is not None:
            environment["MUJOCO_GL"] = renderer
        command = [sys.executable, "-m", "rlspo.zoo.video", str(folder.path)]
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return None
        if done.returncode == _NO_OTHER_RENDERER_HELPS:
            return done.stdout.strip().splitlines()[-1]
    chosen = os.environ.get("MUJOCO_GL")
    return INSTALL_RENDERER + (f"; tried only MUJOCO_GL={chosen}, which is set" if chosen else "")


def _renderers() -> list[str | None]:
    """Values of MUJOCO_GL to try, the user's own choice alone where there is one."""
    if os.environ.get("MUJOCO_GL") or not sys.platform.startswith("linux"):
        return [None]
    screen = ["glfw"] if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") else []
    return ["egl", "osmesa", *screen]


def main(argv: Sequence[str] | None = None) -> int:
    """Film the agent of one run folder; the last line of the output says what is missing, if anything is."""
    path = Path((sys.argv[1:] if argv is None else argv)[0])
    folder = RunFolder.existing(path)
    config = RunConfig.read(folder.config)
    try:
        frames, fps = _play(config, folder)
        _write(folder.video, frames, fps)
    except gym.error.DependencyNotInstalled as error:
        print(" ".join(str(error).split()))
        return _NO_OTHER_RENDERER_HELPS
    except _NoPictures:
        print(f"{config.env} has no render mode 'rgb_array'")
        return _NO_OTHER_RENDERER_HELPS
    except Exception as error:  # anything may come out of somebody's environment or of a graphics driver
        if isinstance(error, ModuleNotFoundError) and str(error.name).startswith("imageio"):
            print("imageio is not installed: pip install imageio imageio-ffmpeg")
            return _NO_OTHER_RENDERER_HELPS
        print(f"{type(error).__name__}: {' '.join(str(error).split())}")
        draws_with_opengl = "mujoco" in sys.modules or "OpenGL" in sys.modules
        return _ANOTHER_RENDERER_MAY_HELP if draws_with_opengl else _NO_OTHER_RENDERER_HELPS
    return 0


class _NoPictures(Exception):
    """The environment cannot be drawn."""


def _play(config: RunConfig, folder: RunFolder) -> tuple[list[np.ndarray], float]:
    """Let the agent act, deterministically, and collect pictures ``(height, width, 3)``."""
    creator = find_spec(config.env, config.gym_packages).entry_point
    kind = load_env_creator(creator) if isinstance(creator, str) else creator
    if "rgb_array" not in getattr(kind, "metadata", {}).get("render_modes", ["rgb_array"]):
        raise _NoPictures
    env = evaluation_recipe(config).build(1, config.seeds.report, training=False, render_mode="rgb_array")
    try:
        _restore_statistics(env, folder)
        _follow_the_body(env)
        model = agent_class(config.algo).load(folder.last_model, device="cpu")
        fps = float(env.get_attr("metadata")[0].get("render_fps", 30))
        stride = math.ceil(fps / _MAX_FPS)
        frames: list[np.ndarray] = []
        observations: Any = env.reset()
        for step in range(_MAX_STEPS):
            if step % stride == 0:
                frames.append(_frame(env))
            actions, _ = model.predict(observations, deterministic=True)
            observations, _, dones, _ = env.step(actions)
            if dones[0] and step >= _MIN_SECONDS * fps:
                break
        return frames, fps / stride
    finally:
        env.close()


def _follow_the_body(env: VecEnv) -> None:
    """Look through the camera that a MuJoCo model has for the purpose; gymnasium's own stays where the body started."""
    renderer = getattr(env.get_attr("unwrapped")[0], "mujoco_renderer", None)
    if renderer is None or renderer.camera_id != -1:
        return
    import mujoco

    renderer.camera_id = mujoco.mj_name2id(renderer.model, mujoco.mjtObj.mjOBJ_CAMERA, "track")


def _frame(env: VecEnv) -> np.ndarray:
    """One picture, large enough to look at, with even sides as video coding wants them."""
    image = env.get_images()[0]
    if image is None:
        raise _NoPictures
    scale = max(1, math.ceil(_MIN_HEIGHT / image.shape[0]))
    image = image.repeat(scale, axis=0).repeat(scale, axis=1)
    return np.ascontiguousarray(image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2])


def _restore_statistics(env: VecEnv, folder: RunFolder) -> None:
    """Give ``VecNormalize``, where the run uses it, the statistics saved with the agent."""
    normalize = unwrap_vec_normalize(env)
    if normalize is not None:
        normalize.obs_rms = VecNormalize.load(str(folder.statistics_of(folder.last_model)), normalize.venv).obs_rms


def _write(file: Path, frames: list[np.ndarray], fps: float) -> None:
    """Write an MP4 that browsers play; a file that could not be finished is not left behind."""
    import imageio.v2 as imageio

    partial = file.with_name(f"partial_{file.name}")
    imageio.mimwrite(partial, [*frames], fps=fps, codec="libx264", macro_block_size=2, ffmpeg_log_level="error")
    os.replace(partial, file)


if __name__ == "__main__":
    sys.exit(main())
