"""``rlspo benchmark``: the command."""

from __future__ import annotations

import argparse
import fnmatch
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from rlspo.common.errors import printable
from rlspo.zoo.benchmark import report, results
from rlspo.zoo.benchmark.grid import GRID, Grid, read_grid, write_grid
from rlspo.zoo.benchmark.grid_runs import GridRun
from rlspo.zoo.benchmark.live_view import watching
from rlspo.zoo.benchmark.planning import Planned, plan_runs
from rlspo.zoo.benchmark.progress import Progress
from rlspo.zoo.benchmark.runner import Runner, only_one
from rlspo.zoo.cli import exit_codes, terminal
from rlspo.zoo.cli.exit_codes import DONE, FAILED
from rlspo.zoo.cli.parser import Parser, add_trust, positive
from rlspo.zoo.config import yaml_io
from rlspo.zoo.config.allowed import Allowed, import_trusted
from rlspo.zoo.errors import UserError
from rlspo.zoo.runs.evaluation_log import DamagedFile

_DESCRIPTION = """\
Train and evaluate every agent of a grid on every environment with every seed, and compare them.

What is done already is kept: call again after an interruption, or with more agents, seeds or evaluations in the file.
Everything lies in one folder, logs/benchmark/NAME/: a folder for each run, results.csv, curves.csv, episodes.json,
summary.json and tables.md."""

_EXAMPLES = """\
examples:
  run a grid, two runs at a time
      rlspo benchmark zoo/grids/quick_cartpole.yml --jobs 2
  what is done and what is missing, without starting anything
      rlspo benchmark zoo/grids/quick_cartpole.yml --dry-run
  only some runs: AGENT/ENV/SEED, with * for any
      rlspo benchmark zoo/grids/quick_cartpole.yml --only 'ppo/*/0' 'ppo/*/1'
  more seeds than the file says
      rlspo benchmark zoo/grids/quick_cartpole.yml --seeds 5
  tables from what is there, also while the grid is running elsewhere
      rlspo benchmark zoo/grids/quick_cartpole.yml --report
  keep the small files, without models and logs
      rlspo benchmark zoo/grids/quick_cartpole.yml --report --export zoo/results/quick_cartpole

a grid file looks like this:
  agents:
    ppo:                            # the agent of this name, with its own settings
    ppo-wide:
      algo: ppo
      params: {policy_kwargs: {net_arch: [256, 256]}}
    sb3-ppo:
      algo: stable_baselines3.PPO   # any class that extends SB3's
      params: {policy: MlpPolicy}
  envs: [CartPole-v1]
  seeds: 3                          # 0, 1 and 2; or a list
  n_timesteps: 5e4
  evaluations:
    natural:
    mad: {attack: mad, epsilon: 0.075}

Exit code: 0 all done, 1 some runs failed or the disk is full, 2 a mistake in what was given, 130 stopped by Ctrl-C, 143 by
SIGTERM."""


