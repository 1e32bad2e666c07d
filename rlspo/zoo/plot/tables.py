"""Runs from the tables of ``rlspo benchmark``: ``results.csv`` and ``curves.csv``."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlspo.zoo.errors import UserError
from rlspo.zoo.plot.runs import NATURAL, LearningCurve, Run, TableRun, env_label

_RESULTS = {"agent", "env", "seed", "evaluation", "mean"}
_CURVES = {"agent", "env", "seed", "step", "mean"}

#: Agent, environment and seed.
Key = tuple[str, str, str]


def read_tables(files: Sequence[Path]) -> list[Run]:
    """All runs in the tables, in their order.

    :param files: of one grid
    :raises UserError: for a file that is neither table, or holds something else than numbers
    """
    curves: dict[Key, list[Mapping[str, str]]] = {}
    scores: dict[Key, dict[str, float]] = {}
    attacks: dict[Key, set[str]] = {}
    for file in files:
        rows = _rows(file)
        into_curves = bool(rows) and rows[0].keys() >= _CURVES
        if rows and not into_curves and not rows[0].keys() >= _RESULTS:
            raise UserError(
                f"{file} is not a table of `rlspo benchmark`: it has the columns {', '.join(rows[0])}. "
                f"results.csv has {', '.join(sorted(_RESULTS))}, curves.csv {', '.join(sorted(_CURVES))}, and more."
            )
        for row in rows:
            key = (row["agent"], row["env"], row["seed"])
            if into_curves:
                curves.setdefault(key, []).append(row)
            else:
                name = row["evaluation"]
                scores.setdefault(key, {})[name] = _number(row, "mean", file)
                if _is_attack(row):
                    attacks.setdefault(key, set()).add(name)
    source = files[0].parent
    return [
        TableRun(
            agent=agent,
            env=env_label(env),
            name=f"seed {seed}",
            source=source,
            recorded=_curve(curves[agent, env, seed], source) if (agent, env, seed) in curves else None,
            recorded_scores=scores.get((agent, env, seed), {}),
            attacked=frozenset(attacks.get((agent, env, seed), ())),
        )
        for agent, env, seed in dict.fromkeys([*scores, *curves])
    ]


def _rows(file: Path) -> list[dict[str, str]]:
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            return [{key: value or "" for key, value in row.items()} for row in csv.DictReader(lines)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} cannot be read as a table: {error}") from error


def _curve(rows: Sequence[Mapping[str, str]], file: Path) -> LearningCurve:
    """Lines of ``curves.csv``, in the order of their steps."""
    columns = {
        column: np.array([_number(row, column, file, empty=math.nan) for row in rows])
        for column in ("step", "seconds", "mean", "std")
    }
    order = np.argsort(columns["step"], kind="stable")
    steps, seconds, values, spread = (columns[name][order] for name in ("step", "seconds", "mean", "std"))
    return LearningCurve(steps, seconds, np.full(len(steps), np.nan), values, spread)


def _number(row: Mapping[str, str], column: str, file: Path, empty: float | None = None) -> float:
    """A number of a table.

    :param empty: value of an empty or missing field; None if that is an error
    """
    text = row.get(column, "")
    if not text and empty is not None:
        return empty
    try:
        return float(text)
    except ValueError as error:
        raise UserError(f"{file}: {text!r} in the column {column!r} is not a number.") from error


def _is_attack(row: Mapping[str, Any]) -> bool:
    """Whether the evaluation perturbs observations; its settings in the table show this."""
    try:
        settings = json.loads(row.get("evaluation_settings") or "null")
    except json.JSONDecodeError:
        settings = None
    return bool(settings.get("attack")) if isinstance(settings, dict) else row["evaluation"] != NATURAL
