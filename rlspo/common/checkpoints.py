"""Reading model files: one clear error for a file that cannot be what was asked for."""

from __future__ import annotations

import io
import json
import pathlib
import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

import torch

from rlspo.common.errors import IncompatibleModelError, shown
from rlspo.common.withheld import building

Model = TypeVar("Model")
#: Errors that reading a damaged archive can raise.
UNREADABLE = (zipfile.BadZipFile, zlib.error, NotImplementedError, KeyError, EOFError, ValueError, RecursionError, OSError)


#: Largest ratio of unpacked to packed size, and the size below which a member is always allowed.
_MOST_GROWTH = 100
_ALWAYS = 16 * 2**20
#: Member of a model file with the checksums of the others.
_SEAL = "checksums.json"


def seal(file: io.BytesIO) -> None:
    """Add checksums of its members to a model file, so that a replaced member is detected.

    :param file: written by SB3's ``save``
    """
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(_SEAL, json.dumps({member.filename: member.CRC for member in archive.infolist()}))


def data_of(file: io.BytesIO) -> Any:
    """The settings in a model file that was written just now, unchecked; see :func:`read_settings`."""
    with zipfile.ZipFile(file) as archive:
        return json.loads(archive.read("data"))


def _check_seal(archive: zipfile.ZipFile) -> None:
    """Check that every member that is loaded is the one that was saved; files of SB3 have no checksums.

    :raises zipfile.BadZipFile: naming the member
    """
    if _SEAL not in archive.namelist():
        return
    sealed = json.loads(archive.read(_SEAL))
    for member in archive.infolist():
        loaded = member.filename == "data" or member.filename.endswith(".pth")
        if loaded and sealed.get(member.filename) != member.CRC:
            raise zipfile.BadZipFile(
                f"{member.filename} is not the one that was saved with the rest; whoever changed it on purpose removes {_SEAL}"
            )
    missing = sealed.keys() - set(archive.namelist())
    if missing:
        raise zipfile.BadZipFile(f"{min(missing)} is missing")


def read_settings(path: str | pathlib.Path | Any) -> dict[str, Any]:
    """The settings in a model file, as JSON; pickled values remain text.

    :param path: of the file, ``.zip`` may be left out; or an open file, whose position is restored
    :raises IncompatibleModelError: for a file that is no model, or is truncated
    """
    if not isinstance(path, str | pathlib.Path):
        place = path.tell()
        try:
            return _settings_in(path, "This open file")
        finally:
            path.seek(place)
    file = pathlib.Path(path)
    if not file.is_file() and file.suffix != ".zip":
        file = file.with_name(file.name + ".zip")
    if not file.exists():
        raise FileNotFoundError(f"There is no model file {file}.")
    return _settings_in(file, file)


def _settings_in(file: Any, name: Any) -> dict[str, Any]:
    """As :func:`read_settings`, for an open file.

    :param name: of the file, for messages
    """
    try:
        with zipfile.ZipFile(file) as archive:
            check_sizes(archive)
            for part in archive.namelist():
                if part.endswith(".pth"):
                    with archive.open(part) as inside:
                        if zipfile.is_zipfile(inside):
                            with zipfile.ZipFile(inside) as tensors:
                                check_sizes(tensors)
            broken = archive.testzip()
            if broken is not None:
                raise zipfile.BadZipFile(f"{broken} is damaged")
            _check_seal(archive)
            settings = json.loads(archive.read("data"))
            if not isinstance(settings, dict):
                raise ValueError("its data is no mapping")
    except UNREADABLE as error:
        raise IncompatibleModelError(
            f"{name} is not a readable model file ({error}). It is truncated, damaged, or was not written by model.save(); "
            "use another checkpoint of the run, or copy the file again."
        ) from error
    return settings


def check_archive(file: pathlib.Path) -> None:
    """As :func:`check_sizes`, for a file."""
    with zipfile.ZipFile(file) as archive:
        check_sizes(archive)


def check_sizes(archive: zipfile.ZipFile) -> None:
    """Check that an archive does not unpack to far more than its size: models are hardly compressible.

    :raises zipfile.BadZipFile: naming the part
    """
    parts = archive.infolist()
    size = sum(part.compress_size for part in parts)
    if len({part.header_offset for part in parts}) < len(parts):
        raise zipfile.BadZipFile("two of its parts are the same bytes")
    for part in parts:
        if part.file_size > max(_ALWAYS, _MOST_GROWTH * part.compress_size):
            raise zipfile.BadZipFile(f"{part.filename} would unpack from {part.compress_size} bytes to {part.file_size}")
    if sum(part.file_size for part in parts) > max(4 * _ALWAYS, _MOST_GROWTH * size):
        raise zipfile.BadZipFile("it would unpack to far more than it is")


def check_owner(agent: str, needs: set[str], path: Any, settings: Mapping[str, Any]) -> None:
    """Check that the file is not another agent's.

    :param agent: name of the agent class that is loading
    :param needs: settings in every model file of this kind of agent; SB3's files do not name their agent
    :param path: of the file, for messages
    :param settings: of the file
    :raises IncompatibleModelError: where the file belongs to another agent
    """
    owner = settings.get("_agent")
    if owner is not None and owner != agent:
        how = f" Load it with {owner}.load({str(path)!r})." if str(owner).isidentifier() else ""
        name = owner if how else shown(owner)  # a file may contain any name
        raise IncompatibleModelError(f"{path} was saved by {name}, not by {agent}.{how}")
    if not needs <= settings.keys():
        raise IncompatibleModelError(
            f"{path} is another agent's model, not {agent}'s: it has no {', '.join(sorted(needs - settings.keys()))}."
        )


def load_checked(agent: str, path: Any, load: Callable[[], Model], replaced: Collection[str] = ()) -> Model:
    """Call ``load`` and turn any failure into one clear error.

    :param agent: name of the agent class that is loading
    :param path: of the file, for messages
    :param load: reads the file
    :param replaced: names of settings that were given in addition to the file, for the message
    :raises IncompatibleModelError: where the file does not fit this agent
    """
    hint = "Was it saved by another agent, or with a policy class that is not importable here?"
    if replaced:
        hint += f" Or does what was given beside it not fit its weights ({', '.join(replaced)})?"
    try:
        with building():
            return load()
    except torch.OutOfMemoryError:
        raise
    except (KeyError, IndexError, OverflowError, MemoryError, RuntimeError, AttributeError) as error:
        raise IncompatibleModelError(f"{path} could not be loaded as a {agent} model: {error}. {hint}") from error
