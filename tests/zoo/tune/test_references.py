"""Known settings: whole, checked, placed in the space, and the agents' own ones fit."""

import argparse
from pathlib import Path

import pytest
from optuna.trial import TrialState

from rlspo.common.registry import agent_class
from rlspo.zoo.config import yaml_io
from rlspo.zoo.errors import UserError
from rlspo.zoo.train.plan import make_plan
from rlspo.zoo.tune.arguments import parse
from rlspo.zoo.tune.command import main
from rlspo.zoo.tune.references import Reference, find_references, read_references, with_block
from rlspo.zoo.tune.search import Search
from rlspo.zoo.tune.space import find_space
from rlspo.zoo.tune.task import make_task
from rlspo.zoo.tune.training import EvaluationProtocol, train_seed

from .conftest import outcome
from .test_search import Log

OWN = ("ppo", "arpo", "barpo", "pdppo", "sac", "spo")
SETTINGS = """\
default:
  {n_timesteps: 64, policy: MlpPolicy, n_steps: 16, batch_size: 16, learning_rate: lin_1e-3, policy_kwargs: {net_arch: [4]}}
"""
SPACE = """\
default:
  learning_rate: {low: 1e-4, high: 1e-2, log: true, schedule: [constant, lin]}
  gamma: {low: 0.01, high: 0.1, log: true, one_minus: true}
  n_steps: {choices: [16, 32]}
  n_epochs: {low: 3, high: 12, int: true}
  policy_kwargs:
    net_arch: {choices: {tiny: [4], small: [64, 64]}}
    activation_fn: {choices: [tanh, relu]}
    log_std_init: {low: -2.0, high: 0.0}
"""


@pytest.fixture
def task(workplace):
    """The study with these known settings, checked."""
    Path("own.space.yml").write_text(SPACE)

    def make(references: str, settings: str = SETTINGS):
        Path("own.yml").write_text(settings)
        Path("own.references.yml").write_text(references)
        flags = "--algo ppo --env Ledger-v0 --gym-packages zoo_environments --conf-file own.yml --space own.space.yml"
        return make_task(parse([*flags.split(), "--references", "own.references.yml"]))

    return make


def test_each_is_placed_at_the_nearest_point_of_the_space(task):
    found = task("default:\n  stock: {}\n  far: {learning_rate: 1, gamma: 0.5, n_steps: 20, batch_size: 20, n_epochs: 99}\n")
    points = {name: reference.point for name, reference in found.references.items()}
    assert points["default"] == {
        "learning_rate": 1e-3,
        "learning_rate.schedule": "lin",
        "1-gamma": pytest.approx(0.01),
        "n_steps": 16,
        "n_epochs": 10,
        "policy_kwargs.net_arch": "tiny",
        "policy_kwargs.activation_fn": "tanh",
        "policy_kwargs.log_std_init": 0.0,
    }
    # What a block leaves out is the class's default, never the file's: two layers of 64, a constant rate, 2048 steps.
    assert points["stock"] | {"1-gamma": 0.01} == points["default"] | {
        "learning_rate": 3e-4,
        "learning_rate.schedule": "constant",
        "1-gamma": 0.01,
        "n_steps": 32,
        "policy_kwargs.net_arch": "small",
    }
    assert points["far"]["learning_rate"] == 1e-2
    assert points["far"]["1-gamma"] == 0.1
    assert points["far"]["n_steps"] == 16
    assert points["far"]["n_epochs"] == 12


def test_what_is_the_same_under_another_name_is_taken_once(task):
    again = "{n_steps: 16, batch_size: 16, learning_rate: lin_0.001, policy_kwargs: {net_arch: [4], activation_fn: tanh}}"
    assert list(task(f"default:\n  again: {again}\n  other: {{n_epochs: 5}}\n").references) == ["default", "other"]


