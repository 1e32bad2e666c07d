"""Breakout: hidden parts of the screen, and the game's own noise."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from rlspo.envs.stori.blackouts import BLACK, Area, Blackout
from rlspo.envs.stori.effects import Moment
from rlspo.envs.stori.memory import Watcher, cleared, decimal, take_points
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


BRICKS, LIVES, PADDLE_X, BALL_X, BALL_Y = range(36), 57, 72, 99, 101
#: Pixels in a frame, downward; and about the same to the left.
BALL_SPEED_Y, BALL_SPEED_X = 103, 105
#: Of each row: every other brick.
PICTURE = (0b11001100, 0b00110011) * 3
#: Below this the ball is on its way to bricks.
NEAR_BRICKS = 100


class BreakoutPreview(Preview):
    """The ball is missing on Breakout's screen, or the wall is a picture.

    The published picture, the letters NUS, is not known: here its bricks are those of a chessboard. Without its ball the
    paddle lags by one frame when a brick is hit, and the ball shows for the one frame of its serve.
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
            # The bricks that the hidden ball would hit in this frame.
            state = ale.cloneState(include_rng=True)
            ale.act(0)
            after = ale.getRAM()
            ale.restoreState(state)
            for byte in BRICKS:
                if after[byte] != ram[byte]:
                    ale.setRAM(byte, int(after[byte]))
        ale.setRAM(BALL_X, 0)
        ale.setRAM(BALL_Y, 0)


#: Hundreds, and the two digits below.
SCORE_BYTES = (76, 77)
#: Of the rows, from the bottom.
POINTS = (1, 1, 4, 4, 7, 7)
#: Of all bricks together.
WALL = 432
ROW_COLOURS = ((66, 72, 200), (72, 160, 72), (162, 162, 42), (180, 122, 48), (198, 108, 58), (200, 72, 72))
#: Of each column of bytes: x of the lowest bit, the step to the next, and the bricks in use, of two bits each.
COLUMNS = (
    (128, 4, (0, 1, 2)),
    (124, -4, (0, 1, 2, 3)),
    (64, 4, (2, 3)),
    (48, 4, (0, 1, 2, 3)),
    (44, -4, (0, 1, 2, 3)),
    (-16, 4, (3,)),
)
#: Of each column: its bits in a whole wall.
WHOLE = tuple(sum(3 << 2 * brick for brick in bricks) for _, _, bricks in COLUMNS)


def bricks_of(byte: int, bits: int) -> list[int]:
    """The bricks of a byte that ``bits`` touches, each as its place, 0 to 3."""
    return [brick for brick in COLUMNS[byte // 6][2] if bits >> 2 * brick & 3]


def brick_area(byte: int, brick: int) -> Area:
    """Where a brick is shown, and its colour."""
    column, row = divmod(byte, 6)
    first, step, _ = COLUMNS[column]
    left = first + 2 * step * brick + min(step, 0)
    return Area(left, left + 7, 87 - 6 * row, 92 - 6 * row, ROW_COLOURS[row])


class BreakoutNoise(Watcher):
    """Bricks of Breakout come back.

    The score in the game counts the bricks that are gone: the wall is built anew when that score says that all are. With
    ``fidelity="original"`` the score goes on counting, and a brick that comes back at once is missing in one picture.

    :param mode: ``"brick_returns"`` (1): a brick that is hit comes back, and its points are earned;
        ``"brick_returns_without_reward"`` (2): they are not; ``"bricks_reappear"`` (3): up to four bricks side by side, that
        were hit before, come back
    """

    modes: ClassVar[dict[int, str]] = {1: "brick_returns", 2: "brick_returns_without_reward", 3: "bricks_reappear"}

    def after_frame(self, reward: float, open: bool, now: Moment) -> float:
        if not open:
            return reward
        ram = now.ale.getRAM()
        if self.mode == "bricks_reappear":
            # While a wall is being built, score and gaps do not agree.
            gaps = cleared(np.repeat(WHOLE, 6), ram, BRICKS)
            if gaps and (self.original or _points(gaps) == decimal(ram, SCORE_BYTES) % WALL) and self.due(open):
                byte = int(now.random.choice(list(gaps)))
                self._put_back(now, ram, {byte: gaps[byte]})
            return reward
        lost = cleared(self.before, ram, BRICKS)
        if not lost:
            return reward
        self._put_back(now, ram, lost)
        if not self.original:
            self.missing = [(brick_area(byte, brick), BLACK) for byte, bits in lost.items() for brick in bricks_of(byte, bits)]
        return reward if self.mode == "brick_returns" else 0.0

    def _put_back(self, now: Moment, ram: np.ndarray, lost: dict[int, int]) -> None:
        now.perturbed = True
        for byte, bits in lost.items():
            now.ale.setRAM(byte, int(ram[byte]) | bits)
        if not self.original:
            take_points(now, SCORE_BYTES, _points(lost))


def _points(lost: dict[int, int]) -> int:
    """The points of the bricks of some bits."""
    return sum(POINTS[byte % 6] * len(bricks_of(byte, bits)) for byte, bits in lost.items())
