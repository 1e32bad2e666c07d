"""The layout of the package: no circles of imports, and tests that mirror it."""

import ast
import graphlib
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent / "rlspo"


def modules() -> dict[str, Path]:
    """All modules by name."""
    files = PACKAGE.rglob("*.py")
    return {".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def imported(file: Path, known: set[str]) -> set[str]:
    """Modules of this package that a module imports, anywhere in it but for types alone."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & known or {node.module}
    return found & known


def test_no_imports_go_in_a_circle() -> None:
    files = modules()
    graph = {name: imported(file, {*files}) - {name} for name, file in files.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_tests_lie_where_the_code_lies() -> None:
    """Each folder of tests is one of the package (or of the repository: ``benchmarks``, ``docs``)."""
    folders = {file.parent.relative_to(HERE) for file in HERE.rglob("test_*.py")} - {Path(), Path("benchmarks"), Path("docs")}
    assert not {str(folder) for folder in folders if not (PACKAGE / folder).is_dir()}


def test_slow_tests_are_there() -> None:
    """What ``tests/slow.txt`` leaves out of ``make unit-fast`` exists."""
    lines = [line for line in (HERE / "slow.txt").read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    places = [line.partition("::") for line in lines]
    for place, _, name in places:
        assert (HERE.parent / place).exists(), place
        assert not name or f"def {name.partition('[')[0]}(" in (HERE.parent / place).read_text(encoding="utf-8"), (place, name)
