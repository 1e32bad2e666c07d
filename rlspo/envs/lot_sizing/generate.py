"""Generate instances by the published distribution, with a recorded seed.

``python -m rlspo.envs.lot_sizing.generate 25 15 --seed 2515 -o 25x15.yml``
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import yaml

from rlspo.envs.lot_sizing.instance import Instance

Array = np.ndarray


def _min_biased(generator: np.random.Generator, low: int, high: int, bias: float, shape: tuple[int, ...]) -> Array:
    """``low`` with probability ``bias``; the other whole numbers up to ``high`` share the rest equally."""
    others = generator.integers(low + 1, high + 1, shape)
    return np.where(generator.random(shape) < bias, low, others)


def generate(n_items: int, n_machines: int, seed: int, time_horizon: int = 100) -> Instance:
    """An instance from the distribution of the published generator (arXiv 2504.05150, released code), which sets no seed.

    Demand is Binomial(20, 0.4); production 0 to 40, 0 with probability 0.4; setup costs 15 to 30 and losses 1 to 3, biased to
    the lowest; caps 100; holding 0.01; lost sales 0.1 or 1.1, half each. Drawn again while a machine can make no item, or an
    item has no machine.

    :param n_items: number of items
    :param n_machines: number of machines
    :param seed: of the draw
    :param time_horizon: periods
    """
    generator = np.random.default_rng(seed)
    matrix = (n_machines, n_items)
    production = np.zeros(matrix)
    while not ((production > 0).any(axis=0).all() and (production > 0).any(axis=1).all()):
        production = _min_biased(generator, 0, 40, 0.4, matrix)
    return Instance(
        time_horizon=time_horizon,
        n_items=n_items,
        n_machines=n_machines,
        max_inventory_level=np.full(n_items, 100),
        holding_costs=np.full(n_items, 0.01),
        lost_sales_costs=generator.choice([0.1, 1.1], n_items),
        demand_distribution={"name": "binomial", "n": 20, "p": 0.4},
        machine_production=production,
        setup_costs=_min_biased(generator, 15, 30, 0.2, matrix),
        setup_loss=_min_biased(generator, 1, 3, 0.7, matrix),
        initial_inventory=_min_biased(generator, 0, 50, 0.05, (n_items,)),
        initial_setup=_min_biased(generator, 0, n_items, 0.4, (n_machines,)),
        name=f"{n_items}x{n_machines}",
    )


def as_yaml(instance: Instance, source: str) -> str:
    """The text of an instance file."""
    data = instance.to_mapping()
    plain = {key: [[*map(_short, row)] for row in value] if _nested(value) else _plain(value) for key, value in data.items()}
    return yaml.safe_dump({"source": source, **plain}, sort_keys=False, width=127, default_flow_style=None)


def _nested(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], list)


def _plain(value: object) -> object:
    return [_short(v) if isinstance(v, float) else v for v in value] if isinstance(value, list) else value


def _short(number: float) -> float | int:
    """A number as text, whole numbers without a decimal point."""
    return int(number) if float(number).is_integer() else float(number)


def main() -> None:
    """Write an instance file."""
    parser = argparse.ArgumentParser(description="Generate a lot-sizing instance by the published law.")
    parser.add_argument("n_items", type=int)
    parser.add_argument("n_machines", type=int)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--time-horizon", type=int, default=100)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    instance = generate(args.n_items, args.n_machines, args.seed, args.time_horizon)
    source = (
        f"python -m rlspo.envs.lot_sizing.generate {args.n_items} {args.n_machines} --seed {args.seed} "
        f"--time-horizon {args.time_horizon}; the law is that of arXiv 2504.05150's code"
    )
    args.output.write_text(as_yaml(instance, source), encoding="utf-8")


if __name__ == "__main__":
    main()
