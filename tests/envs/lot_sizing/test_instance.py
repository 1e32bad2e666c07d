"""Instance files: those that come along, those of the generator, those of others, and bad ones."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from rlspo.envs.lot_sizing import Instance, instance_names, load_instance
from rlspo.envs.lot_sizing.generate import as_yaml, generate
from tests.envs.lot_sizing.plants import TWO_BY_TWO

ROOT = Path(__file__).parents[3]
PUBLISHED = ROOT.parent / "shared" / "data" / "lot_sizing"


def same(one: Instance, other: Instance) -> bool:
    """Whether two instances have the same content."""
    return replace(one, name="").to_mapping() == replace(other, name="").to_mapping()


def test_every_file_that_comes_along_can_be_loaded_and_is_of_the_size_it_is_called_by() -> None:
    assert instance_names() == sorted(file.stem for file in (ROOT / "envs" / "lot_sizing").glob("*.yml"))
    assert {"2x1", "3x2", "15x5", "25x15"} <= set(instance_names())
    for name in instance_names():
        instance = load_instance(name)
        assert f"{instance.n_items}x{instance.n_machines}" == name
        assert instance.machine_production.shape == (instance.n_machines, instance.n_items)


def test_a_file_that_the_generator_made_is_what_the_generator_makes() -> None:
    made = 0
    for name in instance_names():
        source = yaml.safe_load((ROOT / "envs" / "lot_sizing" / f"{name}.yml").read_text()).get("source", "")
        words = source.split(";")[0].split()
        if "rlspo.envs.lot_sizing.generate" not in words:
            continue
        at = words.index("rlspo.envs.lot_sizing.generate")
        n_items, n_machines = int(words[at + 1]), int(words[at + 2])
        instance = generate(n_items, n_machines, int(words[words.index("--seed") + 1]))
        assert same(instance, load_instance(name)), name
        made += 1
    assert made >= 6


def test_what_the_generator_writes_is_read_back(tmp_path: Path) -> None:
    instance = generate(6, 3, seed=4, time_horizon=7)
    (tmp_path / "mine.yml").write_text(as_yaml(instance, "a test"))
    read = load_instance(tmp_path / "mine.yml")
    assert same(instance, read)
    assert read.time_horizon == 7


def test_the_generators_law() -> None:
    """The least value with its probability, the others alike; lost sales at one of two prices."""
    instance = generate(60, 60, seed=0)
    assert (instance.machine_production == 0).mean() == pytest.approx(0.4, abs=0.03)
    assert instance.machine_production.max() == 40
    assert (instance.setup_costs == 15).mean() == pytest.approx(0.2, abs=0.03)
    assert instance.setup_costs.max() == 30 and instance.setup_costs.min() == 15
    assert (instance.setup_loss == 1).mean() == pytest.approx(0.7, abs=0.03)
    assert (instance.setup_loss == 3).mean() == pytest.approx(0.15, abs=0.03)
    assert set(instance.lost_sales_costs) == {0.1, 1.1}


@pytest.mark.parametrize("name", ["20x10", "25x10", "25x15"])
def test_the_published_form_is_read(name: str) -> None:
    file = PUBLISHED / f"published_{name}.json"
    if not file.is_file():
        pytest.skip("the published instances do not come with the package")
    instance = load_instance(file)
    assert f"{instance.n_items}x{instance.n_machines}" == name
    assert instance.machine_production.tolist() == json.loads(file.read_text())["machine_production"]
    assert instance.demand.mean == pytest.approx(8)


def test_yaml_json_and_a_mapping_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(TWO_BY_TWO))
    (tmp_path / "a.yml").write_text(yaml.safe_dump(TWO_BY_TWO))
    from_json, from_yaml = load_instance(tmp_path / "a.json"), load_instance(str(tmp_path / "a.yml"))
    assert same(from_json, from_yaml) and same(from_json, load_instance(TWO_BY_TWO))
    assert same(load_instance(from_json.to_mapping()), from_json)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"setup_cost": 3}, "unknown setup_cost"),
        ({"time_horizon": 0}, "time_horizon is 0"),
        ({"n_machines": 2.5}, "n_machines is 2.5"),
        ({"setup_costs": [[1, 2]]}, "setup_costs has the shape \\(1, 2\\); it must be \\(2, 2\\)"),
        ({"holding_costs": [-1, 1]}, "holding_costs must hold finite numbers"),
        ({"lost_sales_costs": [float("nan"), 1]}, "lost_sales_costs must hold finite"),
        ({"max_inventory_level": [0, 5]}, "max_inventory_level must be at least 1"),
        ({"machine_production": [[1, 1], [0, 0]]}, "machines \\[1\\] make no item"),
        ({"demand_distribution": {"name": "gamma"}}, "demand_distribution is called 'gamma'"),
        ({"initial_setup": [1]}, "initial_setup has the shape"),
        ({"initial_setup": [3, 0]}, "initial_setup must hold items, 1 to 2"),
        ({"initial_setup": [0.5, 0]}, "initial_setup must hold items, 1 to 2"),
        ({"initial_inventory": [99, 0]}, "initial_inventory is above max_inventory_level"),
        ({"demand_distribution": "binomial"}, "demand_distribution is 'binomial'; it must be a mapping"),
    ],
)
def test_an_error_names_the_key(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load_instance({**TWO_BY_TWO, **changes})


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ValueError, match="missing holding_costs, setup_loss"):
        load_instance({key: value for key, value in TWO_BY_TWO.items() if key not in ("setup_loss", "holding_costs")})


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ValueError, match="cannot be read"):
        load_instance(tmp_path / "a.yml")


def test_a_name_that_does_not_exist_lists_those_that_do() -> None:
    with pytest.raises(ValueError, match=r"'7x7'.*15x5.*2x1"):
        load_instance("7x7")


@pytest.mark.parametrize(("file", "text", "words"), [("a.json", "{", "cannot be read"), ("a.yml", "- 1", "must be a mapping")])
def test_a_file_that_is_no_instance(tmp_path: Path, file: str, text: str, words: str) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(ValueError, match=words):
        load_instance(tmp_path / file)
