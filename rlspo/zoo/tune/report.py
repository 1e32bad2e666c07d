"""What came out of a study: tables, files, and the winner as a block of YAML."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from typing import Any

from optuna.trial import TrialState
from rich.table import Table
from rich.text import Text

from rlspo.zoo.cli import terminal
from rlspo.zoo.config.atomic import whole, write_text
from rlspo.zoo.evaluate.statistics import Estimate
from rlspo.zoo.tune.study import Study, codes_of, duration_of, outcomes_of, reason_of, reference_of, settings_of
from rlspo.zoo.tune.validation import Validation

_SHOWN_REASONS = 5


def best_of(validations: list[Validation]) -> Validation | None:
    """The candidate to take, among those that were trained on all fresh seeds.

    It is the one with the highest mean among those that are shown to be better, or else among all.
    """
    complete = [each for each in validations if each.scores and not each.failures and not each.missing]
    shown = [each for each in complete if shown_better(each)]
    return max(shown or complete, key=lambda each: each.mean.value, default=None)


def shown_better(validation: Validation | None) -> bool:
    """Whether settings beat all that they were compared with, beyond what a few seeds may do by chance.

    A trial is compared with the default and with all other known settings, known settings with the default.
    """
    return validation is not None and bool(validation.gains) and all(gain.low > 0 for gain in validation.gains.values())


def counts(study: Study) -> dict[str, int]:
    """Trials by how they ended."""
    found = Counter(trial.state.name.lower() for trial in study.trials)
    return {name: found[name] for name in ("complete", "pruned", "fail") if found[name]}


def counted(study: Study) -> str:
    """The counts as a text, such as ``18 complete, 7 pruned``."""
    return ", ".join(f"{number} {name}" for name, number in counts(study).items())


def write_trials(study: Study) -> None:
    """All trials as a table, one row each, settings as columns."""
    rows = []
    for trial in study.trials:
        outcomes = outcomes_of(trial)
        rows.append(
            {
                "trial": trial.number,
                "state": trial.state.name.lower(),
                "value": trial.value if trial.state == TrialState.COMPLETE else "",
                "seconds": round(duration_of(trial).total_seconds(), 1),
                "scores": " ".join(f"{outcome.score:.6g}" for outcome in outcomes.values()),
                "reason": reason_of(trial),
                "reference": reference_of(trial),
                "code": " ".join(codes_of(trial)),
                "settings": json.dumps(settings_of(trial) or study.block_of(reference_of(trial)) or {}),
                **trial.params,
            }
        )
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with whole(study.folder.trials) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows(rows)


def as_data(
    study: Study,
    validations: list[Validation],
    command: str,
    top: int,
    block: dict[str, Any] | None = None,
    finding: str = "",
) -> dict[str, Any]:
    """The report as plain data.

    :param top: trials that were to be trained on fresh seeds
    :param block: the best settings; None for those that the study began from
    :param finding: what the file of hyperparameters should say of the study
    """
    best = best_of(validations)
    return {
        "study": study.name,
        "command": command,
        "settings": study.settings.plain(),
        "versions": study.versions,
        "commits": study.codes,
        "trials": counts(study),
        "seconds": round(sum(duration_of(trial).total_seconds() for trial in study.trials), 1),
        "top": top,
        "validation": [
            {
                "name": each.candidate.name,
                "settings": each.candidate.block or each.candidate.overrides,
                "searched": each.candidate.searched,
                "scores": {str(seed): score for seed, score in each.scores.items()},
                "mean": _plain(each.mean),
                "gains": {name: _plain(gain) for name, gain in each.gains.items()},
                "failures": {str(seed): reason for seed, reason in each.failures.items()},
                "missing": list(each.missing),
            }
            for each in validations
        ],
        "best": None if best is None else best.candidate.name,
        "shown_better": shown_better(best),
        "block": block,
        "finding": finding,
    }


def write(study: Study, data: dict[str, Any]) -> None:
    """Write the report."""
    write_text(study.folder.report, json.dumps(data, indent=2) + "\n")


def show_failures(study: Study) -> None:
    """Say why trials failed, the commonest reasons first."""
    reasons = Counter(reason_of(trial) for trial in study.trials if trial.state == TrialState.FAIL)
    if reasons and study.folder.failures.is_dir():
        terminal.note(f"Tracebacks of failed trials: {study.folder.failures}")
    for reason, number in reasons.most_common(_SHOWN_REASONS):
        terminal.note(f"{number} {'trial' if number == 1 else 'trials'} failed: {reason or 'no reason known'}")


def show(study: Study, validations: list[Validation]) -> None:
    """Print the table of the validation."""
    table = Table()
    known = [each.candidate.name for each in validations if not each.candidate.is_trial]
    for column in ("settings", "in search", "on fresh seeds", *(f"gain over {name}" for name in known)):
        table.add_column(column, justify="left" if column == "settings" else "right")
    best = best_of(validations)
    for each in validations:
        searched = each.candidate.searched
        table.add_row(
            each.candidate.name,
            "" if searched is None else terminal.number(searched),
            interval_text(each.mean) if each.scores else "all failed",
            *(_text(each.gains.get(name)) for name in known),
            style="bold" if each is best else "",
        )
    terminal.wide().print(table)
    settings = study.settings
    protocol = settings.protocol
    under = f" under the {protocol.attack} attack" if protocol.attack else ""
    seeds = max(len(each.scores) for each in validations)
    caption = (
        f"mean over seeds ({settings.n_seeds} in the search, {seeds} fresh ones) of the interquartile mean of "
        f"{protocol.final_episodes} fresh episodes{under},\nafter {settings.n_timesteps:,} steps; 95 % t intervals"
    )
    terminal.out().print(Text(caption, style="dim"))
    for each in validations:
        for seed, reason in each.failures.items():
            terminal.note(f"{each.candidate.name}, seed {seed}: {reason}")
        if each.missing:
            lost = ", ".join(map(str, each.missing))
            terminal.note(f"{each.candidate.name}: the processes of seeds {lost} were killed; the same command trains them.")


def interval_text(estimate: Estimate) -> str:
    """A figure and its interval.

    >>> interval_text(Estimate(-151.234, -160.06, -140.0))
    '-151.2 [-160.1, -140.0]'
    >>> interval_text(Estimate(-151.234, math.nan, math.nan))
    '-151.2 [one seed]'
    """
    if math.isnan(estimate.low):
        return f"{terminal.number(estimate.value)} [one seed]"
    return f"{terminal.number(estimate.value)} [{terminal.number(estimate.low)}, {terminal.number(estimate.high)}]"


def _text(gain: Estimate | None) -> str:
    """Empty where it is not known."""
    return "" if gain is None or math.isnan(gain.value) else interval_text(gain)


def _plain(estimate: Estimate) -> list[float | None]:
    """Value, low and high; null for what is not known."""
    return [value if math.isfinite(value) else None for value in (estimate.value, estimate.low, estimate.high)]
