"""The worst of several attacks: a score of its own, the minimum within each training."""

from __future__ import annotations

from collections.abc import Mapping, Set

#: Name of the score that is the lowest of those under attack.
WORST = "worst"


def with_worst(scores: Mapping[str, float], attacks: Set[str]) -> dict[str, float]:
    """The scores of a training run, with the lowest of those under attack added.

    >>> with_worst({"natural": 9.0, "random": 8.0, "mad": 3.0}, {"random", "mad"})
    {'natural': 9.0, 'random': 8.0, 'mad': 3.0, 'worst': 3.0}
    >>> with_worst({"natural": 9.0, "random": 8.0}, {"random", "mad"})
    {'natural': 9.0, 'random': 8.0}

    :param scores: by evaluation
    :param attacks: the evaluations that are attacks; nothing is added unless there are several and the run has scores for all
        of them
    """
    if len(attacks) < 2 or not attacks <= scores.keys() or WORST in scores:
        return dict(scores)
    return {**scores, WORST: min(scores[name] for name in attacks)}
