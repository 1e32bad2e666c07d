"""The worst of several attacks: a score of its own, chosen training by training."""

from __future__ import annotations

from collections.abc import Mapping, Set

#: Name of the score that is the lowest of those under attack.
WORST = "worst"


def with_worst(scores: Mapping[str, float], attacks: Set[str]) -> dict[str, float]:
    """The scores of a training, and the lowest of those under attack.

    >>> with_worst({"natural": 9.0, "random": 8.0, "mad": 3.0}, {"random", "mad"})
    {'natural': 9.0, 'random': 8.0, 'mad': 3.0, 'worst': 3.0}
    >>> with_worst({"natural": 9.0, "random": 8.0}, {"random", "mad"})
    {'natural': 9.0, 'random': 8.0}

    :param scores: by evaluation
    :param attacks: the evaluations that are attacks; nothing is added unless there are several and the training has them all
    """
    if len(attacks) < 2 or not attacks <= scores.keys() or WORST in scores:
        return dict(scores)
    return {**scores, WORST: min(scores[name] for name in attacks)}
