"""Several copies of a perturbed game, each in its own process."""

from __future__ import annotations

import functools
import multiprocessing
import signal
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from rlspo.envs.arguments import whole
from rlspo.envs.stori.making import make_game


def make_games(
    num_envs: int, game: str, *, env_wrappers: Sequence[Callable[[gym.Env], gym.Env]] = (), **settings: Any
) -> AsyncVectorEnv:
    """Used by ``gymnasium.make_vec("STORI/<Game>-v0", num_envs)``: copies in processes with shared memory for observations.

    From one seed each copy gets its own, counted up, so their noise is independent and their episodes are those of a
    ``SyncVectorEnv``. A copy whose episode ends is reset in the same step; ``info["final_obs"]`` and ``info["final_info"]``
    contain its last observation and info.

    :param num_envs: number of copies, at least 1
    :param game: in snake case
    :param env_wrappers: applied to each copy in its process, innermost first, so that only their observations are transferred
    :param settings: see :func:`~rlspo.envs.stori.make_game`
    :raises ValueError: for invalid settings, before any process is started

    >>> from stable_baselines3.common.atari_wrappers import AtariWrapper
    >>> small_and_grey = functools.partial(AtariWrapper, frame_skip=1, noop_max=0)
    >>> games = gym.make_vec("STORI/Breakout-v0", 2, type="1", env_wrappers=[small_and_grey])
    >>> games.reset(seed=0)[0].shape
    (2, 84, 84, 1)
    >>> games.close()
    """
    copies = whole("num_envs", num_envs, 1)
    make = functools.partial(_make_copy, game, tuple(env_wrappers), settings)
    return AsyncVectorEnv([make] * copies, shared_memory=True, autoreset_mode=AutoresetMode.SAME_STEP)


def _make_copy(game: str, env_wrappers: tuple[Callable[[gym.Env], gym.Env], ...], settings: dict[str, Any]) -> gym.Env:
    if multiprocessing.parent_process() is not None:
        # Ctrl-C reaches every process of a terminal; only the main process decides when to stop.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    env: gym.Env = make_game(game, **settings)
    for wrap in env_wrappers:
        env = wrap(env)
    return env
