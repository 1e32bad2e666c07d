"""How much longer than asked the trials with the longest rollouts train: training ends with whole rollouts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rlspo.zoo.tune.space import SearchSpace

#: A share of the training that is not worth a word.
_LITTLE = 0.05


def longest_training(space: SearchSpace, settings: Mapping[str, Any], n_timesteps: int) -> int:
    """Steps of the longest training in a space.

    :param settings: whole, of the search's beginning; for what the space leaves out
    :param n_timesteps: asked for

    >>> longest_training(SearchSpace("", "", {}, {("n_steps",): 2048}), {"n_envs": 8}, 50_000)
    65536
    """

    def most(name: str) -> int:
        searched = space.searched.get((name,))
        values = [space.fixed.get((name,), settings.get(name, 1))] if searched is None else searched.settings()
        return max((int(value) for value in values if isinstance(value, int | float)), default=1)

    rollout = most("n_envs") * most("n_steps")
    return math.ceil(n_timesteps / rollout) * rollout


def warning_of(space: SearchSpace, settings: Mapping[str, Any], n_timesteps: int) -> tuple[tuple[str, str], ...]:
    """A title and a text where trials with long rollouts get much more training than others; else nothing."""
    longest = longest_training(space, settings, n_timesteps)
    if "n_steps" not in settings or longest <= n_timesteps * (1 + _LITTLE):
        return ()
    text = (
        f"Training ends with whole rollouts: trials with the longest ones train {longest:,} steps instead of "
        f"{n_timesteps:,}, {longest / n_timesteps - 1:.0%} more than asked, which favours them. Train longer, or search "
        "shorter rollouts."
    )
    return (("budgets", text),)
