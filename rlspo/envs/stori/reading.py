"""Which screens reach the agent: pipelines that are known throw most of them away, and masking those would be wasted time."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from gymnasium import wrappers
from stable_baselines3.common import atari_wrappers
from stable_baselines3.common.monitor import Monitor

#: Wrappers that hand on, step by step, what they are given.
HANDING_ON = (
    wrappers.OrderEnforcing,
    wrappers.PassiveEnvChecker,
    wrappers.RecordEpisodeStatistics,
    wrappers.TimeLimit,
    atari_wrappers.EpisodicLifeEnv,
    atari_wrappers.FireResetEnv,
    atari_wrappers.NoopResetEnv,
    atari_wrappers.StickyActionEnv,
    Monitor,
)


@dataclass(frozen=True)
class Reading:
    """What a pipeline reads in a decision step.

    :param frames: that it plays, where that is known; else 1
    :param last: of them are read
    :param direct: it takes no screen that the game's own step returns, only those that it asks the emulator for
    """

    frames: int = 1
    last: int = 1
    direct: bool = False


def reading_of(env: gym.Env) -> Reading:
    """What the wrappers of an environment read; nothing is supposed of those that are not known."""
    layers: list[Any] = []
    while isinstance(env, gym.Wrapper):
        layers.append(env)
        env = env.env
    base: Any = env
    frames, pooled = (base._frameskip, 1) if isinstance(base._frameskip, int) else (1, 1)
    for layer in reversed(layers):
        if type(layer) in HANDING_ON:
            continue
        gymnasiums = type(layer) is wrappers.AtariPreprocessing
        if gymnasiums or type(layer) is atari_wrappers.MaxAndSkipEnv:
            skip = layer.frame_skip if gymnasiums else layer._skip
            if frames == 1 and skip > 1:
                frames, pooled = skip, 2
        return Reading(frames, pooled, direct=gymnasiums)
    return Reading(frames, pooled)


def repeats(env: gym.Env) -> bool:
    """Whether a wrapper plays several steps of what it wraps in one."""
    while isinstance(env, gym.Wrapper):
        if _skip(env) > 1:
            return True
        env = env.env
    return False


def repeated_by(env: gym.Env) -> gym.Wrapper | None:
    """The wrapper above that plays several steps of ``env`` in one of its own, while it does so; None: there is none.

    What stands above is not known to what stands below: it is found among those that wait for the step to end.
    """
    frame = sys._getframe(1)
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, gym.Wrapper) and _skip(caller) > 1 and caller.unwrapped is env.unwrapped:
            return caller
        frame = frame.f_back  # type: ignore[assignment]
    return None


def _skip(wrapper: gym.Wrapper) -> int:
    """Steps of what it wraps that a wrapper plays in one."""
    own = vars(wrapper)
    return max((own[name] for name in ("_skip", "frame_skip") if isinstance(own.get(name), int)), default=1)
