"""Writing a block of settings into a YAML file of hyperparameters, without changing anything else in it.

Lines are edited, not a tree: ruamel.yaml indents lists anew in some files, drops comments and empty lines after a block that
is replaced, and writes ``1e6`` as ``1000000.0``.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from rlspo.zoo.config import yaml_io
from rlspo.zoo.errors import UserError

_WIDTH = 100  # the column after which no word of a text begins
_INDENT = 2
_LARGE = 100_000  # whole numbers from here on may be written as 1e5


class _Folded(str):
    """Text that is written over several lines."""


class _Dumper(yaml.SafeDumper):
    """Writes in the style of our files: mappings one key per line, lists in one line, numbers as short as they can be."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write equal values twice instead of using anchors."""
        return True

    def represent_number(self, value: int | float) -> yaml.Node:
        """A number, with the tag that PyYAML infers from its text, so that no tag is written."""
        text = number_text(value)
        return self.represent_scalar(self.resolve(yaml.ScalarNode, text, (True, False)), text)

    def represent_text(self, text: str) -> yaml.Node:
        """Text, in quotes where it would be read as a number or has unprintable characters; PyYAML handles other cases."""
        quotes = None if text.isprintable() and not _reads_as_number(text) else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", text, quotes)

    def represent_folded(self, text: _Folded) -> yaml.Node:
        """As a folded block, after ``>-``."""
        return self.represent_scalar("tag:yaml.org,2002:str", text, ">" if text.isprintable() else '"')

    def represent_lines(self, mapping: Mapping[Any, Any]) -> yaml.Node:
        """A mapping with one key per line."""
        return self.represent_mapping("tag:yaml.org,2002:map", mapping, flow_style=False)


_Dumper.add_representer(int, _Dumper.represent_number)
_Dumper.add_representer(float, _Dumper.represent_number)
_Dumper.add_representer(str, _Dumper.represent_text)
_Dumper.add_representer(_Folded, _Dumper.represent_folded)
_Dumper.add_representer(dict, _Dumper.represent_lines)


def number_text(value: int | float) -> str:
    """The shortest text that :func:`rlspo.zoo.config.yaml_io.parse` reads as this number.

    >>> [number_text(value) for value in (0.0003, 0.95, 1.0, 2048, 1_000_000, 1.5e-7)]
    ['3e-4', '0.95', '1.0', '2048', '1e6', '1.5e-7']
    """
    if not math.isfinite(value):
        return str(yaml.safe_dump(value)).partition("\n")[0]
    texts = [repr(value), f"{value:.1f}"]
    if isinstance(value, float) or abs(value) >= _LARGE:
        texts.append(f"{Decimal(repr(value)).normalize():e}".replace("e+", "e"))
    same = [text for text in texts if (type(value), value) == (type(yaml_io.parse(text)), yaml_io.parse(text))]
    return min(same, key=len)


def _reads_as_number(text: str) -> bool:
    try:
        return isinstance(yaml_io.parse(text), int | float)
    except (yaml.YAMLError, ValueError):
        return False


def render_block(name: str, settings: Mapping[str, Any], provenance: str) -> str:
    """A block as YAML.

    :param name: of the block: an environment's id
    :param settings: plain data; a ``provenance`` among them is replaced
    :param provenance: where the settings come from, in words; spaces and line breaks do not matter
    :return: whole lines, which :func:`rlspo.zoo.config.yaml_io.parse` reads back as they were given
    """
    block = {key: value for key, value in settings.items() if key != "provenance"}
    words = " ".join(provenance.split())
    data = {name: {**block, **({"provenance": _Folded(words)} if words else {})}}
    return str(yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=_WIDTH, default_flow_style=None, allow_unicode=True))


def apply_block(file: Path, name: str, text: str) -> None:
    """Put a block into a file: in place of the one of this name, or at the end.

    All other lines stay unchanged, with one exception: where other blocks inherit settings from the one that is
    replaced (``<<: *anchor``), the first of them gets the old settings written out, so that none of them changes.

    :param file: of hyperparameters; replaced atomically
    :param name: of the block
    :param text: the block, as :func:`render_block` gives it
    :raises UserError: if the file cannot be read or written, or if this block cannot be written without changing another;
        then nothing is written
    """
    before = yaml_io.read_mapping(file)
    old = _read(file)
    new = _replaced(file, name, text.rstrip("\n") + "\n", old)
    if not _holds(new, {**before, name: yaml_io.parse(text)[name]}):
        raise UserError(
            f"{file}: the block {name!r} cannot be written without changing another block: they share anchors, or the file is "
            "laid out unusually. Nothing was written; put the block in by hand."
        )
    _write(file, new)


def apply_provenance(file: Path, name: str, settings: Mapping[str, Any], provenance: str) -> None:
    """Write the provenance of a block into a file, and leave its settings unchanged, comments included.

    :param file: of hyperparameters; replaced atomically
    :param name: of the block
    :param settings: of the block; written out where the file has no block of this name with a provenance of its own
    :param provenance: in words
    :raises UserError: if the file cannot be read or written, or another block would change; then nothing is written
    """
    before = yaml_io.read_mapping(file)
    text = render_block(name, settings, provenance)
    new = _with_provenance(_read(file), name, render_block(name, {}, provenance).split("\n")[1:-1])
    same = name in before and yaml_io.parse(text)[name]["provenance"]
    if same and _holds(new, {**before, name: {**before[name], "provenance": same}}):
        _write(file, new)
    else:
        apply_block(file, name, text)


