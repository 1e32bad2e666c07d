"""Atomic writes: whatever ends the process, a file is either complete and on the disk, or as it was before."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

_PARTIAL = re.compile(r"partial_\d+_.+")


@contextlib.contextmanager
def whole(file: Path, durable: bool = True) -> Iterator[Path]:
    """A path to write to, which is renamed to ``file`` on success; an interruption leaves the earlier file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole(Path(folder) / "numbers.txt") as partial:
    ...         _ = partial.write_text("1 2 3")
    ...     os.listdir(folder)
    ['numbers.txt']

    :param file: in a folder that exists; the partial file has the same suffix, by which some libraries choose a format. For a
        link, its target is replaced
    :param durable: wait until the content is on the disk, so that a power failure leaves the old file or the new one
    """
    file = Path(os.path.realpath(file))
    partial = file.with_name(f"partial_{os.getpid()}_{file.name}")
    try:
        yield partial
        if durable:
            _sync(partial)
        if file.exists():
            shutil.copymode(file, partial)
        os.replace(partial, file)
        if durable:
            with contextlib.suppress(OSError):  # not every file system supports this for a folder
                _sync(file.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to write to, which on success takes the place of ``folder``; an interruption leaves the earlier one.

    Between the removal of the old one and the renaming of the new one there is a moment without any.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     with whole_folder(Path(place) / "numbers") as partial:
    ...         _ = (partial / "one.txt").write_text("1")
    ...     os.listdir(place), os.listdir(Path(place) / "numbers")
    (['numbers'], ['one.txt'])

    :param folder: may exist, and is replaced with all that is in it: check that before. Folders above it are made
    """
    folder = Path(os.path.realpath(folder))
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial, old = (folder.with_name(f"partial_{os.getpid()}_{kind}{folder.name}") for kind in ("", "old_"))
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        for file in partial.iterdir():
            _sync(file)
        if folder.exists():
            os.replace(folder, old)
        os.replace(partial, folder)
        with contextlib.suppress(OSError):  # not every file system supports this for a folder
            _sync(folder.parent)
    finally:
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        for left in (partial, old):
            shutil.rmtree(left, ignore_errors=True)


def is_partial(file: Path) -> bool:
    """Whether a file was left behind by :func:`whole` in a process that was killed.

    >>> is_partial(Path("partial_77_rl_model_500_steps.zip")), is_partial(Path("partial_model.zip"))
    (True, False)
    """
    return _PARTIAL.fullmatch(file.name) is not None


def partials_of(file: Path) -> list[Path]:
    """Partial files of ``file``: left behind by :func:`whole` in killed processes, or being written now."""
    file = Path(os.path.realpath(file))
    return sorted(each for each in file.parent.glob(f"partial_*_{glob.escape(file.name)}") if _is_of(each, file))


def _is_of(partial: Path, file: Path) -> bool:
    return re.fullmatch(rf"partial_\d+_{re.escape(file.name)}", partial.name) is not None


def place_for(path: str | Path, suffix: str) -> Path:
    """The path that SB3 would write to: with a suffix, in a folder that exists, and not that of a folder.

    :param suffix: for a name without one, such as ``"zip"``
    """
    file = Path(path)
    if file.suffix == "":
        file = Path(f"{file}.{suffix}")
    while file.is_dir():
        warnings.warn(f"Path '{file}' is a folder. Will save instead to {file}_2", stacklevel=3)
        file = Path(f"{file}_2")
    if not file.parent.exists():
        warnings.warn(f"Path '{file.parent}' does not exist. Will create it.", stacklevel=3)
        file.parent.mkdir(parents=True, exist_ok=True)
    return file


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk.

    Windows opens no folders, and syncs only what it may write.
    """
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
