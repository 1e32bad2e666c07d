"""Reading model files: one clear error for a file that cannot be what was asked for."""

from __future__ import annotations

import json
import pathlib
import zipfile
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import torch

from rlspo.common.errors import IncompatibleModelError

Model = TypeVar("Model")


#: Member of a model file that holds the check sums of the others.
_SEAL = "checksums.json"


def seal(file: pathlib.Path) -> None:
    """Add check sums of its members to a model file, so that a member of another file is noticed.

    :param file: that ``save`` has written
    """
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(_SEAL, json.dumps({member.filename: member.CRC for member in archive.infolist()}))


def _check_seal(archive: zipfile.ZipFile) -> None:
    """Every member that is loaded must be the one that was saved; files of SB3 have no seal.

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


def read_settings(path: str | pathlib.Path) -> dict[str, Any]:
    """The settings in a model file, as JSON.

    :raises IncompatibleModelError: for a file that is no model, or is truncated
    """
    file = pathlib.Path(path)
    if not file.exists() and file.suffix != ".zip":
        file = file.with_name(file.name + ".zip")
    if not file.exists():
        raise FileNotFoundError(f"There is no model file {file}.")
    try:
        with zipfile.ZipFile(file) as archive:
            broken = archive.testzip()
            if broken is not None:
                raise zipfile.BadZipFile(f"{broken} is damaged")
            _check_seal(archive)
            settings = json.loads(archive.read("data"))
            if not isinstance(settings, dict):
                raise ValueError("its data is no mapping")
    except (zipfile.BadZipFile, KeyError, EOFError, ValueError) as error:
        raise IncompatibleModelError(
            f"{file} is not a readable model file ({error}). It is truncated, damaged, or was not written by model.save(); "
            "use another checkpoint of the run, or copy the file again."
        ) from error
    return settings


def load_checked(agent: str, needs: set[str], path: Any, load: Callable[[], Model], replaced: Collection[str] = ()) -> Model:
    """Run ``load``, after and with checks that give one clear error.

    :param agent: name of the agent class that is loading
    :param needs: settings that every model file of this kind of agent has; a file of SB3's does not name its agent
    :param path: file path; an open file is passed to ``load`` as it is
    :param load: reads the file
    :param replaced: names of settings that were given beside the file, for the message
    :raises IncompatibleModelError: where the file belongs to another agent or does not fit this one
    """
    hint = "Was it saved by another agent, or with a policy class that is not importable here?"
    if replaced:
        hint += f" Or does what was given beside it not fit its weights ({', '.join(replaced)})?"
    if isinstance(path, str | pathlib.Path):
        settings = read_settings(path)
        owner = settings.get("_agent")
        if owner is not None and owner != agent:
            raise IncompatibleModelError(
                f"{path} was saved by {owner}, not by {agent}. Load it with {owner}.load({str(path)!r})."
            )
        if not needs <= settings.keys():
            raise IncompatibleModelError(
                f"{path} is another agent's model, not {agent}'s: it has no {', '.join(sorted(needs - settings.keys()))}."
            )
    try:
        return load()
    except torch.OutOfMemoryError:
        raise
    except (KeyError, RuntimeError, AttributeError) as error:
        raise IncompatibleModelError(f"{path} could not be loaded as a {agent} model: {error}. {hint}") from error
