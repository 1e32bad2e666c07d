"""Boxing: hidden parts of the screen, and the game's own noise."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from rlspo.envs.stori.blackouts import Area, Blackout
from rlspo.envs.stori.effects import Moment
from rlspo.envs.stori.memory import Watcher
from rlspo.envs.stori.previews import Preview

FLOOR = (110, 156, 66)
LEFT, RIGHT, RING = Area(32, 80, 36, 176, FLOOR), Area(81, 127, 36, 176, FLOOR), Area(32, 127, 36, 176, FLOOR)
ENEMY_SCORE, PLAYER_SCORE = Area(87, 134, 1, 16, FLOOR), Area(33, 69, 1, 16, FLOOR)
CLOCK = Area(57, 97, 14, 27, FLOOR)


class BoxingBlackout(Blackout):
    """Parts of Boxing's screen have the colour of its floor."""

    modes: ClassVar[dict[int, str]] = {
        1: "all",
        2: "ring_left",
        3: "ring_right",
        4: "ring",
        5: "enemy_score",
        6: "player_score",
        7: "scores",
        8: "clock",
        9: "scores_clock",
    }
    parts: ClassVar[dict[str, tuple[Area, ...]]] = {
        "all": (RING, ENEMY_SCORE, PLAYER_SCORE, CLOCK),
        "ring_left": (LEFT,),
        "ring_right": (RIGHT,),
        "ring": (RING,),
        "enemy_score": (ENEMY_SCORE,),
        "player_score": (PLAYER_SCORE,),
        "scores": (ENEMY_SCORE, PLAYER_SCORE),
        "clock": (CLOCK,),
        "scores_clock": (ENEMY_SCORE, PLAYER_SCORE, CLOCK),
    }


#: Addresses of colours, and the colour of the floor there.
PLAYER_COLOUR, ENEMY_COLOUR, RING_COLOUR = 1, 2, 3
FLOOR_BYTE = 214


class BoxingPreview(Preview):
    """The ropes or a boxer have the colour of Boxing's floor.

    A boxer shares his colour with the digits of his score, which are painted back; with ``fidelity="original"`` they are
    missing, as published.
    """

    modes: ClassVar[dict[int, str]] = {1: "ring", 2: "enemy", 3: "player"}

    def __init__(self, game: str, mode: Any, fidelity: str = "exact") -> None:
        super().__init__(game, mode, fidelity)
        self._address = {"ring": RING_COLOUR, "enemy": ENEMY_COLOUR, "player": PLAYER_COLOUR}[self.mode]
        self._kept = {"enemy": ENEMY_SCORE.pixels, "player": PLAYER_SCORE.pixels}.get(self.mode)
        if fidelity == "original":
            self._kept = None
        self._at_reset: dict[int, np.ndarray] = {}

    def reset(self, now: Moment) -> None:
        if self._kept is not None:
            # A preview at the reset changes the emulator's picture, so the true digits are read before it.
            self._at_reset = {3: now.ale.getScreenRGB()[self._kept], 2: now.ale.getScreenGrayscale()[self._kept]}

    def before_frame(self, open: bool, now: Moment) -> None:
        self._at_reset = {}

    def edit(self, now: Moment) -> None:
        now.ale.setRAM(self._address, FLOOR_BYTE)

    def screen(self, screen: np.ndarray, open: bool, now: Moment) -> None:
        if not open or self._kept is None:
            return
        if self._at_reset:
            screen[self._kept] = self._at_reset[screen.ndim]
        else:
            true = now.ale.getScreenRGB() if screen.ndim == 3 else now.ale.getScreenGrayscale()
            screen[self._kept] = true[self._kept]


SCORES, KNOCKOUT = (18, 19), 0xC0
#: Of the clock: minutes as a picture, of which this one shows 1; seconds as decimal digits.
CLOCK_BYTES, ONE_MINUTE = (16, 17), 27
#: (x, y) of the player and of the enemy, and where they stand at the start.
PLACES = ((32, 34), (33, 35))
STARTS = ((30, 4), (109, 87))


class BoxingNoise(Watcher):
    """Boxers swap colours or corners, or hits do not count.

    :param mode: ``"swap_colours"`` (1): the boxers and the digits of their scores swap colours, until they do again;
        ``"hit_without_score"`` (2): a hit does not count, for score and reward; ``"swap_corners"`` (3): each boxer stands
        where the other one started
    """

    modes: ClassVar[dict[int, str]] = {1: "swap_colours", 2: "hit_without_score", 3: "swap_corners"}

    def reset(self, now: Moment) -> None:
        super().reset(now)
        ram = now.ale.getRAM()
        self._colours = int(ram[PLAYER_COLOUR]), int(ram[ENEMY_COLOUR])
        self._swapped = False

    def stop(self, now: Moment) -> None:
        if self._swapped:
            self._swapped = False
            self._dress(now)

    def before_frame(self, open: bool, now: Moment) -> None:
        super().before_frame(open, now)
        if self.mode == "swap_colours":
            if self.due(open):
                self._swapped = not self._swapped
                now.perturbed = True
                self._dress(now)
            if self._swapped:
                # The game itself writes the colour of the enemy in each frame.
                now.perturbed = True
                self._dress(now)
        elif self.mode == "swap_corners" and self.due(open):
            now.perturbed = True
            for place, corner in zip(PLACES, reversed(STARTS), strict=True):
                for address, value in zip(place, corner, strict=True):
                    now.ale.setRAM(address, value)

    def after_frame(self, reward: float, open: bool, now: Moment) -> float:
        if self.mode != "hit_without_score" or not open or now.ale.game_over():
            return reward
        ram = now.ale.getRAM()
        counted = [address for address in SCORES if ram[address] != self.before[address]]
        if not counted or (self.original and len(counted) == 2):
            return reward
        now.perturbed = True
        for address in counted:
            now.ale.setRAM(address, int(self.before[address]))
        if not self.original:
            now.debt += reward
        return 0.0

    def _dress(self, now: Moment) -> None:
        """Set the colours of both boxers."""
        player, enemy = reversed(self._colours) if self._swapped else self._colours
        now.ale.setRAM(PLAYER_COLOUR, player)
        now.ale.setRAM(ENEMY_COLOUR, enemy)
