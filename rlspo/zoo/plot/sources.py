"""From the paths on the command line to runs."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from rlspo.zoo.config import yaml_io
from rlspo.zoo.errors import UserError
from rlspo.zoo.plot.runs import FolderRun, Run, TableRun, env_label
from rlspo.zoo.plot.tables import read_tables
from rlspo.zoo.runs.monitor import env_id, monitor_files

_TABLES = ("results.csv", "curves.csv")
_GRID = "grid.yml"
#: Folders that are not searched for runs.
_SKIPPED = {"checkpoints", "tensorboard", "wandb", "plots"}
_NUMBERED = re.compile(r"(?P<env>.+)_\d+")
_PACKAGES = {"stable_baselines3": "SB3", "sb3_contrib": "SB3"}


@dataclass
class Found:
    """What the paths hold.

    :param runs: in order
    :param notes: what the user should know about them
    :param normalize: for each environment the returns that count as 0 and as 1, where a grid sets them
    :param baseline: the agent that others are compared with, where a grid sets them
    """

    runs: list[Run] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    normalize: dict[str, tuple[float, float]] = field(default_factory=dict)
    baseline: str | None = None


def find(paths: Sequence[Path], labelled: Mapping[str, Path]) -> Found:
    """All runs under the paths, each once.

    :param paths: run folders, folders of such folders, grid folders, tables
    :param labelled: more of them, with the name that their agent is to have; a run that is under both has this name
    :raises UserError: for a path that does not exist, or that holds nothing to draw
    """
    found = Found()
    seen: set[tuple[Path, str, str, str]] = set()
    groups = [*((label, [path]) for label, path in labelled.items()), *((None, group) for group in _grouped(paths))]
    for label, group in groups:
        path = group[0]
        runs, damaged = _readable(_runs_at(path, found, group))
        if damaged and not runs:
            raise UserError("\n".join(damaged))
        found.notes += [f"Left out: {reason}" for reason in damaged]
        if not runs:
            raise UserError(_nothing_at(path, found.notes))
        several = len({run.agent for run in runs}) > 1
        for run in runs:
            key = (run.source.resolve(), run.agent, run.env, run.name)
            if key not in seen:
                seen.add(key)
                agent = run.agent if label is None else f"{label} {run.agent}" if several else label
                found.runs.append(replace(run, agent=agent))
    _drop_copies(found)
    _compare_attacks(found)
    return found


def _drop_copies(found: Found) -> None:
    """Count a run once whose rows are in the tables of several folders, as where a grid was copied or exported."""
    originals: dict[tuple[str, str, str], list[Run]] = {}
    copies: dict[tuple[Path, Path], int] = {}
    runs, found.runs = found.runs, []
    for run in runs:
        same = originals.setdefault((run.agent, run.env, run.name), [])
        original = next((each for each in same if _is_copy(run, each)), None)
        if original is None:
            same.append(run)
            found.runs.append(run)
        else:
            copies[run.source, original.source] = copies.get((run.source, original.source), 0) + 1
    found.notes += [f"{copy} repeats {count} runs of {of}; each is counted once." for (copy, of), count in copies.items()]


def _is_copy(run: Run, other: Run) -> bool:
    """Whether two runs of tables have the same values, all of them."""
    if not (isinstance(run, TableRun) and isinstance(other, TableRun)) or run.recorded_scores != other.recorded_scores:
        return False
    if run.recorded is None or other.recorded is None:
        return run.recorded is other.recorded
    return np.array_equal(run.recorded.steps, other.recorded.steps) and np.array_equal(
        run.recorded.values, other.recorded.values, equal_nan=True
    )


def _grouped(paths: Sequence[Path]) -> list[list[Path]]:
    """Each path by itself, and the tables of one folder together, since they tell of the same runs."""
    groups: dict[tuple[Path, bool], list[Path]] = {}
    for path in paths:
        table = path.suffix == ".csv" and path.is_file()
        groups.setdefault((path.resolve().parent if table else path, table), []).append(path)
    return [[*dict.fromkeys(group)] for group in groups.values()]


def _compare_attacks(found: Found) -> None:
    """Let the worst attack of each run be that of the same attacks, and say where attacks are not the same."""
    for env in dict.fromkeys(run.env for run in found.runs):
        there = [run for run in found.runs if run.env == env]
        attacks = frozenset[str]().union(*(run.attacks for run in there))
        fewer = sorted({run.agent for run in there if 1 < len(run.attacks) < len(attacks)})
        if fewer:
            found.notes.append(
                f"{env}: {', '.join(fewer)} without a worst attack, since not all of {', '.join(sorted(attacks))} were played."
            )
        for attack in sorted(attacks):
            radii = {run.radii[attack] for run in there if attack in run.radii}
            if len(radii) > 1:
                found.notes.append(
                    f"{env}: {attack} does not compare, its radii differ: {', '.join(sorted(radii))}. Evaluate all agents "
                    "with one: rlspo train --attack-epsilon, rlspo benchmark"
                )
        found.runs = [replace(run, compared=attacks) if run.env == env else run for run in found.runs]


def _readable(runs: Iterable[Run]) -> tuple[list[Run], list[str]]:
    """The runs whose files can be read, and what is wrong with the others."""
    good, damaged = [], []
    for run in runs:
        try:
            _ = run.scores  # reads what there is, once
            good.append(run)
        except UserError as error:
            damaged.append(str(error))
    return good, damaged


def _runs_at(path: Path, found: Found, tables_of_folder: Sequence[Path]) -> Iterator[Run]:
    """The runs of one path; notes and settings of grids are added to ``found``.

    :param tables_of_folder: where the path is a table, all that were given of its folder: they tell of the same runs
    """
    if not path.exists():
        raise UserError(f"{path} does not exist. Give a run folder, a folder of runs, a grid folder, or its results.csv.")
    if path.is_file():
        if path.suffix != ".csv":
            raise UserError(f"{path} is not a table. Give a folder, or the results.csv or curves.csv of a grid.")
        _read_grid(path.parent, found)
        yield from read_tables(tables_of_folder)
    elif tables := [path / name for name in _TABLES if (path / name).is_file()]:
        _read_grid(path, found)
        newest = max(table.stat().st_mtime for table in tables)
        if any(file.stat().st_mtime > newest for file in path.glob("*/*/seed_*/cell.json")):
            found.notes.append(f"{path}: some runs are newer than the tables that were drawn. `rlspo benchmark` renews them.")
        yield from read_tables(tables)
    else:
        _read_grid(path, found)
        grids: list[Path] = []
        yield from (_folder_run(folder) for folder in _run_folders(path, grids))
        if grids:
            listed = ", ".join(str(grid) for grid in grids)
            found.notes.append(f"Left out the grids in there: {listed}. Name one to draw it.")


def _run_folders(top: Path, grids: list[Path]) -> Iterator[Path]:
    """Run folders, in natural order; grid folders below the top go into ``grids`` instead."""
    for name, folders, files in os.walk(top):
        folder = Path(name)
        if "evaluations.npz" in files or monitor_files(folder):
            folders.clear()
            yield folder
        elif folder != top and {_GRID, *_TABLES} & {*files}:
            folders.clear()
            grids.append(folder)
        folders[:] = sorted((each for each in folders if each not in _SKIPPED and each[0] != "."), key=_natural)


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts numbers in names as numbers.

    >>> sorted(["E_10", "E_9"], key=_natural)
    ['E_9', 'E_10']
    """
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _folder_run(folder: Path) -> FolderRun:
    """A run by its folder: agent and environment from ``config.yml``, else folder names, else monitor files."""
    config: dict[str, Any] = {}
    if (folder / "config.yml").is_file():
        with contextlib.suppress(UserError):  # not a record of a run: the names of folders are used
            config = yaml_io.read_mapping(folder / "config.yml")
    if not {"algo", "env"} <= config.keys():
        config = {}
    absolute = folder.absolute()
    grid_seed = re.fullmatch(r"seed_(\d+)", absolute.parent.name) if absolute.name == "run" else None
    if grid_seed:
        agent, env, name = absolute.parts[-4], absolute.parts[-3], f"seed {grid_seed[1]}"
    else:
        agent, env, name = absolute.parent.name, _env_of(absolute), absolute.name
    if config:
        settings = config.get("settings")
        policy = str(settings.get("policy")) if isinstance(settings, dict) else ""
        agent = agent if grid_seed else _agent_label(str(config["algo"]), policy)
        env = env if grid_seed else str(config["env"])
    return FolderRun(agent, env_label(env), name, folder, config=config)


