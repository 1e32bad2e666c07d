"""Gopher: what can be hidden, and noise of its own."""

from __future__ import annotations

from typing import ClassVar

from rlspo.envs.stori.blackouts import Area, Blackout
from rlspo.envs.stori.effects import Moment
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


CARROTS, SEED_Y = 52, 92
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
