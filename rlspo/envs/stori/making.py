"""Making perturbed Atari games: from an id, or inside an existing pipeline."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym

from rlspo.common.errors import did_you_mean
from rlspo.envs.arguments import flag, number, whole
from rlspo.envs.profiles import KEYS, TYPES, Profile
from rlspo.envs.stori.tables import effects_of
from rlspo.envs.stori.wrapper import Stori

GivenProfile = str | Path | Mapping[str, Any] | Profile | None


def wrap(env: gym.Env, profile: GivenProfile = None, **settings: Any) -> Stori:
    """Perturb an Atari game inside any pipeline, which is not changed and counts as one decision step.

    :param env: with a game of ``ale_py`` at its base, and any wrappers: frame skip, pooling, resizing, ``AtariWrapper``, ...
    :param profile: see :class:`~rlspo.envs.stori.Stori`
    :param settings: ``type`` and keys of the profile

    >>> import ale_py
    >>> from stable_baselines3.common.atari_wrappers import AtariWrapper
    >>> game = gym.make("ALE/Breakout-v5", frameskip=1, repeat_action_probability=0.0)
    >>> env = wrap(AtariWrapper(game), "breakout-3.2B")
    >>> env.reset(seed=0)[0].shape
    (84, 84, 1)
    """
    return Stori(env, profile, **settings)


def make_game(
    game: str,
    *,
    type: Any = None,
    profile: GivenProfile = None,
    frameskip: int = 4,
    pool: bool = True,
    noop_max: int = 0,
    repeat_action_probability: float = 0.0,
    full_action_space: bool = False,
    obs_type: Literal["rgb", "grayscale", "ram"] = "rgb",
    game_mode: int | None = None,
    game_difficulty: int | None = None,
    max_num_frames_per_episode: int = 108_000,
    render_mode: Literal["human", "rgb_array"] | None = None,
    **changes: Any,
) -> gym.Env:
    """The environment of ``STORI/<Game>-v0``.

    :param game: in snake case
    :param type: of the taxonomy; None: that of ``profile``, else ``"3.1"``
    :param profile: a name such as ``"breakout-3.2A"``, a YAML file or a mapping
    :param frameskip: frames of a decision step
    :param pool: the screen is the brighter of the last two frames
    :param noop_max: at a reset 1 to this many frames without action are played; 0: none
    :param repeat_action_probability: sticky actions of the emulator itself, for each frame
    :param full_action_space: all 18 actions
    :param obs_type: ``"rgb"``, ``"grayscale"`` or ``"ram"``
    :param game_mode: of the cartridge
    :param game_difficulty: of the cartridge
    :param max_num_frames_per_episode: after which an episode is cut; 0: never
    :param changes: keys that override those of the profile: ``probability``, ``effect``, ``mode``, ``gate``, ...
    :raises ValueError: for an unknown argument or a value out of range
    """
    try:
        import ale_py
        from ale_py.env import AtariEnv
    except ImportError as error:
        raise gym.error.DependencyNotInstalled(
            "STORI needs ale_py and OpenCV: pip install ale-py opencv-python-headless"
        ) from error
    # Before the first game, which prints a banner.
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    _check_names(game, changes)
    try:
        # It checks obs_type and render_mode itself, but nothing else, such as probabilities of 25.
        env = AtariEnv(
            game,
            mode=None if game_mode is None else whole("game_mode", game_mode, 0),
            difficulty=None if game_difficulty is None else whole("game_difficulty", game_difficulty, 0),
            obs_type=obs_type,
            frameskip=whole("frameskip", frameskip, 1),
            repeat_action_probability=number("repeat_action_probability", repeat_action_probability, 0, 1),
            full_action_space=flag("full_action_space", full_action_space),
            max_num_frames_per_episode=whole("max_num_frames_per_episode", max_num_frames_per_episode, 0),
            render_mode=render_mode,
        )
    except RuntimeError as error:
        known = AtariEnv(game).ale
        raise ValueError(
            f"game_mode is {game_mode} and game_difficulty is {game_difficulty}; {game} has the modes "
            f"{known.getAvailableModes()} and the difficulties {known.getAvailableDifficulties()}."
        ) from error
    return Stori(env, profile, type=type, noop_max=noop_max, pool=flag("pool", pool), **changes)


def _check_names(game: str, changes: Mapping[str, Any]) -> None:
    """Check that the game or some effect has these arguments; the chosen effect checks its own later.

    :raises ValueError: naming the nearest known one
    """
    takers: list[Callable[..., Any]] = [effect for kind in TYPES for effect in effects_of(kind, game).values()]
    known = {name for target in (make_game, *takers) for name in inspect.signature(target).parameters}
    known = known - {"game", "changes"} | {*KEYS, "effect", "probability"}
    for name in changes:
        if name not in known:
            raise ValueError(f"{game} takes no {name!r}. {did_you_mean(name, known)}")
