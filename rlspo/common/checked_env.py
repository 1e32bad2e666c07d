"""SB3's ``DummyVecEnv`` with checks of the environments' observations, and with faster copies."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import MappingProxyType, NoneType
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn
from stable_baselines3.common.vec_env.util import dict_to_obs

from rlspo.common.cut_episodes import CutEpisodes
from rlspo.common.rollout_buffer import check_rows, observation_fields
from rlspo.common.trees import tree_map

#: Immutable types, of which most infos consist.
_UNCHANGING = frozenset({bool, int, float, str, bytes, NoneType, *(np.dtype(code).type for code in "?bBhHiIlLqQefdg")})


def copy_of(info: Any) -> Any:
    """``copy.deepcopy(info)``, without visiting numbers and strings, which takes a third of a step of a small task."""
    if type(info) is not dict:
        return copy.deepcopy(info)
    return {key: value if type(value) in _UNCHANGING else copy.deepcopy(value) for key, value in info.items()}


class CheckedDummyVecEnv(DummyVecEnv):
    """SB3's class copies observations into rows of one array, so a scalar fills a whole row and fractions become bytes.

    Here the first two observations of each environment must match its space. Episodes ended by a wrapper outside of the
    ``Monitor`` are reported like the ``Monitor``'s.

    :param env_fns: as SB3's
    """

    #: Number of observations of each environment that are still to be checked.
    _looks_left: dict[int, int]
    #: Environments whose Monitor is inside of a wrapper that may end episodes, by index.
    _cuts: Mapping[int, CutEpisodes] = MappingProxyType({})

    def __init__(self, env_fns: list[Any]) -> None:
        super().__init__(env_fns)
        self._looks_left = dict.fromkeys(range(self.num_envs), 2)
        cuts = [(index, CutEpisodes(env)) for index, env in enumerate(self.envs)]
        self._cuts = {index: cut for index, cut in cuts if cut.monitor is not None}

    def step_wait(self) -> VecEnvStepReturn:
        for env_idx, env in enumerate(self.envs):
            observation, reward, terminated, truncated, info = env.step(self.actions[env_idx])
            self.buf_rews[env_idx], self.buf_dones[env_idx] = reward, terminated or truncated
            info["TimeLimit.truncated"] = truncated and not terminated
            if terminated or truncated:
                info["terminal_observation"] = copy.deepcopy(observation)  # the reset may write into it
                observation, self.reset_infos[env_idx] = env.reset()
                if env_idx in self._cuts:
                    self._cuts[env_idx].was_reset(info)
            self.buf_infos[env_idx] = info
            self._save_obs(env_idx, observation)
        return self._obs_from_buf(), self.buf_rews.copy(), self.buf_dones.copy(), [copy_of(info) for info in self.buf_infos]

    def reset(self) -> VecEnvObs:
        observations = super().reset()
        for cut in self._cuts.values():
            cut.was_reset(None)
        return observations

    def _obs_from_buf(self) -> VecEnvObs:
        return dict_to_obs(self.observation_space, {key: rows.copy() for key, rows in self.buf_obs.items()})

    def _save_obs(self, env_idx: int, obs: Any) -> None:
        if self._looks_left[env_idx]:
            self._looks_left[env_idx] -= 1
            row = tree_map(lambda part: np.asarray(part)[None], obs)
            check_rows(f"The observation of environment {env_idx}", row, observation_fields(self.observation_space), 1)
        super()._save_obs(env_idx, obs)


def look_into(env: VecEnv) -> None:
    """Turn SB3's ``DummyVecEnv``, also inside of wrappers, into a checked one in place; others are not changed."""
    while isinstance(env, VecEnvWrapper):
        env = env.venv
    if type(env) is DummyVecEnv:
        env.__class__ = CheckedDummyVecEnv
        vars(env)["_looks_left"] = dict.fromkeys(range(env.num_envs), 2)
