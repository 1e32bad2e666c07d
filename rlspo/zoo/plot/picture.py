"""A picture, the numbers behind it, and its options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from matplotlib.figure import Figure

from rlspo.zoo.plot.lines import Along
from rlspo.zoo.plot.runs import Measure


@dataclass(frozen=True)
class Options:
    """Options of a picture; every kind uses those that apply to it.

    :param metric: whether curves show evaluations or training episodes; None for evaluations where there are any
    :param measure: which quantity of an episode curves show
    :param along: the x-axis of curves
    :param last: steps beyond which curves are not drawn; None for all
    :param least: steps that a run must have to be drawn; None for any
    :param smooth: points in the moving mean of curves; None for 20 training episodes or 1 evaluation
    :param returns: the part of the y-axis that curves show; None for all
    :param evaluations: names of the scores to show; empty for all there are
    :param normalize: for each environment the returns that count as 0 and as 1
    :param baseline: the agent that others are compared with; None to compare all with all
    :param title: above the picture; None for the name of the environment
    """

    metric: Literal["eval", "train"] | None = None
    measure: Measure = "return"
    along: Along = "steps"
    last: int | None = None
    least: int | None = None
    smooth: int | None = None
    returns: tuple[float, float] | None = None
    evaluations: Sequence[str] = ()
    normalize: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    baseline: str | None = None
    title: str | None = None


@dataclass(frozen=True)
class Picture:
    """A picture that is not yet a file.

    :param figure: as drawn
    :param rows: the numbers behind it, as plain data, all with the same keys
    :param notes: what the user should know about it
    """

    figure: Figure
    rows: Sequence[Mapping[str, Any]]
    notes: Sequence[str] = ()
