"""Bank Heist: what can be hidden, and noise of its own."""

from __future__ import annotations

from typing import ClassVar

from rlspo.envs.stori.blackouts import Area, Blackout
from rlspo.envs.stori.effects import Moment
from rlspo.envs.stori.previews import Preview

TOP, LEFT, BOTTOM, RIGHT = Area(12, 147, 37, 44), Area(12, 15, 37, 177), Area(12, 147, 173, 177), Area(144, 147, 37, 177)
BLUE, BROWN = (0, 0, 148), (162, 98, 33)
FUEL, LIVES = Area(12, 73, 11, 36, BLUE), Area(78, 147, 11, 36, BLUE)
SCORE = Area(12, 147, 178, 186, BROWN)


class BankHeistBlackout(Blackout):
    """Walls of Bank Heist are black, or what is shown above and below them has the colour behind it."""

    modes: ClassVar[dict[int, str]] = {
        1: "all",
        2: "walls",
        3: "wall_top",
        4: "wall_left",
        5: "wall_bottom",
        6: "wall_right",
        7: "walls_left_right",
        8: "fuel",
        9: "lives",
        10: "score",
    }
    parts: ClassVar[dict[str, tuple[Area, ...]]] = {
        "all": (TOP, LEFT, BOTTOM, RIGHT, FUEL, LIVES, SCORE),
        "walls": (TOP, LEFT, BOTTOM, RIGHT),
        "wall_top": (TOP,),
        "wall_left": (LEFT,),
        "wall_bottom": (BOTTOM,),
        "wall_right": (RIGHT,),
        "walls_left_right": (LEFT, RIGHT),
        "fuel": (FUEL,),
        "lives": (LIVES,),
        "score": (SCORE,),
    }


CITY, CAR_Y, CAR_X, BANKS, BLOCKS, BACKGROUND, FUEL_USED = 0, 8, 28, (24, 25, 26), (66, 68), 69, 86
BANK, POLICE, NOTHING = 253, 254, 255
#: Of the streets, equal to that of the walls, in each city.
WALL_COLOURS = (30, 190, 46, 126)


class BankHeistPreview(Preview):
    """Something is missing on Bank Heist's screen, or the fuel looks full."""

    modes: ClassVar[dict[int, str]] = {1: "car", 2: "fuel", 3: "blocks", 4: "walls", 5: "banks", 6: "police"}

    def edit(self, now: Moment) -> None:
        ram = now.ale.getRAM()
        hidden = BANK if self.mode == "banks" else POLICE
        writes: dict[str, dict[int, int]] = {
            "car": {CAR_Y: 155, CAR_X: 12},
            "fuel": {FUEL_USED: 0},
            "blocks": dict.fromkeys(BLOCKS, 0),
            "walls": {BACKGROUND: WALL_COLOURS[ram[CITY] % 4]},
        }
        for address, value in writes.get(self.mode, {slot: NOTHING for slot in BANKS if ram[slot] == hidden}).items():
            now.ale.setRAM(address, value)
