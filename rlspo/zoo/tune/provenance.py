"""Where a block of settings comes from, in words: enough to do it again and to know how far to trust it."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterable, Sequence

from rlspo.zoo.evaluate.statistics import Estimate
from rlspo.zoo.tune.references import DEFAULT
from rlspo.zoo.tune.report import best_of, interval_text, shown_better
from rlspo.zoo.tune.study import Study
from rlspo.zoo.tune.validation import Validation

_NOT_TUNED = re.compile(r"\s*(Otherwise not|Not) tuned\.$")


def of_winner(study: Study, best: Validation, validations: Sequence[Validation], space: str) -> str:
    """Of the best settings, shown to be better or not.

    :param space: name of the file of the search space
    """
    doubt = "" if shown_better(best) else ", not shown to be better"
    default = next(each for each in validations if each.candidate.name == DEFAULT)
    own = (best.candidate.block or {}).get("provenance", "")
    return (
        f"{own} rlspo tune, study {study.name} of {_ended(study)} trials: {best.candidate.name}. {_search(study, space)}. "
        f"{_measure(study, best.scores)}: {interval_text(best.mean)}; before: {interval_text(default.mean)}"
        f"{_gains(best.gains)}{doubt}. {_made_by(study)}"
    ).strip()


def of_what_stays(study: Study, validations: Sequence[Validation], space: str) -> str:
    """Of settings that no others were shown to beat, to follow on where they came from before."""
    stays = next(each for each in validations if each.candidate.name == DEFAULT)
    others = [each for each in validations if each.candidate.name != DEFAULT]
    best = best_of(others)
    found = "" if best is None else f"; the best other settings, {best.candidate.name}: {interval_text(best.mean)}"
    gains = "" if best is None else _gains(best.gains)
    return (
        f"rlspo tune, study {study.name} of {_ended(study)} trials, found nothing shown to be better. "
        f"{_search(study, space)}. {_measure(study, stays.scores)}: {interval_text(stays.mean)}{found}{gains}. "
        f"{_made_by(study)}"
    )


def followed_by(before: str, finding: str) -> str:
    """Where settings came from, and what a study found of them since.

    >>> followed_by("As in the paper. Not tuned.", "A study found nothing better.")
    'As in the paper. A study found nothing better.'
    """
    return f"{_NOT_TUNED.sub('', before)} {finding}".strip()


def _ended(study: Study) -> int:
    return sum(trial.state.is_finished() for trial in study.trials)


def _search(study: Study, space: str) -> str:
    settings = study.settings
    return (
        f"Space {space} ({settings.space}), {settings.sampler} sampler, {settings.pruner} pruner, "
        f"seeds {_range(settings.seeds)}, {settings.n_timesteps:g} steps each"
    )


def _measure(study: Study, seeds: Iterable[int]) -> str:
    protocol = study.settings.protocol
    under = f", under the {protocol.attack} attack" if protocol.attack else ""
    return f"Interquartile mean of {protocol.final_episodes} fresh episodes{under}, mean over the fresh seeds {_range(seeds)}"


def _gains(gains: dict[str, Estimate]) -> str:
    """With what they are over, where that is not plain."""
    known = {name: gain for name, gain in gains.items() if math.isfinite(gain.value)}
    over = [f"{interval_text(gain)}" + (f" over {name}" if len(gains) > 1 else "") for name, gain in known.items()]
    return f", a gain of {' and '.join(over)} (95 % t intervals)" if over else " (95 % t intervals)"


def _made_by(study: Study) -> str:
    """Versions, the commits that trained, and the day."""
    commits = f"; commit{'s' * (len(study.codes) > 1)} {', '.join(study.codes)}" if study.codes else ""
    versions = ", ".join(f"{name} {version}" for name, version in study.versions.items())
    return f"{versions}{commits}; {datetime.date.today().isoformat()}."


def _range(seeds: Iterable[int]) -> str:
    """Seeds in short.

    >>> _range((0, 1, 2)), _range([4]), _range([])
    ('0-2', '4', '(none)')
    """
    found = list(seeds)
    if not found:
        return "(none)"
    return f"{found[0]}-{found[-1]}" if len(found) > 1 else str(found[0])
