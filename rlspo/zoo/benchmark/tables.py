"""The tables of a grid, for a page of documentation and for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from rlspo.zoo.benchmark.grid import AREA
from rlspo.zoo.evaluate.worst import WORST

_TITLES = {"mean": "mean", "median": "median", "iqm": "IQM", "optimality_gap": "optimality gap"}
_MEASURES = {WORST: "worst attack", AREA: "during training", "mad": "MAD"}


@dataclass(frozen=True)
class TextTable:
    """A table of text.

    :param title: one line
    :param columns: their names
    :param rows: as many texts each
    :param bold: row and column of the best numbers
    :param labels: columns at the left that hold no numbers
    :param brief: whether it belongs to what the terminal shows
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    bold: frozenset[tuple[int, int]] = frozenset()
    labels: int = 1
    brief: bool = True

    def markdown(self) -> str:
        """As Markdown; the title is bold text, so that the table may stand under any heading."""
        aligned = ["---"] * self.labels + ["---:"] * (len(self.columns) - self.labels)
        lines = [f"**{self.title}**", "", _line(self.columns), _line(aligned)]
        for number, row in enumerate(self.rows):
            lines.append(_line([_marked(text) if (number, column) in self.bold else text for column, text in enumerate(row)]))
        return "\n".join(lines) + "\n"

    def rich(self) -> Group:
        """For the terminal, with intervals on a line of their own."""
        table = Table(show_lines=True)
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="left" if number < self.labels else "right")
        for number, row in enumerate(self.rows):
            table.add_row(*(_stacked(text, (number, column) in self.bold) for column, text in enumerate(row)))
        return Group(Text(self.title, "bold"), table)


def _marked(text: str) -> str:
    """A number in bold, its interval not."""
    value, bracket, interval = text.partition(" (")
    return f"**{value}**{bracket}{interval}"


def _stacked(text: str, best: bool) -> Text:
    """A number over its interval."""
    value, bracket, interval = text.partition(" (")
    return Text.assemble((value, "bold green" if best else ""), ("\n" + interval.rstrip(")") if bracket else "", "dim"))


def tables_of(summary: Mapping[str, Any]) -> list[TextTable]:
    """All tables of a grid.

    :param summary: as ``summary.json`` holds it
    """
    parts = dict(summary["envs"])
    if summary.get("overall"):
        parts = {"All environments, normalised": summary["overall"], **parts}
    found = []
    for where, measures in parts.items():
        found += [_overview(where, measures), _details(where, measures), *_improvements(where, measures, summary["attacks"])]
    return found


def _overview(where: str, measures: Mapping[str, Any]) -> TextTable:
    """Agents against measures."""
    agents = _agents(measures)
    rows, bold = [], set()
    for agent in agents:
        seeds = max(measure["agents"][agent]["seeds"] for measure in measures.values() if agent in measure["agents"])
        rows.append([agent, str(seeds), *(_text(measure, agent, "iqm") for measure in measures.values())])
    for column, measure in enumerate(measures.values(), start=2):
        best = _best(measure["agents"], "iqm", max)
        if best is not None:
            bold.add((agents.index(best), column))
    columns = ["agent", "seeds", *map(_measure, measures)]
    return TextTable(f"{where}: interquartile mean (IQM) of the seeds", columns, rows, frozenset(bold))


def _details(where: str, measures: Mapping[str, Any]) -> TextTable:
    """Every statistic of every agent in every measure."""
    some = next(iter(next(iter(measures.values()))["agents"].values()))
    statistics = [name for name in _TITLES if name in some]
    rows: list[list[str]] = []
    bold = set()
    for name, measure in measures.items():
        for statistic in statistics:
            best = _best(measure["agents"], statistic, min if statistic == "optimality_gap" else max)
            if best is not None:
                bold.add((len(rows) + list(measure["agents"]).index(best), 2 + statistics.index(statistic)))
        for agent in measure["agents"]:
            rows.append([_measure(name), agent, *(_text(measure, agent, statistic) for statistic in statistics)])
    columns = ["measure", "agent", *(_TITLES[name] for name in statistics)]
    return TextTable(f"{where}: every statistic of the seeds", columns, rows, frozenset(bold), labels=2, brief=False)


def _improvements(where: str, measures: Mapping[str, Any], attacks: Sequence[str]) -> list[TextTable]:
    """Probability of improvement: against the baseline one column for each measure; else a matrix for each evaluation.

    Several attacks are summed up by the worst of them; ``summary.json`` holds the others.
    """
    if len(_agents(measures)) < 2:
        return []
    against = {other for measure in measures.values() for row in measure["improvement"].values() for other in row}
    if len(against) == 1:
        baseline = next(iter(against))
        agents = [agent for agent in _agents(measures) if agent != baseline]
        rows = [[agent, *(_probability(measure, agent, baseline) for measure in measures.values())] for agent in agents]
        title = f"{where}: probability of scoring higher than {baseline}"
        return [TextTable(title, ["agent", *map(_measure, measures)], rows)]
    found = []
    for name, measure in measures.items():
        agents = list(measure["agents"])
        if len(agents) > 1 and name != AREA and not (WORST in measures and name in attacks):
            rows = [[agent, *(_probability(measure, agent, other) for other in agents)] for agent in agents]
            title = f"{where}, {_measure(name)}: probability that the row scores higher than the column"
            found.append(TextTable(title, ["", *agents], rows))
    return found


def _agents(measures: Mapping[str, Any]) -> list[str]:
    """Agents of all measures, in order."""
    return list(dict.fromkeys(agent for measure in measures.values() for agent in measure["agents"]))


def _best(agents: Mapping[str, Any], statistic: str, choose: Any) -> str | None:
    """The agent with the best number, where there is a choice."""
    return choose(agents, key=lambda agent: agents[agent][statistic]["value"]) if len(agents) > 1 else None


def _text(measure: Mapping[str, Any], agent: str, statistic: str) -> str:
    """A number and its interval; a single seed has none."""
    if agent not in measure["agents"]:
        return ""
    described = measure["agents"][agent]
    values = described[statistic]
    largest = max(abs(other["iqm"]["value"]) for other in measure["agents"].values())
    digits = 3 if statistic == "optimality_gap" or largest < 10 else 1 if largest < 1000 else 0
    value = f"{values['value']:,.{digits}f}"
    if values["low"] is None:
        return value
    return f"{value} ({values['low']:,.{digits}f} to {values['high']:,.{digits}f})"


def _probability(measure: Mapping[str, Any], agent: str, other: str) -> str:
    values = measure["improvement"].get(agent, {}).get(other)
    if values is None:
        return ""
    value = f"{values['value']:.0%}"
    return value if values["low"] is None else f"{value} ({values['low']:.0%} to {values['high']:.0%})"


def _measure(name: str) -> str:
    """A measure in words."""
    return _MEASURES.get(name, name)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
