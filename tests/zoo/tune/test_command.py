"""`rlspo tune` from end to end, on a small world."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from rlspo.zoo import yaml_io
from rlspo.zoo.tune.command import main

STUDY = Path("logs/tune/ppo_Lever-v0")
BLOCK = """\
# The settings of a test.
default: {n_timesteps: 96, policy: MlpPolicy, n_steps: 16, batch_size: 16, n_epochs: 2, policy_kwargs: {net_arch: [4]}}
Other-v0: {n_timesteps: 1, policy: MlpPolicy}   # must stay
"""
SPACE = """\
default:
  learning_rate: {low: 1e-4, high: 1e-1, log: true}
  policy_kwargs:
    activation_fn: {choices: [tanh, relu]}
"""
FLAGS = [
    "--algo",
    "ppo",
    "--env",
    "Lever-v0",
    "--gym-packages",
    "zoo_worlds",
    "--conf-file",
    "own.yml",
    "--space",
    "own.space.yml",
]
QUICK = ["--n-seeds", "2", "--n-evaluations", "2", "--eval-episodes", "2", "--final-episodes", "4"]
SHORT = ["--n-startup-trials", "2", "--top", "1", "--validation-seeds", "2"]


@pytest.fixture(autouse=True)
def own_files(workplace):
    Path("own.yml").write_text(BLOCK)
    Path("own.space.yml").write_text(SPACE)


def tune(*flags, trials=3):
    return main([*FLAGS, *QUICK, *SHORT, "--n-trials", str(trials), *flags])


def stored(journal=STUDY / "journal.log"):
    study = optuna.load_study(study_name=None, storage=JournalStorage(JournalFileBackend(str(journal))))
    return study.get_trials()


def told(trials):
    return [(trial.params, trial.value) for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]


def test_a_study_finds_validates_and_writes_a_block(capsys):
    assert tune("--apply") == 0
    shown = capsys.readouterr()
    report = json.loads((STUDY / "report.json").read_text())
    assert next(each["name"] for each in report["validation"]) == "default"
    assert len(report["validation"]) == 2
    for each in report["validation"]:
        assert list(each["scores"]) == ["10000", "10001"]  # never used in the search, whose seeds are 0 and 1
    with (STUDY / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == ["0", "1", "2"]
    assert (STUDY / "history.png").is_file()
    blocks = yaml_io.read_mapping(Path("own.yml"))
    if report["winner"] == "default":
        assert "nothing to apply" in shown.err
        assert list(blocks) == ["default", "Other-v0"]
    else:
        block = blocks["Lever-v0"]
        assert block["policy_kwargs"]["net_arch"] == [4]  # what is sampled is merged, it replaces nothing
        assert block["policy_kwargs"]["activation_fn"] in ("tanh", "relu")
        assert block["n_timesteps"] == 96
        assert "10000-10001" in block["provenance"]
        assert block == yaml_io.read_mapping(STUDY / "best.yml")["Lever-v0"]
        assert "must stay" in Path("own.yml").read_text()


def test_called_again_it_trains_nothing_and_says_the_same(capsys, monkeypatch):
    assert tune("--json", trials=2) == 0
    first = json.loads(capsys.readouterr().out)
    monkeypatch.setattr("rlspo.zoo.tune.workers._start", lambda *args: 1 / 0)
    assert tune("--json", trials=2) == 0
    again = json.loads(capsys.readouterr().out)
    assert again == first


def test_the_same_study_twice_with_one_worker_has_the_same_trials():
    for name in ("one", "two"):
        assert tune("--study-name", name, trials=4) == 0
    one, two = (told(stored(Path(f"logs/tune/{name}/journal.log"))) for name in ("one", "two"))
    assert len(one) == 4
    assert one == two


def test_a_killed_worker_costs_nothing(capsys):
    Path("kill").touch()
    assert tune("--env-kwargs", f"kill_file:{Path('kill').resolve()}", trials=2) == 0
    assert "its process was killed; queued again" in capsys.readouterr().err
    trials = stored()
    assert next(trial.state for trial in trials) == TrialState.FAIL
    assert trials[0].params in [trial.params for trial in trials[1:]]
    assert len(told(trials)) == 2


def test_a_killed_study_goes_on_as_if_nothing_had_happened(workplace):
    assert tune("--study-name", "whole", trials=5) == 0
    code = f"import sys; sys.path[:0] = {sys.path!r}; from rlspo.zoo.tune.command import main; sys.exit(main(sys.argv[1:]))"
    flags = [*FLAGS, *QUICK, *SHORT, "--n-trials", "5", "--study-name", "killed"]
    if_main = f"if __name__ == '__main__':\n    {code}\n"
    Path("killed.py").write_text(if_main)
    process = subprocess.Popen([sys.executable, "killed.py", *flags], start_new_session=True, stderr=subprocess.DEVNULL)
    journal = Path("logs/tune/killed/journal.log")
    deadline = time.monotonic() + 120
    while not (journal.is_file() and "outcomes" in journal.read_text()):  # a seed is done, its trial is not
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert any(trial.state == TrialState.RUNNING for trial in stored(journal))
    assert tune("--study-name", "killed", trials=5) == 0
    assert told(stored(journal)) == told(stored(Path("logs/tune/whole/journal.log")))


def test_when_every_trial_fails_the_reason_is_told(capsys):
    code = tune("--env-kwargs", "fail_at:20", trials=2)
    errors = capsys.readouterr().err
    assert code == 1
    assert (
        "2 trials failed: InvalidRolloutError: Environment 0 raised RuntimeError at step 19: the ledger is on fire" in errors
    )
    assert "no trial was trained to its end (2 fail)" in errors
    assert json.loads((STUDY / "report.json").read_text())["trials"] == {"fail": 2}
    assert 'raise RuntimeError("the ledger is on fire")' in (STUDY / "failures" / "trial_1.txt").read_text()


def test_two_workers_share_the_trials():
    assert tune("--workers", "2", trials=4) == 0
    assert len(told(stored())) == 4


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sampler", "grid"], "invalid choice: 'grid'"),
        (["--space", "none.yml"], "none.yml"),
        (["-params", "gama:0.9"], "Did you mean 'gamma'?"),
        (["--n-trails", "3"], "Did you mean --n-trials?"),
    ],
)
def test_mistakes_are_told_before_anything_is_made(capsys, flags, message):
    assert tune(*flags) == 2
    assert message in capsys.readouterr().err
    assert not Path("logs").exists()