def _env_of(folder: Path) -> str:
    """The environment of a run that has no record that can be read safely."""
    inner = next((args.parent.name for args in sorted(folder.glob("*/args.yml"))), None)
    numbered = _NUMBERED.fullmatch(folder.name)
    return inner or (numbered["env"] if numbered else env_id(folder) or folder.name)


def _agent_label(algo: str, policy: str = "") -> str:
    """A short name for an agent; with a mixture of experts it is another one.

    >>> _agent_label("ppo"), _agent_label("stable_baselines3.PPO"), _agent_label("my_package.agents.Mine")
    ('ppo', 'SB3 PPO', 'Mine')
    >>> _agent_label("sac", "MoeMlpPolicy")
    'moe-sac'
    """
    if policy.startswith("Moe"):
        return f"moe-{_agent_label(algo)}"
    package, _, name = algo.rpartition(".")
    short = _PACKAGES.get(package.partition(".")[0])
    return f"{short} {name}" if short else name


def _read_grid(folder: Path, found: Found) -> None:
    """Read from the grid file how scores are compared."""
    file = folder / _GRID
    if not file.is_file():
        return
    grid = yaml_io.read_mapping(file)
    ranges = grid.get("normalize")
    for env, ends in ranges.items() if isinstance(ranges, dict) else ():
        if isinstance(ends, list) and len(ends) == 2:
            found.normalize[env_label(str(env))] = (float(ends[0]), float(ends[1]))
    if isinstance(grid.get("baseline"), str):
        found.baseline = grid["baseline"]


def _nothing_at(path: Path, notes: Sequence[str]) -> str:
    """The message for a path without runs."""
    return (
        f"{path} holds nothing to draw. Looked for, there and below: run folders, which hold evaluations.npz or monitor files "
        f"such as 0.monitor.csv; and in a grid folder results.csv and curves.csv. {' '.join(notes)}"
    ).strip()
