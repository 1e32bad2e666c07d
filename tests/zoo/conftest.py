"""A folder of one's own to run in, with the environments of the tests on the import path."""

import io
import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rlspo.zoo.train import learning_curve
from rlspo.zoo.train.command import main
from rlspo.zoo.video import render, worker

#: Imported by the environments' processes alone, which find its neighbours.
collect_ignore = ["end_environments.py"]

#: A short run, in an environment that only the tests register.
QUICK = ["--gym-packages", "zoo_environments", "--verbose", "0", "--seed", "0"]
SMALL = ["n_steps:16", "batch_size:16", "n_epochs:1", "n_timesteps:64"]


def write_monitor(file: Path, rows: Sequence[tuple[float, int, float]], t_start: float = 0.0, env_id: str = "E-v0") -> None:
    """Episodes of one environment: return, length, seconds."""
    header = json.dumps({"t_start": t_start, "env_id": env_id})
    lines = [f"#{header}", "r,l,t", *(f"{r},{length},{t}" for r, length, t in rows)]
    file.write_text("\n".join(lines) + "\n")


@pytest.fixture
def monitor() -> Callable[..., None]:
    """Write the episodes of one environment."""
    return write_monitor


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of a test; modules beside the tests can be imported, in child processes too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return tmp_path


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command, given by its ``main``, with these arguments; gives exit code, output and errors."""

    def run(command: Callable[[list[str]], int], *arguments: object) -> tuple[int, str, str]:
        code = command([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def really_drawn() -> None:
    """For a test of ``train`` whose learning curve is a picture."""


@pytest.fixture
def train(
    call: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Callable[..., tuple[int, str, str]]:
    """Run ``rlspo train`` in the test's own environment; gives exit code, output and errors.

    Learning curves are made, but not rendered, which takes longer than such a training.
    """
    if "really_drawn" not in request.fixturenames:
        unrendered = {**vars(learning_curve.style), "save": lambda figure, file: file.touch()}
        monkeypatch.setattr(learning_curve, "style", SimpleNamespace(**unrendered))

    def run(*flags: str, algo: str = "ppo", env: str = "Ledger-v0", params: list[str] = SMALL) -> tuple[int, str, str]:
        return call(main, "--algo", algo, "--env", env, *QUICK, "-params", *params, *flags)

    return run


@pytest.fixture
def recorded_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Videos are made in the test's own process, which spares importing torch each time."""

    def attempt(pickled: bytes, renderer: str | None, progressed: Callable[[float], None]) -> tuple[int, dict[str, Any]]:
        channel = io.StringIO()
        code = worker.serve(lambda: pickle.loads(pickled), channel)
        reports = [json.loads(line) for line in channel.getvalue().splitlines()]
        for report in reports:
            progressed(report.get("share", 1.0))
        return code, reports[-1]

    monkeypatch.setattr(render, "_attempt", attempt)
