"""What is chosen, and what is put into the file of hyperparameters."""

import json
import math
from pathlib import Path

import pytest

from rlspo.zoo.config import yaml_io
from rlspo.zoo.evaluate.statistics import Estimate
from rlspo.zoo.tune import report
from rlspo.zoo.tune.command import main
from rlspo.zoo.tune.validation import Candidate, Validation

from .test_queue import FOLDER, LEVER, own_files, queue, write_queue  # noqa: F401

CONF = """\
# The settings of a test.
default: {n_timesteps: 96, policy: MlpPolicy, n_steps: 16, batch_size: 16, n_epochs: 2, policy_kwargs: {net_arch: [4]}}
Lever-v0:
  n_timesteps: 500
  policy: MlpPolicy
  n_steps: 16
  batch_size: 16
  n_epochs: 2       # a comment that must stay
  policy_kwargs: {net_arch: [4]}
  provenance: >-
    Invented for
    a test. Not tuned.

Other-v0: {n_timesteps: 1, policy: MlpPolicy}   # must stay
"""


def validated(name, mean, gains):
    """A candidate on fresh seeds, with gains as pairs of value and half-width."""
    intervals = {over: Estimate(gain, gain - half, gain + half) for over, (gain, half) in gains.items()}
    return Validation(Candidate(name, {}), {0: mean}, Estimate(mean, mean, mean), intervals, {}, ())


@pytest.mark.parametrize(
    ("trial_gains", "zoo_gains", "chosen", "shown"),
    [
        ({"default": (5, 1), "zoo": (3, 1)}, {"default": (2, 1)}, "trial 7", True),
        ({"default": (5, 1), "zoo": (3, 4)}, {"default": (2, 1)}, "zoo", True),  # better than the default, not than zoo
        ({"default": (5, 1), "zoo": (3, 4)}, {"default": (2, 3)}, "trial 7", False),
        ({"default": (5, 6), "zoo": (3, 1)}, {"default": (2, 3)}, "trial 7", False),
    ],
)
def test_tuned_means_shown_to_be_better_than_all_that_was_known(trial_gains, zoo_gains, chosen, shown):
    validations = [validated("default", 1, {}), validated("zoo", 3, zoo_gains), validated("trial 7", 6, trial_gains)]
    best = report.best_of(validations)
    assert best.candidate.name == chosen
    assert report.shown_better(best) is shown


def test_what_is_shown_goes_before_what_only_looks_better():
    gains = {"default": (5, 6)}, {"default": (4.5, 1)}
    validations = [validated("default", 1, {}), validated("trial 7", 6, gains[0]), validated("trial 8", 5.5, gains[1])]
    assert report.best_of(validations).candidate.name == "trial 8"


def test_nothing_is_shown_where_the_default_could_not_be_trained():
    assert not report.shown_better(validated("trial 7", 6, {"default": (math.nan, math.nan), "zoo": (3, 1)}))


def test_the_default_is_never_shown_to_be_better():
    assert not report.shown_better(validated("default", 9, {}))


def scores(**means):
    """In place of trainings: every seed's score, a little different for each seed."""

    def read(store, candidate, seed):
        return means.get(candidate.name.replace(" ", "_"), 0.0) + 0.01 * (seed % 2)

    return read


@pytest.fixture
def conclude(monkeypatch):
    """Work off the queue with these scores on fresh seeds, and apply."""

    def run(flags=("--apply",), **means):
        Path("own.yml").write_text(CONF)
        write_queue(lever={"n_timesteps": 96, "n_trials": 3, "top": 3})
        monkeypatch.setattr("rlspo.zoo.tune.validation._Store.read", scores(**means))
        return queue(*flags)

    return run


def block():
    return yaml_io.read_mapping(Path("own.yml"))["Lever-v0"]


def test_a_winner_goes_into_the_file_for_as_many_steps_as_it_was_tried(conclude):
    assert conclude(default=1.0, stock=1.5, trial_2=3.0) == 0
    assert block()["n_timesteps"] == 96, "nothing is known of 500"
    assert "learning_rate" in block()
    assert "of 3 trials: trial 2. Space own.space.yml" in block()["provenance"]
    assert "a gain of 2.00 [1.97, 2.03] over default and 1.50 [1.47, 1.53] over stock" in block()["provenance"]
    assert "must stay" in Path("own.yml").read_text()


def test_known_settings_that_are_better_go_into_the_file_whole(conclude):
    assert conclude(default=1.0, stock=3.0, trial_2=2.0) == 0
    assert {key: value for key, value in block().items() if key != "provenance"} == {
        "n_timesteps": 96,
        "policy": "MlpPolicy",
        "n_steps": 32,
        "batch_size": 32,
        "policy_kwargs": {"net_arch": [4]},
    }
    assert "trials: stock." in block()["provenance"]


