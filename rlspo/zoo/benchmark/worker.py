"""The process of one run: it trains, evaluates, and writes each result when it is whole."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rlspo.zoo.benchmark.curves import Points, curve_points
from rlspo.zoo.benchmark.evaluations import kind_of
from rlspo.zoo.benchmark.grid_runs import GridRunFolder, fingerprint, read_json, write_json
from rlspo.zoo.cli.exit_codes import DONE, run
from rlspo.zoo.config.allowed import Allowed
from rlspo.zoo.errors import UserError
from rlspo.zoo.jobs.lock import as_worker
from rlspo.zoo.runs.evaluation_log import DamagedFile
from rlspo.zoo.runs.folder import RunFolder, command_line
from rlspo.zoo.runs.saved_agent import find_agent
from rlspo.zoo.train import training
from rlspo.zoo.train.arguments import parse


@dataclass(frozen=True)
class Job:
    """What one process has to do.

    :param grid: folder of all runs
    :param folder: of the run
    :param command: arguments of ``rlspo train``, without the folder
    :param settings: what decides the training's result, for the record
    :param about: agent, environment and seed, for the record
    :param evaluations: those still missing, by name
    :param device: to train and evaluate on
    """

    grid: Path
    folder: Path
    command: list[str]
    settings: dict[str, Any]
    about: dict[str, Any]
    evaluations: dict[str, dict[str, Any]]
    device: str


def work(job: Job, pipe: Connection) -> None:
    """Do a job. It tells nothing but how it ends: what it has done is in its folder, and what it says in a log there.

    :raises SystemExit: with another exit code than 0: that of the training, or 1
    """
    with as_worker(job.grid):
        log = os.open(GridRunFolder(job.folder).log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = _work(job)
    if code != DONE:
        sys.exit(code)


def _work(job: Job) -> int:
    """:return: exit code"""
    folder = GridRunFolder(job.folder)
    own: tuple[Path, ...] = ()
    if not folder.record.is_file():
        code = training.run([*job.command, "--run-folder", str(folder.run_folder)])
        if code != DONE:
            return code
        own = (folder.run_folder,)
        code = run(lambda _: _write_record(job, folder), [])
        if code != DONE:
            return code
    return run(lambda _: _evaluate(job, folder, own), [])


def _write_record(job: Job, folder: GridRunFolder) -> int:
    """Mark the training as whole: its models are on the disk."""
    write_json(folder.record, _record(job, RunFolder.existing(folder.run_folder)))
    return DONE


def _record(job: Job, run_folder: RunFolder) -> dict[str, Any]:
    """What was trained, when the training is whole."""
    status = read_json(run_folder.status)
    if status is None or status["state"] != "done":
        raise UserError(f"{run_folder.status} does not say that the training is done; was the disk full?")
    return {
        **job.about,
        "fingerprint": fingerprint(job.settings),
        "n_timesteps": status["num_timesteps"],
        "seconds": status["seconds"],
        "command": command_line(job.command),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": read_json(run_folder.path / "versions.json"),
        "settings": job.settings,
        "curve": _curve(run_folder, job.about["seed"]),
    }


def _curve(run_folder: RunFolder, seed: int) -> Points:
    """The learning curve; one that cannot be read does not cost the training."""
    try:
        return curve_points(run_folder, seed)
    except DamagedFile as error:
        print(error, flush=True)
        return []


def _evaluate(job: Job, folder: GridRunFolder, own: tuple[Path, ...]) -> int:
    """Do the evaluations that are missing.

    :param own: folders of runs that this process has trained
    """
    if not folder.run_folder.is_dir():
        raise UserError(
            f"{folder.run_folder} is not there, and with it the agent: what was evaluated is kept, and nothing more can be. "
            f"To train it again, remove {folder.path} and give the same command."
        )
    allowed = replace(Allowed.of(parse(job.command)), own=own)
    for name, settings in job.evaluations.items():
        started = time.monotonic()
        kind = kind_of(settings)
        evaluation = kind.model_validate({key: settings[key] for key in kind.model_fields if key in settings})
        print(f"evaluation {name}: {settings}", flush=True)
        agent = find_agent(folder.run_folder, which=settings["model"], env_kwargs=evaluation.env_kwargs, allowed=allowed)
        evaluated = evaluation.evaluate(agent, settings["episodes"], job.device)
        data = {
            "name": name,
            **job.about,
            "of": job.about,  # since the seed of the evaluation goes over that of the training
            "fingerprint": fingerprint(settings),
            "settings": settings,
            "seconds": round(time.monotonic() - started, 1),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            **evaluated.as_dict(),
        }
        write_json(folder.evaluation(name), data)
    return DONE
