"""`rlspo tune` from end to end, in a small environment."""

import csv
import json
import os
import shutil
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

from rlspo.zoo.config import yaml_io
from rlspo.zoo.tune import conclusion, run
from rlspo.zoo.tune.arguments import parse
from rlspo.zoo.tune.command import main
from rlspo.zoo.tune.task import make_task
from rlspo.zoo.tune.validation import Candidate
from rlspo.zoo.tune.workers import Died

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
    "zoo_environments",
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


def test_an_attack_that_cannot_be_made_is_refused_before_any_trial(capsys):
    flags = ["--algo", "sac", "--env", "Pendulum-v1", "--n-trials", "2", "-n", "100", "--attack", "mad"]
    assert main(flags) == 2
    assert "--attack: the mad attack needs an actor-critic policy" in capsys.readouterr().err.replace("\n", " ")


def test_a_log_folder_that_is_a_file(capsys):
    Path("taken").write_text("mine")
    assert tune("-f", "taken") == 2
    assert "--log-folder: cannot make taken/" in capsys.readouterr().err.replace("\n", "")


def stored(journal=STUDY / "journal.log"):
    study = optuna.load_study(study_name=None, storage=JournalStorage(JournalFileBackend(str(journal))))
    return study.get_trials()


def told(trials):
    return [(trial.params, trial.value) for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The study of two trials, once it is done."""
    return tmp_path_factory.mktemp("kept") / "study"


@pytest.fixture
def two_trials(kept):
    """Leave the study of two trials behind: the first time it is searched, later its files are copied."""
    if kept.exists():
        shutil.copytree(kept, STUDY)
    else:
        assert tune(trials=2) == 0
        shutil.copytree(STUDY, kept)


def test_a_study_searches_validates_and_reports():
    assert tune() == 0
    report = json.loads((STUDY / "report.json").read_text())
    assert next(each["name"] for each in report["validation"]) == "default"
    assert len(report["validation"]) == 2
    for each in report["validation"]:
        assert list(each["scores"]) == ["10000", "10001"]  # never used in the search, whose seeds are 0 and 1
    with (STUDY / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == ["0", "1", "2"]
    assert (STUDY / "history.png").is_file()
    assert list(yaml_io.read_mapping(Path("own.yml"))) == ["default", "Other-v0"]  # nothing was to be applied


def known(store, candidate, seed):
    """The second trial is the best, the default the worst, and no seed differs much."""
    values = {"default": 1.0, "trial 0": 2.0, "trial 1": 3.0, "trial 2": 1.5}
    return values.get(candidate.name, 0.5) + 0.01 * (seed % 2)


def test_the_best_is_applied_and_the_study_goes_on_as_it_began(capsys, monkeypatch):
    monkeypatch.setattr("rlspo.zoo.tune.validation._Store.read", known)
    assert tune("--apply", "--top", "3") == 0
    block = yaml_io.read_mapping(Path("own.yml"))["Lever-v0"]
    assert block["policy_kwargs"]["net_arch"] == [4]  # what is sampled is merged, it replaces nothing
    assert block["policy_kwargs"]["activation_fn"] in ("tanh", "relu")
    assert block["n_timesteps"] == 96
    assert "of 3 trials: trial 1." in block["provenance"]
    assert "10000-10001" in block["provenance"]
    assert "must stay" in Path("own.yml").read_text()
    capsys.readouterr()
    # The file's block is another now; the study keeps the one that it began from.
    assert tune("--top", "3", trials=4) == 0
    assert len(told(stored())) == 4


def test_what_is_not_shown_to_be_better_is_not_applied(capsys, monkeypatch):
    monkeypatch.setattr(
        "rlspo.zoo.tune.validation._Store.read",
        lambda store, candidate, seed: 1.0 + (candidate.name == "trial 1") * 0.5 + (seed % 2),
    )
    before = Path("own.yml").read_text()
    assert tune("--apply", "--top", "3") == 1
    assert "not shown to be better" in capsys.readouterr().err
    assert Path("own.yml").read_text() == before
    assert "not shown to be better" in (STUDY / "best.yml").read_text().replace("\n    ", " ")


def test_a_killed_validation_is_made_up_for(capsys):
    kill = Path("kill").resolve()
    flags = ("--env-kwargs", f"kill_file:{kill}")
    assert tune(*flags, trials=2) == 0
    report = json.loads((STUDY / "report.json").read_text())
    for file in (STUDY / "validation").iterdir():
        file.unlink()
    kill.touch()
    assert tune(*flags, trials=2) == 0
    assert not kill.exists()
    assert json.loads((STUDY / "report.json").read_text())["validation"] == report["validation"]


def test_nothing_is_chosen_while_trainings_are_missing(two_trials, capsys, monkeypatch):
    capsys.readouterr()
    monkeypatch.setattr("rlspo.zoo.tune.validation.MAX_ATTEMPTS", 1)
    for file in (STUDY / "validation").iterdir():
        file.unlink()
    monkeypatch.setattr("rlspo.zoo.tune.validation.at_work", lambda n_workers, next_job: killed(next_job))
    assert tune("--apply", trials=2) == 1
    shown = capsys.readouterr()
    assert "trainings on fresh seeds are missing: nothing is chosen" in shown.err
    assert not (STUDY / "best.yml").exists()


def killed(next_job):
    """A pool whose every worker is killed."""
    while (job := next_job()) is not None:
        yield FakeWorker(job[0]), Died(-9)


class FakeWorker:
    def __init__(self, key):
        self.key = key


def test_validation_of_another_study_is_not_taken_for_this_one(two_trials):
    first = json.loads((STUDY / "report.json").read_text())["validation"][0]
    first_fingerprint = json.loads((STUDY / "validation" / "default_seed_10000.json").read_text())["of"]
    (STUDY / "journal.log").unlink()
    assert tune("-params", "learning_rate:0.05", trials=2) == 0
    second = json.loads((STUDY / "report.json").read_text())["validation"][0]
    assert {file.name for file in (STUDY / "validation").iterdir()} >= {"default_seed_10000.json"}
    stored_scores = [json.loads(file.read_text())["of"] for file in sorted((STUDY / "validation").glob("default_*"))]
    assert len(set(stored_scores)) == 1
    assert second["name"] == first["name"] == "default"
    assert stored_scores[0] != first_fingerprint


def test_a_torn_line_in_the_journal_costs_one_entry(two_trials, capsys):
    journal = STUDY / "journal.log"
    journal.write_bytes(journal.read_bytes()[:-10])
    assert tune(trials=3) == 0
    assert "the last entry was cut off" in capsys.readouterr().err
    assert len(told(stored())) == 3


def test_called_again_it_trains_nothing_and_says_the_same(capsys, monkeypatch):
    assert tune("--json", trials=2) == 0
    first = json.loads(capsys.readouterr().out)
    monkeypatch.setattr("rlspo.zoo.jobs.pool.Pool.start", lambda *args: 1 / 0)
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
    assert "2 trials failed: RuntimeError: the ledger is on fire (Environment 0 raised this at step 19." in errors
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
        (["--attack-epsilon", "0.5"], "--attack-epsilon: goes with --attack only"),
        (["--hours", "3"], "--hours: goes with --queue only"),
        (["--dry-run", "--only", "a"], "--only, --dry-run: goes with --queue only"),
    ],
)
def test_mistakes_are_told_before_anything_is_made(capsys, flags, message):
    assert tune(*flags) == 2
    assert message in capsys.readouterr().err
    assert not Path("logs").exists()


def test_another_file_of_settings_for_a_study_that_has_begun_is_not_taken_silently():
    Path("two.yml").write_text(BLOCK.replace("n_epochs: 2", "n_epochs: 5"))
    with make_task(parse(FLAGS)).opened():
        pass
    assert make_task(parse(FLAGS)).warnings == ()
    ((title, text),) = make_task(parse([*FLAGS, "--conf-file", "two.yml"])).warnings
    assert title == "settings"
    assert "n_epochs 5 (in the study 2)" in text and "another --study-name" in text


@pytest.mark.parametrize(("steps", "warned"), [(100, "128 steps instead of 100, 28% more"), (640, "")])
def test_trials_that_train_much_longer_than_others_are_spoken_of(steps, warned):
    """n_steps of 32 in four environments."""
    task = make_task(parse([*FLAGS, "-n", str(steps), "-params", "n_envs:4", "n_steps:32", "batch_size:16"]))
    texts = [text for title, text in task.warnings if title == "budgets"]
    assert (warned in texts[0]) if warned else not texts


def test_params_fix_what_the_space_would_search():
    """As every setting given on a command line, they come before what files say."""
    Path("own.yml").write_text(BLOCK.replace("policy_kwargs: {net_arch: [4]}", "policy_kwargs: 'dict(net_arch=[4])'"))
    Path("own.space.yml").write_text(SPACE + "  n_steps: 32\n")
    given = ["-params", "learning_rate:0.05", "n_steps:8", "policy_kwargs:{ortho_init: false}"]
    task = make_task(parse([*FLAGS, *QUICK, *SHORT, *given]))
    assert task.space.parameters == ["policy_kwargs.activation_fn"]
    chosen = task.space.apply({"policy_kwargs.activation_fn": "relu"})
    assert chosen == {"learning_rate": 0.05, "n_steps": 8, "policy_kwargs": {"activation_fn": "relu"}}
    block = conclusion._block(task, Candidate("trial 0", chosen))
    expected = {"net_arch": [4], "ortho_init": False, "activation_fn": "relu"}
    assert (block["learning_rate"], block["n_steps"], block["policy_kwargs"]) == (0.05, 8, expected)
    assert run._pins(task.space) == "learning_rate 0.05, n_steps 8"


def test_two_programs_at_work_on_one_study_are_told_so(workplace, monkeypatch, capsys):
    """As where a folder with a storage that others share was copied: both would go on with the same trials."""

    def ended_elsewhere(task, study):
        raise optuna.exceptions.UpdateFinishedTrialError("Trial#0 has already finished and can not be updated.")

    monkeypatch.setattr(run, "_search", ended_elsewhere)
    assert tune() == 2
    assert "Another program has ended a trial that was under way here" in capsys.readouterr().err


def test_nothing_is_chosen_while_trials_are_under_way_elsewhere(capsys):
    """One of them may be the best."""
    storage = ("--storage", "sqlite:///shared.db")
    assert tune(*storage, trials=2) == 0
    study = optuna.load_study(study_name="ppo_Lever-v0", storage=storage[1])
    study.ask().set_user_attr("owner", "another folder")
    for file in ("best.yml", "report.json"):
        (STUDY / file).unlink(missing_ok=True)
    capsys.readouterr()
    assert tune(*storage, "--apply", trials=3) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "nothing is chosen yet" in said and "1 of 3 trials are under way elsewhere in sqlite:///shared.db" in said
    assert not (STUDY / "best.yml").exists() and not (STUDY / "report.json").exists()
    assert tune(*storage, trials=2) == 0  # as it advises
    assert "of 2 trials" in json.loads((STUDY / "report.json").read_text())["finding"]


def test_a_pruner_that_can_prune_nothing_is_told():
    for n_seeds, warned in (("1", True), ("2", False)):
        task = make_task(parse([*FLAGS, *QUICK, *SHORT, "--n-seeds", n_seeds, "--pruner", "wilcoxon"]))
        assert ("pruner" in dict(task.warnings)) == warned


@pytest.mark.parametrize(("given", "recorded"), [("auto", None), ("dummy", "dummy"), ("native", "native")])
def test_games_that_are_stepped_one_by_one_are_another_study(given, recorded):
    """Where nothing is said they are played together, and draw other numbers."""
    pytest.importorskip("ale_py")
    task = make_task(parse(["--algo", "ppo", "--env", "ALE/Pong-v5", "-n", "1000", "--vec-env", given]))
    assert task.settings().block.get("vec_env") == recorded
    plain = make_task(parse(["--algo", "ppo", "--env", "CartPole-v1", "-n", "1000", "--vec-env", "dummy"]))
    assert "vec_env" not in plain.settings().block


def test_files_of_settings_that_come_with_an_agent_may_bring_what_is_searched():
    mixture = make_task(parse(["--algo", "ppo", "--env", "Hopper-v5", "--conf-file", "ppo_moe.yml"]))
    assert mixture.space_name == "ppo_moe.space.yml"
    assert "policy_kwargs.n_experts" in mixture.space.parameters
    robust = make_task(parse(["--algo", "barpo", "--env", "STORI/Hopper-v0", "--conf-file", "barpo_lstm.yml"]))
    assert robust.space_name == "barpo_lstm.space.yml"
    assert {"policy_kwargs.lstm_hidden_size", "guidance"} < {*robust.space.parameters}
    for name in ("mine.yml", "barpo.yml"):  # a name that another agent's space has
        Path(name).write_text("default: {n_timesteps: 1e4, policy: MlpPolicy}")
        mine = make_task(parse(["--algo", "ppo", "--env", "Hopper-v5", "--conf-file", name]))
        assert mine.space_name == "ppo.space.yml"
