"""Search spaces: what they give to an agent, what they refuse, and that the agents' own ones fit."""

import itertools
import math
from pathlib import Path

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import FixedTrial
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from rlspo import ARPO, PPO
from rlspo.common.registry import agent_class
from rlspo.zoo.config import yaml_io
from rlspo.zoo.config.convert import merged
from rlspo.zoo.config.hyperparams import find_file, resolve
from rlspo.zoo.errors import UserError
from rlspo.zoo.tune.space import Range, SearchSpace, find_space

OWN = ("ppo", "arpo", "barpo", "pdppo", "spo")
ALL = """\
learning_rate: {low: 1e-5, high: 3e-3, log: true, schedule: lin}
n_epochs: {low: 3, high: 20, int: true}
clip_range: {low: 0.1, high: 0.4, step: 0.1}
gamma: {low: 0.001, high: 0.1, log: true, one_minus: true}
n_steps: {choices: [512, 1024]}
ent_coef: 0.0
policy_kwargs:
  net_arch: {choices: {small: [64, 64], split: {pi: [32], vf: [64]}}}
  activation_fn: {choices: [tanh, relu]}
  ortho_init: false
"""
CHOSEN = {
    "learning_rate": 1.23456e-4,
    "n_epochs": 7,
    "clip_range": 0.30000000000000004,
    "1-gamma": 0.0123456,
    "n_steps": 1024,
    "policy_kwargs.net_arch": "split",
    "policy_kwargs.activation_fn": "relu",
}


@pytest.fixture
def space(tmp_path):
    """Reads a space from the lines of its one block."""

    def read(lines: str) -> SearchSpace:
        file = tmp_path / "mine.space.yml"
        file.write_text("default:\n" + "".join(f"  {line}\n" for line in lines.splitlines()))
        return SearchSpace.read(file, "default")

    return read


def random_trials(space, number):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [study.ask() for _ in range(number)], study


def test_settings_are_nested_rounded_and_complete(space):
    expected = {
        "learning_rate": "lin_1.23e-4",
        "n_epochs": 7,
        "clip_range": 0.3,
        "gamma": 0.9877,
        "n_steps": 1024,
        "ent_coef": 0.0,
        "policy_kwargs": {"net_arch": {"pi": [32], "vf": [64]}, "activation_fn": "relu", "ortho_init": False},
    }
    read = space(ALL)
    assert read.parameters == list(CHOSEN)
    assert read.sample(FixedTrial(CHOSEN)) == expected
    assert read.apply(CHOSEN) == expected
    base = {"policy_kwargs": {"log_std_init": -1}, "gamma": 0.5}
    assert merged(base, expected)["policy_kwargs"]["log_std_init"] == -1


def test_samples_lie_within_and_are_rebuilt_from_what_is_stored(space):
    read = space(ALL)
    trials, study = random_trials(read, 50)
    for trial in trials:
        found = read.sample(trial)
        assert 1e-5 <= float(found["learning_rate"].removeprefix("lin_")) <= 3e-3
        assert found["n_epochs"] in range(3, 21)
        assert found["clip_range"] in (0.1, 0.2, 0.3, 0.4)
        assert 0.9 <= found["gamma"] <= 0.999
        stored = study.get_trials()[trial.number]
        assert read.apply(stored.params) == found
        assert yaml_io.parse(str(found["gamma"])) == found["gamma"]
    rates = sorted(trial.params["learning_rate"] for trial in trials)
    assert rates[len(rates) // 2] < 5e-4, "the middle of a log range is its geometric mean"


def test_the_order_in_the_file_changes_nothing(space):
    forwards, backwards = (
        space("a: {choices: [1, 2, 3]}\nb: {low: 0, high: 1}"),
        space("b: {high: 1, low: 0}\na: {choices: [1, 2, 3]}"),
    )
    assert forwards.fingerprint() == backwards.fingerprint()
    (first,), _ = random_trials(forwards, 1)
    (second,), _ = random_trials(backwards, 1)
    assert forwards.sample(first) == backwards.sample(second)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("high: 20", "high: 21"),
        ("log: true, one", "one"),
        ("[512, 1024]", "[1024, 512]"),
        ("ent_coef: 0.0", "ent_coef: 0.1"),
        ("[64, 64]", "[64, 32]"),
        ("small", "tiny"),
        (", schedule: lin", ""),
    ],
)
def test_another_space_has_another_fingerprint(space, old, new):
    assert old in ALL
    before, spaced = space(ALL).fingerprint(), space(ALL.replace("{", "{ ")).fingerprint()
    assert before == spaced
    assert space(ALL.replace(old, new, 1)).fingerprint() != before


