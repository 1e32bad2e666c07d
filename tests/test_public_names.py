"""What the docs call public and what packages export are the same names."""

import importlib
import pkgutil
import re
from pathlib import Path
from typing import Any

import rlspo

PAGE = Path(__file__).parent.parent / "docs" / "api.md"


def documented() -> dict[str, Any]:
    """Objects by the dotted names under which the page shows them."""
    page = PAGE.read_text(encoding="utf-8")
    names = re.findall(r"^\.\. auto(?:class|function):: (\S+)", page, flags=re.MULTILINE)
    for module, listed in re.findall(r"^\.\. automodule:: (\S+)\n   :members:(.*)", page, flags=re.MULTILINE):
        members = [name.strip() for name in listed.split(",") if name.strip()] or importlib.import_module(module).__all__
        names += [f"{module}.{name}" for name in members]
    return {name: getattr(importlib.import_module(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in names}


def exported() -> dict[str, Any]:
    """Objects by dotted name, of all packages that export some; the command line is no library."""
    found = {}
    for info in pkgutil.walk_packages(rlspo.__path__, "rlspo."):
        if info.ispkg and not info.name.startswith("rlspo.zoo"):
            module = importlib.import_module(info.name)
            found |= {f"{info.name}.{name}": getattr(module, name) for name in getattr(module, "__all__", [])}
    return found


def test_exported_names_are_documented() -> None:
    shown = {id(thing) for thing in documented().values()}
    assert [name for name, thing in exported().items() if id(thing) not in shown] == []


def test_documented_names_are_exported_where_modules_say_what_they_export() -> None:
    for name in documented():
        module, _, own = name.rpartition(".")
        assert not own.startswith("_")
        assert own in getattr(importlib.import_module(module), "__all__", [own]), name
