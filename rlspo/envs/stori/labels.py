"""Type 0: the game's memory, labelled, as the observation."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from gymnasium import spaces

from rlspo.common.errors import did_you_mean
from rlspo.envs.stori.games import bank_heist, boxing, breakout, gopher
from rlspo.envs.stori.memory import decimal


class Label(NamedTuple):
    """One number of an observation.

    :param name: what it is
    :param read: its value in the game's units (pixels, seconds, points, 0 or 1), from the 128 bytes as ints
    :param unit: that the value is divided by, so that the result is usually within [-1, 1]
    :param high: largest value, in the game's units
    :param low: smallest value, in the game's units
    """

    name: str
    read: Callable[[list[int]], float]
    unit: float = 1.0
    high: float = 1.0
    low: float = 0.0


class Labels:
    """The observation of type 0: labelled numbers read from the memory of a game.

    Most speeds are not in the memory: difference two observations, or stack them (``VecFrameStack``).

    :param labels: one for each number
    """

    def __init__(self, labels: list[Label]) -> None:
        self.labels = labels
        #: Names, in the order of the observation.
        self.names = tuple(label.name for label in labels)
        #: Factors that convert each number to the game's units: pixels, seconds, points.
        self.units = np.array([label.unit for label in labels], np.float32)
        low = np.array([label.low for label in labels], np.float32) / self.units
        high = np.array([label.high for label in labels], np.float32) / self.units
        self.space = spaces.Box(low, high, dtype=np.float32)

    def read(self, ram: np.ndarray) -> np.ndarray:
        """The observation.

        :param ram: ``(128,)`` ``uint8``
        :returns: ``(len(names),)`` ``float32``
        """
        values = ram.tolist()
        return np.array([label.read(values) for label in self.labels], np.float32) / self.units


def _byte(name: str, address: int, unit: float = 160) -> Label:
    return Label(name, lambda ram: ram[address], unit, 255)


def _bit(name: str, address: int, mask: int) -> Label:
    return Label(name, lambda ram: float(ram[address] & mask > 0))


def _is(name: str, address: int, value: int, divisor: int = 256) -> Label:
    return Label(name, lambda ram: float(ram[address] % divisor == value))


def _signed(name: str, address: int, sign: int = 1) -> Label:
    """A speed, in two's complement."""
    return Label(name, lambda ram: sign * ((ram[address] + 128) % 256 - 128), 4, 128, -128)


def _score(addresses: tuple[int, ...], unit: float) -> Label:
    return Label("score", lambda ram: decimal(ram, addresses), unit, 165 * sum(100**place for place in range(len(addresses))))


