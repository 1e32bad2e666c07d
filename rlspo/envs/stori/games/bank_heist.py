"""Bank Heist: hidden parts of the screen, and the game's own noise."""

from __future__ import annotations

from typing import ClassVar

from rlspo.envs.stori.blackouts import Area, Blackout
from rlspo.envs.stori.effects import Moment
from rlspo.envs.stori.memory import Watcher
from rlspo.envs.stori.previews import Preview

TOP, LEFT, BOTTOM, RIGHT = Area(12, 147, 37, 44), Area(12, 15, 37, 177), Area(12, 147, 173, 177), Area(144, 147, 37, 177)
BLUE, BROWN = (0, 0, 148), (162, 98, 33)
FUEL, LIVES = Area(12, 73, 11, 36, BLUE), Area(78, 147, 11, 36, BLUE)
SCORE = Area(12, 147, 178, 186, BROWN)


class BankHeistBlackout(Blackout):
    """Walls of Bank Heist are black, or displays above and below them are hidden."""

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
    """Something is missing on Bank Heist's screen, or the fuel looks full.

    A middle column of the blocks between the streets stays visible, as published, and in the third and fourth city some at the
    edges.
    """

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


BOMB, LIVES_LEFT, SCORE_BYTES = 12, 85, (88, 89, 90)
HALF_EMPTY = 12


class BankHeistNoise(Watcher):
    """Bombs fail, fuel leaks, cities change, or banks are empty.

    :param mode: ``"bomb_vanishes"`` (1): a dropped bomb disappears; ``"fuel_leaks"`` (2): once in each city the fuel
        falls to about a half, if there was more; ``"city_changes"`` (3): the streets are those of another city, while car,
        banks and police stay where they are; ``"bank_without_reward"`` (4): a robbery earns nothing, though the score on the
        screen counts it
    """

    modes: ClassVar[dict[int, str]] = {1: "bomb_vanishes", 2: "fuel_leaks", 3: "city_changes", 4: "bank_without_reward"}

    def reset(self, now: Moment) -> None:
        super().reset(now)
        self._leaked_in = -1

    def after_frame(self, reward: float, open: bool, now: Moment) -> float:
        if not open:
            return reward
        ram = now.ale.getRAM()
        city = int(ram[CITY])
        if self.mode == "bomb_vanishes":
            if ram[BOMB] and not self.before[BOMB]:
                self._write(now, BOMB, 0)
        elif self.mode == "fuel_leaks":
            if city != self._leaked_in and ram[FUEL_USED] < HALF_EMPTY and self.due(open):
                self._leaked_in = city
                self._write(now, FUEL_USED, HALF_EMPTY)
        elif self.mode == "city_changes":
            if self.due(open):
                self._write(now, CITY, self._another(city, now))
        elif any(self.before[slot] == BANK and ram[slot] != BANK for slot in BANKS) and reward:
            now.perturbed = True
            return 0.0
        return reward

    def _another(self, city: int, now: Moment) -> int:
        """The counter of cities, whose rest after division by 4 says which streets it has."""
        if self.original:
            return int(now.random.choice([other for other in range(4) if other != city]))
        # Only upwards, so that the game's progress is kept; the counter has eight bits.
        ahead = city + int(now.random.integers(1, 4))
        return ahead if ahead < 256 else ahead - 4

    def _write(self, now: Moment, address: int, value: int) -> None:
        now.perturbed = True
        now.ale.setRAM(address, value)
