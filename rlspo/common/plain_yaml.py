"""YAML as data only, never code: numbers like ``3e-4``, an error for duplicate keys, and limits against YAML bombs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import yaml

# YAML 1.1, which PyYAML reads, takes `3e-4` and `1e6` for text because they have no decimal point; YAML 1.2 does not.
EXPONENT = re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d+)[eE][-+]?\d+$")

#: Limits far above any real file, which is read in a second or two.
_LONGEST = 1_000_000  # characters
_DEEPEST = 60  # nesting of lists and mappings
_MOST = 12_000  # keys, values and list items as they are written
_MOST_EXPANDED = 200_000  # the same with every alias expanded
_SPLIT = "leave out what this call does not need, or split the file"
_LONGEST_KEY = 1_000
_LONGEST_NUMBER = 400


class LimitedLoader(yaml.SafeLoader):
    """PyYAML's safe loader; it rejects text that would take more time or memory than any real file."""

    def __init__(self, text: str) -> None:
        if len(text) > _LONGEST:
            raise _refused(f"it has {len(text):,} characters, and at most {_LONGEST:,} are read; {_SPLIT}")
        super().__init__(text)
        self._count = 0
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Limit depth and size."""
        self._count += 1
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _refused(f"its lists and mappings are nested more than {_DEEPEST} deep; make it flatter")
        if self._count > _MOST:
            raise _refused(f"it holds more than {_MOST:,} keys, values and list items; {_SPLIT}")
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        """Limit the length of numbers; ``12:30`` is text, as in YAML 1.2, and not 750."""
        node = super().compose_scalar_node(anchor)
        if node.tag in _NUMBERS and ":" in node.value:
            node.tag = "tag:yaml.org,2002:str"
        if node.tag in _NUMBERS and len(node.value) > _LONGEST_NUMBER:
            raise _refused(f"a number has {len(node.value):,} digits", node.start_mark)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Reject duplicate keys, of which PyYAML would silently keep the last, and overlong keys."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if len(key.value) > _LONGEST_KEY:
                raise _refused(f"a key has {len(key.value):,} characters", key.start_mark)
            if key.value in seen:
                raise _refused(f"the key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return node

    def compose_document(self) -> yaml.Node | None:
        """Reject aliases that would expand without bounds."""
        node = super().compose_document()
        if node is not None and _expanded(node, {}) > _MOST_EXPANDED:
            raise _refused(
                f"with its aliases written out it holds more than {_MOST_EXPANDED:,} keys, values and list items; {_SPLIT}"
            )
        return node

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """A whole number."""
        try:
            return super().construct_yaml_int(node)
        except ValueError as error:
            raise _refused(f"{node.value!r} is no number", node.start_mark) from error


_NUMBERS = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}
LimitedLoader.add_constructor("tag:yaml.org,2002:int", LimitedLoader.construct_yaml_int)


def _refused(why: str, mark: Any = None) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, why, mark)


def _expanded(node: yaml.Node, known: dict[int, int]) -> float:
    """The number of keys, values and items of a node with every alias expanded; infinity for a node that contains itself."""
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = _MOST_EXPANDED + 1  # until it is counted: a reference to it from here is inside of it
    known[id(node)] = 1 + int(sum(_expanded(part, known) for part in _parts(node)))
    return known[id(node)]


def _parts(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair


class _Loader(LimitedLoader):
    """A loader that reads ``3e-4`` as a number."""

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """``1e6`` is the whole number 1000000, so that it can be a number of steps."""
        try:
            value = float(self.construct_yaml_float(node))
        except ValueError as error:
            raise _refused(f"{node.value!r} is no number", node.start_mark) from error
        if math.isinf(value) and "inf" not in node.value.lower():
            raise _refused(f"{node.value} is too large; write .inf for infinity", node.start_mark)
        return int(value) if EXPONENT.match(str(node.value)) and value.is_integer() else value


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, list("-+.0123456789"))
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_number)


def parse(text: str) -> Any:
    """Plain data from YAML text.

    >>> parse("{learning_rate: 3e-4, n_timesteps: 1e6, net_arch: [64, 64], policy: MlpPolicy}")
    {'learning_rate': 0.0003, 'n_timesteps': 1000000, 'net_arch': [64, 64], 'policy': 'MlpPolicy'}

    :raises yaml.YAMLError: if it is not YAML, has a tag that would build a Python object, has a duplicate key, or is larger or
        deeper than any real file
    """
    try:
        return yaml.load(text, _Loader)  # a subclass of SafeLoader
    except (ValueError, TypeError, RecursionError, OverflowError) as error:  # such as a date in month 13
        raise _refused(f"a value cannot be read: {error}") from error
