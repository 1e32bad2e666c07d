"""Studies that are resumed, interrupted and protected."""

from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from rlspo.zoo.errors import UserError
from rlspo.zoo.runs.evaluation_log import DamagedFile
from rlspo.zoo.tune import storage
from rlspo.zoo.tune.settings import StudyFolder
from rlspo.zoo.tune.storage import only_one, open_storage
from rlspo.zoo.tune.study import codes_of, duration_of, outcomes_of, reason_of, settings_of

from .conftest import outcome


def run(study, number):
    """Trials whose value is their learning rate."""
    for _ in range(number):
        trial, chosen, done = study.ask()
        for seed in study.settings.seeds:
            if seed not in done:
                study.keep(trial, outcome(seed, chosen["learning_rate"]))
        study.tell_complete(trial)


def told(study):
    return [(settings_of(trial), trial.value) for trial in study.trials if trial.state == TrialState.COMPLETE]


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes", "random"])
def test_the_same_study_twice_is_the_same_in_one_go_or_in_pieces(open_study, tmp_path, sampler):
    whole = open_study(storage=str(tmp_path / "whole.log"), sampler=sampler)
    run(whole, 7)
    for piece in (2, 4, 1):
        pieces = open_study(storage=str(tmp_path / "pieces.log"), sampler=sampler)
        run(pieces, piece)
    assert told(pieces) == told(whole)
    assert len({str(settings) for settings, _ in told(whole)}) > 5  # no sampler repeats one random draw


@pytest.mark.parametrize("storage", ["journal", "sqlite"])
def test_an_interrupted_trial_is_done_again_with_what_it_had(open_study, tmp_path, storage):
    where = None if storage == "journal" else f"sqlite:///{tmp_path}/trials.db"
    study = open_study(storage=where)
    run(study, 3)
    trial, chosen, _ = study.ask()
    study.keep(trial, outcome(0, 7.0))
    # Here the program is killed; the next one finds the trial still running.
    again = open_study(storage=where)
    assert [state.state for state in again.optuna.get_trials()].count(TrialState.RUNNING) == 0
    assert len(again.trials) == 3
    second, same, done = again.ask()
    assert same == chosen
    assert {seed: each.score for seed, each in done.items()} == {0: 7.0}
    again.keep(second, outcome(1, 9.0))
    assert again.tell_complete(second) == 8.0
    assert len(again.trials) == 4
    # A third call has nothing to mend.
    assert len(open_study(storage=where).trials) == 4


def test_an_interruption_does_not_change_the_trials_that_follow(open_study, tmp_path):
    smooth = open_study(storage=str(tmp_path / "smooth.log"))
    run(smooth, 8)
    for _ in range(2):
        rough = open_study(storage=str(tmp_path / "rough.log"))
        run(rough, 2)
        rough.ask()  # killed while it runs
    rough = open_study(storage=str(tmp_path / "rough.log"))
    run(rough, 4)
    assert told(rough) == told(smooth)


