"""What environments give an agent, checked before it is learned from."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm

from rlspo.common.collector import stack_observations
from rlspo.common.errors import InvalidRolloutError, check_finite
from rlspo.common.normalizers import Kept, keep, put_back
from rlspo.common.rollout_buffer import Field, check_rows, observation_fields
from rlspo.common.trees import tree_map


class CheckedSteps(BaseAlgorithm):
    """Mixin that checks observations, rewards and dones."""

    #: Whether agents learn from the last observation of an episode even without a time limit.
    learns_from_ends: ClassVar[bool] = False
    #: Whether the next step is the first of its source, which is checked closely.
    _first_step = True
    _kept_statistics: Kept = []  # noqa: RUF012

    def check_step(self, new_obs: Any, rewards: np.ndarray, dones: np.ndarray, infos: list[dict[str, Any]], step: int) -> None:
        """Check the shapes of the first step of a source, and that all numbers are finite.

        :param step: environment steps that each environment had taken
        :raises ValueError: for another shape than the spaces say
        :raises InvalidRolloutError: for NaN or infinity
        """
        # Fewer rewards or dones would silently be broadcast to all rows.
        if self._first_step or not len(rewards) == len(dones) == self.n_envs:
            self._check_before_normalizing()
            check_rows("The array of observations", new_obs, observation_fields(self.observation_space), self.n_envs)
            check_rows("The array of rewards", rewards, Field(), self.n_envs)
            check_rows("The array of dones", dones, Field(), self.n_envs)
            self._first_step = False
        self._check_numbers(new_obs, rewards, step)
        for index in np.flatnonzero(dones):
            last = infos[index].get("terminal_observation")
            if last is None or not (self.learns_from_ends or infos[index].get("TimeLimit.truncated", False)):
                continue
            if isinstance(last, dict) != isinstance(self.observation_space, spaces.Dict):
                raise ValueError(
                    f"terminal_observation of environment {index} is of type {type(last).__name__}; it must be an element of "
                    f"{self.observation_space}. A wrapper that changes observations has to change those in "
                    'infos[i]["terminal_observation"] alike.'
                )
            last = stack_observations([last])
            check_rows(f"terminal_observation of environment {index}", last, observation_fields(self.observation_space), 1)
            check_finite(last, np.zeros(1), step, int(index))

    def _check_before_normalizing(self) -> None:
        """Check for observations that a VecNormalize would broadcast to the shape of its statistics."""
        normalizer: Any = self._vec_normalize_env
        if normalizer is not None and len(normalizer.old_obs):  # it was reset or stepped
            fields = observation_fields(normalizer.venv.observation_space)
            check_rows("The array of observations", normalizer.old_obs, fields, self.n_envs)

    def keep_statistics(self) -> None:
        """Save the statistics of a VecNormalize, to restore them if a step gives NaN or infinity."""
        self._kept_statistics = keep(self._vec_normalize_env)

    def _check_numbers(self, observations: Any, rewards: np.ndarray, step: int) -> None:
        normalizer: Any = self._vec_normalize_env
        try:
            if normalizer is not None:  # first, because one environment's NaN gets into the statistics, and so into all rows
                check_finite(normalizer.old_obs, normalizer.old_reward, step)
            check_finite(observations, rewards, step)
        except InvalidRolloutError:
            put_back(self._kept_statistics)
            raise

    def _own_last_obs(self) -> None:
        """Copy and check the first observations, because a VecEnv may write its next step into the same array."""
        self._last_obs = tree_map(np.array, self._last_obs)
        check_rows("The array of observations", self._last_obs, observation_fields(self.observation_space), self.n_envs)
        check_rows("The array of episode starts", self._last_episode_starts, Field(), self.n_envs)
        self._check_numbers(self._last_obs, np.zeros(self.n_envs), self.num_timesteps // self.n_envs)
