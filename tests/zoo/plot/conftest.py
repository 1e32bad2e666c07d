"""Run folders and tables made by hand."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.zoo.conftest import write_monitor


@pytest.fixture
def run_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write a run folder."""

    def write(
        name: str,
        evaluations: Mapping[int, Sequence[float]] | None = None,
        episodes: Sequence[Sequence[tuple[float, int, float]]] = (),
        config: str | None = None,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        if evaluations is not None:
            np.savez(folder / "evaluations.npz", timesteps=list(evaluations), results=list(evaluations.values()))
        for number, rows in enumerate(episodes):
            write_monitor(folder / f"{number}.monitor.csv", rows)
        if config is not None:
            (folder / "config.yml").write_text(config)
        return folder

    return write


def config_of(algo: str, env: str, **agent: Any) -> str:
    """As a run of rlspo records itself."""
    return json.dumps({"algo": algo, "env": env, "agent": agent, "settings": {}, "seeds": {"seed": 0}})


@pytest.fixture
def config() -> Callable[..., str]:
    """The text of a ``config.yml``."""
    return config_of


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    """Write a table of ``rlspo benchmark``; columns are those of the first row."""

    def write(name: str, rows: Sequence[Mapping[str, Any]]) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return file

    return write


@pytest.fixture
def results(table: Callable[..., Path]) -> Callable[..., Path]:
    """Write ``results.csv`` from scores by agent, environment and evaluation."""

    def write(scores: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]], name: str = "grid/results.csv") -> Path:
        rows = [
            {
                "agent": agent,
                "env": env,
                "seed": seed,
                "evaluation": evaluation,
                "mean": value,
                "evaluation_settings": json.dumps({} if evaluation == "natural" else {"attack": evaluation}),
            }
            for agent, envs in scores.items()
            for env, evaluations in envs.items()
            for evaluation, values in evaluations.items()
            for seed, value in enumerate(values)
        ]
        return table(name, rows)

    return write