@pytest.mark.parametrize(
    ("references", "message"),
    [
        ("default: {mine: {gama: 0.9}}", r"own.references.yml: mine: .*there is no key 'gama'. Did you mean 'gamma'\?"),
        ("default: {mine: {gamma: high}}", "own.references.yml: mine: .*gamma is 'high', but must be a number"),
        ("default: {1: {}}", r"must be a mapping from names to values, not \{1: \{\}\}"),
        ("default: {mine: {gamma: .nan}}", "mine holds what is not a finite number"),
        ("default: {%s: {}}" % ("a" * 41), "use up to 40 letters and digits"),
        ("default: {mine: 3}", "own.references.yml, block 'default': mine must be a mapping from keys to values, not 3"),
        ("default: {default: {}}", "'default' cannot name settings"),
        ("default: {trial 3: {}}", "'trial 3' cannot name settings"),
        ("default: {a/b: {}}", "'a/b' cannot name settings"),
        (
            "default: {mine: {policy_kwargs: {net_arch: [7]}}}",
            r"own.space.yml, block 'default' has no place for the settings 'mine' of own.references.yml: "
            r"policy_kwargs.net_arch: \[7\] is none of the choices. Add them",
        ),
        ("Other-v0: {}", "has neither a block 'Ledger-v0' nor a block 'default'"),
    ],
)
def test_mistakes_name_the_file_and_the_settings(task, references, message):
    with pytest.raises(UserError, match=message):
        task(references)


def test_what_belongs_to_the_task_is_taken_over(task, workplace):
    settings = SETTINGS.replace("n_timesteps: 64", "n_timesteps: 64, env_kwargs: {pay: 5.0}, frame_stack: 2")
    with pytest.raises(UserError, match=r"mine: env_kwargs is \{'pay': 1.0\}, but \{'pay': 5.0\} where the search begins"):
        task("default: {mine: {env_kwargs: {pay: 1.0}}}", settings)
    block = task("default: {mine: {n_epochs: 5}}", settings).references["mine"].block
    assert block == {"policy": "MlpPolicy", "env_kwargs": {"pay": 5.0}, "frame_stack": 2, "n_epochs": 5}


def test_arguments_of_the_command_line_are_added_to_those_of_the_file(workplace):
    """As where the search begins: known settings are trained in the same environment."""
    Path("own.space.yml").write_text(SPACE)
    Path("own.yml").write_text(SETTINGS.replace("n_timesteps: 64", "n_timesteps: 64, env_kwargs: {pay: 5.0}"))
    Path("own.references.yml").write_text("default: {mine: {n_epochs: 5}}")
    flags = "--algo ppo --env Ledger-v0 --gym-packages zoo_environments --conf-file own.yml --space own.space.yml"
    task = make_task(parse([*flags.split(), "--references", "own.references.yml", "--env-kwargs", "number:15"]))
    expected = {"pay": 5.0, "number": 15}
    assert task.plan.config.settings.env_kwargs == expected
    trained = make_plan(argparse.Namespace(**with_block(task.base, task.references["mine"].block, 64)))
    assert trained.config.settings.env_kwargs == trained.recipe.env_kwargs == expected


def test_the_radius_belongs_to_the_task():
    flags = ["--algo", "barpo", "--env", "Pendulum-v1", "--attack", "mad", "-n", "1000", "--references"]
    assert make_task(parse(flags)).references["stock"].block["epsilon"] == 0.05
    assert make_task(parse([*flags, "-params", "epsilon:0.2"])).references["stock"].block["epsilon"] == 0.2


def test_a_reference_is_trained_as_it_stands_and_not_as_the_nearest_point(open_study, monkeypatch):
    block = {"policy": "MlpPolicy", "learning_rate": 0.5}
    point = {"learning_rate": 0.1, "n_steps": 32}
    known = {"default": Reference(None, {"learning_rate": 0.01, "n_steps": 16}), "mine": Reference(block, point)}
    study = open_study(references=known)
    search = Search(study, {"hyperparams": {"gamma": 0.5}, "conf_file": "own.yml"}, n_trials=3, watcher=Log())
    jobs = []
    for _ in range(3):
        running, job = search._next()
        jobs.append(job)
        for seed in study.settings.seeds:
            study.keep(running.trial, outcome(seed, 1.0))
        study.tell_complete(running.trial)
    assert jobs[0].base["hyperparams"] == {"gamma": 0.5}  # the settings it begins from, flags included
    assert jobs[0].overrides == {}
    assert jobs[1].base == {"block": block, "conf_file": None, "hyperparams": {}, "n_timesteps": 20}
    assert jobs[1].overrides == {}
    assert "learning_rate" in jobs[2].overrides
    assert study.trials[1].params == point, "the sampler learns from the nearest point"


