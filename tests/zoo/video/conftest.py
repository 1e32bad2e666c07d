"""A run in the environment that is made to be recorded."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def run(train: Callable[..., tuple[int, str, str]], workplace: Path) -> Path:
    """A finished run with checkpoints at 16, 32 and 48 steps, and the last agent at 64."""
    flags = ["--no-report", "--eval-freq", "-1", "--save-freq", "16", "--gym-packages", "video_environments"]
    assert train(*flags, env="Lamp-v0")[0] == 0
    return workplace / "logs" / "ppo" / "Lamp-v0_1"