def _breakout() -> list[Label]:
    places = [
        (breakout.brick_area(byte, brick), byte, brick) for byte in range(36) for brick in breakout.COLUMNS[byte // 6][2]
    ]
    # From the bottom row up, and from left to right, as on the screen.
    places.sort(key=lambda place: (-place[0].top, place[0].left))
    bricks = [
        _bit(f"brick_{(87 - area.top) // 6}_{(area.left - 8) // 8}", byte, 3 << 2 * brick) for area, byte, brick in places
    ]
    return [
        *bricks,
        _byte("paddle_x", breakout.PADDLE_X, 255),
        _byte("ball_x", breakout.BALL_X, 255),
        _byte("ball_y", breakout.BALL_Y, 255),
        Label("ball_in_play", lambda ram: float(ram[breakout.BALL_Y] > 0)),
        _signed("ball_speed_x", breakout.BALL_SPEED_X, -1),
        _signed("ball_speed_y", breakout.BALL_SPEED_Y),
        _score(breakout.SCORE_BYTES, 432),
        Label("lives", lambda ram: ram[breakout.LIVES], 5, 255),
    ]


def _boxing() -> list[Label]:
    (player_x, player_y), (enemy_x, enemy_y) = boxing.PLACES
    minutes, seconds = boxing.CLOCK_BYTES

    def score(name: str, address: int) -> Label:
        # A hundred points, a knockout, have a special code.
        return Label(name, lambda ram: 100 if ram[address] == boxing.KNOCKOUT else decimal(ram, (address,)), 100, 165)

    return [
        _byte("player_x", player_x, 109),
        _byte("player_y", player_y, 87),
        _byte("enemy_x", enemy_x, 109),
        _byte("enemy_y", enemy_y, 87),
        score("player_score", boxing.SCORES[0]),
        score("enemy_score", boxing.SCORES[1]),
        Label("seconds_left", lambda ram: 60 * (ram[minutes] == boxing.ONE_MINUTE) + decimal(ram, (seconds,)), 120, 225),
    ]


def _gopher() -> list[Label]:
    bits = [(gopher.dug_area(byte, bit), byte, bit) for byte in gopher.GROUND for bit in range(8)]
    # Four bits of two bytes of a row are not shown.
    shown = sorted(
        ((area, byte, bit) for area, byte, bit in bits if _in_row(byte, bit)), key=lambda one: (one[0].top, one[0].left)
    )
    dug = [_bit(f"dug_{byte // 6}_{area.left // 4}", byte, 1 << bit) for area, byte, bit in shown]
    carrots = {"left": gopher.LEFT, "middle": gopher.MIDDLE, "right": gopher.RIGHT}
    return [
        *dug,
        _byte("farmer_x", gopher.FARMER_X),
        _byte("gopher_x", gopher.GOPHER_X),
        _byte("gopher_height", gopher.GOPHER_HEIGHT, 35),
        *(_bit(f"carrot_{place}", gopher.CARROTS, mask) for place, mask in carrots.items()),
        _byte("seed_x", gopher.SEED_X),
        _byte("seed_y", gopher.SEED_Y, 128),
        _byte("duck_x", gopher.DUCK_X),
        _byte("duck_state", gopher.DUCK_STATE, 255),
        _score(gopher.SCORE_BYTES, 10_000),
    ]


def _in_row(byte: int, bit: int) -> bool:
    return byte % 3 != 0 or bit > 3


def _bank_heist() -> list[Label]:
    slots = []
    for number, slot in enumerate(bank_heist.BANKS, start=1):
        slots += [
            _is(f"slot_{number}_bank", slot, bank_heist.BANK),
            _is(f"slot_{number}_police", slot, bank_heist.POLICE),
            _byte(f"slot_{number}_x", bank_heist.CAR_X + number),
            _byte(f"slot_{number}_y", bank_heist.CAR_Y + number),
        ]
    return [
        _byte("car_x", bank_heist.CAR_X),
        _byte("car_y", bank_heist.CAR_Y),
        *slots,
        *(_is(f"streets_{number}", bank_heist.CITY, number, divisor=4) for number in range(4)),
        _byte("city", bank_heist.CITY, 255),
        _byte("fuel_used", bank_heist.FUEL_USED, 25),
        Label("bomb", lambda ram: float(ram[bank_heist.BOMB] > 0)),
        _byte("lives", bank_heist.LIVES_LEFT, 6),
        _score(bank_heist.SCORE_BYTES, 10_000),
    ]


KNOWN = {"bank_heist": _bank_heist, "boxing": _boxing, "breakout": _breakout, "gopher": _gopher}


def labels_for(game: str) -> Labels:
    """The labelled memory of a game.

    :param game: in snake case
    :raises ValueError: for a game without labels

    >>> labels_for("boxing").names
    ('player_x', 'player_y', 'enemy_x', 'enemy_y', 'player_score', 'enemy_score', 'seconds_left')
    """
    if game not in KNOWN:
        raise ValueError(
            f"type '0' reads the memory of a game, and that of {game!r} is not known. {did_you_mean(game, KNOWN)}"
        )
    return Labels(KNOWN[game]())
