"""Several copies of a perturbed game, each in a process of its own."""

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
    """What ``gymnasium.make_vec("STORI/<Game>-v0", num_envs)`` makes: copies in processes that share memory for observations.

    From one seed each copy gets its own, counted up, so their noise is independent and their episodes are those of a
    ``SyncVectorEnv``. A copy whose episode ends is reset in the same step; ``info["final_obs"]`` and ``info["final_info"]``
    hold its last moment.

    :param num_envs: number of copies, at least 1
    :param game: in snake case
    :param env_wrappers: put around each copy in its process, innermost first, so that only what they give is handed over
    :param settings: see :func:`~rlspo.envs.stori.make_game`
    :raises ValueError: for settings that are wrong, before any process is started

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
        # Ctrl-C reaches every process of a terminal; only the main one decides when to stop.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    env: gym.Env = make_game(game, **settings)
    for wrap in env_wrappers:
        env = wrap(env)
    return env
