"""`rlspo tune --queue`: studies worked off in pieces, from what was committed alone."""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from optuna.trial import TrialState

from rlspo.zoo.config import yaml_io
from rlspo.zoo.errors import UserError
from rlspo.zoo.jobs.pool import Pool
from rlspo.zoo.tune.command import main
from rlspo.zoo.tune.queue import read_queue
from rlspo.zoo.tune.settings import StudyFolder
from rlspo.zoo.tune.storage import only_one

from .test_command import BLOCK, SPACE, stored, told

FOLDER = Path("studies/lever")
OWN_QUEUE = Path("zoo/studies.yml").resolve()  # before a test moves to a folder of its own
REFERENCES = """\
default:
  stock: {n_steps: 32, batch_size: 32, policy_kwargs: {net_arch: [4]}}
  same: {n_steps: 16, batch_size: 16, n_epochs: 2, policy_kwargs: {net_arch: [4]}}    # those of own.yml
"""
LEVER = {
    "algo": "ppo",
    "env": "Lever-v0",
    "gym_packages": ["zoo_environments"],
    "conf_file": "own.yml",
    "space": "own.space.yml",
    "references": "own.references.yml",
    "n_trials": 4,
    "n_seeds": 2,
    "n_evaluations": 2,
    "eval_episodes": 2,
    "final_episodes": 4,
    "n_startup_trials": 3,
    "top": 1,
    "validation_seeds": 2,
}


@pytest.fixture(autouse=True)
def own_files(workplace):
    Path("own.yml").write_text(BLOCK)
    Path("own.space.yml").write_text(SPACE)
    Path("own.references.yml").write_text(REFERENCES)
    write_queue(lever={})


def write_queue(**studies):
    """Studies that say only what differs from the common one."""
    Path("studies.yml").write_text(yaml.safe_dump({"defaults": LEVER, "studies": studies}, sort_keys=False))


def queue(*flags):
    return main(["--queue", "studies.yml", *flags])


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Studies that were worked off, by their number of trials."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def worked_off(kept):
    """Leave the common study behind, as working it off does: the first time it is, later its files are copied."""

    def leave(n_trials=4):
        write_queue(lever={"n_trials": n_trials})
        if (kept / str(n_trials)).exists():
            shutil.copytree(kept / str(n_trials), "studies")
        else:
            assert queue() == 0
            shutil.copytree("studies", kept / str(n_trials))

    return leave


def report(folder=FOLDER):
    return json.loads((folder / "report.json").read_text())


def standing(capsys, *flags):
    capsys.readouterr()
    assert queue("--dry-run", "--json", *flags) == 0
    return json.loads(capsys.readouterr().out)


def no_training(monkeypatch):
    monkeypatch.setattr(Pool, "start", lambda *args: 1 / 0)


def test_studies_are_worked_off_in_order_and_then_left_alone(capsys, monkeypatch):
    write_queue(lever={}, longer={"n_timesteps": 128, "steps_per_second": 64})
    assert [each["trials"] for each in standing(capsys)["studies"]] == [[0, 4], [0, 4]]
    assert standing(capsys)["studies"][0]["hours_left"] is None, "nobody said how fast it is"
    # 4 trials of 2 seeds, the last of which may be given up, and 3 candidates on 2 fresh seeds, 2 seconds each
    assert standing(capsys)["studies"][1]["hours_left"] == pytest.approx(((3 + 0.6) * 2 + 6) * 2 / 3600, abs=1e-3)
    assert not Path("studies").exists()
    assert queue() == 0
    assert [file.parent.name for file in sorted(Path("studies").glob("*/report.json"), key=os.path.getmtime)] == [
        "lever",
        "longer",
    ]
    known = standing(capsys)["studies"]
    assert [each["finished"] for each in known] == [True, True]
    assert all(each["hours_left"] == 0 and each["result"] for each in known)
    before = {file: file.read_bytes() for file in Path("studies").rglob("*") if file.is_file()}
    no_training(monkeypatch)
    assert queue() == 0
    assert {file: file.read_bytes() for file in Path("studies").rglob("*") if file.is_file()} == before


