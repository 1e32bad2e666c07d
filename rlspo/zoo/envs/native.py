"""Environments that step all copies at once (``gymnasium.make_vec``, MuJoCo's tasks, Atari games): ``--vec-env native``."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.vector import VectorEnv
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.monitor import Monitor, ResultsWriter
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from rlspo.common.signatures import signature_of
from rlspo.common.vector_env import GymnasiumVecEnv
from rlspo.envs import MujocoVectorEnv
from rlspo.envs.atari import AtariGames
from rlspo.envs.atari.rules import is_game, rules_of
from rlspo.zoo.envs.patient_monitor import patient
from rlspo.zoo.errors import UserError

#: Argument of environments that put wrappers around each copy themselves.
_WRAPPERS = "env_wrappers"
#: A wrapper class and its arguments after the wrapped object.
_Wrapper = tuple[Any, dict[str, Any]]


def plays_atari(spec: EnvSpec, env_kwargs: dict[str, Any], wrappers: Sequence[_Wrapper]) -> bool:
    """Whether :class:`rlspo.envs.atari.AtariGames` plays it: a game of the ALE that skips no frames itself, wrapped in SB3's
    ``AtariWrapper`` alone."""
    if (
        [cls for cls, _ in wrappers] != [AtariWrapper]
        or not is_game(spec)
        or {"frameskip": 4, **spec.kwargs, **env_kwargs}["frameskip"] != 1
    ):
        return False
    try:
        rules_of(spec.id, wrappers[0][1], env_kwargs)
    except (TypeError, ValueError):
        return False
    return True


def check_native(
    spec: EnvSpec, env_kwargs: dict[str, Any], wrappers: Sequence[_Wrapper], monitor_kwargs: dict[str, Any]
) -> None:
    """Refuse settings that do not work with copies that are stepped as one.

    :param spec: of the environment
    :param env_kwargs: its arguments
    :param wrappers: of single environments
    :param monitor_kwargs: arguments of SB3's ``Monitor``
    :raises UserError: with what to do instead
    """
    atari = plays_atari(spec, env_kwargs, wrappers)
    if spec.vector_entry_point is None and not (atari or in_batches(spec)):
        raise UserError(f"--vec-env native: {spec.id} has no vectorised form of its own. Use dummy or subproc.")
    if wrappers and not (atari or _wraps(spec)):
        raise UserError(
            "--vec-env native: env_wrapper goes around single environments, and there are none. Use vec_env_wrapper, or "
            "--vec-env dummy or subproc."
        )
    limit = env_kwargs.get("max_episode_steps")
    if isinstance(limit, int) and limit < 1 and not in_batches(spec):  # gymnasium's CartPole would end episodes at once
        raise UserError(
            f"--vec-env native: max_episode_steps is {limit}; the vectorised form of {spec.id} needs at least 1. Give a large "
            "number, or --vec-env dummy, where -1 means no limit."
        )
    if monitor_kwargs:
        raise UserError(f"--vec-env native: monitor_kwargs {monitor_kwargs} are for single environments. Leave them out.")


def in_batches(spec: EnvSpec) -> bool:
    """Whether copies of this environment can be stepped by :class:`rlspo.envs.MujocoVectorEnv`."""
    entry = spec.entry_point
    if not isinstance(entry, str) or not entry.startswith("gymnasium.envs.mujoco.") or spec.additional_wrappers:
        return False  # no other is known, and MuJoCo may not be installed
    from rlspo.simulators.mujoco.tasks import TASKS

    return entry.replace(":", ".") in TASKS


def _wraps(spec: EnvSpec) -> bool:
    """Whether the vectorised form can put wrappers around each of its copies."""
    entry = spec.vector_entry_point
    creator = load_env_creator(entry) if isinstance(entry, str) else entry
    return creator is not None and _WRAPPERS in signature_of(creator).parameters


def make_native(
    env_id: str,
    n_envs: int,
    seed: int | None,
    folder: Path | None,
    env_kwargs: dict[str, Any],
    wrappers: Sequence[_Wrapper],
    wrap: Callable[[gym.Env], gym.Env],
) -> VecEnv:
    """All copies as one SB3 ``VecEnv``.

    :param wrappers: of single environments
    :param wrap: puts these around one copy
    :param seed: of all copies together
    :param folder: where ``0.monitor.csv``, the episodes of all copies, goes; None for nowhere
    """
    copies: VectorEnv
    spec = gym.spec(env_id)
    if plays_atari(spec, env_kwargs, wrappers):
        copies = AtariGames(env_id, n_envs, frame_stack=1, wrapper_kwargs=wrappers[0][1], env_kwargs=env_kwargs)
    elif in_batches(spec):
        copies = MujocoVectorEnv(env_id, n_envs, **env_kwargs)
    else:
        # Monitor innermost, as around single environments: returns and lengths are the environment's own.
        inside: dict[str, Any] = {_WRAPPERS: [Monitor, wrap]} if wrappers else {}
        copies = gym.make_vec(env_id, num_envs=n_envs, vectorization_mode="vector_entry_point", **env_kwargs, **inside)
    monitored = bool(wrappers)
    env = GymnasiumVecEnv(copies, monitored) if folder is None else EpisodeFile(copies, folder, monitored)
    env.seed(seed)
    env.action_space.seed(seed)
    return env


class EpisodeFile(GymnasiumVecEnv):
    """Writes every finished episode of all copies to ``0.monitor.csv``, as ``Monitor`` does for each environment.

    :param env: the copies
    :param folder: created if needed
    :param monitored: see :class:`~rlspo.common.vector_env.GymnasiumVecEnv`
    """

    def __init__(self, env: VectorEnv, folder: Path, monitored: bool = False) -> None:
        super().__init__(env, monitored)
        folder.mkdir(parents=True, exist_ok=True)
        spec = env.spec
        header: dict[str, float | str] = {
            "t_start": time.time(),
            "env_id": "" if spec is None else spec.id,
            "n_envs": env.num_envs,
        }
        self._writer = patient(ResultsWriter(str(folder / "0"), header=header, extra_keys=("copy",)))

    def step_wait(self) -> VecEnvStepReturn:
        observations, rewards, dones, infos = super().step_wait()
        for index in np.flatnonzero(dones):
            if "episode" in infos[index]:
                self._writer.write_row({**infos[index]["episode"], "copy": int(index)})
        return observations, rewards, dones, infos

    def close(self) -> None:
        self._writer.close()
        super().close()
