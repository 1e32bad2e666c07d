"""What an effect on an Atari game is: hooks around the frames of the emulator, and the moment that they are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np


@dataclass
class Moment:
    """What effects know of the game, the same object at every call.

    :param ale: the emulator itself: what is read from it is true, what is written changes the game
    :param random: the environment's generator, from which alone effects draw
    :param game: in snake case, such as ``"bank_heist"``
    :param n_actions: number of actions
    :param fidelity: ``"exact"`` or ``"original"``
    :param step: decision steps of this episode that are over
    :param perturbed: set by an effect that changed something in this decision step
    :param reward: of the game, without perturbation, in this decision step so far
    :param action: that the agent chose, as an index
    :param executed: that the game got, as an index
    :param previous: that the game got in the decision step before, as an index; at first that of no action, 0
    :param difficulty: of the console, where nothing perturbs it
    :param rewound: frames of this episode that the emulator no longer counts, since an effect took it back behind them
    :param debt: what the emulator's next reward lacks, because an effect took points back in the memory, of whose score the
        emulator's rewards are the differences
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


class Effect:
    """A way to perturb a game. All hooks do nothing here; each effect overrides the few that it needs.

    ``open`` says whether chance lets the effect act: in this decision step, or in this frame where the profile asks for that.
    A hook that changes something says so: ``now.perturbed = True``.

    :param game: in snake case
    :param fidelity: ``"original"``: as the published code does it
    :raises ValueError: for settings that do not exist or are out of range
    """

    #: Games that it exists for; None: all.
    games: ClassVar[tuple[str, ...] | None] = None
    #: Whether the observation is the screen after a change of memory (see :meth:`edit`).
    previews: ClassVar[bool] = False
    #: Whether it may take the game back, behind frames that still count (see ``Moment.rewound``).
    rewinds: ClassVar[bool] = False

    def __init__(self, game: str, fidelity: str = "exact") -> None:
        self.game, self.fidelity = game, fidelity

    def check(self, now: Moment) -> None:
        """The game is known, and loaded.

        :raises ValueError: for settings that this game does not have
        """

    def reset(self, now: Moment) -> None:
        """An episode begins; what is remembered of the last one is forgotten. The memory of the game is as after its reset."""

    def stop(self, now: Moment) -> None:
        """The concept is over for now, or the episode: what it left in the game is put right."""

    def begin(self, now: Moment) -> None:
        """A decision step begins, or a reset, while the concept holds; before :meth:`draw`."""

    def draw(self, now: Moment) -> None:
        """The gate was drawn anew and is open: random settings of this decision step (or frame) are drawn here."""

    def act(self, action: int, open: bool, now: Moment) -> int:
        """The action that the game gets for ``action``, once for each decision step (or frame)."""
        return action

    def extra(self, open: bool, now: Moment) -> list[int]:
        """Actions, by index, with which frames are played before the next one; their rewards are added to its own."""
        return []

    def before_frame(self, open: bool, now: Moment) -> None:
        """Before the emulator plays a frame."""

    def after_frame(self, reward: float, open: bool, now: Moment) -> float:
        """After the emulator played a frame.

        :param reward: of that frame
        :returns: the reward that the agent gets for it
        """
        return reward

    def screen(self, screen: np.ndarray, open: bool, now: Moment) -> None:
        """Change what the agent sees, in place. Called again in the same decision step, it does the same again.

        :param screen: ``(height, width, 3)`` RGB or ``(height, width)`` grey, ``uint8``, contiguous
        """

    def edit(self, now: Moment) -> None:
        """Write into the memory of the game for a preview, of which only the picture is kept; where :attr:`previews`."""
