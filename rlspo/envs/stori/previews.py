"""Type 3.2: the screen as it would be with other values in the memory of the game, which itself goes on as it was."""

from __future__ import annotations

from typing import ClassVar

from rlspo.envs.stori.modes import Moded


class Preview(Moded):
    """Things are missing on the screen because the memory says so while it is drawn.

    :param mode: a name of :attr:`modes`, or its published number
    """

    previews: ClassVar[bool] = True
