"""Folders of the files that come with a package: hyperparameters, descriptions of environments."""

from __future__ import annotations

import importlib
from importlib import resources
from pathlib import Path

#: Folders of a checkout that have another name inside the installed package, where that one is a package of modules.
INSIDE = {"envs": "instances"}


def data_folders(name: str, package: str = "rlspo") -> list[Path]:
    """The folders called ``name`` that come with ``package`` and exist: inside it (an installed wheel) first, then beside it
    (the top of a checkout), or beside a module alone.

    :param name: ``"hyperparams"``, ``"envs/stori"``, ...
    :param package: any package or module; one inside another stands for the outermost

    >>> [path.name for path in data_folders("envs/stori")]
    ['stori']
    """
    module = importlib.import_module(package.partition(".")[0])
    top, *rest = name.split("/")
    if hasattr(module, "__path__"):
        inside = Path(str(resources.files(module)))
        folders = [inside / INSIDE.get(top, top), inside.parent / top]
    else:
        folders = [Path(module.__file__ or "").parent / top]
    return [folder for folder in (each.joinpath(*rest) for each in folders) if folder.is_dir()]
