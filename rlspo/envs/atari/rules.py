"""How a game is played: from an environment's id, its arguments and those of SB3's ``AtariWrapper``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec

from rlspo.common.errors import check_count, check_fraction, did_you_mean, shown
from rlspo.envs.arguments import flag, whole

#: Arguments of ale_py's environments that may be given.
ARGUMENTS = ("frameskip", "full_action_space", "max_num_frames_per_episode", "repeat_action_probability")
_ENTRY_POINT = "ale_py.env:AtariEnv"


@dataclass(frozen=True)
class Rules:
    """How a game is played.

    :param game: name of the ROM, such as ``breakout``
    :param noop_max: a new game begins with fewer frames without action than this
    :param frame_skip: frames that an action is repeated for
    :param terminal_on_life_loss: a lost life ends the episode, and the next one goes on with the game
    :param repeat_action_probability: of the emulator's sticky actions, per frame
    :param full_action_space: all 18 actions instead of the game's own
    :param max_frames: after which the game is truncated; 0 for never
    """

    game: str
    noop_max: int
    frame_skip: int
    terminal_on_life_loss: bool
    repeat_action_probability: float
    full_action_space: bool
    max_frames: int


def plays_frames(spec: EnvSpec, env_kwargs: dict[str, Any]) -> bool:
    """Whether the environment is a game of the ALE that skips no frames itself, without arguments unknown here."""
    return (
        spec.entry_point == _ENTRY_POINT
        and {**spec.kwargs, **env_kwargs}.get("frameskip") == 1
        and set(env_kwargs) <= set(ARGUMENTS)
    )


def rules_of(
    env_id: str,
    env_kwargs: dict[str, Any],
    noop_max: int,
    frame_skip: int,
    terminal_on_life_loss: bool,
    action_repeat_probability: float,
) -> Rules:
    """Read and check how a game is to be played; ``frame_skip`` replaces the environment's own.

    :raises gymnasium.error.Error: for an unknown environment
    :raises TypeError: for unknown arguments
    :raises ValueError: for values that are not allowed, and for environments that are not games of the ALE
    """
    spec = gym.spec(env_id)
    if spec.entry_point != _ENTRY_POINT or not isinstance(spec.kwargs.get("frameskip"), int):
        raise ValueError(
            f"{env_id} is not a game of the ALE with a fixed frame skip; give one such as 'ALE/Breakout-v5' or "
            "'BreakoutNoFrameskip-v4'."
        )
    for name in env_kwargs:
        if name not in ARGUMENTS:
            raise TypeError(
                f"{name!r} is not an argument of games played together. {did_you_mean(name, ARGUMENTS)} For other arguments "
                "use stable_baselines3.common.env_util.make_atari_env."
            )
    if env_kwargs.get("frameskip", 1) != 1:
        raise ValueError(
            f"frameskip is {shown(env_kwargs['frameskip'])}; it must be 1, since frame_skip ({frame_skip}) skips the frames."
        )
    given = {**spec.kwargs, **env_kwargs}
    sticky = check_fraction("action_repeat_probability", action_repeat_probability)
    of_game = check_fraction("repeat_action_probability", given["repeat_action_probability"])
    if sticky and of_game:
        raise ValueError(
            f"action_repeat_probability is {sticky}, but {env_id} has sticky actions already (repeat_action_probability="
            f"{of_game}). Leave out the first, or set the second to 0."
        )
    return Rules(
        game=given["game"],
        noop_max=whole("noop_max", noop_max, 0),
        frame_skip=check_count("frame_skip", frame_skip),
        terminal_on_life_loss=flag("terminal_on_life_loss", terminal_on_life_loss),
        repeat_action_probability=sticky or of_game,
        full_action_space=flag("full_action_space", given["full_action_space"]),
        max_frames=whole("max_num_frames_per_episode", given["max_num_frames_per_episode"], 0),
    )
