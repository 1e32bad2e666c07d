"""Play of the four games that several tests share."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import pytest

pytest.importorskip("ale_py")

from ale_py.env import AtariEnv

from rlspo.envs.stori import Stori, make_game
from rlspo.envs.stori.effects import Moment

GAMES = ("breakout", "boxing", "gopher", "bank_heist")


class Frame(NamedTuple):
    """A moment of a game, and the frame that follows it."""

    state: Any
    action: Any
    before: np.ndarray
    ram: np.ndarray
    rgb: np.ndarray
    grey: np.ndarray


def tracking(ram: np.ndarray) -> int:
    """Play Breakout: serve, and follow the ball."""
    if ram[101] == 0:
        return 1
    return 3 if int(ram[99]) < int(ram[72]) + 8 else 2


def raw(game: str) -> AtariEnv:
    """The game itself, frame by frame."""
    return AtariEnv(game, frameskip=1, repeat_action_probability=0.0)


@functools.cache
def frames(game: str, number: int = 150, every: int = 6, start: int = 60) -> tuple[AtariEnv, list[Frame]]:
    """Frames of a long play: in Breakout after the ball, else actions drawn and held for eight frames."""
    env = raw(game)
    ale, random, action, kept = env.ale, np.random.default_rng(0), 0, []
    ale.reset_game()
    for count in range(start + number * every):
        if ale.game_over():
            ale.reset_game()
        if game == "breakout":
            action = tracking(ale.getRAM())
        elif count % 8 == 0:
            action = int(random.integers(len(env._action_set)))
        state = before = None
        keep = count >= start and count % every == 0
        if keep:
            state, before = ale.cloneState(include_rng=True), ale.getRAM()
        ale.act(env._action_set[action])
        if keep:
            kept.append(
                Frame(state, env._action_set[action], before, ale.getRAM(), ale.getScreenRGB(), ale.getScreenGrayscale())  # type: ignore[arg-type]
            )
    return env, kept


def moment(env: AtariEnv) -> Moment:
    """What an effect is told."""
    return Moment(env.ale, np.random.default_rng(0), env._game, len(env._action_set))


def perturbed(game: str, pool: bool = True, frameskip: int = 4, **profile: Any) -> Stori:
    """A game with a profile, at its start."""
    env = make_game(game, profile=profile, pool=pool, frameskip=frameskip)
    env.reset(seed=0)
    return env  # type: ignore[return-value]