def test_a_reference_that_is_stopped_before_it_is_drawn_comes_back_whole(open_study, monkeypatch):
    references = {"mine": Reference({"policy": "MlpPolicy"}, {"learning_rate": 0.1, "n_steps": 32})}
    study = open_study(references=references)
    monkeypatch.setattr(study.space.__class__, "sample", lambda space, trial: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        study.ask()
    monkeypatch.undo()
    again = open_study(references=references)
    assert [each.state for each in again.optuna.get_trials()] == [TrialState.FAIL, TrialState.WAITING]
    trial, chosen, _ = again.ask()
    assert again.frozen(trial).user_attrs["reference"] == "mine"
    assert trial.params == {"learning_rate": 0.1, "n_steps": 32}
    assert chosen == {}
    assert len(again.trials) == 1


def test_whole_settings_leave_out_what_the_file_and_the_flags_say(task):
    made = task("default: {mine: {n_steps: 32, batch_size: 32}}")
    base = {**made.base, "hyperparams": {"gamma": 0.5}, "env_kwargs": {"pay": 2.0}}
    args = with_block(base, made.references["mine"].block, 64)
    plan = make_plan(argparse.Namespace(**args))
    assert plan.config.agent["gamma"] == 0.99
    assert plan.config.agent["learning_rate"] == 3e-4
    assert plan.config.settings.env_kwargs == {"pay": 2.0}, "the task stays the same"
    assert plan.config.settings.n_timesteps == 64
    found = train_seed(args, {}, 0, EvaluationProtocol(2, 1, 2), lambda steps: None, lambda checkpoint, value: None)
    assert found.returns == [20.0, 20.0]


def test_checkpoints_that_one_step_passes_together_are_evaluated_once_and_by_their_number(task):
    """So that evaluations of many environments compare with those of few at the same share of the training."""
    made, told = task("default: {mine: {n_steps: 32, batch_size: 32}}"), []
    block = {"policy": "MlpPolicy", "n_steps": 2, "batch_size": 24, "n_envs": 12}
    args = with_block(made.base, block, 40)
    found = train_seed(args, {}, 0, EvaluationProtocol(10, 1, 2), lambda steps: None, lambda *each: told.append(each[0]))
    assert [steps for steps, _ in found.curve] == [12, 24, 36]
    assert told == [2, 5, 8], "12, 24 and 36 of 40 steps in tenths, counted from 0; the fresh one at the end is the tenth"


@pytest.mark.parametrize("algo", OWN)
def test_own_references_are_accepted_and_have_a_place_in_the_own_space(algo):
    cls = agent_class(algo)
    for env in yaml_io.read_mapping(find_references(algo, cls, None)):
        other = "rlspo/LotSizing-v0" if algo == "pdppo" else "MountainCarContinuous-v0"
        env_id = {"atari": "ALE/Pong-v5", "stori": "STORI/Pong-v0", "default": other}.get(env, env)
        task = make_task(parse(["--algo", algo, "--env", env_id, "--references", "-n", "1000"]))
        assert len(task.references) > 1 or env == "default", "there stock and the block are the same"
        known = yaml_io.read_mapping(find_space(algo, cls))
        assert env in known


def test_stock_is_the_class_as_it_is(task):
    stock = read_references(find_references("ppo", agent_class("ppo"), None), "Hopper-v5", ())["stock"]
    assert stock == {}


def test_an_agent_without_known_settings_and_a_file_that_is_not_there(capsys, workplace):
    flags = ["--algo", "stable_baselines3.PPO", "--env", "CartPole-v1", "-n", "100"]
    more = ["-params", "policy:MlpPolicy", "--space", "own.space.yml"]
    Path("own.space.yml").write_text("default: {gamma: {low: 0.9, high: 0.99}}\n")
    assert main([*flags, *more, "--references"]) == 2
    assert "has no hyperparams/stable_baselines3.PPO.references.yml. Give one: --references" in capsys.readouterr().err
    assert main([*flags, *more, "--references", "gone.yml"]) == 2
    assert "--references: there is no file gone.yml" in capsys.readouterr().err


def test_a_study_without_references_compares_with_those_from_before_there_were_any(open_study):
    plain = open_study().settings.plain()
    assert "references" not in plain


def test_what_sb3_is_compared_with_are_the_known_settings():
    """zoo/grids/rl_zoo3_ppo.yml has them in stable-baselines3's words."""
    grids = Path(__file__).parents[3] / "zoo" / "grids"
    known = yaml_io.read_mapping(find_references("ppo", agent_class("ppo"), None))
    for env, block in yaml_io.read_mapping(grids / "rl_zoo3_ppo.yml").items():
        assert (block.pop("policy"), block.pop("normalize")) == ("MlpPolicy", True)
        assert block.pop("provenance").rstrip(".").split()[-1] in known[env]["rl-zoo3"].pop("provenance")
        assert {**block, "normalize_observations": True, "normalize_rewards": True} == known[env]["rl-zoo3"]
