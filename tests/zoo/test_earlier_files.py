"""Run folders, grids and studies that an earlier version wrote are read, reported and gone on with."""

import csv
import json
import shutil
from pathlib import Path
from unittest.mock import Mock

import pytest

from rlspo.zoo.benchmark.command import main as benchmark
from rlspo.zoo.evaluate.evaluation import evaluate
from rlspo.zoo.jobs.pool import Pool
from rlspo.zoo.runs.saved_agent import find_agent
from rlspo.zoo.tune.command import main as tune
from rlspo.zoo.tune.training import Outcome
from rlspo.zoo.tune.workers import Finished
from tests.zoo.tune.test_command import stored

DATA = Path(__file__).parent / "data"
BARPO = Path("grid/barpo/CartPole-v1/seed_0")
STUDY = Path("studies/ppo_CartPole-v1")
QUEUE = ["--queue", "studies.yml"]


@pytest.fixture(autouse=True)
def files(workplace):
    """A copy of the files in the test's own folder."""
    shutil.copytree(DATA, workplace, dirs_exist_ok=True)


@pytest.fixture
def no_training(monkeypatch):
    """Whoever starts a process fails."""
    monkeypatch.setattr(Pool, "start", lambda *args: 1 / 0)


@pytest.mark.parametrize(
    ("folder", "algo", "returns", "normalized"),
    [("run", "ppo", [94, 99, 101, 75, 126], True), (BARPO / "run", "barpo", [108, 296, 84, 119, 92], False)],
)
def test_agents_act_as_they_did(folder, algo, returns, normalized):
    agent = find_agent(folder)
    assert (agent.algo, agent.env, agent.num_timesteps) == (algo, "CartPole-v1", 1024)
    assert (agent.statistics is not None) == normalized
    assert evaluate(agent, len(returns), device="cpu").returns.tolist() == returns


def test_a_grid_that_was_done_is_reported(no_training):
    assert benchmark(["grid.yml", "-o", "grid", "--report"]) == 0
    with Path("grid/results.csv").open() as file:
        rows = {(row["agent"], row["evaluation"]): row for row in csv.DictReader(file)}
    found = {key: [float(row[name]) for name in ("min", "median", "max")] for key, row in rows.items()}
    assert found == {
        ("ppo", "natural"): [46, 47, 50],
        ("ppo", "mad"): [39, 44, 54],
        ("barpo", "natural"): [84, 108, 296],
        ("barpo", "mad"): [82, 84, 139],
    }
    row = rows["barpo", "natural"]
    assert (row["env"], row["seed"], row["n_timesteps"], row["area_under_curve"]) == ("CartPole-v1", "0", "1024", "70.75")
    assert row["commit"].startswith("57a73f8")
    measures = json.loads(Path("grid/summary.json").read_text())["envs"]["CartPole-v1"]
    assert measures["mad"]["agents"]["barpo"]["mean"]["value"] == pytest.approx(305 / 3)


def test_a_grid_that_was_done_has_nothing_left_to_do(no_training):
    before = {file: file.read_bytes() for file in Path("grid").glob("*/*/*/*.json")}
    assert len(before) == 6
    assert benchmark(["grid.yml", "-o", "grid"]) == 0
    assert {file: file.read_bytes() for file in before} == before


def test_a_study_that_was_done_is_reported(no_training):
    assert tune(QUEUE) == 0
    report = json.loads((STUDY / "report.json").read_text())
    assert [(each["name"], each["scores"]) for each in report["validation"]] == [
        ("default", {"10000": 21.5, "10001": 19.0}),
        ("trial 2", {"10000": 190.0, "10001": 10.0}),
    ]
    assert report["best"] == "trial 2"


def test_a_study_that_was_done_goes_on(monkeypatch, capsys):
    def at_work(n_workers, next_job):
        """Every seed of every new trial comes to 60."""
        while (job := next_job()) is not None:
            worker = Mock(key=job[0])
            for seed in job[1].seeds:
                yield worker, Outcome(seed, 60.0, [60.0] * 4, [], seconds=0.1)
            yield worker, Finished()

    monkeypatch.setattr("rlspo.zoo.tune.search.at_work", at_work)
    Path("studies.yml").write_text(Path("studies.yml").read_text().replace("n_trials: 3", "n_trials: 4"))
    before = (STUDY / "journal.log").read_bytes()
    assert tune([*QUEUE, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["studies"][0]["trials"] == [3, 4]
    assert tune(QUEUE) == 0
    assert (STUDY / "journal.log").read_bytes().startswith(before)
    assert [trial.value for trial in stored(STUDY / "journal.log")] == [28.5, 42.75, 83.25, 60.0]
