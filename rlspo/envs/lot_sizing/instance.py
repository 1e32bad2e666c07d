"""Instances of the lot-sizing problem: the production and the costs of a plant."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from rlspo.common import plain_yaml
from rlspo.common.data import data_folders
from rlspo.envs.lot_sizing.demand import Demand

Array = np.ndarray


@dataclass(frozen=True)
class Instance:
    """A plant of ``n_machines`` machines that make ``n_items`` items, with the names of the published files.

    :param time_horizon: periods of an episode
    :param n_items: number of items
    :param n_machines: number of machines
    :param max_inventory_level: stock cap of each item, ``(n_items,)``; stock above it is lost at no cost
    :param holding_costs: of a unit in stock at the end of a period, ``(n_items,)``
    :param lost_sales_costs: of a unit of demand that is not in stock, ``(n_items,)``
    :param demand_distribution: see :class:`~rlspo.envs.lot_sizing.demand.Demand`
    :param machine_production: units that a machine makes of an item in one period, 0 where it cannot,
        ``(n_machines, n_items)``
    :param setup_costs: of a machine that starts to make an item, ``(n_machines, n_items)``
    :param setup_loss: units by which production falls short in that period, ``(n_machines, n_items)``
    :param initial_inventory: if the file has one; used by ``reset(options={"start": "instance"})``
    :param initial_setup: the same, 0 for idle
    :param name: for titles
    :raises ValueError: for shapes that do not fit and numbers out of range
    """

    time_horizon: int
    n_items: int
    n_machines: int
    max_inventory_level: Array
    holding_costs: Array
    lost_sales_costs: Array
    demand_distribution: Any
    machine_production: Array
    setup_costs: Array
    setup_loss: Array
    initial_inventory: Array | None = None
    initial_setup: Array | None = None
    name: str = "lot sizing"

    def __post_init__(self) -> None:
        items, matrix = (self.n_items,), (self.n_machines, self.n_items)
        shapes = {
            "max_inventory_level": items,
            "holding_costs": items,
            "lost_sales_costs": items,
            "machine_production": matrix,
            "setup_costs": matrix,
            "setup_loss": matrix,
            "initial_inventory": items,
            "initial_setup": (self.n_machines,),
        }
        for name in ("time_horizon", "n_items", "n_machines"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{self.name}: {name} is {value!r}; it must be a whole number of at least 1.")
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is None:
                continue
            array = np.asarray(value, dtype=np.float64)
            if array.shape != shape:
                raise ValueError(f"{self.name}: {name} has the shape {array.shape}; it must be {shape}.")
            if not np.isfinite(array).all() or (array < 0).any():
                raise ValueError(f"{self.name}: {name} must hold finite numbers of at least 0.")
            object.__setattr__(self, name, array)
        if (self.max_inventory_level < 1).any():
            raise ValueError(f"{self.name}: max_inventory_level must be at least 1 for every item.")
        self._check_start()
        if not self.makeable.any(axis=1).all():
            idle = np.flatnonzero(~self.makeable.any(axis=1)).tolist()
            raise ValueError(f"{self.name}: machines {idle} make no item at all; leave them out of machine_production.")
        try:
            self.demand.sample(np.random.default_rng(0))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{self.name}: {error}") from error

    def _check_start(self) -> None:
        stock, setup = self.initial_inventory, self.initial_setup
        if stock is not None and (stock > self.max_inventory_level).any():
            raise ValueError(f"{self.name}: initial_inventory is above max_inventory_level somewhere.")
        if setup is not None and ((setup > self.n_items) | (setup % 1 != 0)).any():
            raise ValueError(f"{self.name}: initial_setup must hold items, 1 to {self.n_items}, or 0 for idle.")

    @cached_property
    def demand(self) -> Demand:
        """The demand of one period."""
        return Demand(self.demand_distribution, self.n_items)

    @cached_property
    def makeable(self) -> Array:
        """Which machine can make which item, ``(n_machines, n_items)``."""
        return np.asarray(self.machine_production) > 0

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any], name: str) -> Instance:
        """Read an instance from a file's content.

        :raises ValueError: for keys that are missing or unknown
        """
        known = set(cls.__dataclass_fields__) - {"name"}
        optional = {"initial_inventory", "initial_setup"}
        missing, unknown = sorted(known - optional - set(data)), sorted(set(data) - known - {"name", "source"})
        if missing or unknown:
            raise ValueError(
                f"{name} is no lot-sizing instance: "
                + "; ".join(f"{what} {', '.join(keys)}" for what, keys in (("missing", missing), ("unknown", unknown)) if keys)
                + "."
            )
        return cls(**{key: data[key] for key in known & set(data)}, name=str(data.get("name", name)))

    def to_mapping(self) -> dict[str, Any]:
        """The inverse of :meth:`from_mapping`, plain data."""
        plain = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in asdict(self).items()}
        return {key: value for key, value in plain.items() if value is not None}


def instance_names() -> list[str]:
    """The instances that come with the package.

    >>> "25x15" in instance_names()
    True
    """
    return sorted({file.stem for folder in data_folders("envs/lot_sizing") for file in folder.glob("*.yml")})


def load_instance(instance: str | Path | Mapping[str, Any] | Instance) -> Instance:
    """Read an instance.

    :param instance: a name of :func:`instance_names`, or the path of a YAML or JSON file (the published form too), or its
        content; your own file takes precedence over a name
    :raises ValueError: for a name or a file that does not exist, and for a file that is not an instance
    """
    if isinstance(instance, Instance):
        return instance
    if isinstance(instance, Mapping):
        return Instance.from_mapping(instance, "instance")
    if not isinstance(instance, str | Path):
        raise ValueError(
            f"instance is {instance!r}; it must be a name ({', '.join(instance_names())}), the path of a YAML or JSON file, "
            "its content as a mapping, or an Instance."
        )
    file = Path(instance).expanduser()
    if not file.is_file():
        packed = [
            folder / f"{instance}.yml" for folder in data_folders("envs/lot_sizing") if (folder / f"{instance}.yml").is_file()
        ]
        if not packed:
            raise ValueError(
                f"instance is {str(instance)!r}, which is neither a file nor an instance that comes with the package: "
                f"{', '.join(instance_names())}."
            )
        file = packed[0]
    try:
        text = file.read_text(encoding="utf-8")
        data = json.loads(text) if file.suffix == ".json" else plain_yaml.parse(text)
    except (UnicodeDecodeError, json.JSONDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{file} is no lot-sizing instance: it must be a mapping.")
    return Instance.from_mapping(data, file.stem)
