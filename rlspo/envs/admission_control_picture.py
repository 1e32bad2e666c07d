"""A picture of the queue: arrival, waiting and served customers, and the sums so far."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from rlspo.envs.drawing import FAINT, INK, Canvas, Point

Array = np.ndarray

CLASSES = ("#7f9fbf", "#e0a030", "#c0453f", "#5b8c5a", "#7d5ba6", "#3b8ea5")
INSIDE, IDLE, BUSY, GOOD, BAD = "#5d6d7e", "#eef1f4", "#dcebdd", "#2f8f46", "#c0392b"
MARGIN, SLOT, BAR, ROW = 24, 44, 30, 8  # in pixels, and slots in a line of the queue


class Ledger(NamedTuple):
    """The last step of an episode and the episode's sums, for a picture.

    :param seen: arrivals by class, first steps without one, ``(n_classes + 1,)``
    :param accepted: those of them that were accepted
    :param earned: sum of their payments
    :param paid: sum of holding costs
    :param steps: so far
    :param last: class of the last step's arrival, whether it was accepted, and the number of customers that finished
    """

    seen: Array
    accepted: Array
    earned: float = 0.0
    paid: float = 0.0
    steps: int = 0
    last: tuple[int, bool, int] | None = None

    @classmethod
    def empty(cls, n_classes: int) -> Ledger:
        """The ledger before the first step."""
        return cls(np.zeros(n_classes + 1, int), np.zeros(n_classes + 1, int))

    def after(self, door: int, accepted: bool, served: int, earned: float, cost: float) -> Ledger:
        """The ledger one step later."""
        came = np.eye(len(self.seen), dtype=int)[door]
        return Ledger(
            self.seen + came,
            self.accepted + came * accepted,
            self.earned + earned,
            self.paid + cost,
            self.steps + 1,
            (door, accepted, served),
        )


def draw_queue(capacity: int, servers: int, rewards: Array, in_system: int, door: int, ledger: Ledger) -> Array:
    """The queue before the next decision, ``(height, width, 3)`` bytes."""
    room = capacity - servers
    waiting, serving = _Block(room, min(room, ROW), MARGIN + 110), _Block(servers, math.isqrt(servers - 1) + 1, 0)
    serving.x = waiting.x + waiting.width + 46 * (room > 0)
    width = max(560, serving.x + serving.width + MARGIN)
    height = max(waiting.height, serving.height, 2 * SLOT)
    top, floor = 82, 82 + height
    canvas = Canvas(width, floor + 54 + BAR * len(rewards))

    net = ledger.earned - ledger.paid
    canvas.text((MARGIN, 26), f"net {net:.1f}", 24, GOOD if net >= 0 else BAD)
    canvas.text(
        (width - MARGIN, 26), f"earned {ledger.earned:.1f}   holding {ledger.paid:.1f}   step {ledger.steps}", 14, INK, "rm"
    )

    middle, queue = top + height / 2, max(in_system - servers, 0)
    canvas.text((MARGIN, top - 16), "door", 14, FAINT)
    _door(canvas, (MARGIN + 32, middle), door, rewards)
    canvas.arrow((MARGIN + 70, middle), (waiting.x - 8, middle), FAINT, 3)
    if room:
        canvas.text((waiting.x, top - 16), f"waiting {queue}/{room}", 14, FAINT)
        canvas.arrow((serving.x - 38, middle), (serving.x - 8, middle), FAINT, 3)
    for place in range(room):
        # The head of the queue is next to the servers.
        x, y = waiting.corner(place, middle, mirrored=True)
        canvas.box(x + 2, y + 2, SLOT - 4, SLOT - 4, IDLE, "#c5ced6", radius=3)
        _customer(canvas, (x, y), place < queue)
    canvas.text((serving.x, top - 16), f"in service {min(in_system, servers)}/{servers}", 14, FAINT)
    for server in range(servers):
        x, y = serving.corner(server, middle)
        canvas.box(x + 2, y + 2, SLOT - 4, SLOT - 4, BUSY if server < in_system else IDLE, INK, radius=6)
        _customer(canvas, (x, y), server < in_system)

    canvas.text((MARGIN, floor + 26), _story(ledger, rewards), 15, INK)
    for kind in range(1, len(rewards)):
        _share(canvas, floor + 36 + BAR * kind, width, kind, float(rewards[kind]), ledger)
    canvas.text((MARGIN, floor + 34 + BAR * len(rewards)), "let in, of those who came", 13, FAINT)
    return canvas.pixels()


class _Block:
    """Slots in lines of ``columns``, centred vertically at a given height."""

    def __init__(self, slots: int, columns: int, x: int) -> None:
        self.columns, self.x, self.width = columns, x, columns * SLOT
        self.height = -(-slots // max(columns, 1)) * SLOT

    def corner(self, slot: int, middle: float, mirrored: bool = False) -> Point:
        """The upper left corner of a slot."""
        line, column = divmod(slot, self.columns)
        return self.x + (self.columns - 1 - column if mirrored else column) * SLOT, middle - self.height / 2 + line * SLOT


def _colour(kind: int) -> str:
    return CLASSES[(kind - 1) % len(CLASSES)]


def _door(canvas: Canvas, centre: Point, kind: int, rewards: Array) -> None:
    if kind == 0:
        canvas.dashed_circle(centre, 26, FAINT, 2)
        canvas.text(centre, "nobody", 12, FAINT, "mm")
        return
    canvas.disc(centre, 28, _colour(kind), INK, 2)
    canvas.text(centre, f"{rewards[kind]:g}", 24, "#ffffff", "mm")


def _customer(canvas: Canvas, corner: Point, there: bool) -> None:
    if there:
        canvas.disc((corner[0] + SLOT / 2, corner[1] + SLOT / 2), 0.3 * SLOT, INSIDE)


def _share(canvas: Canvas, y: float, width: float, kind: int, reward: float, ledger: Ledger) -> None:
    seen, accepted = int(ledger.seen[kind]), int(ledger.accepted[kind])
    canvas.disc((MARGIN + 9, y), 9, _colour(kind))
    canvas.text((MARGIN + 28, y), f"pays {reward:g}", 14)
    begin, room = MARGIN + 110, width - MARGIN - 110 - 90
    canvas.box(begin, y - 8, room, 16, IDLE, radius=3)
    if accepted:
        canvas.box(begin, y - 8, max(6.0, room * accepted / seen), 16, _colour(kind), radius=3)
    canvas.text((width - MARGIN, y), f"{accepted} of {seen}", 14, INK, "rm")


def _story(ledger: Ledger, rewards: Array) -> str:
    """A description of the last step."""
    if ledger.last is None:
        return "the doors have just opened"
    door, accepted, served = ledger.last
    decision = "nobody came" if door == 0 else f"{'let in' if accepted else 'turned away'} who pays {rewards[door]:g}"
    return f"last step: {decision}; then {served} finished"
