"""Rewards divided by the standard deviation of the discounted return, as in VecNormalize, but once per rollout."""

from __future__ import annotations

from typing import Self

import numpy as np
from stable_baselines3.common.running_mean_std import RunningMeanStd

from rlspo.common.errors import check_number
from rlspo.common.outliers import FAR, tell, without_outliers


class RewardScaler:
    """Divide rewards by the running standard deviation of the discounted return, and clip.

    One scale holds for a whole rollout, so sums and splits of rewards stay sums and splits.

    :param gamma: discount factor of the return whose spread is measured
    :param n_envs: parallel environments
    :param clip: scaled rewards are clipped to [-clip, clip]
    """

    #: Whether a warning of outliers was given.
    told = False

    def __init__(self, gamma: float, n_envs: int, clip: float = 10.0) -> None:
        self.gamma = gamma
        self.clip = clip
        self.statistics = RunningMeanStd(shape=())
        self.running_return = np.zeros(n_envs)

    def update(self, rewards: np.ndarray, starts: np.ndarray, valid: np.ndarray | None = None) -> None:
        """Merge the discounted returns of a rollout into the statistics; outliers are left out.

        :param rewards: raw, ``(n_steps, n_envs)``
        :param starts: whether the step is the first of its episode, same shape
        :param valid: False where an environment only reset, which pays nothing and counts for nothing, same shape; None: all
            count
        """
        spread = self.scale if self.known else 0.0
        if not np.abs(rewards).max() <= FAR * max(spread, 1.0):
            kept, count = without_outliers(rewards.reshape(-1), 0.0, spread, self.statistics.count)
            rewards = kept.reshape(rewards.shape)
            if count and not self.told:
                tell("rewards", count)
                self.told = True
        returns = self.follow(rewards, starts)
        self.statistics.update(returns.reshape(-1) if valid is None else returns[valid])

    def follow(self, rewards: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Discounted returns of steps, ``(n_steps, n_envs)``, from which those of later ones go on; arguments as in
        :meth:`update`."""
        returns = np.empty(rewards.shape)
        if len(self.running_return) != rewards.shape[1]:
            self.running_return = np.zeros(rewards.shape[1])
        for step, (reward, start) in enumerate(zip(rewards, starts, strict=True)):
            self.running_return = self.running_return * (1 - start) * self.gamma + reward
            returns[step] = self.running_return
        return returns

    def as_numbers(self) -> dict[str, float]:
        """The statistics, for :meth:`of_numbers`."""
        return {
            "mean": float(self.statistics.mean),
            "variance": float(self.statistics.var),
            "count": float(self.statistics.count),
        }

    @classmethod
    def of_numbers(cls, gamma: float, n_envs: int, mean: float, variance: float, count: float) -> Self:
        """A scaler with the statistics of another, whose running returns begin at 0.

        :raises ValueError: for statistics that none has
        """
        check_number("mean", mean, minimum=-float("inf"))
        check_number("variance", variance)
        check_number("count", count, positive=True)
        made = cls(gamma, n_envs)
        made.statistics.mean, made.statistics.var = np.asarray(mean, np.float64), np.asarray(variance, np.float64)
        made.statistics.count = count
        return made

    @property
    def known(self) -> bool:
        """Whether rewards have been seen; until then the scale is 1."""
        return bool(self.statistics.count > 1)

    @property
    def scale(self) -> float:
        """The raw reward that corresponds to a scaled reward of 1."""
        return float(np.sqrt(self.statistics.var + 1e-8))

    def __call__(self, rewards: np.ndarray) -> np.ndarray:
        """Scaled and clipped rewards, float32."""
        return np.clip(rewards / self.scale, -self.clip, self.clip).astype(np.float32)
