"""SB3's ``DummyVecEnv``, which looks at what environments give before it copies it into its own arrays."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper
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

    #: Observations of each environment that are still to be looked at, by its index.
    _looks_left: dict[int, int]
    #: Those whose Monitor lies inside of a wrapper that may end episodes, by index.
    _cuts: Mapping[int, CutEpisodes] = MappingProxyType({})

    def __init__(self, env_fns: list[Any]) -> None:
        super().__init__(env_fns)
        self._looks_left = dict.fromkeys(range(self.num_envs), 2)
        cuts = [(index, CutEpisodes(env)) for index, env in enumerate(self.envs)]
        self._cuts = {index: cut for index, cut in cuts if cut.monitor is not None}
        if self._cuts:  # for this one alone, so that others pay nothing for it
            self.step_wait = self._step_and_count  # type: ignore[method-assign]

    def reset(self) -> VecEnvObs:
        observations = super().reset()
        for cut in self._cuts.values():
            cut.was_reset(None)
        return observations

    def _step_and_count(self) -> VecEnvStepReturn:
        observations, rewards, dones, infos = super().step_wait()
        for index in np.flatnonzero(dones):
            self._cuts[int(index)].was_reset(infos[index])
        return observations, rewards, dones, infos

    def _save_obs(self, env_idx: int, obs: Any) -> None:
        if self._looks_left[env_idx]:
            self._looks_left[env_idx] -= 1
            row = tree_map(lambda part: np.asarray(part)[None], obs)
            check_rows(f"The observation of environment {env_idx}", row, observation_fields(self.observation_space), 1)
        super()._save_obs(env_idx, obs)


def look_into(env: VecEnv) -> None:
    """Make a checked one of SB3's ``DummyVecEnv``, also inside of wrappers, where it is; others stay as they are."""
    while isinstance(env, VecEnvWrapper):
        env = env.venv
    if type(env) is DummyVecEnv:
        env.__class__ = CheckedDummyVecEnv
        vars(env)["_looks_left"] = dict.fromkeys(range(env.num_envs), 2)
