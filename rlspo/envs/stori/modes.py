"""Effects that come in several published modes, each with a number and a name."""

from __future__ import annotations

from typing import Any, ClassVar

from rlspo.envs.stori.effects import Effect
from rlspo.envs.stori.masks import mode_name


class Moded(Effect):
    """An effect with modes.

    :param game: in snake case
    :param mode: a name of :attr:`modes`, or its published number
    :param fidelity: ``"original"``: like the published code
    :raises ValueError: for an unknown mode, naming the nearest
    """

    #: Names by published number.
    modes: ClassVar[dict[int, str]]

    def __init__(self, game: str, mode: Any, fidelity: str = "exact") -> None:
        super().__init__(game, fidelity)
        self.mode = mode_name(mode, self.modes)
