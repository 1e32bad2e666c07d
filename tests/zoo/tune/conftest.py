"""A small study: its settings, its space, and outcomes without any training."""

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from rlspo.zoo.config import allowed
from rlspo.zoo.tune.references import Reference
from rlspo.zoo.tune.settings import StudyFolder, StudySettings
from rlspo.zoo.tune.space import SearchSpace
from rlspo.zoo.tune.storage import open_storage
from rlspo.zoo.tune.study import Study
from rlspo.zoo.tune.training import EvaluationProtocol, Outcome

optuna.logging.set_verbosity(optuna.logging.WARNING)

SPACE = """\
default:
  learning_rate: {low: 1e-5, high: 1e-1, log: true}
  n_steps: {choices: [16, 32]}
"""


def outcome(seed: int, score: float) -> Outcome:
    """What a training would have come to."""
    return Outcome(seed, score, [score] * 4, [(10, score / 2)], seconds=0.1)


@pytest.fixture(autouse=True)
def environments_are_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the package of these environments had registered an agent: files of studies may name them."""
    monkeypatch.setattr(allowed, "agent_packages", lambda: ["rlspo", "zoo_environments"])


@pytest.fixture
def space_file(tmp_path: Path) -> Path:
    file = tmp_path / "small.space.yml"
    file.write_text(SPACE)
    return file


@pytest.fixture
def open_study(tmp_path: Path, space_file: Path) -> Callable[..., Study]:
    """Opens the same study each time, as a new call of the command would; keywords change its settings."""

    def open_it(storage: str | None = None, references: dict[str, Reference] | None = None, **changes: object) -> Study:
        settings = {
            "algo": "ppo",
            "env": "Ledger-v0",
            "n_timesteps": 20,
            "seed": 0,
            "n_seeds": 2,
            "sampler": "tpe",
            "pruner": "median",
            "n_startup_trials": 3,
            "space": "abc",
            "block": {},
            "protocol": EvaluationProtocol(checkpoints=2, episodes=1, final_episodes=4),
            **changes,
        }
        folder = StudyFolder(tmp_path / "study")
        folder.path.mkdir(exist_ok=True)
        space = SearchSpace.read(space_file, "default")
        return Study("small", open_storage(storage, folder), folder, StudySettings(**settings), space, references)

    return open_it
