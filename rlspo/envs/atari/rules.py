"""How a game is played: from an environment's id, its arguments and those of SB3's ``AtariWrapper``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.atari_wrappers import AtariWrapper

from rlspo.common.errors import check_count, check_fraction, did_you_mean, shown
from rlspo.envs.arguments import flag, whole

#: Arguments of ale_py's environments that may be given, with its defaults.
OF_GAME = {"frameskip": 1, "full_action_space": False, "max_num_frames_per_episode": None, "repeat_action_probability": 0.25}
#: Arguments of SB3's ``AtariWrapper`` with its defaults.
OF_WRAPPER = {
    name: parameter.default for name, parameter in inspect.signature(AtariWrapper).parameters.items() if name != "env"
}


@dataclass(frozen=True)
class Rules:
    """How a game is played.

    :param game: name of the ROM, such as ``breakout``
    :param noop_max: a new game begins with fewer frames without action than this
    :param frame_skip: frames that an action is repeated for
    :param screen_size: of the square images, in pixels
    :param terminal_on_life_loss: a lost life ends the episode, and the next one goes on with the game
    :param clip_reward: rewards are their signs
    :param repeat_action_probability: of the emulator's sticky actions, per frame
    :param full_action_space: all 18 actions instead of the game's own
    :param max_frames: after which the game is truncated; 0 for never
    """

    game: str
    noop_max: int
    frame_skip: int
    screen_size: int
    terminal_on_life_loss: bool
    clip_reward: bool
    repeat_action_probability: float
    full_action_space: bool
    max_frames: int


def is_game(spec: EnvSpec) -> bool:
    """Whether the id is a game of the ALE that shows its screen, registered without further settings or wrappers."""
    plain = spec.max_episode_steps is None and not spec.additional_wrappers
    return spec.entry_point == "ale_py.env:AtariEnv" and plain and set(spec.kwargs) <= {"game", *OF_GAME}


def rules_of(env_id: str, wrapper_kwargs: Mapping[str, Any], env_kwargs: Mapping[str, Any]) -> Rules:
    """Read and check how a game is to be played; ``frame_skip`` replaces the environment's own frame skip.

    :param wrapper_kwargs: arguments of SB3's ``AtariWrapper``
    :param env_kwargs: arguments of the game
    :raises gymnasium.error.Error: for an unknown environment
    :raises TypeError: for unknown arguments
    :raises ValueError: for values that are not allowed, and for environments that are not games of the ALE
    """
    spec = gym.spec(env_id)
    if not is_game(spec) or not isinstance(spec.kwargs.get("frameskip", 1), int):
        raise ValueError(
            f"{env_id} is not a game of the ALE with its own screen and a fixed frame skip; give one such as "
            "'ALE/Breakout-v5' or 'BreakoutNoFrameskip-v4', or use stable_baselines3.common.env_util.make_atari_env."
        )
    for given, known in ((wrapper_kwargs, OF_WRAPPER), (env_kwargs, OF_GAME)):
        for name in given:
            if name not in known:
                raise TypeError(
                    f"{name!r} is not an argument of games that are played together. {did_you_mean(name, [*known])} For other "
                    "arguments use stable_baselines3.common.env_util.make_atari_env."
                )
    wrapper = {**OF_WRAPPER, **wrapper_kwargs}
    skip = check_count("frame_skip", wrapper["frame_skip"])
    if env_kwargs.get("frameskip", 1) != 1:
        raise ValueError(f"frameskip is {shown(env_kwargs['frameskip'])}; it must be 1: frame_skip ({skip}) skips the frames.")
    game = {**OF_GAME, **spec.kwargs, **env_kwargs}
    sticky = check_fraction("action_repeat_probability", wrapper["action_repeat_probability"])
    of_game = check_fraction("repeat_action_probability", game["repeat_action_probability"])
    if sticky and of_game:
        raise ValueError(
            f"action_repeat_probability is {sticky}, but {env_id} has sticky actions already (repeat_action_probability="
            f"{of_game}). Leave out the first, or set the second to 0."
        )
    return Rules(
        game=game["game"],
        noop_max=whole("noop_max", wrapper["noop_max"], 0),
        frame_skip=skip,
        screen_size=check_count("screen_size", wrapper["screen_size"]),
        terminal_on_life_loss=flag("terminal_on_life_loss", wrapper["terminal_on_life_loss"]),
        clip_reward=flag("clip_reward", wrapper["clip_reward"]),
        repeat_action_probability=sticky or of_game,
        full_action_space=flag("full_action_space", game["full_action_space"]),
        max_frames=whole("max_num_frames_per_episode", game["max_num_frames_per_episode"] or 0, 0),
    )