def test_known_settings_are_the_first_trials_and_validated_on_fresh_seeds(worked_off):
    worked_off()
    trials = stored(FOLDER / "journal.log")
    assert [trial.user_attrs.get("reference") for trial in trials] == ["default", "stock", None, None]
    found = {each["name"]: each for each in report()["validation"]}
    assert list(found)[:2] == ["default", "stock"]  # "same" is the default under another name
    assert found["stock"]["settings"]["n_steps"] == 32
    best = next(each for name, each in found.items() if name.startswith("trial"))
    assert set(best["gains"]) == {"default", "stock"}, "tuned means better than both"
    assert set(found["stock"]["gains"]) == {"default"}


def test_what_a_study_leaves_says_nothing_of_the_machine(workplace, monkeypatch):
    monkeypatch.setattr(platform, "node", lambda: "name-of-the-machine")
    assert queue() == 0
    allowed = {
        "base",
        "space",
        "references",
        "journal",
        "report",
        "trials",
        "best",
        "lock",
        "history",
        "slices",
        "importances",
    }
    files = [file for file in FOLDER.rglob("*") if file.is_file()]
    assert {file.stem for file in files if file.parent == FOLDER} <= allowed
    assert all(file.parent in (FOLDER, FOLDER / "validation") for file in files)
    for file in files:
        content = file.read_bytes()
        for private in (str(workplace), "name-of-the-machine", sys.executable):
            assert private.encode() not in content, f"{file} names {private}"
    assert report()["command"] == "rlspo tune --queue studies.yml --only lever"


def test_a_queue_given_by_its_whole_path_is_told_by_its_name():
    write_queue(lever={"n_trials": 1, "references": None})
    assert main(["--queue", str(Path("studies.yml").resolve())]) == 0
    assert report()["command"] == "rlspo tune --queue studies.yml --only lever"


def test_the_commit_that_trained_is_recorded(monkeypatch):
    monkeypatch.setattr("rlspo.zoo.tune.study.code_state", lambda: "abc1234")
    write_queue(lever={"n_trials": 2})
    assert queue() == 0
    monkeypatch.setattr("rlspo.zoo.tune.study.code_state", lambda: "def5678-dirty")
    write_queue(lever={"n_trials": 3})
    assert queue() == 0
    trials = [trial for trial in stored(FOLDER / "journal.log") if trial.user_attrs["outcomes"]]
    codes = [{outcome["code"] for outcome in trial.user_attrs["outcomes"].values()} for trial in trials]
    assert codes == [{"abc1234"}] * 2 + [{"def5678-dirty"}]
    assert report()["commits"] == ["abc1234", "def5678-dirty"]
    assert "commits abc1234, def5678-dirty" in report()["finding"]
    assert "abc1234" in (FOLDER / "trials.csv").read_text()


