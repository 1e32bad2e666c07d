"""Statistics of SB3's ``VecNormalize``: kept from outliers, and put back where numbers were not finite."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize

from rlspo.common.outliers import FAR, tell, without_outliers

#: Statistics, and what they were.
Kept = list[tuple[RunningMeanStd, Any, Any, float]]


class BoundedMeanStd(RunningMeanStd):
    """SB3's running mean and variance, which leave out outliers. A copy or a pickle of it is SB3's own.

    :param other: statistics to go on with
    :param what: is normalised, for the warning
    """

    def __init__(self, other: RunningMeanStd, what: str) -> None:
        self.mean, self.var, self.count = other.mean, other.var, other.count
        self.what, self.told = what, False

    def update(self, arr: np.ndarray) -> None:
        mean = np.mean(arr, axis=0)
        if not np.vdot(mean, mean) < FAR**2:  # seldom, and never where all is small
            arr = self._without_outliers(arr)
            mean = np.mean(arr, axis=0)
        self.update_from_moments(mean, np.var(arr, axis=0), arr.shape[0])

    def _without_outliers(self, rows: np.ndarray) -> np.ndarray:
        center, spread = (self.mean, np.sqrt(self.var)) if self.count > 1 else (0.0, 0.0)
        kept, count = without_outliers(rows, center, spread)
        if count == 0:
            return rows
        if not self.told:
            tell(self.what, count)
            self.told = True
        return kept

    def __reduce__(self) -> Any:
        plain = RunningMeanStd()
        plain.mean, plain.var, plain.count = self.mean, self.var, self.count
        return plain.__reduce_ex__(1)


def bound(normalizer: VecNormalize) -> None:
    """Let the statistics of a ``VecNormalize`` leave out outliers."""
    if normalizer.norm_obs:
        seen = normalizer.obs_rms
        normalizer.obs_rms = (
            {key: BoundedMeanStd(part, f"observations {key!r}") for key, part in seen.items()}
            if isinstance(seen, dict)
            else BoundedMeanStd(seen, "observations")
        )
    normalizer.ret_rms = BoundedMeanStd(normalizer.ret_rms, "discounted returns")


def keep(normalizer: VecNormalize | None) -> Kept:
    """The statistics as they are now; none without a ``VecNormalize``. An update replaces arrays, so nothing is copied."""
    if normalizer is None:
        return []
    seen = getattr(normalizer, "obs_rms", None)  # without norm_obs there is none
    parts = [*(seen.values() if isinstance(seen, dict) else [] if seen is None else [seen]), normalizer.ret_rms]
    return [(part, part.mean, part.var, part.count) for part in parts]


def put_back(kept: Kept) -> None:
    """Make the statistics what they were."""
    for part, mean, variance, count in kept:
        part.mean, part.var, part.count = mean, variance, count
