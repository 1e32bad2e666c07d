"""Data of single games: places of objects in memory and on the screen."""

from __future__ import annotations

from rlspo.envs.stori.effects import Effect
from rlspo.envs.stori.games.bank_heist import BankHeistBlackout, BankHeistNoise, BankHeistPreview
from rlspo.envs.stori.games.boxing import BoxingBlackout, BoxingNoise, BoxingPreview
from rlspo.envs.stori.games.breakout import BreakoutBlackout, BreakoutNoise, BreakoutPreview
from rlspo.envs.stori.games.gopher import GopherBlackout, GopherNoise, GopherPreview

Table = dict[str, dict[str, type[Effect]]]

#: Type 2.1, by game and name.
GAME_EFFECTS: Table = {
    "bank_heist": {"game": BankHeistNoise},
    "boxing": {"game": BoxingNoise},
    "breakout": {"game": BreakoutNoise},
    "gopher": {"game": GopherNoise},
}
#: Type 3.2 by rectangles over the screen, by game and name.
BLACKOUTS: Table = {
    "bank_heist": {"blackout": BankHeistBlackout},
    "boxing": {"blackout": BoxingBlackout},
    "breakout": {"blackout": BreakoutBlackout},
    "gopher": {"blackout": GopherBlackout},
}
#: Type 3.2 by a change of memory, by game and name.
PREVIEWS: Table = {
    "bank_heist": {"ram": BankHeistPreview},
    "boxing": {"ram": BoxingPreview},
    "breakout": {"ram": BreakoutPreview},
    "gopher": {"ram": GopherPreview},
}
