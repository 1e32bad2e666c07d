"""What all tests share."""

import os

import pytest
import torch

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


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
