"""Statistics of SB3's ``VecNormalize``: kept from outliers, and put back where numbers were not finite."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize

from rlspo.common.outliers import FAR, ordinary, tell, without_outliers

#: Statistics, and what they were.
Kept = list[tuple[RunningMeanStd, Any, Any, float]]


class BoundedMeanStd(RunningMeanStd):
    """SB3's running mean and variance, which leave out outliers; see :func:`bound`. A copy or a pickle of it is SB3's own."""

    #: What is normalised, for the warning.
    what = "numbers"
    #: Whether outliers were spoken of.
    told = False

    def update(self, arr: np.ndarray) -> None:
        mean, variance = np.mean(arr, axis=0), np.var(arr, axis=0)
        # Nearly always all is small; where it is not, the second look costs a little, and only a third looks at numbers.
        # Squares of integers may be too large for their type.
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
    """Let the statistics of a ``VecNormalize`` leave out outliers; those of another class than SB3's stay as they are."""
    parts: dict[str, Any] = {"discounted returns": normalizer.ret_rms}
    if normalizer.norm_obs:
        seen: Any = normalizer.obs_rms
        parts |= (
            {f"observations {key!r}": part for key, part in seen.items()} if isinstance(seen, dict) else {"observations": seen}
        )
    for what, part in parts.items():
        if type(part) is RunningMeanStd:
            # The same object, because others may hold it, such as a VecNormalize for evaluations.
            part.__class__ = BoundedMeanStd
            vars(part)["what"] = what


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
