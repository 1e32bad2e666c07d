"""A picture of a plant: stock, setups and the costs so far."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlspo.envs.drawing import INK, Canvas, Colour
from rlspo.envs.lot_sizing.instance import Instance

Array = np.ndarray
SOFT, LINE = "#707682", "#ced2da"
CAN, IDLE, EMPTY, ALARM = "#e4e8ef", "#787d88", "#c41e3a", "#fce4e6"
CHEAP, DEAR = (140, 178, 214), (226, 112, 32)
#: Setup, lost sales, holding.
COSTS: tuple[tuple[str, Colour], ...] = (("setup", "#5850a0"), ("lost sales", "#c41e3a"), ("holding", "#3c966e"))
LEFT, MARGIN, TOP, STOCK = 104, 24, 92, 220
FOOT = 96


class Layout(NamedTuple):
    """Positions in the picture. They depend on the instance only, so that all pictures of an episode have the same size."""

    width: int
    height: int
    column: float
    row: int

    @classmethod
    def of(cls, instance: Instance) -> Layout:
        """The layout of an instance, with sides that are multiples of 16, as video encoders require."""
        column = min(max(840 / (instance.n_items + 1), 30), 150)
        row = 30 if instance.n_machines <= 5 else 18
        width = max(LEFT + column * (instance.n_items + 1) + MARGIN, 560)
        height = TOP + STOCK + 52 + row * instance.n_machines + FOOT
        return cls(_sixteens(width), _sixteens(height), column, row)

    def left(self, item: int) -> float:
        """The left edge of an item's column; 0 is idle."""
        return LEFT + self.column * item


def _sixteens(pixels: float) -> int:
    return -(-int(np.ceil(pixels)) // 16) * 16


def draw_plant(instance: Instance, inventory: Array, setups: Array, demand: Array | None, elapsed: int, costs: Array) -> Array:
    """Draw a plant. A column for each item: its stock and cap, below them the machines that can make it or are making it.

    :param instance: of the plant
    :param inventory: ``(n_items,)``
    :param setups: item of each machine, 0 for idle, ``(n_machines,)``
    :param demand: of the last period, ``(n_items,)``; None where there was none
    :param elapsed: periods since the episode began
    :param costs: setup, lost sales, holding so far
    :return: ``(height, width, 3)``, uint8; the sides depend on the instance only
    """
    layout = Layout.of(instance)
    pen = Canvas(layout.width, layout.height)
    _draw_head(pen, instance, layout, elapsed)
    for item in range(instance.n_items):
        _draw_stock(pen, instance, layout, item, float(inventory[item]), None if demand is None else float(demand[item]))
    _draw_machines(pen, instance, layout, np.asarray(setups, int))
    _draw_costs(pen, instance, layout, np.asarray(costs, float))
    return pen.pixels()


def _colour(instance: Instance, item: int) -> Colour:
    """From blue to orange with the item's lost-sales cost."""
    cost, least, most = instance.lost_sales_costs[item], instance.lost_sales_costs.min(), instance.lost_sales_costs.max()
    share = 1.0 if most == least else float((cost - least) / (most - least))
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in zip(CHEAP, DEAR, strict=True))


def _draw_head(pen: Canvas, instance: Instance, layout: Layout, elapsed: int) -> None:
    right = layout.width - MARGIN
    pen.text((MARGIN, 14), instance.name, 18, anchor="la")
    pen.text((right, 14), f"period {elapsed} of {instance.time_horizon}", 18, anchor="ra")
    pen.box(MARGIN, 40, right - MARGIN, 4, CAN)
    pen.box(MARGIN, 40, (right - MARGIN) * elapsed / instance.time_horizon, 4, INK)
    x: float = MARGIN
    dear, cheap = int(instance.lost_sales_costs.argmax()), int(instance.lost_sales_costs.argmin())
    pairs = [(cheap, "stock, cheap to lose"), (dear, "stock, dear to lose")]
    for item, words in pairs if instance.lost_sales_costs[cheap] < instance.lost_sales_costs[dear] else [(dear, "stock")]:
        pen.box(x, 57, 11, 11, _colour(instance, item))
        x = pen.text((x + 17, 56), words, 13, SOFT, anchor="la") + 20
    pen.box(x, 61, 16, 2, INK)
    x = pen.text((x + 22, 56), "last demand", 13, SOFT, anchor="la") + 20
    pen.box(x, 57, 11, 11, None, LINE, line=1)
    pen.text((x + 17, 56), "cap", 13, SOFT, anchor="la")


