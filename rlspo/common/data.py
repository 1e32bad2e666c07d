"""Where the data that come with the package lie: inside an installed wheel, or at the top of a checkout."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

#: Folders of data at the top of a checkout, and the packages that hold them inside a wheel.
PACKED = {"envs": "instances", "hyperparams": "hyperparams"}


def data_folders(kind: str, folder: str = "") -> list[Path]:
    """The folders that hold ``kind/folder``, the wheel's first; those that do not exist are left out.

    :param kind: ``"envs"`` or ``"hyperparams"``

    >>> [path.name for path in data_folders("envs", "stori")]
    ['stori']
    """
    package = Path(str(resources.files("rlspo")))
    places = [package / PACKED[kind] / folder, package.parent / kind / folder]
    return [place for place in places if place.is_dir()]
