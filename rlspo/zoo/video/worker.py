"""The process that records: ``python -m rlspo.zoo.video.worker``, started by :mod:`rlspo.zoo.video.render`."""

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
from rlspo.zoo.video.recorded_agent import RecordedAgent, check_drawable
from rlspo.zoo.video.spec import Video, VideoSpec

# At most so many pictures per second, and of this width and height. Drawing without a graphics card takes about 0.1 s for each
# picture; a GIF is many times as large as an MP4.
_LIMITS = {".mp4": (30, (1920, 1200)), ".gif": (15, (800, 600))}
_END = 1.5  # seconds that the last picture stands

# Exit codes of this process; a crash has others, and another renderer may help there too.
RECORDED, CANNOT, FAILED, ANOTHER_RENDERER_MAY_HELP = 0, 3, 4, 5


def main() -> int:
    """Make the video that is handed over on standard input; report its progress on standard output, in lines of JSON."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both processes: the other one decides
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever environments print does not belong to the channel
    # The spec comes from the process that started this one, so it can be trusted as much as that.
    return serve(lambda: pickle.load(sys.stdin.buffer), channel)


def serve(receive: Callable[[], VideoSpec], channel: TextIO) -> int:
    """Make a video and report on it.

    :param receive: returns what to record
    :param channel: takes lines of JSON: ``{"share": 0.5}`` while it is made; at the end ``{"video": ...}`` or
        ``{"reason": ...}``, one line of text
    :return: exit code
    """
    reported_at: float | None = None

    def progressed(share: float) -> None:
        nonlocal reported_at
        if reported_at is None or time.monotonic() - reported_at > 0.2:
            reported_at = time.monotonic()
            print(json.dumps({"share": share}), file=channel, flush=True)

    try:
        video = record_agents(receive(), progressed)
    except Exception as error:  # a user's environment or a graphics driver may raise anything
        code, reason = _explained(error, drawn=reported_at is not None)
        print(json.dumps({"reason": reason}), file=channel, flush=True)
        return code
    print(json.dumps({"video": asdict(video)}), file=channel, flush=True)
    return RECORDED


def _explained(error: Exception, drawn: bool) -> tuple[int, str]:
    """Exit code, and one line that names what is missing.

    :param drawn: whether the environment has been drawn, so that the renderer works
    """
    text = " ".join(str(error).split())
    if isinstance(error, UserError | gym.error.DependencyNotInstalled):
        return CANNOT, text
    if isinstance(error, ModuleNotFoundError) and str(error.name).startswith("imageio"):
        return CANNOT, "imageio-ffmpeg is not installed: pip install imageio-ffmpeg"
    suspected = not drawn and ("mujoco" in sys.modules or "OpenGL" in sys.modules)
    return ANOTHER_RENDERER_MAY_HELP if suspected else FAILED, f"{type(error).__name__}: {text}"


def record_agents(spec: VideoSpec, progressed: Callable[[float], None]) -> Video:
    """Record the agents.

    :param progressed: called from time to time with the share of the video that is made, 0 to 1
    :return: what was recorded; ``spec.file`` has been written
    :raises NoPictures: if the environment cannot be drawn
    """
    check_drawable(spec.agents[0])
    with contextlib.ExitStack() as stack:
        agents = [RecordedAgent(agent, spec) for agent in spec.agents]
        for agent in agents:
            stack.callback(agent.env.close)
            stack.enter_context(own_randomness(agent.model, spec.seed))
        steps_per_second = spec.fps or agents[0].real_time
        most_pictures, largest = _LIMITS[spec.file.suffix.lower()]
        stride = math.ceil(steps_per_second / most_pictures)
        fps = steps_per_second / stride
        for agent in agents:
            agent.begin(stride, fps)
        progressed(0.0)
        height, width = agents[0].view.image.shape[:2]
        layout = Layout.fitting(len(agents), width, height, largest, spec.captions, len(agents[0].view.lines))
        title = f"{agents[0].agent_name} on {spec.agents[0].env}, by steps of training"
        picture = layout.picture([agent.view for agent in agents], title)
        dimmed = [False] * len(agents)
        pictures = 0
        with _writer(spec.file, layout.size, fps) as write:
            while True:
                write(picture)
                pictures += 1
                progressed(min(agent.share for agent in agents))
                if all(agent.over for agent in agents):
                    break
                for agent in agents:
                    agent.advance()
                if not all(agent.over for agent in agents):  # at the end, those that have lasted longest stay bright
                    dimmed = [agent.over for agent in agents]
                views = [replace(agent.view, dimmed=dim) for agent, dim in zip(agents, dimmed, strict=True)]
                picture = layout.picture(views, title)
            for _ in range(round(_END * fps)):
                write(picture)
                pictures += 1
    return Video(*layout.size, pictures, fps, tuple(agent.recording for agent in agents))


@contextlib.contextmanager
def _writer(file: Path, size: tuple[int, int], fps: float) -> Iterator[Callable[[np.ndarray], None]]:
    """Write pictures to a file as they come; a file that is not finished is removed.

    :param size: width and height, both even
    """
    ffmpeg: Any = importlib.import_module("imageio_ffmpeg")  # it comes without types
    options: dict[str, Any] = {"codec": "libx264", "quality": 7, "macro_block_size": 2}
    if file.suffix.lower() == ".gif":
        # Colours chosen for this video rather than the same 216 for all.
        chain = "split[a][b];[a]palettegen=stats_mode=diff[p];[b][p]paletteuse"
        options = {"codec": "gif", "quality": None, "macro_block_size": 1, "pix_fmt_out": "pal8"}
        options["output_params"] = ["-filter_complex", chain]
    pictures = ffmpeg.write_frames(file, size, fps=fps, ffmpeg_log_level="error", **options)
    try:
        pictures.send(None)
        written = 0

        def write(picture: np.ndarray) -> None:
            nonlocal written
            try:
                pictures.send(picture)
            except OSError as error:  # its text is the whole command of ffmpeg, which has ended
                raise OSError(f"ffmpeg has stopped after {written} pictures of {file.name}; is the disk full?") from error
            written += 1

        yield write
        pictures.close()
        _check(file, written)
    except BaseException:
        pictures.close()
        file.unlink(missing_ok=True)
        raise


def _check(file: Path, written: int) -> None:
    """Count the pictures of a video: ffmpeg reports no error where it could not write all of it.

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