def _draw_stock(pen: Canvas, instance: Instance, layout: Layout, item: int, stock: float, demand: float | None) -> None:
    left, right = layout.left(item + 1) + 4, layout.left(item + 2) - 5
    base, cap = TOP + STOCK, float(instance.max_inventory_level[item])
    full = STOCK - 18
    pen.box(left, base - full, right - left, full, None if stock > 0 else ALARM, LINE, line=1)
    height = full * min(stock / cap, 1.0)
    pen.box(left, base - height, right - left, height, _colour(instance, item))
    if demand is not None:
        level = base - full * min(demand / cap, 1.0)
        pen.box(left - 3, level - 1, right - left + 6, 2, INK)
    middle = (left + right) / 2
    pen.text((middle, base - full - 3), f"{stock:.0f}", 13, INK if stock > 0 else EMPTY, anchor="mb")
    pen.text((middle, base + 6), str(item + 1), 13, anchor="ma")
    pen.text((middle, base + 22), f"{instance.lost_sales_costs[item]:g}", 11, SOFT, anchor="ma")
    if item == 0:
        pen.text((LEFT - 10, base + 6), "item", 13, SOFT, anchor="ra")
        pen.text((LEFT - 10, base + 22), "cost of a loss", 11, SOFT, anchor="ra")


def _draw_machines(pen: Canvas, instance: Instance, layout: Layout, setups: Array) -> None:
    """A row for each machine: grey where it can make an item, coloured where it does."""
    top, gap = TOP + STOCK + 46, 2
    pen.text((layout.left(0) + layout.column / 2 - 0.5, TOP + STOCK + 6), "idle", 13, SOFT, anchor="ma")
    for machine in range(instance.n_machines):
        y0, y1 = top + layout.row * machine + gap, top + layout.row * (machine + 1) - gap
        middle = (y0 + y1) / 2
        pen.text((LEFT - 10, middle), f"machine {machine + 1}", 13, SOFT, anchor="rm")
        for item in range(instance.n_items + 1):
            x0, x1 = layout.left(item) + 4, layout.left(item + 1) - 5
            chosen = setups[machine] == item
            can = item == 0 or bool(instance.makeable[machine, item - 1])
            if chosen:
                colour = IDLE if item == 0 else _colour(instance, item - 1)
                pen.box(x0, y0, x1 - x0, y1 - y0, colour, INK if item else None, line=1)
                if item:
                    words = f"+{instance.machine_production[machine, item - 1]:.0f}"
                    pen.text(((x0 + x1) / 2, middle), words, 11, anchor="mm")
            elif can:
                pen.box(x0, y0, x1 - x0, y1 - y0, None if item == 0 else CAN, LINE if item == 0 else None, line=1)


def _draw_costs(pen: Canvas, instance: Instance, layout: Layout, costs: Array) -> None:
    """Numbers, and a bar that is full at the cost of losing all sales of an episode."""
    top, right = layout.height - FOOT + 20, layout.width - MARGIN
    everything = float(instance.demand.mean @ instance.lost_sales_costs) * instance.time_horizon
    scale = (right - MARGIN) / max(everything, float(costs.sum()), 1e-9)
    x = pen.text((MARGIN, top), f"costs {costs.sum():.1f}", 18, anchor="la") + 28
    for (name, colour), cost in zip(COSTS, costs, strict=True):
        pen.box(x, top + 5, 11, 11, colour)
        x = pen.text((x + 17, top + 3), f"{name} {cost:.1f}", 13, anchor="la") + 20
    pen.box(MARGIN, top + 28, right - MARGIN, 16, CAN)
    x = float(MARGIN)
    for (_, colour), cost in zip(COSTS, costs, strict=True):
        pen.box(x, top + 28, cost * scale, 16, colour)
        x += cost * scale
    pen.text((right, top + 49), f"grey: up to {everything:.0f}, the loss of all sales", 11, SOFT, anchor="ra")
