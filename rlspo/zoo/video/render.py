"""A film of agents, made in a process of its own: a broken graphics driver can end that process, but not this one."""

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
from rlspo.zoo.video.spec import Film, Footage
from rlspo.zoo.video.worker import CANNOT, FAILED, FILMED

_SILENCE = 180.0  # seconds without a sign of life after which an attempt is given up

INSTALL_RENDERER = (
    "no off-screen renderer works here; install EGL or OSMesa "
    "(Debian, Ubuntu: apt-get install libegl1 libgl1-mesa-dri, or libosmesa6)"
)


class CannotFilm(UserError):
    """Something that filming needs is not there; the text is one line that says what."""


class FilmingFailed(Exception):
    """The environment or the agent failed while it was filmed; the text is one line."""


def film(
    folder: RunFolder, model_file: Path | None = None, file: Path | None = None, max_steps: int | None = None
) -> str | None:
    """Film an agent of a run.

    :param folder: of the run
    :param model_file: the agent's file, in that folder; None for the last one
    :param file: where the film goes, ``.mp4`` or ``.gif``; None for ``folder.video``
    :param max_steps: film so many steps; None for whole episodes until eight seconds are full, at most 1000 steps
    :return: None if the film has been made, else one line that says why not and what to install
    """
    try:
        agent = find_agent(model_file or folder.last_model, allowed=Allowed(own=(folder.path,)))
        seed = agent.config.seeds.report if agent.config else 0
        shoot(Film((agent,), file or folder.video, seed, steps=max_steps))
    except (UserError, FilmingFailed, OSError) as error:
        return " ".join(str(error).split())
    return None


def shoot(film: Film) -> Footage:
    """Make a film, with a progress bar on standard error where that is a terminal.

    MuJoCo draws through EGL or OSMesa where there is no screen. Which of them works is found by trying: each attempt
    is a process of its own, because one that does not work may crash the interpreter or hang.

    :return: what there is to see; ``film.file`` has been written
    :raises CannotFilm: if something is not there that filming needs
    :raises FilmingFailed: if the environment or the agent failed
    :raises OSError: if the file cannot be written. In no case is anything left behind
    """
    partial = film.file.with_name(f"partial_{film.file.name}")
    order = pickle.dumps(dataclasses.replace(film, file=partial))
    tried: list[str] = []
    partial.write_bytes(b"")  # a place that cannot be written to is found out at once
    try:
        with bar(f"filming {film.file.name}") as progressed:
            for renderer in _renderers():
                code, told = _attempt(order, renderer, progressed)
                if code == FILMED:
                    os.replace(partial, film.file)
                    return Footage.read(told["footage"])
                if code == CANNOT:
                    raise CannotFilm(told["reason"])
                if code == FAILED:
                    raise FilmingFailed(told["reason"])
                tried.append(f"{renderer or os.environ.get('MUJOCO_GL', 'default')}: {told.get('reason', 'crashed')}")
    finally:
        partial.unlink(missing_ok=True)
    only = "only MUJOCO_GL, which is set, " if os.environ.get("MUJOCO_GL") else ""
    raise CannotFilm(f"{INSTALL_RENDERER}; tried {only}{'; '.join(tried)}")


def _renderers() -> list[str | None]:
    """Values of MUJOCO_GL to try, the user's own choice alone where there is one."""
    if os.environ.get("MUJOCO_GL") or not sys.platform.startswith("linux"):
        return [None]
    return ["egl", "osmesa", *(["glfw"] if no_screen() is None else [])]


def _attempt(order: bytes, renderer: str | None, progressed: Callable[[float], None]) -> tuple[int, dict[str, Any]]:
    """One process that tries to make the film.

    :param order: the film, pickled
    :param renderer: value of MUJOCO_GL; None leaves it as it is
    :return: its exit code, and the last thing that it told
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    if renderer is not None:
        environment["MUJOCO_GL"] = renderer
    command = [sys.executable, "-m", "rlspo.zoo.video.worker"]
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    told: dict[str, Any] = {}
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=nowhere) as process:
        assert process.stdin is not None and process.stdout is not None
        watchdog = _watch(process)
        try:
            with contextlib.suppress(BrokenPipeError):  # of a process that is gone already
                process.stdin.write(order)
                process.stdin.close()
            for line in process.stdout:
                watchdog.cancel()
                watchdog = _watch(process)
                told = json.loads(line)
                progressed(told.get("share", 1.0))
        except BaseException:  # Ctrl-C, for instance: nobody waits for the film any more
            process.kill()
            raise
        finally:
            watchdog.cancel()
    return process.returncode, told


def _watch(process: subprocess.Popen[bytes]) -> threading.Timer:
    """End a process that hangs."""
    timer = threading.Timer(_SILENCE, process.kill)
    timer.daemon = True
    timer.start()
    return timer


@contextlib.contextmanager
def bar(title: str) -> Iterator[Callable[[float], None]]:
    """A bar on standard error with the time left; nothing where that is no terminal.

    :return: to be told the share that is done
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    console = terminal.err()
    off = not console.is_terminal
    # What is printed meanwhile appears above the bar, unless it goes to a file.
    with Progress(*columns, console=console, transient=True, disable=off, redirect_stdout=sys.stdout.isatty()) as progress:
        task = progress.add_task(title, total=1.0)
        yield lambda share: progress.update(task, completed=share)
