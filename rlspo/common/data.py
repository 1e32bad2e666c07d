"""Folders of the environment descriptions that come with the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def data_folders(name: str) -> list[Path]:
    """The folders ``envs/<name>`` that exist: inside an installed package first, then at the top of a checkout.

    >>> [path.name for path in data_folders("stori")]
    ['stori']
    """
    package = Path(str(resources.files("rlspo")))
    return [folder for folder in (package / "instances" / name, package.parent / "envs" / name) if folder.is_dir()]
