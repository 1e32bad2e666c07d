"""Numbers for the tables behind pictures: plain data, empty where unknown."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlspo.zoo.config.atomic import whole
from rlspo.zoo.evaluate.statistics import Estimate


def plain(value: float) -> float | None:
    """A number, None for NaN."""
    return None if math.isnan(value) else float(value)


def ends(estimate: Estimate) -> dict[str, float | None]:
    """The ends of an interval; None where unknown."""
    return {"low": plain(estimate.low), "high": plain(estimate.high)}


def write_csv(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Write a table whole or not at all: with as many digits as distinguish the numbers, empty for None.

    :param rows: at least one, all with the same keys
    """
    with whole(file) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
