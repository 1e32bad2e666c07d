"""Small files written whole or not at all, and checking beforehand that files can be written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from rlspo.common.files import whole
from rlspo.zoo.errors import UserError

__all__ = ["check_place", "read_whole", "whole", "write_text"]


def write_text(file: Path, text: str, durable: bool = True) -> None:
    """Write text, whole or not at all; see :func:`~rlspo.common.files.whole`."""
    with whole(file, durable) as partial:
        partial.write_text(text, encoding="utf-8")


def read_whole(file: Path) -> dict[str, Any] | None:
    """The mapping in a JSON file; None where the file does not exist, or is not whole.

    >>> read_whole(Path("nowhere.json")) is None
    True
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def check_place(flag: str, file: Path | None) -> None:
    """Refuse a file that cannot be written, before any time is spent.

    :param flag: that names the file
    :param file: None for none
    :raises UserError: for a folder, or a file in a folder that does not exist or cannot be written to
    """
    if file is None:
        return
    if file.is_dir():
        raise UserError(f"{flag} {file}: is a folder.")
    if not file.absolute().parent.is_dir():
        raise UserError(f"{flag} {file}: there is no folder {file.parent}.")
    if not os.access(file.absolute().parent, os.W_OK):
        raise UserError(f"{flag} {file}: the folder {file.absolute().parent} cannot be written to.")