def test_where_nothing_is_better_the_provenance_says_so_and_all_else_stays(conclude):
    assert conclude(default=3.0, stock=1.0, trial_2=2.0) == 0
    text = Path("own.yml").read_text()
    assert "# a comment that must stay" in text
    before, after = yaml_io.parse(CONF), yaml_io.read_mapping(Path("own.yml"))
    provenance = after["Lever-v0"].pop("provenance")
    del before["Lever-v0"]["provenance"]
    assert after == before
    assert provenance.startswith("Invented for a test. rlspo tune, study lever of 3 trials, found nothing shown to be better.")
    assert "95 % t intervals" in provenance
    assert "the best other settings, trial 2: 2.00 [1.94, 2.07], a gain of -1.00 [-1.03, -0.970] over default" in provenance
    again = Path("own.yml").read_text()
    assert queue("--apply") == 0
    assert Path("own.yml").read_text() == again, "applying twice adds nothing"


def test_a_finished_study_is_applied_later_from_its_files_alone(conclude, monkeypatch):
    assert conclude(flags=(), default=1.0, stock=1.5, trial_2=3.0) == 0
    assert "Not tuned." in block()["provenance"]
    monkeypatch.setattr("rlspo.zoo.tune.task.Task.opened", lambda task: 1 / 0)
    (FOLDER / "best.yml").unlink()  # the report tells all
    assert queue("--apply") == 0
    assert "of 3 trials: trial 2." in block()["provenance"]


def test_an_environment_without_a_block_gets_one_that_says_what_was_found(conclude):
    assert conclude(flags=(), default=3.0, stock=1.0, trial_2=2.0) == 0
    Path("own.yml").write_text(CONF.replace("Lever-v0:", "Elsewhere-v0:"))
    base = yaml_io.read_mapping(FOLDER / "base.yml")
    yaml_io.write(FOLDER / "base.yml", {"Lever-v0": yaml_io.parse(CONF)["default"]})
    assert base
    assert queue("--apply") == 0
    assert block()["n_timesteps"] == 96
    assert "found nothing shown to be better" in block()["provenance"]


def test_settings_that_have_changed_since_are_not_replaced(conclude, capsys):
    assert conclude(flags=(), default=1.0, stock=1.5, trial_2=3.0) == 0
    Path("own.yml").write_text(CONF.replace("n_epochs: 2 ", "n_epochs: 7 "))
    assert queue("--apply") == 1
    assert "are no longer those that the study began from" in capsys.readouterr().err
    assert block()["n_epochs"] == 7


def test_what_holds_for_one_variant_of_an_environment_is_not_put_into_the_block_of_all(conclude, monkeypatch, capsys):
    Path("own.yml").write_text(CONF)
    write_queue(lever={"n_trials": 3, "env_kwargs": {"kill_file": ""}})
    monkeypatch.setattr("rlspo.zoo.tune.validation._Store.read", scores(default=1.0, stock=1.5, trial_2=3.0))
    assert queue("--apply") == 0
    assert "its provenance describes the study" in capsys.readouterr().err
    told, before = yaml_io.read_mapping(Path("own.yml")), yaml_io.parse(CONF)
    provenance = told["Lever-v0"].pop("provenance")
    del before["Lever-v0"]["provenance"]
    assert told == before
    assert provenance.startswith("Invented for a test. For kill_file : rlspo tune, study lever of 3 trials: trial 2.")
    assert provenance.endswith("Its settings are not these; they stand in its best.yml.")
    once = Path("own.yml").read_text()
    assert queue("--apply") == 0
    assert Path("own.yml").read_text() == once


def test_without_a_queue_a_file_is_left_alone_where_nothing_is_better(conclude, monkeypatch, capsys):
    Path("own.yml").write_text(CONF)
    monkeypatch.setattr("rlspo.zoo.tune.validation._Store.read", scores(default=1.0, trial_2=1.01))
    flags = [f"--{key.replace('_', '-')}" for key in LEVER]
    words = [word for flag, value in zip(flags, LEVER.values(), strict=True) for word in (flag, *_texts(value))]
    assert main([*words, "--n-trials", "3", "--apply"]) == 1
    assert Path("own.yml").read_text() == CONF
    assert json.loads(Path("logs/tune/ppo_Lever-v0/report.json").read_text())["shown_better"] is False


def _texts(value):
    return value if isinstance(value, list) else [str(value)]