def started(*flags):
    """The command in a process of its own, which can be killed."""
    code = f"import sys; sys.path[:0] = {sys.path!r}; from rlspo.zoo.tune.command import main; sys.exit(main(sys.argv[1:]))"
    Path("called.py").write_text(f"if __name__ == '__main__':\n    {code}\n")
    command = [sys.executable, "called.py", "--queue", "studies.yml", "--trust", "zoo_environments", *flags]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for(process, condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


def test_killed_cloned_and_gone_on_with_it_is_as_if_nothing_had_happened(worked_off, monkeypatch):
    worked_off()
    journal = FOLDER / "journal.log"
    whole, validated = stored(journal), report()["validation"]
    shutil.rmtree("studies")
    process = started()

    def in_the_third_trial():
        trials = stored(journal) if journal.is_file() and journal.read_text().endswith("}\n") else []
        return len(trials) == 3 and len(trials[2].user_attrs.get("outcomes", {})) == 1

    wait_for(process, in_the_third_trial)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert stored(journal)[2].state == TrialState.RUNNING
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    Path(".gitignore").write_text("/studies/*/lock\n/studies/*/failures/\n")
    for arguments in (
        ["init", "-q"],
        ["add", "."],
        ["commit", "-q", "-m", "what is there"],
        ["clone", "-q", ".", "elsewhere"],
    ):
        subprocess.run([*git, *arguments], check=True)
    monkeypatch.chdir("elsewhere")
    monkeypatch.setattr(platform, "node", lambda: "another-machine")
    assert queue() == 0
    found = stored(journal)
    assert told(found) == told(whole)
    assert len(found) == 5, "four trials, and the one that was cut off"
    again = next(trial for trial in found if "retry_of" in trial.user_attrs)
    assert list(again.user_attrs["outcomes"]) == ["0", "1"], "the seed that was done is not trained again"
    assert [each["scores"] for each in report()["validation"]] == [each["scores"] for each in validated]


def test_a_signal_stops_it_cleanly(capsys):
    process = started()
    journal = FOLDER / "journal.log"
    wait_for(process, lambda: journal.is_file() and '"owner"' in journal.read_text())
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(120) == 130
    first, again = stored(journal)
    assert first.user_attrs["interrupted"] == "the study was stopped"
    assert again.state == TrialState.WAITING
    assert again.user_attrs["attempt"] == 1, "no attempt is used up"


def test_time_that_is_up_stops_cleanly_and_it_goes_on(capsys):
    write_queue(lever={"n_timesteps": 200_000})
    assert queue("--hours", "0.001") == 0  # 3.6 seconds
    shown = capsys.readouterr()
    assert "0.001 hours are over. The same command goes on from here." in shown.err
    assert "0 of 1 studies done" in shown.out
    trials = stored(FOLDER / "journal.log")
    assert all(trial.state in (TrialState.FAIL, TrialState.WAITING) for trial in trials)
    assert trials[-1].state == TrialState.WAITING
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0), "no alarm is left behind"


@pytest.mark.parametrize("gone", [False, True])
def test_a_study_goes_on_with_the_space_the_settings_and_the_references_it_began_with(worked_off, gone):
    worked_off(n_trials=2)
    Path("own.yml").write_text(BLOCK.replace("n_epochs: 2", "n_epochs: 1"))
    Path("own.space.yml").write_text(SPACE.replace("1e-4", "1e-3"))
    Path("own.references.yml").write_text(REFERENCES.replace("32", "8"))
    for file in Path().glob("own*.yml") if gone else ():
        file.unlink()
    write_queue(lever={"n_trials": 3})
    assert queue() == 0
    assert sum(report()["trials"].values()) == 3
    assert yaml_io.read_mapping(FOLDER / "base.yml")["Lever-v0"]["n_epochs"] == 2


def test_other_settings_are_refused_before_anything_is_trained(worked_off, capsys, monkeypatch):
    worked_off(n_trials=2)
    no_training(monkeypatch)
    for changes, message in (({"n_seeds": 3}, "n_seeds: was 2, is 3"), ({"references": None}, "references: was {")):
        write_queue(first={}, lever={"n_trials": 2, **changes})
        assert queue() == 2
        assert f"began with other settings:\n  {message}" in capsys.readouterr().err
    assert not Path("studies/first").exists()


def test_more_trials_candidates_or_fresh_seeds_are_made_up_for(worked_off, capsys):
    worked_off(n_trials=2)
    for more in ({"n_trials": 4}, {"n_trials": 4, "top": 2}, {"n_trials": 4, "top": 2, "validation_seeds": 3}):
        write_queue(lever=more)
        assert not standing(capsys)["studies"][0]["finished"]
        assert queue() == 0
        assert standing(capsys)["studies"][0]["finished"]
    assert len(report()["validation"]) == 4
    assert all(len(each["scores"]) == 3 for each in report()["validation"])