def _with_provenance(old: str, name: str, lines: list[str]) -> str:
    """The file with other lines in place of those of a block's provenance; unchanged where the block has none of its own."""
    root = yaml.compose(old, yaml.SafeLoader)
    found = [value for key, value in getattr(root, "value", []) if key.value == name and isinstance(value, yaml.MappingNode)]
    keys = [key for key, _ in found[0].value] if found and not found[0].flow_style else []
    for key in keys:
        if key.value != "provenance":
            continue
        all_lines = old.split("\n")
        first = key.start_mark.line
        body = _below(all_lines, first, len(all_lines))
        while body and not body[-1].strip():
            body.pop()
        last = first + 1 + len(body)
        return "\n".join([*all_lines[:first], *lines, *all_lines[last:]])
    return old


def _read(file: Path) -> str:
    return file.read_bytes().decode("utf-8").replace("\r\n", "\n")


def _holds(text: str, expected: Mapping[str, Any]) -> bool:
    """Whether text holds these blocks, in this order, and nothing else."""
    try:
        found = yaml_io.parse(text)
    except yaml.YAMLError:
        return False
    return isinstance(found, dict) and list(found.items()) == list(expected.items())


def _replaced(file: Path, name: str, text: str, old: str) -> str:
    """The file with the new block in it."""
    root = yaml.compose(old, yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode) or root.flow_style:
        raise UserError(f"{file} is written in braces. Write every block on lines of its own, or put {name!r} in by hand.")
    lines = old.rstrip("\n").split("\n")
    starts = [key.start_mark.line for key, _ in root.value]
    names = [key.value for key, _ in root.value]
    if name not in names:
        return "\n".join(lines) + "\n\n" + text
    place = names.index(name)
    first = starts[place]
    last = starts[place + 1] if place + 1 < len(starts) else len(lines)
    # Comments at the margin, and the empty lines before them, belong to what follows.
    while last > first + 1 and (not lines[last - 1].strip() or lines[last - 1].startswith("#")):
        last -= 1
    rest = _with_anchors(lines, first, last, old)
    return "\n".join([*lines[:first], *text.rstrip("\n").split("\n"), *rest]) + "\n"


def _with_anchors(lines: list[str], first: int, last: int, old: str) -> list[str]:
    """The lines after a block, with what they inherit by ``*anchor`` written out at its first use.

    :param first: line of the block
    :param last: line after it
    """
    rest = list(lines)
    moved_until = first
    tokens = [token for token in yaml.scan(old, yaml.SafeLoader) if isinstance(token, yaml.AnchorToken | yaml.AliasToken)]
    for index, token in enumerate(tokens):
        line = token.start_mark.line
        if not isinstance(token, yaml.AnchorToken) or not moved_until <= line < last:
            continue
        used = [other.start_mark.line for other in tokens[index:] if isinstance(other, yaml.AliasToken)]
        uses = [place for place in used if place >= last and re.search(rf"\*{re.escape(token.value)}(?=\s|$)", lines[place])]
        if not uses:
            continue
        body = _below(lines, line, last)
        rest[uses[0]] = "\n".join(_expanded(lines[uses[0]], token.value, body))
        moved_until = line + 1 + len(body)
    return rest[last:]


def _below(lines: list[str], line: int, last: int) -> list[str]:
    """The lines that are indented deeper than one."""
    depth = _depth(lines[line])
    end = line + 1
    while end < last and (not lines[end].strip() or _depth(lines[end]) > depth):
        end += 1
    return lines[line + 1 : end]


def _expanded(line: str, anchor: str, body: list[str]) -> list[str]:
    """``key: *anchor`` as ``key: &anchor`` and the anchored text; unchanged in any other form."""
    content = [each for each in body if each.strip() and not each.lstrip().startswith("#")]
    key = re.fullmatch(rf"(\s*\S+:\s+)\*{re.escape(anchor)}(\s+#.*|\s*)", line)
    if key is None or not content:
        return [line]
    shift = _depth(line) + _INDENT - _depth(content[0])
    moved = [" " * (_depth(each) + shift) + each.lstrip() if each.strip() else each for each in body]
    return [f"{key[1]}&{anchor}{key[2]}", *moved]


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _write(file: Path, text: str) -> None:
    """Replace a file atomically; links, access rights and line endings are kept."""
    target = file.resolve()
    if b"\r\n" in target.read_bytes():
        text = text.replace("\n", "\r\n")
    partial: str | None = None
    try:
        if not os.access(target, os.W_OK):
            raise PermissionError(None, "it is write-protected")
        with tempfile.NamedTemporaryFile("wb", dir=target.parent, prefix=f".{target.name}.", delete=False) as temporary:
            partial = temporary.name
            temporary.write(text.encode("utf-8"))
        shutil.copymode(target, partial)
        os.replace(partial, target)
    except OSError as error:
        if partial is not None:
            with contextlib.suppress(OSError):
                os.unlink(partial)
        raise UserError(f"Cannot write {file}: {error.strerror}.") from error
