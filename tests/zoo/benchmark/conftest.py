"""What the worker processes need, and a grid that is done."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rlspo.zoo.benchmark import runner
from rlspo.zoo.benchmark.command import main
from rlspo.zoo.config import allowed
from rlspo.zoo.tune import workers
from tests.zoo.benchmark.tiny_grids import HERE, write_grid

#: What worker processes find: the environments, and the rlspo that is tested.
PATHS = os.pathsep.join(map(str, (HERE, HERE.parent, HERE.parents[2])))


def environments_are_trusted(patch: pytest.MonkeyPatch) -> None:
    """As if the package of these environments had registered an agent: grids may name them."""
    patch.setattr(allowed, "agent_packages", lambda: ["rlspo", "zoo_environments", "benchmark_environments"])


@pytest.fixture(autouse=True)
def workers_find_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are processes of their own; those of a test's own process are forked, which spares importing torch each time.

    A fresh interpreter for each run, as users have it, runs :func:`done_grid` and whatever a test starts as a command.
    """
    environments_are_trusted(monkeypatch)
    monkeypatch.setattr(runner, "_CONTEXT", workers._CONTEXT)
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setenv("PYTHONPATH", PATHS)


@pytest.fixture
def trainings(tmp_path: Path) -> Callable[[], list[str]]:
    """The trainings that have begun so far."""
    file = tmp_path / "trainings.txt"
    return lambda: sorted(file.read_text().split()) if file.is_file() else []


@pytest.fixture(scope="module")
def done_grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A grid that has been run; its output in ``out/``."""
    folder = tmp_path_factory.mktemp("done")
    with pytest.MonkeyPatch.context() as patch:
        for path in (HERE, HERE.parent):
            patch.syspath_prepend(str(path))
        environments_are_trusted(patch)
        patch.setenv("PYTHONPATH", PATHS)
        patch.chdir(folder)
        assert main([str(write_grid(folder)), "-o", "out", "--jobs", "2"]) == 0
    yield folder