def test_one_study_that_goes_wrong_does_not_keep_the_others_waiting(capsys, monkeypatch):
    write_queue(lever={"env_kwargs": {"fail_at": 20}}, second={"n_trials": 1})
    monkeypatch.setattr("rlspo.zoo.tune.run.conclude", lambda task, *_: refused(task))
    assert queue() == 1
    errors = capsys.readouterr().err
    assert "no trial was trained to its end (4 fail)" in errors
    assert "second: error: something is wrong" in errors.replace("error: second: ", "second: error: ")
    assert not (FOLDER / "validation").exists(), "what fails in the search is not tried on fresh seeds"


def refused(task):
    raise UserError("something is wrong")


def test_the_projects_own_queue_can_begin():
    entries = read_queue(OWN_QUEUE)
    tasks = {entry.name: entry.task() for entry in entries}
    assert entries[0].name == "ppo_InvertedDoublePendulum-v5"
    for name, task in tasks.items():
        assert name.startswith(task.plan.config.algo)
        assert "default" in task.references, "the settings of the file are among the trials"
        assert task.args.attack == ("mad" if task.plan.config.algo in ("arpo", "barpo") else None)
    assert {"stock", "rl-zoo3"} <= set(tasks["ppo_Hopper-v5"].references)


def test_a_study_that_another_program_works_on_is_left_alone(capsys):
    write_queue(lever={}, second={"n_trials": 1})
    FOLDER.mkdir(parents=True)
    with only_one(StudyFolder(FOLDER)):
        assert queue() == 0
    assert "lever: another program is at work on it" in capsys.readouterr().err
    assert report(Path("studies/second"))["trials"] == {"complete": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("study: {}", "there is no key 'study'. Did you mean 'studies'?"),
        ("studies: {}", "studies must be a mapping from names to flags"),
        ("studies: {1: {algo: ppo}}", "studies must be a mapping from names to flags"),
        ("studies: {a: {1: ppo}}", "studies.yml: a must be a mapping from flags to values"),
        ("studies: {a: 3}", "studies.yml: a must be a mapping from flags to values, not 3"),
        ("studies: {a/b: {algo: ppo}}", "studies.yml: a/b: cannot name a folder"),
        ("studies: {a: {algo: ppo, enw: Lever-v0}}", "studies.yml: a: there is no key 'enw'. Did you mean 'env'?"),
        ("studies: {a: {algo: ppo, env: Lever-v0, workers: 2}}", "studies.yml: a: there is no key 'workers'"),
        ("studies: {a: {algo: ppo, hyperparams: {env_kwargs: {g: 5}}}}", "env_kwargs is a key of its own"),
        ("studies: {a: {algo: ppo}}", "studies.yml: a: the following arguments are required: --env"),
        ("studies: {a: {algo: ppo, env: Lever-v0, n_trials: 1.5}}", "'1.5' is not a whole number"),
        ("studies: {a: {algo: ppo, env: Lever-v0, n_trials: true}}", "--n-trials: expected one argument"),
        ("studies: {a: {algo: ppo, env: Lever-v0, steps_per_second: fast}}", "steps_per_second is 'fast'"),
        ("studies: {a: {algo: ppo, env: Gone-v0}}", "error: a: "),
        ("studies: {a: {algo: ppo, env: CartPole-v1}, b: {algo: pop, env: CartPole-v1}}", "error: b: --algo:"),
    ],
)
def test_mistakes_are_told_before_anything_is_made(capsys, text, message):
    Path("studies.yml").write_text(text)
    assert queue() == 2
    assert message in capsys.readouterr().err
    assert not Path("studies").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--only", "leber"], "--only: no study is called 'leber'. Did you mean 'lever'?"),
        (["--n-trials", "3"], "there is no flag '--n-trials'"),
        (["--hours", "1e10"], "'1e10' is not a number of hours above 0"),
        (["--hours", "-1"], "'-1' is not a number of hours above 0"),
        (["--json"], "--json: with --queue it needs --dry-run"),
    ],
)
def test_flags_that_do_not_go_with_a_queue(capsys, flags, message):
    assert queue(*flags) == 2
    assert message in capsys.readouterr().err
    assert not Path("studies").exists()


