"""Writing files whole or not at all: beside their place first, then moved there; and refusing places beforehand."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlspo.zoo.errors import UserError


@contextlib.contextmanager
def whole(file: Path) -> Iterator[Path]:
    """A path to write to, which becomes ``file`` if all goes well; an interruption leaves what was there before.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole(Path(folder) / "numbers.txt") as partial:
    ...         _ = partial.write_text("1 2 3")
    ...     os.listdir(folder)
    ['numbers.txt']

    :param file: in a folder that exists; the partial file keeps its ending, by which some libraries choose a format
    """
    partial = file.with_name(f"partial_{os.getpid()}_{file.name}")
    try:
        yield partial
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> None:
    """Write text, whole or not at all."""
    with whole(file) as partial:
        partial.write_text(text, encoding="utf-8")


def read_whole(file: Path) -> dict[str, Any] | None:
    """The mapping in a JSON file that can be made again; None where it is not there, or not whole.

    >>> read_whole(Path("nowhere.json")) is None
    True
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def check_place(flag: str, file: Path | None) -> None:
    """Refuse a place that cannot be written to, before any time is spent.

    :param flag: that names the place
    :param file: None for none
    :raises UserError: for a folder, or a file in a folder that does not exist
    """
    if file is None:
        return
    if file.is_dir():
        raise UserError(f"{flag} {file}: is a folder.")
    if not file.absolute().parent.is_dir():
        raise UserError(f"{flag} {file}: there is no folder {file.parent}.")
