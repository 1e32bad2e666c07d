"""Which screens reach the agent: known pipelines drop most of them, and masking those would waste time."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import FrameType
from typing import Any

import gymnasium as gym
from gymnasium import wrappers
from stable_baselines3.common import atari_wrappers
from stable_baselines3.common.monitor import Monitor

#: Wrappers that make one step per step.
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
    """The screens that a pipeline reads in a decision step.

    :param frames: frames played, if known; else 1
    :param last: number of last frames that are read
    :param direct: it reads screens only from the emulator, not from the return value of the game's step
    """

    frames: int = 1
    last: int = 1
    direct: bool = False


def reading_of(env: gym.Env) -> Reading:
    """The screens that the wrappers of an environment read; unknown wrappers may read all."""
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
    """Whether a wrapper plays several steps of the wrapped environment in one."""
    while isinstance(env, gym.Wrapper):
        if _skip(env) > 1:
            return True
        env = env.env
    return False


def repeated_by(env: gym.Env) -> gym.Wrapper | None:
    """The wrapper above that plays several steps of ``env`` in one of its own, while it does so; None: there is none.

    A wrapper does not know the wrappers above it: they are found among the callers on the stack.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, gym.Wrapper) and _skip(caller) > 1 and caller.unwrapped is env.unwrapped:
            return caller
        frame = frame.f_back
    return None


def _skip(wrapper: gym.Wrapper) -> int:
    """The number of steps that a wrapper plays in one."""
    own = vars(wrapper)
    return max((own[name] for name in ("_skip", "frame_skip") if isinstance(own.get(name), int)), default=1)
