"""SB3's ``DummyVecEnv``, which looks at what environments give before it copies it into its own arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from rlspo.common.cut_episodes import CutEpisodes
from rlspo.common.rollout_buffer import check_rows, observation_fields
from rlspo.common.trees import tree_map


class CheckedDummyVecEnv(DummyVecEnv):
    """SB3's copies observations into rows of one array, so that a scalar fills a whole row and fractions become bytes.

    Here the first two observations of each environment must be what its space says. Episodes that a wrapper outside of the
    ``Monitor`` ends are told as its own.

    :param env_fns: as SB3's
    """

    def __init__(self, env_fns: list[Any]) -> None:
        super().__init__(env_fns)
        self._looks_left = [2] * self.num_envs
        cuts = [(index, CutEpisodes(env)) for index, env in enumerate(self.envs)]
        self._cuts = {index: cut for index, cut in cuts if cut.monitor is not None}

    def reset(self) -> VecEnvObs:
        observations = super().reset()
        for cut in self._cuts.values():
            cut.was_reset(None)
        return observations

    def step_wait(self) -> VecEnvStepReturn:
        observations, rewards, dones, infos = super().step_wait()
        if self._cuts:
            for index in np.flatnonzero(dones):
                self._cuts[int(index)].was_reset(infos[index])
        return observations, rewards, dones, infos

    def _save_obs(self, env_idx: int, obs: Any) -> None:
        if self._looks_left[env_idx]:
            self._looks_left[env_idx] -= 1
            row = tree_map(lambda part: np.asarray(part)[None], obs)
            check_rows(f"The observation of environment {env_idx}", row, observation_fields(self.observation_space), 1)
        super()._save_obs(env_idx, obs)
