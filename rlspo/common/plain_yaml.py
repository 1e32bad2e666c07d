"""YAML as data only, never code: numbers like ``3e-4``, and an error where a key stands twice."""

from __future__ import annotations

import re
from typing import Any

import yaml

# YAML 1.1, which PyYAML reads, takes `3e-4` and `1e6` for text because they have no decimal point; YAML 1.2 does not.
EXPONENT = re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d+)[eE][-+]?\d+$")


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with numbers like ``3e-4`` and an error where a key stands twice."""

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """``1e6`` is the whole number 1000000, so that it may stand for a number of steps."""
        value = float(self.construct_yaml_float(node))
        return int(value) if EXPONENT.match(str(node.value)) and value.is_integer() else value

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Refuse a key that stands twice: PyYAML would silently keep the last one."""
        node = super().compose_mapping_node(anchor)
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        repeated = [key for key in keys if keys.count(key) > 1]
        if repeated:
            raise yaml.constructor.ConstructorError(None, None, f"the key {repeated[0]!r} stands twice", node.start_mark)
        return node


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, list("-+.0123456789"))
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_number)


def parse(text: str) -> Any:
    """Plain data from YAML text.

    >>> parse("{learning_rate: 3e-4, n_timesteps: 1e6, net_arch: [64, 64], policy: MlpPolicy}")
    {'learning_rate': 0.0003, 'n_timesteps': 1000000, 'net_arch': [64, 64], 'policy': 'MlpPolicy'}

    :raises yaml.YAMLError: if it is not YAML, holds a tag that would build a Python object, or a key twice
    """
    return yaml.load(text, _Loader)  # a subclass of SafeLoader