def build_parser() -> Parser:
    """All flags of ``rlspo benchmark``."""
    parser = Parser("benchmark", _DESCRIPTION, _EXAMPLES, "benchmark GRID.yml [--jobs N] [-o DIR] [...]")
    parser.add_argument("grid", type=Path, metavar="GRID.yml", help="the grid")
    parser.add_argument("-j", "--jobs", type=positive, default=1, metavar="N", help="runs at a time (default: %(default)s)")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="the folder (default: logs/benchmark/NAME)")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="PATTERN", help="only these runs: AGENT/ENV/SEED, with * for any"
    )
    parser.add_argument("--seeds", metavar="SEEDS", help="instead of the file's: how many, or a list, such as '[3, 4]'")
    parser.add_argument("--redo", action="store_true", help="do again what was done with other settings than the file's")
    parser.add_argument("--dry-run", action="store_true", help="show what would be done, start nothing")
    parser.add_argument(
        "--report", action="store_true", help="make the tables from what is there (--only: of these runs), start nothing"
    )
    parser.add_argument("--export", type=Path, metavar="DIR", help="copy the tables to another folder, to be kept")
    parser.add_argument("--json", action="store_true", help="the summary as JSON on standard output")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default: %(default)s)")
    add_trust(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a grid as the command line says.

    :param argv: the arguments; None for those of this process
    :return: exit code: 0 all done, 1 some runs failed, 2 a mistake in what was given, 130 and 143 after signals
    """
    return exit_codes.run(_benchmark, argv)


def _benchmark(arguments: list[str]) -> int:
    """Check, run what is missing, sum up."""
    if not arguments:
        raise UserError("give a grid file, such as: rlspo benchmark zoo/grids/quick_cartpole.yml --jobs 2")
    args = build_parser().read(arguments)
    import_trusted(args)
    grid = read_grid(args.grid, _seeds(args.seeds))
    folder: Path = args.output or Path("logs/benchmark") / grid.name
    if args.report and args.seeds is None and (folder / GRID).is_file():  # those of the runs that are there
        grid = read_grid(args.grid, yaml_io.read_mapping(folder / GRID)["seeds"])
    planned = plan_runs(grid, args.grid, folder, args.device, Allowed.of(args))
    chosen = _chosen(planned.runs, args.only)
    if args.dry_run:
        return _dry_run(chosen, args.json)
    for place, flag in ((folder, "-o"), (args.export, "--export")):
        if place is not None:
            _refuse_another(place, grid, flag)
    if args.report:
        _refuse_stale(chosen)
        return _report(grid, chosen, folder, args, {})
    _make(folder)
    with only_one(folder):
        if args.redo:
            _refuse_stale([run for run in planned.runs if run not in chosen])  # before anything is removed
            _clear_stale(chosen)
        _refuse_stale(planned.runs)
        write_grid(grid, args.grid, folder)
        failed = _run(planned, chosen, folder, args)
        return _report(grid, planned.runs, folder, args, failed)


def _seeds(text: str | None) -> Any:
    """What the grid file would hold.

    :raises UserError: for anything but a number or a list of numbers
    """
    if text is None:
        return None
    try:
        seeds = yaml_io.parse(text)
    except yaml.YAMLError:
        seeds = None
    if not all(type(seed) is int for seed in (seeds if isinstance(seeds, list) else [seeds])):
        raise UserError(f"--seeds: {text!r} is neither how many nor a list, such as 5 or '[3, 4]'.")
    return seeds


def _refuse_another(folder: Path, grid: Grid, flag: str) -> None:
    """Refuse a folder with the results of another grid, which would be replaced.

    :raises UserError: where no agent, or no environment, is the same
    """
    if not (folder / GRID).is_file():
        return
    before = yaml_io.read_mapping(folder / GRID)
    for key, now in (("agents", grid.agents), ("envs", grid.envs)):
        there = [*(before.get(key) or {})]
        if there and not {*there} & {*now}:
            raise UserError(
                f"{folder} holds the results of another grid, whose {key} are {', '.join(map(str, there))}. Nothing is "
                f"overwritten: name another folder with {flag} DIR, or remove it."
            )


def _chosen(runs: Sequence[GridRun], patterns: Sequence[str]) -> list[GridRun]:
    """The runs that a pattern names; all without patterns."""
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(run.key, pattern) for run in runs):
            raise UserError(f"--only: no run is called {pattern!r}. The first is {runs[0].key}; * stands for anything.")
    return [run for run in runs if not patterns or any(fnmatch.fnmatchcase(run.key, each) for each in patterns)]


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output: cannot make {folder}: {error.strerror}.") from error


def _refuse_stale(runs: Sequence[GridRun]) -> None:
    """Never mix results of different settings.

    :raises UserError: naming the runs and what has changed
    """
    stale = {run.key: run.standing().stale for run in runs}
    stale = {key: changes for key, changes in stale.items() if changes}
    if stale:
        listed = "\n".join(
            f"  {key}: {'; '.join(changes[:3])}{' ...' if len(changes) > 3 else ''}" for key, changes in stale.items()
        )
        raise UserError(
            f"{len(stale)} of {len(runs)} runs were done with other settings than the grid asks for now:\n{listed}\n"
            "Do them again with --redo, which removes what they hold, and without an --only that leaves them out; or name "
            "another folder: -o DIR"
        )


def _clear_stale(runs: Sequence[GridRun]) -> None:
    """Remove what is stale or damaged: the whole run where the training is, else single evaluations."""
    for run in runs:
        try:
            record = run.record()
        except DamagedFile as error:
            terminal.note(f"{error} The run is done again.")
            run.folder.clear()
            continue
        if record is None:
            continue
        if run.training_changes(record):
            run.folder.clear()
            continue
        for name in run.evaluations:
            try:
                done = run.evaluation(name)
                again = done is not None and bool(run.evaluation_changes(name, done))
            except DamagedFile as error:
                terminal.note(f"{error} The evaluation is done again.")
                again = True
            if again:
                run.folder.evaluation(name).unlink()


def _dry_run(runs: Sequence[GridRun], as_json: bool) -> int:
    """Say what would be done."""
    rows = [(run, run.standing()) for run in runs]
    if as_json:
        data = [
            {
                "agent": run.agent,
                "env": run.env,
                "seed": run.seed,
                "state": standing.word,
                "missing": list(standing.missing),
                "stale": list(standing.stale),
                "n_timesteps": run.n_timesteps,
                "folder": str(run.folder.path),
                "command": ["rlspo", "train", *run.command],
            }
            for run, standing in rows
        ]
        print(json.dumps({"cells": data}, indent=2))
        return DONE
    for run, standing in rows:
        more = f" (without {', '.join(standing.missing)})" if standing.word == "trained" else ""
        terminal.out().print(printable(f"{run.key:<40} {standing.word}{more}"), markup=False)
    steps = sum(run.n_timesteps for run, standing in rows if not standing.trained)
    terminal.out().print(f"{len(rows)} runs, {sum(s.complete for _, s in rows)} done; {steps:,} steps to train")
    return DONE


def _run(planned: Planned, chosen: Sequence[GridRun], folder: Path, args: argparse.Namespace) -> dict[str, str]:
    """Run what is missing.

    :return: the runs that failed, and why
    """
    progress = {run.key: Progress() for run in planned.runs}
    missing = []
    for run in planned.runs:
        standing = run.standing()
        if standing.trained:
            progress[run.key].read(run)
        if standing.complete:
            progress[run.key].state = "done"
        elif standing.damaged and run in chosen:
            progress[run.key].state = "failed"
            progress[run.key].reason = f"{' '.join(standing.damaged)} To do it again: --redo"
        elif run in chosen:
            missing.append(run)
    if missing:
        for title, text in planned.warnings:
            terminal.warning(title, text)
        with watching(planned.runs, missing, progress, args.jobs) as watcher:
            Runner(missing, progress, watcher, folder, args.device).run(args.jobs)
    failed = {key: each.reason for key, each in progress.items() if each.state == "failed"}
    for key, reason in failed.items():
        terminal.error(f"{key} failed: {reason}")
    if failed:
        terminal.note(f"{len(failed)} of {len(chosen)} runs failed; the same command tries them again.")
    return failed


def _report(grid: Grid, runs: Sequence[GridRun], folder: Path, args: argparse.Namespace, failed: dict[str, str]) -> int:
    """Write the tables and show them.

    :param failed: runs that failed in this call, and why
    """
    standings = {run.key: run.standing() for run in runs}
    complete = [run for run in runs if standings[run.key].complete]
    for key, standing in standings.items():
        if standing.damaged and key not in failed:
            failed = {**failed, key: " ".join(standing.damaged)}
            terminal.error(f"{key} is left out. {failed[key]} To do it again: --redo")
    if not complete:
        terminal.note(f"{folder}: no run is done yet, so there is nothing to report.")
        if args.json:
            counts = {"complete": 0, "total": len(runs)}
            print(json.dumps({"grid": grid.name, "cells": counts, "envs": {}, "failed": failed}, indent=2))
        return FAILED
    try:
        write_grid(grid, args.grid, folder)
        summary = report.write(grid, complete, len(runs), folder)
    except OSError as error:
        why = f"cannot write the tables to {folder}: {error.strerror}."
        if not args.report:  # the runs are there
            terminal.error(f"{why} Make them later: --report")
            return FAILED
        raise UserError(f"{why} Copy the folder, and name the copy: -o DIR") from error
    if args.export is not None:
        results.export(grid, args.grid, folder, args.export)
    if args.json:
        print(json.dumps({**summary, "failed": failed}, indent=2))
    else:
        report.show(summary, folder)
    return FAILED if failed else DONE
