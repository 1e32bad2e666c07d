"""Type 3.2: the screen drawn from changed memory, without an effect on the game itself."""

from __future__ import annotations

from typing import ClassVar

from rlspo.envs.stori.modes import Moded


class Preview(Moded):
    """Objects are missing on the screen because it is drawn from changed memory.

    :param mode: a name of :attr:`modes`, or its published number
    """

    previews: ClassVar[bool] = True