@settings(max_examples=200, deadline=None)
@given(
    low=st.floats(-1e6, 1e6),
    width=st.floats(1e-6, 1e6),
    share=st.floats(0, 1),
)
def test_rounding_stays_inside_and_close(low, width, share):
    high = low + width
    number = min(low + share * width, high)
    if low >= high:
        return
    value = Range(low=low, high=high).setting({"x": number}, "x")
    assert low <= value <= high
    assert abs(value - number) <= 0.0051 * (high - low) + 1e-9


@settings(deadline=None)
@given(decade=st.floats(-5, -2))
def test_rounding_keeps_three_digits_of_numbers_on_a_log_scale(decade):
    number = 10.0**decade
    value = Range(low=1e-5, high=1e-2, log=True).setting({"x": number}, "x")
    assert math.isclose(value, number, rel_tol=0.0051)
    assert float(f"{value:.3g}") == value or value == round(value, 4)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("gamma: {low: 0.9}", r"gamma: high is missing\."),
        ("gamma: {low: 0.9, high: 0.8}", "gamma: low is 0.9, high is 0.8; low must be below high"),
        ("gamma: {low: 0.9, high: many}", "gamma: high is 'many'. Input should be a valid number"),
        ("gamma: {low: true, high: 2}", "gamma: low is True"),
        ("gamma: {low: 0, high: 1, log: true}", "with log: true it must be above 0"),
        ("gamma: {low: 0, high: 1, shcedule: lin}", r"gamma: there is no option 'shcedule'. Did you mean 'schedule'\?"),
        ("gamma: {low: 1, high: 2, log: true, step: 1}", "log and step exclude each other"),
        ("gamma: {low: 0, high: 1, step: 0.3}", "from 0, steps of 0.3 do not reach 1"),
        ("gamma: {low: 0, high: 1, step: -1}", "step is -1.0; it must be above 0"),
        ("n_epochs: {low: 0.5, high: 3, int: true}", "int: true needs a low, a high and a step that are whole numbers"),
        ("n_epochs: {low: 1, high: 3, int: true, schedule: lin}", "int: true and one_minus or schedule exclude each other"),
        ("gamma: {low: 0, high: 1, schedule: cos}", "schedule is 'cos'. Input should be 'lin'"),
        ("gamma: {choices: [0.9]}", "must be a list of at least two values, or a mapping"),
        ("gamma: {choices: 0.9}", r"choices is 0\.9, but must be a list"),
        ("gamma: {choices: [0.9, 0.9]}", "a choice stands twice"),
        ("gamma: {choices: [0.9, 0.99], log: true}", "there is no option 'log'. Allowed: choices"),
        ("policy_kwargs: {net_arch: {choices: [[64], [32]]}}", r"policy_kwargs.net_arch: lists and mappings .* need names"),
        ("policy_kwargs: {net_arch: {choices: {64: [64], 32: [32]}}}", "the names of choices must be text, not 64, 32"),
        ("gamma: 0.9", "nothing to search"),
    ],
)
def test_mistakes_of_form_name_file_block_and_key(space, line, message):
    with pytest.raises(UserError, match=rf"mine\.space\.yml, block 'default': .*{message}"):
        space(line)


def test_all_mistakes_of_a_key_are_told_at_once(space):
    with pytest.raises(UserError, match=r"(?s)high is missing.*there is no option 'hihg'"):
        space("gamma: {low: 0.9, hihg: 1}")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("lerning_rate: {low: 0, high: 1}", r"there is no key 'lerning_rate'. Did you mean 'learning_rate'\?"),
        ("n_epochs: {low: 3, high: 20}", "n_epochs is 10.3, but must be a whole number. .*int: true"),
        ("n_steps: {choices: [512, many]}", "n_steps is 'many', but must be a whole number"),
        ("n_envs: {choices: [1, 0]}", "n_envs is 0, but must be a whole number above 0"),
        (
            "policy_kwargs: {net_arc: {choices: [a, b]}}",
            r"policy_kwargs: there is no key 'net_arc'. Did you mean 'net_arch'\?",
        ),
        (
            "policy_kwargs: {activation_fn: {choices: [tanh, thanh]}}",
            r"policy_kwargs: activation_fn is 'thanh'. Did you mean 'tanh'\?",
        ),
        ("gamma: {choices: [0.9, 0.99]}\nent_coef: none", "ent_coef is 'none', but must be a number"),
        ("epsilon: {low: 0, high: 1}", "there is no key 'epsilon'"),
        ("seed: {low: 0, high: 9, int: true}", "'seed' is not a hyperparameter; give --seed"),
        ("n_timesteps: {low: 1, high: 9, int: true}", "'n_timesteps' cannot be searched: trials would not compare"),
        ("gamma: {choices: [0.9, 0.99]}\nenv_kwargs: {g: 1}", "'env_kwargs' cannot be searched"),
        (
            "learning_rate: {lwo: 0, hihg: 1}\ngamma: {low: 0, high: 1}",
            "learning_rate is {'lwo': 0, 'hihg': 1}, but must be a number",
        ),
    ],
)
def test_what_does_not_fit_the_agent_is_refused(space, line, message):
    with pytest.raises(UserError, match=rf"mine\.space\.yml, block 'default': {message}"):
        space(line).check(PPO, "MlpPolicy")


