"""A picture of a plant: stock, setups and the costs so far."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rlspo.envs.drawing import need_pillow
from rlspo.envs.lot_sizing.instance import Instance

Array = np.ndarray
Colour = tuple[int, int, int]

INK, SOFT, LINE, PAPER = (32, 36, 44), (112, 118, 130), (206, 210, 218), (255, 255, 255)
CAN, IDLE, EMPTY, ALARM = (228, 232, 239), (120, 125, 136), (196, 30, 58), (252, 228, 230)
CHEAP, DEAR = (140, 178, 214), (226, 112, 32)
#: Setup, lost sales, holding.
COSTS: tuple[tuple[str, Colour], ...] = (("setup", (88, 80, 160)), ("lost sales", (196, 30, 58)), ("holding", (60, 150, 110)))
LEFT, MARGIN, TOP, STOCK = 104, 24, 92, 220
FOOT = 96


class Layout(NamedTuple):
    """Where things are; it hangs on the instance alone, so that every picture of an episode has the same size."""

    width: int
    height: int
    column: float
    row: int

    @classmethod
    def of(cls, instance: Instance) -> Layout:
        """The layout of an instance, with sides that are multiples of 16, as video encoders like them."""
        column = min(max(840 / (instance.n_items + 1), 30), 150)
        row = 30 if instance.n_machines <= 5 else 18
        width = max(LEFT + column * (instance.n_items + 1) + MARGIN, 560)
        height = TOP + STOCK + 52 + row * instance.n_machines + FOOT
        return cls(_sixteens(width), _sixteens(height), column, row)

    def left(self, item: int) -> float:
        """Where the column of an item begins; 0 is idle."""
        return LEFT + self.column * item


def _sixteens(pixels: float) -> int:
    return -(-int(np.ceil(pixels)) // 16) * 16


def draw_plant(instance: Instance, inventory: Array, setups: Array, demand: Array | None, elapsed: int, costs: Array) -> Array:
    """Draw a plant. A column for each item: its stock against the cap, below it the machines that can make it and do.

    :param instance: of the plant
    :param inventory: ``(n_items,)``
    :param setups: item of each machine, 0 for idle, ``(n_machines,)``
    :param demand: of the last period, ``(n_items,)``; None where there was none
    :param elapsed: periods since the episode began
    :param costs: setup, lost sales, holding so far
    :return: ``(height, width, 3)``, uint8; the sides hang on the instance alone
    :raises gymnasium.error.DependencyNotInstalled: without Pillow
    """
    need_pillow()
    from PIL import Image, ImageDraw, ImageFont

    layout = Layout.of(instance)
    image = Image.new("RGB", (layout.width, layout.height), PAPER)
    draw = ImageDraw.Draw(image)
    fonts = {size: ImageFont.load_default(size) for size in (11, 13, 18)}
    pen = _Pen(draw, fonts)
    _draw_head(pen, instance, layout, elapsed)
    for item in range(instance.n_items):
        _draw_stock(pen, instance, layout, item, float(inventory[item]), None if demand is None else float(demand[item]))
    _draw_machines(pen, instance, layout, np.asarray(setups, int))
    _draw_costs(pen, instance, layout, np.asarray(costs, float))
    return np.asarray(image, dtype=np.uint8)


class _Pen(NamedTuple):
    """Pillow's pen with a short way to write.

    :param draw: of Pillow
    :param fonts: by size
    """

    draw: Any
    fonts: dict[int, Any]

    def text(self, x: float, y: float, words: str, anchor: str = "la", size: int = 13, fill: Colour = INK) -> float:
        """Write; returns where the words end."""
        self.draw.text((x, y), words, fill=fill, font=self.fonts[size], anchor=anchor)
        return x + float(self.draw.textlength(words, font=self.fonts[size]))

    def box(
        self, x0: float, y0: float, x1: float, y1: float, fill: Colour | None = None, outline: Colour | None = None
    ) -> None:
        """A rectangle; nothing where it has no size."""
        if x1 >= x0 and y1 >= y0:
            self.draw.rectangle((round(x0), round(y0), round(x1), round(y1)), fill=fill, outline=outline)


def _colour(instance: Instance, item: int) -> Colour:
    """From blue to orange as a lost sale of the item gets dearer."""
    cost, least, most = instance.lost_sales_costs[item], instance.lost_sales_costs.min(), instance.lost_sales_costs.max()
    share = 1.0 if most == least else float((cost - least) / (most - least))
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(CHEAP, DEAR, strict=True))
    return red, green, blue


def _draw_head(pen: _Pen, instance: Instance, layout: Layout, elapsed: int) -> None:
    right = layout.width - MARGIN
    pen.text(MARGIN, 14, instance.name, size=18)
    pen.text(right, 14, f"period {elapsed} of {instance.time_horizon}", anchor="ra", size=18)
    pen.box(MARGIN, 40, right, 44, fill=CAN)
    pen.box(MARGIN, 40, MARGIN + (right - MARGIN) * elapsed / instance.time_horizon, 44, fill=INK)
    x: float = MARGIN
    dear, cheap = int(instance.lost_sales_costs.argmax()), int(instance.lost_sales_costs.argmin())
    pairs = [(cheap, "stock, cheap to lose"), (dear, "stock, dear to lose")]
    for item, words in pairs if instance.lost_sales_costs[cheap] < instance.lost_sales_costs[dear] else [(dear, "stock")]:
        pen.box(x, 57, x + 11, 68, fill=_colour(instance, item))
        x = pen.text(x + 17, 56, words, fill=SOFT) + 20
    pen.box(x, 61, x + 16, 63, fill=INK)
    x = pen.text(x + 22, 56, "last demand", fill=SOFT) + 20
    pen.box(x, 57, x + 11, 68, outline=LINE)
    pen.text(x + 17, 56, "cap", fill=SOFT)


def _draw_stock(pen: _Pen, instance: Instance, layout: Layout, item: int, stock: float, demand: float | None) -> None:
    left, right = layout.left(item + 1) + 4, layout.left(item + 2) - 5
    base, cap = TOP + STOCK, float(instance.max_inventory_level[item])
    full = STOCK - 18
    pen.box(left, base - full, right, base, fill=None if stock > 0 else ALARM, outline=LINE)
    pen.box(left, base - full * min(stock / cap, 1.0), right, base, fill=_colour(instance, item) if stock > 0 else EMPTY)
    if demand is not None:
        level = base - full * min(demand / cap, 1.0)
        pen.box(left - 3, level - 1, right + 3, level + 1, fill=INK)
    middle = (left + right) / 2
    pen.text(middle, base - full - 3, f"{stock:.0f}", anchor="mb", size=13, fill=INK if stock > 0 else EMPTY)
    pen.text(middle, base + 6, str(item + 1), anchor="ma")
    pen.text(middle, base + 22, f"{instance.lost_sales_costs[item]:g}", anchor="ma", size=11, fill=SOFT)
    if item == 0:
        pen.text(LEFT - 10, base + 6, "item", anchor="ra", fill=SOFT)
        pen.text(LEFT - 10, base + 22, "cost of a loss", anchor="ra", size=11, fill=SOFT)


def _draw_machines(pen: _Pen, instance: Instance, layout: Layout, setups: Array) -> None:
    """A row for each machine: grey where it can make an item, full where it does."""
    top, gap = TOP + STOCK + 46, 2
    pen.text(layout.left(0) + layout.column / 2 - 0.5, TOP + STOCK + 6, "idle", anchor="ma", fill=SOFT)
    for machine in range(instance.n_machines):
        y0, y1 = top + layout.row * machine + gap, top + layout.row * (machine + 1) - gap
        middle = (y0 + y1) / 2
        pen.text(LEFT - 10, middle, f"machine {machine + 1}", anchor="rm", fill=SOFT)
        for item in range(instance.n_items + 1):
            x0, x1 = layout.left(item) + 4, layout.left(item + 1) - 5
            chosen = setups[machine] == item
            can = item == 0 or bool(instance.makeable[machine, item - 1])
            if chosen:
                colour = IDLE if item == 0 else _colour(instance, item - 1)
                pen.box(x0, y0, x1, y1, fill=colour, outline=INK if item else None)
                if item:
                    words = f"+{instance.machine_production[machine, item - 1]:.0f}"
                    pen.text((x0 + x1) / 2, middle, words, anchor="mm", size=11)
            elif can:
                pen.box(x0, y0, x1, y1, fill=None if item == 0 else CAN, outline=LINE if item == 0 else None)


def _draw_costs(pen: _Pen, instance: Instance, layout: Layout, costs: Array) -> None:
    """Numbers, and a bar that is full when the costs are those of losing all sales of an episode."""
    top, right = layout.height - FOOT + 20, layout.width - MARGIN
    everything = float(instance.demand.mean @ instance.lost_sales_costs) * instance.time_horizon
    scale = (right - MARGIN) / max(everything, float(costs.sum()), 1e-9)
    x = pen.text(MARGIN, top, f"costs {costs.sum():.1f}", size=18) + 28
    for (name, colour), cost in zip(COSTS, costs, strict=True):
        pen.box(x, top + 5, x + 11, top + 16, fill=colour)
        x = pen.text(x + 17, top + 3, f"{name} {cost:.1f}") + 20
    pen.box(MARGIN, top + 28, right, top + 44, fill=CAN)
    x = float(MARGIN)
    for (_, colour), cost in zip(COSTS, costs, strict=True):
        if cost > 0:
            pen.box(x, top + 28, x + cost * scale, top + 44, fill=colour)
        x = x + cost * scale
    pen.text(right, top + 49, f"grey: up to {everything:.0f}, the loss of all sales", anchor="ra", size=11, fill=SOFT)
