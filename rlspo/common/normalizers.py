"""Statistics of SB3's ``VecNormalize``: without outliers, and restored where numbers were not finite."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize

from rlspo.common.outliers import FAR, ordinary, tell, without_outliers

#: Statistics, and their earlier values.
Kept = list[tuple[RunningMeanStd, Any, Any, float]]


class BoundedMeanStd(RunningMeanStd):
    """SB3's running mean and variance without outliers; see :func:`bound`. Copies and pickles are of SB3's own class."""

    #: The normalised quantity, for the warning.
    what = "numbers"
    #: Whether the warning was given.
    told = False

    def update(self, arr: np.ndarray) -> None:
        mean, variance = np.mean(arr, axis=0), np.var(arr, axis=0)
        # Nearly always the first check suffices; only the last one looks at single numbers. Squares of integers may overflow
        # their type.
        if not (arr.dtype.kind == "f" and np.vdot(arr, arr) < FAR**2):
            center, spread = (self.mean, np.sqrt(self.var)) if self.count > 1 else (0.0, 0.0)
            if not ordinary(mean, variance, len(arr), center, spread):
                arr = self._without_outliers(arr, center, spread)
                mean, variance = np.mean(arr, axis=0), np.var(arr, axis=0)
        self.update_from_moments(mean, variance, arr.shape[0])

    def _without_outliers(self, rows: np.ndarray, center: Any, spread: Any) -> np.ndarray:
        kept, count = without_outliers(rows, center, spread, self.count)
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
    """Make the statistics of a ``VecNormalize`` leave out outliers, unless they are of another class than SB3's."""
    parts: dict[str, Any] = {"discounted returns": normalizer.ret_rms}
    if normalizer.norm_obs:
        seen: Any = normalizer.obs_rms
        parts |= (
            {f"observations {key!r}": part for key, part in seen.items()} if isinstance(seen, dict) else {"observations": seen}
        )
    for what, part in parts.items():
        if type(part) is RunningMeanStd:
            # The same object, because it may be shared, for example with a VecNormalize for evaluations.
            part.__class__ = BoundedMeanStd
            vars(part)["what"] = what


def scaled_rewards(rewards: Any, variance: float, epsilon: float, clip: float) -> Any:
    """Rewards, a tensor, as a ``VecNormalize`` with these numbers shows them to an agent."""
    return (rewards / (float(variance) + float(epsilon)) ** 0.5).clamp(-float(clip), float(clip))


def keep(normalizer: VecNormalize | None) -> Kept:
    """The current statistics; empty without a ``VecNormalize``. An update replaces the arrays, so they are not copied."""
    if normalizer is None:
        return []
    seen = getattr(normalizer, "obs_rms", None)  # without norm_obs there are none
    parts = [*(seen.values() if isinstance(seen, dict) else [] if seen is None else [seen]), normalizer.ret_rms]
    return [(part, part.mean, part.var, part.count) for part in parts]


def put_back(kept: Kept) -> None:
    """Restore the statistics."""
    for part, mean, variance, count in kept:
        part.mean, part.var, part.count = mean, variance, count
