"""Writing files whole or not at all: beside their place first, then moved there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


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
