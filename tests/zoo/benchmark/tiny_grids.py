"""Grids that are done in moments, and runs that were never trained."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from rlspo.zoo.benchmark.grid import read_grid
from rlspo.zoo.benchmark.grid_runs import GridRun, plain_json, write_json
from rlspo.zoo.benchmark.planning import plan_runs
from rlspo.zoo.config import yaml_io
from rlspo.zoo.runs.folder import environment_record

HERE = Path(__file__).parent
TINY = {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "callback": "benchmark_environments.Count"}


def grid_data(**changes: Any) -> dict[str, Any]:
    """A grid of moments; ``changes`` replace keys, None takes them away."""
    data = {
        "agents": {"ppo": {"params": TINY}, "twin": {"algo": "ppo", "params": {**TINY, "gamma": 0.5}}},
        "envs": {"Ledger-v0": {"gym_packages": ["zoo_environments"], "env_kwargs": {"pay": 2.0}}},
        "seeds": [0],
        "n_timesteps": 64,
        "eval_freq": 32,
        "eval_episodes": 2,
        "episodes": 3,
        "evaluations": {"natural": {}, "random": {"attack": "random", "epsilon": 0.1}},
        **changes,
    }
    return {key: value for key, value in data.items() if value is not None}


def write_grid(folder: Path, **changes: Any) -> Path:
    """A file with such a grid."""
    file = folder / "tiny.yml"
    yaml_io.write(file, grid_data(**changes))
    return file


def runs_of(file: Path, output: Path) -> tuple[GridRun, ...]:
    """The runs of a grid file."""
    return plan_runs(read_grid(file), file, output).runs


def fake(run: GridRun, returns: dict[str, list[float]], curve: dict[int, list[float]] | None = None) -> None:
    """Leave on disk what a training and its evaluations would have left.

    :param returns: of the episodes, for each evaluation
    :param curve: steps to the returns of an evaluation during training
    """
    run.folder.run_folder.mkdir(parents=True)
    record = {
        "fingerprint": "0",
        "n_timesteps": 64,
        "seconds": 2.0,
        "command": "python -m rlspo.zoo.train",
        "finished": "2026-01-01T00:00:00+00:00",
        "versions": environment_record(),
        "settings": plain_json(run.settings),
    }
    write_json(run.folder.record, record)
    for name, values in returns.items():
        done = {
            "settings": run.evaluations[name],
            "seconds": 1.0,
            "seed": 7,
            "summary": {"mean": float(np.mean(values))},
            "episodes": [{"return": value, "length": 10} for value in values],
        }
        write_json(run.folder.evaluation(name), done)
    if curve:
        np.savez(run.folder.run_folder / "evaluations.npz", timesteps=[*curve], results=np.array([*curve.values()]))


def read(file: Path) -> Any:
    """A JSON file."""
    return json.loads(file.read_text())
