"""A video of agents, made in a process of its own: a broken graphics driver can end that process, but not this one."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from rlspo.zoo.cli import terminal
from rlspo.zoo.config.allowed import Allowed
from rlspo.zoo.errors import UserError
from rlspo.zoo.runs.folder import RunFolder
from rlspo.zoo.runs.saved_agent import find_agent
from rlspo.zoo.video.screen import no_screen
from rlspo.zoo.video.spec import Video, VideoSpec
from rlspo.zoo.video.worker import CANNOT, FAILED, RECORDED

_SILENCE = 180.0  # seconds without a report after which an attempt is stopped

INSTALL_RENDERER = (
    "no off-screen renderer works here; install EGL or OSMesa "
    "(Debian, Ubuntu: apt-get install libegl1 libgl1-mesa-dri, or libosmesa6)"
)


class CannotRecord(UserError):
    """Something that recording needs is missing; the text is one line that names it."""


class RecordingFailed(Exception):
    """The environment or the agent failed while it was recorded; the text is one line."""


def record_run(
    folder: RunFolder, model_file: Path | None = None, file: Path | None = None, max_steps: int | None = None
) -> str | None:
    """Record an agent of a run.

    :param folder: of the run
    :param model_file: the agent's file, in that folder; None for the last one
    :param file: where the video goes, ``.mp4`` or ``.gif``; None for ``folder.video``
    :param max_steps: record so many steps; None for whole episodes until eight seconds are full, at most 1000 steps
    :return: None if the video has been made, else one line: why not, and what to install
    """
    try:
        agent = find_agent(model_file or folder.last_model, allowed=Allowed(own=(folder.path,)))
        seed = agent.config.seeds.report if agent.config else 0
        make_video(VideoSpec((agent,), file or folder.video, seed, steps=max_steps))
    except (UserError, RecordingFailed, OSError) as error:
        return " ".join(str(error).split())
    return None


def make_video(spec: VideoSpec) -> Video:
    """Make a video, with a progress bar on standard error where that is a terminal.

    MuJoCo draws through EGL or OSMesa where there is no screen. Which of them works is found by trying: each attempt
    is a process of its own, because one that does not work may crash the interpreter or hang.

    :return: what was recorded; ``spec.file`` has been written
    :raises CannotRecord: if something that recording needs is missing
    :raises RecordingFailed: if the environment or the agent failed
    :raises OSError: if the file cannot be written. After an error no file is left behind
    """
    partial = spec.file.with_name(f"partial_{os.getpid()}_{spec.file.name}")
    pickled = pickle.dumps(dataclasses.replace(spec, file=partial))
    tried: list[str] = []
    partial.write_bytes(b"")  # fails at once where the file cannot be written
    try:
        with bar(f"recording {spec.file.name}") as progressed:
            for renderer in _renderers():
                code, report = _attempt(pickled, renderer, progressed)
                if code == RECORDED:
                    os.replace(partial, spec.file)
                    return Video.read(report["video"])
                if code == CANNOT:
                    raise CannotRecord(report["reason"])
                if code == FAILED:
                    raise RecordingFailed(report["reason"])
                tried.append(f"{renderer or os.environ.get('MUJOCO_GL', 'default')}: {report.get('reason', 'crashed')}")
    finally:
        partial.unlink(missing_ok=True)
    only = "only MUJOCO_GL, which is set, " if os.environ.get("MUJOCO_GL") else ""
    raise CannotRecord(f"{INSTALL_RENDERER}; tried {only}{'; '.join(tried)}")


def _renderers() -> list[str | None]:
    """Values of MUJOCO_GL to try, the user's own choice alone where there is one."""
    if os.environ.get("MUJOCO_GL") or not sys.platform.startswith("linux"):
        return [None]
    return ["egl", "osmesa", *(["glfw"] if no_screen() is None else [])]


def _attempt(pickled: bytes, renderer: str | None, progressed: Callable[[float], None]) -> tuple[int, dict[str, Any]]:
    """One process that tries to make the video.

    :param pickled: the :class:`~rlspo.zoo.video.spec.VideoSpec`
    :param renderer: value of MUJOCO_GL; None leaves it as it is
    :return: its exit code, and its last report
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    if renderer is not None:
        environment["MUJOCO_GL"] = renderer
    command = [sys.executable, "-m", "rlspo.zoo.video.worker"]
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    report: dict[str, Any] = {}
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=nowhere) as process:
        assert process.stdin is not None and process.stdout is not None
        watchdog = _watch(process)
        try:
            with contextlib.suppress(BrokenPipeError):  # of a process that has ended
                process.stdin.write(pickled)
                process.stdin.close()
            for line in process.stdout:
                watchdog.cancel()
                watchdog = _watch(process)
                report = json.loads(line)
                progressed(report.get("share", 1.0))
        except BaseException:  # Ctrl-C, for instance: the video is no longer wanted
            process.kill()
            raise
        finally:
            watchdog.cancel()
    return process.returncode, report


def _watch(process: subprocess.Popen[bytes]) -> threading.Timer:
    """End a process that hangs."""
    timer = threading.Timer(_SILENCE, process.kill)
    timer.daemon = True
    timer.start()
    return timer


@contextlib.contextmanager
def bar(title: str) -> Iterator[Callable[[float], None]]:
    """A bar on standard error with the time left; nothing where that is not a terminal.

    :return: a function to call with the share that is done, 0 to 1
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    console = terminal.err()
    off = not console.is_terminal
    # What is printed meanwhile appears above the bar, unless it goes to a file.
    with Progress(*columns, console=console, transient=True, disable=off, redirect_stdout=sys.stdout.isatty()) as progress:
        task = progress.add_task(title, total=1.0)
        yield lambda share: progress.update(task, completed=share)
