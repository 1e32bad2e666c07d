"""Gopher: hidden parts of the screen, and the game's own noise."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from rlspo.envs.stori.blackouts import Area, Blackout
from rlspo.envs.stori.effects import Moment
from rlspo.envs.stori.memory import Watcher, cleared, take_points
from rlspo.envs.stori.previews import Preview

#: Meadow on both sides of the carrots, in three shades from top to bottom.
GRASS = ((146, 150, (101, 209, 174)), (151, 155, (117, 231, 194)), (156, 160, (132, 252, 212)))
UNDUG, DUG = (187, 159, 71), (223, 183, 85)
#: First and last line of the four rows of the ground, as published: the edges of the first three overlap.
ROWS = ((161, 168), (168, 176), (176, 182), (183, 194))

ATTACK_LEFT = tuple(Area(0, 59, top, bottom, colour) for top, bottom, colour in GRASS)
ATTACK_RIGHT = tuple(Area(100, 159, top, bottom, colour) for top, bottom, colour in GRASS)
UNDERGROUND = Area(0, 159, 161, 200, UNDUG)
UNDERGROUND_BELOW_HOLES = Area(0, 159, 164, 200, UNDUG)
FARMER, FARMER_BELOW_NOSE = Area(0, 159, 87, 145), Area(0, 159, 104, 145)
DUCK = Area(0, 159, 26, 56)
SCORE = Area(0, 159, 0, 25)
GROUND_ROWS = {
    f"row_{row}_{look}": (Area(0, 159, top, bottom, colour),)
    for row, (top, bottom) in enumerate(ROWS)
    for look, colour in (("undug", UNDUG), ("dug", DUG))
}


class GopherBlackout(Blackout):
    """Parts of Gopher's screen have the colour of what surrounds them, or rows of the ground that of dug ground."""

    modes: ClassVar[dict[int, str]] = {
        1: "all",
        2: "attack",
        3: "attack_left",
        4: "attack_right",
        5: "underground",
        6: "underground_below_holes",
        **dict(enumerate(GROUND_ROWS, start=7)),
        15: "farmer",
        16: "farmer_below_nose",
        17: "duck",
        18: "score",
    }
    parts: ClassVar[dict[str, tuple[Area, ...]]] = {
        "all": (*ATTACK_LEFT, *ATTACK_RIGHT, UNDERGROUND, FARMER, DUCK, SCORE),
        "attack": (*ATTACK_LEFT, *ATTACK_RIGHT),
        "attack_left": ATTACK_LEFT,
        "attack_right": ATTACK_RIGHT,
        "underground": (UNDERGROUND,),
        "underground_below_holes": (UNDERGROUND_BELOW_HOLES,),
        **GROUND_ROWS,
        "farmer": (FARMER,),
        "farmer_below_nose": (FARMER_BELOW_NOSE,),
        "duck": (DUCK,),
        "score": (SCORE,),
    }


CARROTS, SEED_Y, SEED_X = 52, 92, 95
LEFT, MIDDLE, RIGHT = 4, 2, 1
HIDDEN_SEED = 128


class GopherPreview(Preview):
    """Carrots or the seed are missing on Gopher's screen."""

    modes: ClassVar[dict[int, str]] = {1: "carrot_left", 2: "carrot_middle", 3: "carrot_right", 4: "carrots", 5: "seed"}

    def edit(self, now: Moment) -> None:
        if self.mode == "seed":
            now.ale.setRAM(SEED_Y, HIDDEN_SEED)
            return
        hidden = {"carrot_left": LEFT, "carrot_middle": MIDDLE, "carrot_right": RIGHT}.get(self.mode, LEFT | MIDDLE | RIGHT)
        now.ale.setRAM(CARROTS, int(now.ale.getRAM()[CARROTS]) & ~hidden)


#: The ground, rows from the top of six bytes each, in which a bit is set where it is dug.
GROUND = range(24)
SCORE_BYTES = (48, 49, 50)
FARMER_X, GOPHER_X = 31, 41
#: From 0 at the bottom of the ground to 35 above it.
GOPHER_HEIGHT = 85
DUCK_X, DUCK_STATE = 28, 94
#: Points for filling a hole.
FILL = 20
#: Of each of the six bytes: x of the lowest bit and the step to the next.
COLUMNS = ((-16, 4), (44, -4), (48, 4), (64, 4), (124, -4), (128, 4))
#: First and last line of a row on the screen.
LINES = ((161, 168), (169, 175), (176, 182), (183, 194))


def dug_area(byte: int, bit: int) -> Area:
    """Where a bit of the ground is shown, and its colour where it is dug."""
    row, column = divmod(byte, 6)
    first, step = COLUMNS[column]
    return Area(first + step * bit, first + step * bit + 3, *LINES[row], DUG)


class GopherNoise(Watcher):
    """Holes of Gopher that are filled open again, or a carrot vanishes.

    A fill is known by the points that the game gives for it, so it counts whatever the farmer's column and however long ago
    the dig began, and all of it is undone. With ``fidelity="original"`` only the bytes of the ground under one of six equal
    columns are undone, and only in a frame with an action that digs.

    :param mode: ``"fill_undone"`` (1): ground that is filled is open again, and the points are earned;
        ``"fill_undone_without_reward"`` (2): they are not; ``"carrot_vanishes"`` (3): once in an episode a carrot is gone, if
        another one is left
    """

    modes: ClassVar[dict[int, str]] = {1: "fill_undone", 2: "fill_undone_without_reward", 3: "carrot_vanishes"}

    def reset(self, now: Moment) -> None:
        super().reset(now)
        self._taken = False

    def after_frame(self, reward: float, open: bool, now: Moment) -> float:
        if not open:
            return reward
        if self.mode == "carrot_vanishes":
            self._take_carrot(now)
            return reward
        # Points for a fill, or with it those for a hit of the gopher; without points the ground is made new in a new round.
        if not self.original and reward % 100 != FILL:
            return reward
        ram = now.ale.getRAM()
        filled = cleared(self.before, ram, GROUND)
        if self.original:
            filled = self._under_farmer(filled, ram, now)
        if not filled:
            return reward
        now.perturbed = True
        for byte, bits in filled.items():
            now.ale.setRAM(byte, int(ram[byte]) | bits)
        if self.original:
            return reward if self.mode == "fill_undone" else 0.0
        self.missing = [(dug_area(byte, bit), UNDUG) for byte, bits in filled.items() for bit in range(8) if bits >> bit & 1]
        if self.mode == "fill_undone":
            return reward
        take_points(now, SCORE_BYTES, FILL)
        return reward - FILL

    def _take_carrot(self, now: Moment) -> None:
        carrots = int(now.ale.getRAM()[CARROTS])
        there = [bit for bit in (LEFT, MIDDLE, RIGHT) if carrots & bit]
        if not self._taken and len(there) > 1:
            self._taken = now.perturbed = True
            now.ale.setRAM(CARROTS, carrots & ~int(now.random.choice(there)))

    def _under_farmer(self, filled: dict[int, int], ram: np.ndarray, now: Moment) -> dict[int, int]:
        column = min((int(ram[FARMER_X]) - 19) * 6 // 130, 5)
        digs = now.executed in (1, 5, 6, 7)
        return {byte: bits for byte, bits in filled.items() if digs and byte % 6 == column}