def test_what_fits_passes(space):
    space(ALL).check(PPO, "MlpPolicy")
    space("epsilon: {low: 0, high: 1}\nn_envs: {choices: [1, 4]}").check(ARPO, "MlpPolicy")


@pytest.mark.parametrize("algo", OWN)
def test_own_spaces_fit_their_agents_and_all_that_is_searched_trains(algo):
    cls = agent_class(algo)
    file, settings_file = find_space(algo, cls), find_file(algo, cls)
    blocks = yaml_io.read_mapping(file)
    common = {"Hopper-v5", "Pendulum-v1", "CartPole-v1"}
    expected = {"pdppo": {"rlspo/LotSizing-v0"}, "spo": common}.get(algo, {*common, "atari"})
    assert {*expected, "default"} <= set(blocks)
    check_space(cls, file, settings_file)


@pytest.mark.parametrize("name", ["ppo_lstm", "ppo_moe", "barpo_moe", "sac_moe"])
def test_own_spaces_of_memory_and_mixtures_fit_too(name):
    cls = agent_class(name.partition("_")[0])
    check_space(cls, find_space(name, cls), find_file(name, cls, Path(f"{name}.yml")))


def check_space(cls, file: Path, settings_file: Path):
    blocks = yaml_io.read_mapping(file)
    assert set(blocks) <= set(yaml_io.read_mapping(settings_file)), "a block that no settings go with"
    for block in blocks:
        space = SearchSpace.read(file, block)
        base = resolve(cls, settings_file, block, (), {})
        space.check(cls, base.settings.policy)
        assert 5 <= len(space.searched) <= 12
        assert "epsilon" not in space.parameters, "the radius is part of the task"
        if issubclass(cls, OffPolicyAlgorithm):  # any minibatch can be drawn from a replay buffer
            continue
        options = {name: values.settings() for (name, *_), values in space.searched.items()}
        known = {**base.agent, "n_envs": space.fixed.get(("n_envs",), base.settings.n_envs)}
        sizes = (options.get(name, [known.get(name)]) for name in ("n_envs", "n_steps", "batch_size"))
        for n_envs, n_steps, batch_size in itertools.product(*sizes):
            assert n_steps * n_envs % batch_size == 0


def test_a_package_brings_its_own_space_and_the_users_comes_first(workplace, monkeypatch):
    package = workplace / "faraway"
    (package / "hyperparams").mkdir(parents=True)
    (package / "__init__.py").write_text("from rlspo import PPO\nclass Cautious(PPO):\n    pass\n")
    brought = package / "hyperparams" / "cautious.space.yml"
    brought.write_text("default: {gamma: {low: 0, high: 1}}\n")
    monkeypatch.syspath_prepend(str(workplace))
    from faraway import Cautious

    assert find_space("cautious", Cautious).samefile(brought)
    mine = workplace / "mine.yml"
    mine.write_text("{}")
    assert find_space("cautious", Cautious, mine) == mine
    with pytest.raises(UserError, match=r"'other' has no search space of its own \(hyperparams/other\.space\.yml\).*--space"):
        find_space("other", Cautious)
    with pytest.raises(UserError, match=r"--space: there is no file .*gone\.yml"):
        find_space("ppo", PPO, workplace / "gone.yml")


SCHEDULED = "learning_rate: {low: 1e-4, high: 1e-2, log: true, schedule: [constant, lin]}"


def test_whether_a_setting_falls_may_be_searched(space):
    read = space(SCHEDULED)
    assert read.parameters == ["learning_rate", "learning_rate.schedule"]
    assert read.apply({"learning_rate": 0.001, "learning_rate.schedule": "lin"}) == {"learning_rate": "lin_1e-3"}
    assert read.apply({"learning_rate": 0.001, "learning_rate.schedule": "constant"}) == {"learning_rate": 0.001}
    trials, _ = random_trials(read, 20)
    found = [read.sample(trial)["learning_rate"] for trial in trials]
    assert {type(each) for each in found} == {float, str}
    read.check(PPO, "MlpPolicy")
    assert read.fingerprint() != space(SCHEDULED.replace("[constant, lin]", "lin")).fingerprint()
    with pytest.raises(UserError, match="clip_rnge"):
        space("clip_rnge: {low: 0.1, high: 0.2, schedule: [constant, lin]}").check(PPO, "MlpPolicy")


