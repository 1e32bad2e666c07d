"""``rlspo tune --queue``: a file of studies, worked off in order, in pieces, on machines that go away.

::

    defaults: {n_trials: 25, n_seeds: 3, references: true}       # for every study, unless it says otherwise
    studies:
      ppo_Hopper-v5: {algo: ppo, env: Hopper-v5, n_timesteps: 1e6, steps_per_second: 3500}
      barpo_Hopper-v5: {algo: barpo, env: Hopper-v5, n_timesteps: 1e6, attack: mad}

Keys are the flags of ``rlspo tune``. What a study leaves lies beside the file, in a folder of the file's name: ``studies.yml``
has ``studies/ppo_Hopper-v5/`` and so on. That folder is all that a study needs to go on, wherever it is copied to.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rlspo.common.errors import did_you_mean
from rlspo.zoo.cli import terminal
from rlspo.zoo.cli.exit_codes import DONE, FAILED
from rlspo.zoo.cli.signals import HAS_ALARM, TimeIsUp, time_limit
from rlspo.zoo.config import yaml_io
from rlspo.zoo.config.allowed import (
    Allowed,
    check_agent,
    check_env,
    check_packages,
    check_settings,
    check_words,
    import_trusted,
)
from rlspo.zoo.config.convert import merged
from rlspo.zoo.errors import UserError
from rlspo.zoo.jobs.lock import AtWork
from rlspo.zoo.runs.evaluation_log import DamagedFile
from rlspo.zoo.tune import standing
from rlspo.zoo.tune.arguments import parse, study_flags
from rlspo.zoo.tune.conclusion import apply
from rlspo.zoo.tune.run import tune
from rlspo.zoo.tune.standing import Standing
from rlspo.zoo.tune.task import Task, make_task

#: A key of the file that is not a flag: how fast one process trains, for estimates until it has been seen.
_RATE = "steps_per_second"
_MAPPINGS = ("hyperparams", "env_kwargs", "eval_env_kwargs")
_NAME = re.compile(r"\w[\w.+-]*")


@dataclass(frozen=True)
class Entry:
    """A study of a queue.

    :param name: of the study and of its folder
    :param args: the flags of ``rlspo tune`` that it stands for
    :param folder: of what it leaves
    :param rate: about how many steps one process trains in a second; None if nobody said
    """

    name: str
    args: argparse.Namespace
    folder: Path
    rate: float | None

    def task(self) -> Task:
        """The study, checked.

        :raises UserError: for anything that could not be used
        """
        try:
            return make_task(self.args, self.folder)
        except UserError as error:
            raise UserError(f"{self.name}: {error}") from error


def read_queue(
    file: Path, workers: int = 1, device: str = "auto", apply: bool = False, allowed: Allowed | None = None
) -> list[Entry]:
    """The studies of a file, in order.

    :param workers: processes for each
    :param device: to train on
    :param apply: whether results go into the files of hyperparameters
    :param allowed: what the file may name; None for nothing but what is registered
    :raises UserError: if the file is not of the right shape, naming study and key
    """
    if not file.suffix:
        raise UserError(f"--queue {file}: give the file an ending, such as .yml: {file}/ is for what its studies leave.")
    data = yaml_io.read_mapping(file)
    unknown = [key for key in data if key not in ("defaults", "studies")]
    if unknown:
        raise UserError(f"{file}: there is no key {unknown[0]!r}. {did_you_mean(unknown[0], ['defaults', 'studies'])}")
    defaults, studies = data.get("defaults") or {}, data.get("studies")
    texts = isinstance(studies, dict) and all(isinstance(name, str) for name in studies)
    if not isinstance(studies, dict) or not studies or not texts or not isinstance(defaults, dict):
        raise UserError(
            f"{file}: studies must be a mapping from names to flags, such as {{ppo_Hopper-v5: {{algo: ppo, env: Hopper-v5}}}},"
            " and defaults, where there are any, a mapping from flags to values."
        )
    allowed = allowed or Allowed()
    more = [f"--trust={module}" for module in allowed.modules]
    more += ["--workers", str(workers), "--device", device, *(["--apply"] if apply else [])]
    return [_entry(file, name, defaults, flags, more, allowed) for name, flags in studies.items()]


def _entry(file: Path, name: str, defaults: dict[str, Any], flags: Any, more: list[str], allowed: Allowed) -> Entry:
    where = f"{file}: {name}"
    if not _NAME.fullmatch(name):
        raise UserError(f"{where}: cannot name a folder; use letters, digits, and . _ + - inside.")
    if not isinstance(flags, dict) or not all(isinstance(key, str) for key in flags):
        raise UserError(f"{where} must be a mapping from flags to values, not {flags!r}.")
    given = merged(defaults, flags)
    keys = [*study_flags(), _RATE]
    for key in given:
        if key not in keys:
            raise UserError(f"{where}: there is no key {key!r}. {did_you_mean(key, keys)}")
    _check_names(given, where, allowed)
    if "env_kwargs" in (given.get("hyperparams") or {}):
        raise UserError(f"{where}: env_kwargs is a key of its own, not one of hyperparams.")
    rate = given.pop(_RATE, None)
    if rate is not None and not (type(rate) in (int, float) and rate > 0):
        raise UserError(f"{where}: {_RATE} is {rate!r}, but must be a number above 0.")
    try:
        args = parse([*_words(given), "--study-name", name, *more])
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return Entry(name, args, file.with_suffix("") / name, rate)


def _check_names(given: dict[str, Any], where: str, allowed: Allowed) -> None:
    """Refuse what a file may not name, before anything of it is imported.

    :raises UserError: saying what would have been run
    """
    for key, value in given.items():
        listed = list(value) if isinstance(value, dict | list) else [value]
        check_words((each for each in listed if isinstance(each, str)), f"{where}: {key}")
        if key in _MAPPINGS and not isinstance(value, dict | None):
            raise UserError(f"{where}: {key} is {value!r:.200}, but must be a mapping.")
        for text in (str(each) for each in listed if each is not None):
            if key == "algo":
                check_agent(text, f"{where}: algo", allowed)
            elif key == "env":
                check_env(text, f"{where}: env", allowed)
            elif key == "gym_packages":
                check_packages([text], f"{where}: gym_packages", allowed)
    check_settings(given.get("hyperparams") or {}, f"{where}: hyperparams", allowed)
    check_settings({key: given.get(key) for key in _MAPPINGS if key != "hyperparams"}, where, allowed)


def _words(flags: dict[str, Any]) -> list[str]:
    """A command line.

    >>> _words({"algo": "ppo", "n_timesteps": 1000000, "env_kwargs": {"instance": "2x1"}, "references": True, "attack": None})
    ['--algo', 'ppo', '--n-timesteps', '1000000', '--env-kwargs', 'instance:2x1', '--references']
    """
    words = []
    for key, value in flags.items():
        if value is None or value is False or value in ({}, []):
            continue
        words.append(f"--{key.replace('_', '-')}")
        if isinstance(value, dict):
            words += [f"{name}:{_flow(each)}" for name, each in value.items()]
        elif isinstance(value, list):
            words += [str(each) for each in value]
        elif value is not True:
            words.append(str(value))
    return words


def _flow(value: Any) -> str:
    return str(yaml.safe_dump(value, default_flow_style=True, width=10_000)).removesuffix("\n...\n").strip()


def run_queue(args: argparse.Namespace) -> int:
    """Work off what is missing.

    :param args: as :func:`~rlspo.zoo.tune.arguments.parse_queue` gives them
    :return: exit code: 0 all done or time is up, 1 nothing could be chosen in some study
    :raises UserError: for anything that could not be used, before anything is begun
    """
    if args.json and not args.dry_run:
        raise UserError("--json: with --queue it needs --dry-run: what is done and what is left, as JSON.")
    import_trusted(args)
    entries = _chosen(read_queue(args.queue, args.workers, args.device, args.apply, Allowed.of(args)), args.only)
    asked = len(entries)
    entries, known = _readable(entries)
    damaged = len(entries) < asked
    if args.json:
        print(json.dumps(standing.as_data(known, args.workers), indent=2))
        return FAILED if damaged else DONE
    standing.show(known, args.workers)
    if args.dry_run:
        return FAILED if damaged else DONE
    finished = {each.name for each in known if each.finished}
    missing = [entry for entry in entries if entry.name not in finished]
    codes = [_attempted(entry, apply) for entry in entries if args.apply and entry.name in finished]
    codes += [FAILED] * damaged
    if not missing:
        return FAILED if FAILED in codes else DONE
    if args.hours and not HAS_ALARM:
        raise UserError("--hours: this system cannot interrupt a program after some time. Leave it out, and stop by Ctrl-C.")
    try:
        with time_limit(args.hours and args.hours * 3600):
            for entry in missing:
                codes.append(_attempted(entry, lambda task: tune(task, _command(args.queue, task.name))))
    except TimeIsUp:
        terminal.note(f"{args.hours:g} hours are over. The same command goes on from here.")
    finally:
        standing.show(standings(entries), args.workers)
    return FAILED if FAILED in codes else DONE


def _attempted(entry: Entry, work: Callable[[Task], int]) -> int:
    """Do something with a study; what goes wrong there is told, and does not keep the queue from going on.

    :return: exit code
    """
    try:
        return work(entry.task())  # checked anew: a study before this one may have been applied
    except AtWork:
        terminal.note(f"{entry.name}: another program is at work on it; left alone.")
        return DONE
    except OSError as error:
        terminal.error(f"{entry.name}: {error}")
        return FAILED
    except UserError as error:
        terminal.error(str(error) if str(error).startswith(f"{entry.name}: ") else f"{entry.name}: {error}")
        return FAILED


def _command(file: Path, name: str) -> str:
    """For the record, which is to be the same on every machine."""
    return shlex.join(["rlspo", "tune", "--queue", file.name if file.is_absolute() else str(file), "--only", name])


def _readable(entries: Sequence[Entry]) -> tuple[list[Entry], list[Standing]]:
    """The studies whose files can be read, and how far they are; of the others the user is told.

    :raises DamagedFile: if none can be read
    """
    found: list[tuple[Entry, Standing]] = []
    errors: list[DamagedFile] = []
    for entry in entries:
        try:
            found += [(entry, each) for each in standings([entry])]
        except DamagedFile as error:
            errors.append(error)
    if errors and not found:
        raise errors[0]
    for each in errors:
        terminal.error(f"left out: {each}")
    return [entry for entry, _ in found], [far for _, far in found]


def standings(entries: Sequence[Entry]) -> list[Standing]:
    """How far studies are.

    :raises UserError: for a study that could not begin or go on
    """
    return [standing.of_task(entry.task(), entry.rate) for entry in entries]


def _chosen(entries: Sequence[Entry], patterns: Sequence[str]) -> list[Entry]:
    """The studies that a pattern names; all without patterns."""
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(entry.name, pattern) for entry in entries):
            raise UserError(
                f"--only: no study is called {pattern!r}. {did_you_mean(pattern, [entry.name for entry in entries])}"
            )
    return [entry for entry in entries if not patterns or any(fnmatch.fnmatchcase(entry.name, each) for each in patterns)]
