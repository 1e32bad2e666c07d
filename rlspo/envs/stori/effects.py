"""The base class of effects on Atari games: hooks around the frames of the emulator, and the state passed to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np


@dataclass
class Moment:
    """The state of the game for effects, the same object at every call.

    :param ale: the emulator itself: reads are unperturbed, writes change the game
    :param random: the environment's generator, the only source of the effects' random numbers
    :param game: in snake case, such as ``"bank_heist"``
    :param n_actions: number of actions
    :param fidelity: ``"exact"`` or ``"original"``
    :param step: completed decision steps of this episode
    :param perturbed: set by effects that changed something in this decision step
    :param reward: unperturbed reward of this decision step so far
    :param action: index of the agent's action
    :param executed: index of the executed action
    :param previous: index of the action executed in the previous decision step; initially no action, 0
    :param difficulty: unperturbed setting of the console's switch
    :param rewound: frames of this episode that the emulator does not count because an effect went back before them
    :param debt: correction of the emulator's next reward after an effect removed points in the memory; the emulator's rewards
        are differences of the score
    """

    ale: Any
    random: np.random.Generator
    game: str
    n_actions: int
    fidelity: str = "exact"
    step: int = 0
    perturbed: bool = False
    reward: float = 0.0
    action: int = 0
    executed: int = 0
    previous: int = 0
    difficulty: int = 0
    rewound: int = 0
    debt: float = 0.0


_FRAME_HOOKS = ("extra", "before_frame", "after_frame")


class Effect:
    """A way to perturb a game. All hooks do nothing here; each effect overrides the few that it needs.

    ``open`` is whether the effect was drawn to act (its gate): in this decision step, or in this frame if the profile says so.
    A hook that changes something sets ``now.perturbed = True``.

    :param game: in snake case
    :param fidelity: ``"original"``: like the published code :raises ValueError: for unknown settings or values out of range
    """

    #: Games that have it; None: all.
    games: ClassVar[tuple[str, ...] | None] = None
    #: Whether the observation is a screen drawn from changed memory (see :meth:`edit`).
    previews: ClassVar[bool] = False
    #: Whether it may rewind the game; the frames still count (see ``Moment.rewound``).
    rewinds: ClassVar[bool] = False

    def __init__(self, game: str, fidelity: str = "exact") -> None:
        self.game, self.fidelity = game, fidelity

    @property
    def in_frames(self) -> bool:
        """Whether it does anything between the frames of a decision step, rather than to its action or its screen alone."""
        return self.previews or any(getattr(type(self), name) is not getattr(Effect, name) for name in _FRAME_HOOKS)

    def check(self, now: Moment) -> None:
        """Check settings once the game is loaded.

        :raises ValueError: for settings that this game does not support
        """

    def reset(self, now: Moment) -> None:
        """Start an episode and clear the effect's memory. The game was just reset."""

    def stop(self, now: Moment) -> None:
        """The concept became inactive, or the episode ended: undo changes that remain in the game."""

    def begin(self, now: Moment) -> None:
        """A decision step or a reset begins with the concept active; called before :meth:`draw`."""

    def draw(self, now: Moment) -> None:
        """The gate was drawn and is open: draw random settings of this decision step (or frame)."""

    def act(self, action: int, open: bool, now: Moment) -> int:
        """The action to execute instead of ``action``, once per decision step (or frame)."""
        return action

    def extra(self, open: bool, now: Moment) -> list[int]:
        """Indices of actions for additional frames before the next one; their rewards are added to it."""
        return []

    def before_frame(self, open: bool, now: Moment) -> None:
        """Called before the emulator plays a frame."""

    def after_frame(self, reward: float, open: bool, now: Moment) -> float:
        """Called after the emulator played a frame.

        :param reward: of that frame
        :returns: the reward of the frame for the agent
        """
        return reward

    def screen(self, screen: np.ndarray, open: bool, now: Moment) -> None:
        """Change the agent's screen in place. Further calls in the same decision step make the same change.

        :param screen: ``(height, width, 3)`` RGB or ``(height, width)`` grey, ``uint8``, contiguous
        """

    def edit(self, now: Moment) -> None:
        """Change the memory of the game for a preview, of which only the picture is used; called if :attr:`previews`."""