@given(
    rate=st.floats(1e-5, 3e-3),
    one_minus=st.floats(0.001, 0.1),
    epochs=st.integers(3, 20),
    clip=st.integers(1, 4),
    falls=st.booleans(),
)
def test_a_point_of_the_space_is_its_own_nearest(tmp_path_factory, rate, one_minus, epochs, clip, falls):
    file = tmp_path_factory.mktemp("space") / "mine.space.yml"
    file.write_text("default:\n" + "".join(f"  {line}\n" for line in ALL.replace(": lin", ": [constant, lin]").splitlines()))
    read = SearchSpace.read(file, "default")
    chosen = {
        **CHOSEN,
        "learning_rate": rate,
        "learning_rate.schedule": "lin" if falls else "constant",
        "1-gamma": one_minus,
        "n_epochs": epochs,
        "clip_range": clip / 10,
    }
    settings = read.apply(chosen)
    again = read.apply(read.nearest(settings))
    assert again.pop("gamma") == pytest.approx(settings.pop("gamma"), abs=2e-6)  # 1 minus 1 minus x
    assert again == settings


@pytest.mark.parametrize(
    ("line", "settings", "nearest"),
    [
        ("gamma: {low: 0.9, high: 0.99}", {"gamma": 0.5}, {"gamma": 0.9}),
        ("gamma: {low: 0.001, high: 0.1, log: true, one_minus: true}", {"gamma": 1.0}, {"1-gamma": 0.001}),
        ("ent_coef: {low: 0.01, high: 0.1, log: true, schedule: lin}", {"ent_coef": "lin_0.05@0.8"}, {"ent_coef": 0.05}),
        ("n_epochs: {low: 3, high: 9, int: true, step: 2}", {"n_epochs": 6.1}, {"n_epochs": 7}),
        ("n_steps: {choices: [256, 512, 1024]}", {"n_steps": 700}, {"n_steps": 512}),
        ("n_steps: {choices: [256, 512, 1024]}", {"n_steps": 128}, {"n_steps": 256}),
        (
            "policy_kwargs: {net_arch: {choices: {a: [1], b: [2]}}}",
            {"policy_kwargs": {"net_arch": [2]}},
            {"policy_kwargs.net_arch": "b"},
        ),
    ],
)
def test_the_nearest_point_lies_inside(space, line, settings, nearest):
    assert space(line).nearest(settings) == nearest


@pytest.mark.parametrize(
    ("line", "settings", "message"),
    [
        ("gamma: {low: 0.9, high: 0.99}", {}, "gamma: "),
        ("gamma: {low: 0.9, high: 0.99}", {"gamma": "auto"}, "gamma: could not convert"),
        ("use_sde: {choices: [a, b]}", {"use_sde": True}, "use_sde: True is none of the choices"),
        (
            "policy_kwargs: {net_arch: {choices: {a: [1], b: [2]}}}",
            {"policy_kwargs": None},
            "policy_kwargs.net_arch: None is none",
        ),
    ],
)
def test_what_has_no_place_in_the_space_is_named(space, line, settings, message):
    with pytest.raises(ValueError, match=message):
        space(line).nearest(settings)


def test_what_is_given_is_fixed_and_not_searched(space):
    read = space(ALL)
    assert read.pinned({"batch_size": 8, "policy_kwargs": {"log_std_init": -1}}) == read, "nothing that it has"
    given = read.pinned({"gamma": 0.5, "ent_coef": 0.1, "policy_kwargs": {"activation_fn": "elu"}, "batch_size": 8})
    assert set(read.parameters) - set(given.parameters) == {"1-gamma", "policy_kwargs.activation_fn"}
    assert set(given.pins) == {("gamma",), ("ent_coef",), ("policy_kwargs", "activation_fn")}
    found = given.apply({key: value for key, value in CHOSEN.items() if key in given.parameters})
    assert (found["gamma"], found["ent_coef"], found["policy_kwargs"]["activation_fn"]) == (0.5, 0.1, "elu")
    assert given.fingerprint() != read.fingerprint(), "a study goes on with the space that it began with"
    with pytest.raises(UserError, match=r"-params: .* searches only what is fixed here"):
        space("gamma: {low: 0.9, high: 0.99}").pinned({"gamma": 0.5})
