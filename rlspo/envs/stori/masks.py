"""Type 3.2: parts of the screen that the agent does not see."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlspo.common.errors import did_you_mean
from rlspo.envs.stori.effects import Effect, Moment

#: The published numbers of the crops.
CROPS = {1: "left", 2: "right", 3: "top", 4: "bottom", 5: "disc"}
#: Pixels; the published radius.
RADIUS = 75


def mode_name(given: Any, modes: dict[int, str], where: str = "mode") -> str:
    """A mode by its name, given that or its published number.

    :raises ValueError: if it is none, naming the nearest
    """
    if not isinstance(given, bool) and given in modes:
        return modes[given]
    if given in modes.values():
        return str(given)
    names = ", ".join(f"{number}: {name}" for number, name in modes.items())
    raise ValueError(f"{where} is {given!r}. {did_you_mean(str(given), modes.values())} Modes: {names}.")


class Crop(Effect):
    """Half of the screen is black, or all but a disc whose centre is drawn anew.

    :param mode: ``"left"``, ``"right"``, ``"top"``, ``"bottom"`` (the half that is hidden) or ``"disc"``; or its
        number, 1 to 5
    """

    def __init__(self, game: str, fidelity: str = "exact", mode: Any = "left") -> None:
        super().__init__(game, fidelity)
        self.mode = mode_name(mode, CROPS)

    def draw(self, now: Moment) -> None:
        if self.mode == "disc":
            self._centre = now.random.random(2)

    def screen(self, screen: np.ndarray, open: bool, now: Moment) -> None:
        if not open:
            return
        now.perturbed = True
        height, width = screen.shape[:2]
        if self.mode == "disc":
            # In pixels, uniform over the screen.
            y, x = (self._centre * (height, width)).astype(int)
            rows, columns = np.arange(height)[:, None] - y, np.arange(width) - x
            screen[rows**2 + columns**2 > RADIUS**2] = 0
            return
        halves = {
            "left": np.s_[:, : width // 2],
            "right": np.s_[:, width // 2 :],
            "top": np.s_[: height // 2],
            "bottom": np.s_[height // 2 :],
        }
        screen[halves[self.mode]] = 0


SCREEN_EFFECTS: dict[str, type[Effect]] = {"crop": Crop}
