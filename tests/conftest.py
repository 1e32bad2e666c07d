"""What all tests share."""

import gc
import os
from pathlib import Path

import pytest
import torch

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


SLOW = Path(__file__).with_name("slow.txt")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="leave out the tests listed in tests/slow.txt")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark as slow what tests/slow.txt lists: a folder, file or test, with all that is below it.

    Tests named there by themselves do not count for coverage: its tracing makes training and compiling half as long again,
    and quick tests run the same lines.
    """
    lines = [line for line in SLOW.read_text().splitlines() if line and not line.startswith("#")]
    below = tuple(line + end for line in lines for end in ("/", "::", "["))
    for item in items:
        if item.nodeid in lines or item.nodeid.startswith(below):
            item.add_marker(pytest.mark.slow)
        if item.nodeid.partition("[")[0] in lines:
            item.add_marker(pytest.mark.no_cover)
    if config.getoption("--fast"):
        left_out = [item for item in items if item.get_closest_marker("slow")]
        items[:] = [item for item in items if not item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=left_out)


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over torch and all that was imported: most of what it would look at, again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def files_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Model files that a test has saved are read as another process reads them."""
    monkeypatch.setattr("rlspo.common.agent.note_own", lambda *_: None)


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    """Every device of this machine in turn."""
    return str(request.param)


@pytest.fixture(scope="session", autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A key of the tests' own: the user's stays where it is."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small networks run fastest, and sums come out in the same order, on a single thread."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def exact_convolutions() -> None:
    """cuDNN by default adds up a convolution's gradients in any order, and in TF32."""
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
