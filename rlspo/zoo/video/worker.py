"""The process that films: ``python -m rlspo.zoo.video.worker``, started by :mod:`rlspo.zoo.video.render`."""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TextIO

import gymnasium as gym
import numpy as np

from rlspo.zoo.errors import UserError
from rlspo.zoo.evaluate.acting import own_randomness
from rlspo.zoo.video.layout import Layout
from rlspo.zoo.video.scene import Scene, check_drawable
from rlspo.zoo.video.spec import Film, Footage

# Pictures per second and their width and height, at most. Drawing without a graphics card takes about 0.1 s for each
# picture; a GIF is many times as large as an MP4.
_LIMITS = {".mp4": (30, (1920, 1200)), ".gif": (15, (800, 600))}
_END = 1.5  # seconds that the last picture stands

# Exit codes of this process; a crash has others, and another renderer may help there too.
FILMED, CANNOT, FAILED, ANOTHER_RENDERER_MAY_HELP = 0, 3, 4, 5


def main() -> int:
    """Make the film that is handed over on standard input; say on standard output how far it is, in lines of JSON."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both processes: the other one decides
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever environments print does not belong to the channel
    # The film comes from the process that has started this one, so it is as trustworthy as that.
    return serve(lambda: pickle.load(sys.stdin.buffer), channel)


def serve(receive: Callable[[], Film], channel: TextIO) -> int:
    """Make a film and report on it.

    :param receive: gives the film
    :param channel: takes lines of JSON: ``{"share": 0.5}`` while it is made; at the end ``{"footage": ...}`` or
        ``{"reason": ...}``, one line of words
    :return: exit code
    """
    told: float | None = None  # when

    def progressed(share: float) -> None:
        nonlocal told
        if told is None or time.monotonic() - told > 0.2:
            told = time.monotonic()
            print(json.dumps({"share": share}), file=channel, flush=True)

    try:
        footage = make(receive(), progressed)
    except Exception as error:  # anything may come out of somebody's environment or of a graphics driver
        code, reason = _explained(error, drawn=told is not None)
        print(json.dumps({"reason": reason}), file=channel, flush=True)
        return code
    print(json.dumps({"footage": asdict(footage)}), file=channel, flush=True)
    return FILMED


def _explained(error: Exception, drawn: bool) -> tuple[int, str]:
    """Exit code, and one line that says what is missing.

    :param drawn: whether the environment has been drawn, so that the renderer works
    """
    text = " ".join(str(error).split())
    if isinstance(error, UserError | gym.error.DependencyNotInstalled):
        return CANNOT, text
    if isinstance(error, ModuleNotFoundError) and str(error.name).startswith("imageio"):
        return CANNOT, "imageio-ffmpeg is not installed: pip install imageio-ffmpeg"
    suspected = not drawn and ("mujoco" in sys.modules or "OpenGL" in sys.modules)
    return ANOTHER_RENDERER_MAY_HELP if suspected else FAILED, f"{type(error).__name__}: {text}"


def make(film: Film, progressed: Callable[[float], None]) -> Footage:
    """Film the agents.

    :param progressed: is told again and again which share of the film is made
    :return: what there is to see; ``film.file`` has been written
    :raises NoPictures: if the environment cannot be drawn
    """
    check_drawable(film.agents[0])
    with contextlib.ExitStack() as stack:
        scenes = [Scene(agent, film) for agent in film.agents]
        for scene in scenes:
            stack.callback(scene.env.close)
            stack.enter_context(own_randomness(scene.model, film.seed))
        steps_per_second = film.fps or scenes[0].real_time
        most_pictures, largest = _LIMITS[film.file.suffix.lower()]
        stride = math.ceil(steps_per_second / most_pictures)
        fps = steps_per_second / stride
        for scene in scenes:
            scene.begin(stride, fps)
        progressed(0.0)
        height, width = scenes[0].view.image.shape[:2]
        layout = Layout.fitting(len(scenes), width, height, largest, film.captions, len(scenes[0].view.lines))
        title = f"{scenes[0].agent_name} on {film.agents[0].env}, by steps of training"
        picture = layout.picture([scene.view for scene in scenes], title)
        dimmed = [False] * len(scenes)
        pictures = 0
        with _writer(film.file, layout.size, fps) as write:
            while True:
                write(picture)
                pictures += 1
                progressed(min(scene.share for scene in scenes))
                if all(scene.over for scene in scenes):
                    break
                for scene in scenes:
                    scene.advance()
                if not all(scene.over for scene in scenes):  # at the end, those that have lasted longest stay bright
                    dimmed = [scene.over for scene in scenes]
                views = [replace(scene.view, dimmed=dim) for scene, dim in zip(scenes, dimmed, strict=True)]
                picture = layout.picture(views, title)
            for _ in range(round(_END * fps)):
                write(picture)
                pictures += 1
    return Footage(*layout.size, pictures, fps, tuple(scene.take for scene in scenes))


@contextlib.contextmanager
def _writer(file: Path, size: tuple[int, int], fps: float) -> Iterator[Callable[[np.ndarray], None]]:
    """Write pictures to a file as they come; a file that is not finished is removed.

    :param size: width and height, both even
    """
    ffmpeg: Any = importlib.import_module("imageio_ffmpeg")  # it comes without types
    options: dict[str, Any] = {"codec": "libx264", "quality": 7, "macro_block_size": 2}
    if file.suffix.lower() == ".gif":
        # Colours chosen for this film rather than the same 216 for all.
        chain = "split[a][b];[a]palettegen=stats_mode=diff[p];[b][p]paletteuse"
        options = {"codec": "gif", "quality": None, "macro_block_size": 1, "pix_fmt_out": "pal8"}
        options["output_params"] = ["-filter_complex", chain]
    pictures = ffmpeg.write_frames(file, size, fps=fps, ffmpeg_log_level="error", **options)
    try:
        pictures.send(None)
        written = 0

        def write(picture: np.ndarray) -> None:
            nonlocal written
            pictures.send(picture)
            written += 1

        yield write
        pictures.close()
        _check(file, written)
    except BaseException:
        pictures.close()
        file.unlink(missing_ok=True)
        raise


def _check(file: Path, written: int) -> None:
    """Read a film: ffmpeg does not tell where it could not write all of it.

    :raises OSError: if pictures are missing
    """
    ffmpeg: Any = importlib.import_module("imageio_ffmpeg")
    try:
        readable, _ = ffmpeg.count_frames_and_secs(str(file))
    except RuntimeError:
        readable = 0
    if readable < written:
        raise OSError(f"ffmpeg has written {readable} of {written} pictures of {file.name}; is the disk full?")


if __name__ == "__main__":
    sys.exit(main())