@pytest.mark.parametrize("name", ["report.json", "validation/default_seed_10000.json"])
@pytest.mark.parametrize("content", ["", '{"score": 1', "[]"])
def test_what_can_be_made_again_is_made_again_where_it_is_damaged(worked_off, name, content):
    worked_off()
    before = report()
    (FOLDER / name).write_text(content)
    assert queue() == 0
    assert report() == before


@pytest.mark.parametrize("more", ["\n", "garbage\n", '{"op_code": 4'])
def test_what_is_no_entry_at_the_end_of_a_journal_is_dropped_before_anything_follows_it(worked_off, capsys, more):
    worked_off(n_trials=2)
    with (FOLDER / "journal.log").open("a") as file:
        file.write(more)
    write_queue(lever={"n_trials": 3})
    assert queue() == 0
    assert sum(report()["trials"].values()) == 3
    assert "the last entry was cut off and is dropped" in capsys.readouterr().err


def test_a_write_that_fails_half_way_costs_one_entry(capsys, monkeypatch):
    real, left = os.fsync, [40]

    def full_for_a_moment(number):
        left[0] -= 1
        if left[0] == 0:
            os.truncate(FOLDER / "journal.log", (FOLDER / "journal.log").stat().st_size - 7)
            raise OSError(28, "No space left on device")
        real(number)

    monkeypatch.setattr("optuna.storages.journal._file.os.fsync", full_for_a_moment)
    assert queue() == 1
    assert "lever: [Errno 28] No space left on device" in capsys.readouterr().err
    assert queue() == 0
    assert sum(report()["trials"].values()) == 4


@pytest.mark.parametrize("gone", ["deleted", "empty"])
def test_a_study_whose_trials_are_gone_does_not_begin_anew(worked_off, capsys, gone):
    worked_off(n_trials=2)
    journal = FOLDER / "journal.log"
    journal.unlink() if gone == "deleted" else journal.write_text("")
    assert queue() == 2
    assert "the study has begun, but its trials are gone" in capsys.readouterr().err


def test_a_study_that_was_renamed_does_not_begin_anew(worked_off, capsys):
    worked_off(n_trials=2)
    FOLDER.rename("studies/handle")
    write_queue(handle={"n_trials": 2})
    assert queue() == 2
    assert "journal.log is of the study 'lever', not of 'handle'" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["nonsense", "[1]", "{}"])
def test_a_damaged_journal_is_told_and_nothing_is_lost(worked_off, capsys, line):
    worked_off()
    journal = FOLDER / "journal.log"
    lines = journal.read_text().splitlines()
    damaged = "\n".join([*lines[:5], line, *lines[6:]]) + "\n"
    journal.write_text(damaged)
    for flags in (["--dry-run"], []):
        assert queue(*flags) == 2
        assert f"{journal}: is damaged, at a line that is not an entry" in capsys.readouterr().err
    assert journal.read_text() == damaged


def test_a_damaged_journal_costs_its_own_study_only(capsys):
    write_queue(lever={"n_trials": 1}, second={"n_trials": 1})
    (FOLDER).mkdir(parents=True)
    (FOLDER / "journal.log").write_text('nonsense\n{"op_code": 0}\n')
    assert queue("--dry-run") == 1
    captured = capsys.readouterr()
    assert "left out: " in captured.err and "journal.log: is damaged" in captured.err
    assert "second" in captured.out