def test_a_second_attempt_is_queued_once_however_often_mending_is_interrupted(open_study, monkeypatch):
    study = open_study()
    trial, _, _ = study.ask()
    monkeypatch.setattr(study.optuna, "tell", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # killed after the second attempt was queued, before the first was given up
        study.stopped(trial.number)
    again = open_study()
    assert [each.state for each in again.optuna.get_trials()] == [TrialState.FAIL, TrialState.WAITING]


def test_settings_that_kill_their_process_again_and_again_count_as_failed(open_study):
    study = open_study()
    for attempt in range(3):
        trial, _, _ = study.ask()
        assert study.killed(trial.number, "its process ended with exit code -9") is (attempt < 2)
    (failed,) = study.trials
    assert failed.state == TrialState.FAIL
    assert reason_of(failed) == "its process ended with exit code -9, 3 times"


def test_a_study_that_is_stopped_again_and_again_never_counts_its_trial_as_failed(open_study):
    for _ in range(6):
        open_study().ask()  # killed while it runs
    study = open_study()
    trial, _, _ = study.ask()
    assert [each.state for each in study.trials] == [TrialState.RUNNING]
    assert study.killed(trial.number, "its process ended with exit code -9"), "its own process was killed for the first time"


def test_a_trial_that_is_stopped_while_it_is_drawn_anew_keeps_its_settings(open_study, monkeypatch):
    study = open_study()
    trial, chosen, _ = study.ask()
    study.keep(trial, outcome(0, 7.0))
    study = open_study()
    monkeypatch.setattr(study.space.__class__, "sample", lambda space, trial: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        study.ask()
    monkeypatch.undo()
    _, again, done = open_study().ask()
    assert again == chosen
    assert list(done) == [0]


def test_a_trial_that_is_given_up_tells_what_trained_it(open_study, monkeypatch):
    monkeypatch.setattr("rlspo.zoo.tune.study.code_state", lambda: "abc1234")
    study = open_study()
    trial, _, _ = study.ask()
    study.tell_pruned(trial)
    assert codes_of(study.trials[0]) == study.codes == ["abc1234"]


@pytest.mark.parametrize(("argument", "refused"), [("clip_range", True), ("newest", False)])
def test_an_argument_that_came_since_and_that_nobody_sets_changes_nothing(open_study, monkeypatch, argument, refused):
    defaults = {"gamma": 0.99, "clip_range": 0.2, "newest": 7}
    monkeypatch.setattr("rlspo.zoo.tune.study.agent_defaults", lambda cls: defaults)
    open_study(block={"agent": {"gamma": 0.9}})
    later = {"agent": {"gamma": 0.9, argument: 0.3 if refused else defaults[argument]}}
    if refused:
        with pytest.raises(UserError, match=r"block.agent.clip_range: was null, is 0.3"):
            open_study(block=later)
    else:
        open_study(block=later)


def test_a_trial_of_another_machine_is_left_alone(open_study):
    study = open_study()
    trial, _, _ = study.ask()
    trial.set_user_attr("owner", "elsewhere:/studies")
    again = open_study()
    assert [each.state for each in again.trials] == [TrialState.RUNNING]


def test_in_a_shared_storage_a_study_knows_its_trials_on_a_machine_of_another_name(open_study, tmp_path, monkeypatch):
    """A container has a new name at each start, and its folder perhaps another path."""
    storage = f"sqlite:///{tmp_path / 'trials.db'}"
    open_study(storage).ask()
    monkeypatch.setattr("platform.node", lambda: "another")
    again = open_study(storage)
    assert [trial.state for trial in again.optuna.get_trials()] == [TrialState.FAIL, TrialState.WAITING], "queued again"
    assert again.trials == []


def test_the_time_of_a_trial_is_that_of_all_its_attempts(open_study):
    study = open_study()
    trial, _, _ = study.ask()
    study.keep(trial, replace(outcome(0, 1.0), seconds=3600.0))
    again = open_study()  # after an interruption
    trial, _, done = again.ask()
    assert set(done) == {0}
    again.keep(trial, outcome(1, 1.0))
    again.tell_complete(trial)
    assert 3600.1 <= duration_of(again.trials[0]).total_seconds() < 3660


def test_a_study_keeps_its_settings(open_study):
    open_study()
    with pytest.raises(UserError, match=r"n_seeds: was 2, is 3.*\n.*another --study-name") as caught:
        open_study(n_seeds=3)
    assert "sampler" not in str(caught.value)


def test_seeds_that_are_done_come_back_whole(open_study):
    study = open_study()
    trial, _, _ = study.ask()
    study.keep(trial, outcome(1, 2.5))
    assert outcomes_of(study.frozen(trial)) == {1: replace(outcome(1, 2.5), code=study.code)}


def test_one_program_at_a_time(tmp_path):
    folder = StudyFolder(tmp_path)
    with only_one(folder), pytest.raises(UserError, match="another rlspo tune is at work"), only_one(folder):
        pass
    with only_one(folder):
        pass


def test_a_torn_line_in_a_shared_journal_costs_one_entry(tmp_path, capsys):
    """As where the disk was full, or the power went: of any of the programs that share the journal."""
    journal, folder = tmp_path / "shared.log", StudyFolder(tmp_path)
    there = open_storage(str(journal), folder)
    study = optuna.create_study(storage=there, study_name="one")
    study.tell(study.ask(), 1.0)
    whole = journal.read_bytes()
    with journal.open("ab") as file:
        file.write(b'{"op_code":4,"worker_id":"b88')
    study.tell(study.ask(), 2.0)  # of a program that was at work meanwhile
    with journal.open("ab") as file:
        file.write(b'{"op_code":4,"worker_id":"b88')
    again = optuna.load_study(storage=open_storage(str(journal), folder), study_name="one")
    assert [trial.value for trial in again.trials] == [1.0, 2.0]
    again.tell(again.ask(), 3.0)
    assert [trial.value for trial in study.trials] == [1.0, 2.0, 3.0]
    assert capsys.readouterr().err.count("the last entry was cut off and is dropped") == 2
    for damaged in (whole + b"{no entry\n" + whole, whole + b"no entry\nnor this"):
        journal.write_bytes(damaged)
        with pytest.raises(DamagedFile, match=r"is damaged"):
            study = optuna.load_study(storage=open_storage(str(journal), folder), study_name="one")
            study.tell(study.ask(), 4.0)
        assert journal.read_bytes() == damaged


@pytest.mark.parametrize("content", [b"SQLite format 3\0", b"a user's notes\nin two lines"])
def test_a_file_that_is_no_journal_is_left_alone(tmp_path, content):
    file = tmp_path / "study.db"
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"is no journal of Optuna\. For a database: --storage sqlite:///"):
        open_storage(str(file), StudyFolder(tmp_path))
    assert file.read_bytes() == content


def test_an_entry_that_came_meanwhile_is_not_cut_off(tmp_path, monkeypatch):
    """Of a program that has taken the lock from one that stood still."""
    journal = tmp_path / "shared.log"
    journal.write_bytes(b'{"a":1}\n{"torn')
    read = Path.read_bytes

    def slow(self):
        found = read(self)
        self.write_bytes(b'{"a":1}\n{"b":2}\n')
        return found

    monkeypatch.setattr(Path, "read_bytes", slow)
    storage._cut_torn_line(journal)
    monkeypatch.undo()
    assert journal.read_bytes() == b'{"a":1}\n{"b":2}\n'


def test_a_database_that_another_program_is_making_is_waited_for(tmp_path, monkeypatch):
    attempts = []
    really = storage.RDBStorage

    def busy(url):
        attempts.append(url)
        if len(attempts) < 3:
            raise OperationalError("CREATE TABLE trials", {}, Exception("table trials already exists"))
        return really(url)

    monkeypatch.setattr(storage, "RDBStorage", busy)
    monkeypatch.setattr(storage, "_PAUSES", (0.0,) * 4)
    assert isinstance(open_storage(f"sqlite:///{tmp_path}/one.db", StudyFolder(tmp_path)), really)
    assert len(attempts) == 3


@pytest.mark.parametrize("where", ["nodatabase://x", "sqlite:////no/such/folder/x.db"])
def test_a_storage_that_cannot_be_opened(tmp_path, where):
    with pytest.raises(UserError, match="cannot be opened"):
        open_storage(where, StudyFolder(tmp_path))
