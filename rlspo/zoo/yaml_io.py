"""Reading and writing YAML: data only, never code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from rlspo.zoo.errors import UserError

# YAML 1.1, which PyYAML reads, takes `3e-4` and `1e6` for text because they have no decimal point; YAML 1.2 does not.
_EXPONENT = re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d+)[eE][-+]?\d+$")


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with numbers like ``3e-4`` and an error where a key stands twice."""

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """``1e6`` is the whole number 1000000, so that it may stand for a number of steps."""
        value = float(self.construct_yaml_float(node))
        return int(value) if _EXPONENT.match(str(node.value)) and value.is_integer() else value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key that stands twice: PyYAML would silently keep the last one."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        for key in keys:
            if keys.count(key) > 1 and not getattr(node, "checked", False):
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", node.start_mark)
        node.checked = True  # merging (`<<`) rewrites the node and constructs it again, with legitimate repetitions
        return dict(super().construct_mapping(node, deep))


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_number)


def parse(text: str) -> Any:
    """Plain data from YAML text.

    >>> parse("{learning_rate: 3e-4, n_timesteps: 1e6, net_arch: [64, 64], policy: MlpPolicy}")
    {'learning_rate': 0.0003, 'n_timesteps': 1000000, 'net_arch': [64, 64], 'policy': 'MlpPolicy'}

    :raises yaml.YAMLError: if it is not YAML, holds a tag that would build a Python object, or a key twice
    """
    return yaml.load(text, _Loader)  # noqa: S506 - a subclass of SafeLoader


def read_mapping(file: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    :raises UserError: if the file is missing, is not YAML, or holds something else than a mapping
    """
    try:
        data = parse(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"Cannot read {file}: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not plain YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise UserError(f"{file} must hold a mapping from names to settings, such as `CartPole-v1: {{n_timesteps: 1e5}}`.")
    return data


def write(file: Path, data: Any, comment: str = "") -> None:
    """Write plain data, keys in the order given.

    :param comment: one line to stand above the data
    """
    head = f"# {comment}\n" if comment else ""
    file.write_text(head + yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120), encoding="utf-8")
