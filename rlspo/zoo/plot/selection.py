"""Which of the runs that were found are drawn, and their labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from rlspo.common.errors import did_you_mean
from rlspo.zoo.errors import UserError
from rlspo.zoo.plot.runs import Run, TableRun, env_label

_T = TypeVar("_T")


def labelled(words: Sequence[str]) -> dict[str, Path]:
    """Names and paths from ``NAME=PATH`` words.

    :raises UserError: for a word of another form, or a name given twice
    """
    found: dict[str, Path] = {}
    for word in words:
        name, sign, path = word.partition("=")
        if not (name and sign and path):
            raise UserError(f"--labels: {word!r} is not of the form NAME=PATH. Paths without a name go before --labels.")
        if name in found:
            raise UserError(f"--labels: {name!r} is given twice. To put folders together, name the folder that holds them.")
        found[name] = Path(path)
    return found


def choose(runs: Sequence[Run], envs: Sequence[str], agents: Sequence[str], by_run: bool) -> list[Run]:
    """The runs of some environments and agents, in their order.

    :param envs: empty for all
    :param agents: empty for all
    :param by_run: treat every run as an agent of its own
    :raises UserError: for an environment or agent that no run has
    """
    envs = [env_label(env) for env in envs]
    chosen = _ordered(runs, envs, [run.env for run in runs], "--env")
    chosen = _ordered(chosen, agents, [run.agent for run in chosen], "--agents")
    if by_run:
        shared = Counter((run.agent, run.env, run.name) for run in chosen)
        several = {key for key, count in shared.items() if count > 1}
        return [
            replace(run, agent=f"{run.agent} {run.source if (run.agent, run.env, run.name) in several else run.name}")
            for run in chosen
        ]
    return chosen


def _ordered(items: Sequence[_T], wanted: Sequence[str], names: Sequence[str], flag: str) -> list[_T]:
    """Items whose name is wanted, in the order of what is wanted; all items if none is named."""
    for name in wanted:
        if name not in names:
            raise UserError(f"{flag}: there is no run of {name!r}. {did_you_mean(name, names)}")
    if not wanted:
        return list(items)
    return [item for each in dict.fromkeys(wanted) for item, name in zip(items, names, strict=True) if name == each]


def mixtures(runs: Iterable[Run]) -> list[str]:
    """A warning for each line that aggregates runs which differ in more than their seeds, or may: tables hold no settings."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.agent, run.env), []).append(run)
    notes = []
    for (agent, env), members in groups.items():
        settings = [run.settings for run in members if run.settings]
        keys = sorted({key for each in settings for key in each})
        differing = [key for key in keys if any(each.get(key) != settings[0].get(key) for each in settings)]
        places = dict.fromkeys(str(run.source if isinstance(run, TableRun) else "run folders") for run in members)
        of_tables = any(isinstance(run, TableRun) for run in members)
        if differing:
            named = "differ in " + ", ".join(differing[:4]) + (", ..." if len(differing) > 4 else "")
        elif of_tables and len(places) > 1:
            named = f"come from {', '.join(places)}, whose settings may differ"
        else:
            continue
        notes.append(
            f"The {len(members)} runs of {agent} on {env} are aggregated, but {named}. "
            "To keep them apart: --by run, or --labels NAME=PATH for each."
        )
    return notes
