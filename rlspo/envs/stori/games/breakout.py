"""Breakout: what can be hidden, and noise of its own."""

from __future__ import annotations

from typing import ClassVar

from rlspo.envs.stori.blackouts import Area, Blackout
from rlspo.envs.stori.effects import Moment
from rlspo.envs.stori.previews import Preview

BLOCKS = Area(8, 151, 57, 92)
PADDLE = Area(7, 152, 189, 195)
SCORE = Area(2, 158, 3, 16)
TOP, MIDDLE, BOTTOM = Area(8, 151, 105, 130), Area(8, 151, 131, 156), Area(8, 151, 157, 182)


class BreakoutBlackout(Blackout):
    """Parts of Breakout's screen are black."""

    modes: ClassVar[dict[int, str]] = {
        1: "all",
        2: "blocks",
        3: "paddle",
        4: "score",
        5: "court_top",
        6: "court_middle",
        7: "court_bottom",
        8: "blocks_paddle",
        9: "blocks_score",
        10: "court_top_bottom",
        11: "court",
    }
    parts: ClassVar[dict[str, tuple[Area, ...]]] = {
        "all": (BLOCKS, PADDLE, SCORE, TOP, MIDDLE, BOTTOM),
        "blocks": (BLOCKS,),
        "paddle": (PADDLE,),
        "score": (SCORE,),
        "court_top": (TOP,),
        "court_middle": (MIDDLE,),
        "court_bottom": (BOTTOM,),
        "blocks_paddle": (BLOCKS, PADDLE),
        "blocks_score": (BLOCKS, SCORE),
        "court_top_bottom": (TOP, BOTTOM),
        "court": (TOP, MIDDLE, BOTTOM),
    }


BRICKS, BALL_X, BALL_Y = range(36), 99, 101
#: Of each row: every other brick.
PICTURE = (0b11001100, 0b00110011) * 3
#: Below this the ball is on its way to bricks.
NEAR_BRICKS = 100


class BreakoutPreview(Preview):
    """The ball is missing on Breakout's screen, or the wall is a picture.

    The published picture, the letters NUS, is not known: here its bricks are those of a chessboard.
    """

    modes: ClassVar[dict[int, str]] = {1: "picture", 2: "ball"}

    def edit(self, now: Moment) -> None:
        ale = now.ale
        if self.mode == "picture":
            for byte in BRICKS:
                ale.setRAM(byte, PICTURE[byte % 6])
            return
        ram = ale.getRAM()
        if 0 < ram[BALL_Y] < NEAR_BRICKS:
            # The bricks that the ball, which is not there, would hit in this frame.
            state = ale.cloneState(include_rng=True)
            ale.act(0)
            after = ale.getRAM()
            ale.restoreState(state)
            for byte in BRICKS:
                if after[byte] != ram[byte]:
                    ale.setRAM(byte, int(after[byte]))
        ale.setRAM(BALL_X, 0)
        ale.setRAM(BALL_Y, 0)
