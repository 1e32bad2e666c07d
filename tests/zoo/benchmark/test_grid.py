"""The grid file: what it may say, and how mistakes in it are told before anything is made."""

import numpy as np
import pytest

from rlspo.zoo.benchmark import grid as grids
from rlspo.zoo.benchmark.evaluations import Attack, Natural
from rlspo.zoo.benchmark.grid import read_grid
from rlspo.zoo.envs.of_run import evaluation_recipe
from rlspo.zoo.errors import UserError
from rlspo.zoo.train.arguments import parse
from rlspo.zoo.train.plan import make_plan
from tests.zoo.benchmark.tiny_grids import TINY, runs_of, write_grid


def runs(folder, **changes):
    return runs_of(write_grid(folder, **changes), folder / "out")


def test_all_of_the_first_seed_come_before_any_of_the_second(workplace):
    keys = [run.key for run in runs(workplace, seeds=2)]
    assert keys == ["ppo/Ledger-v0/0", "twin/Ledger-v0/0", "ppo/Ledger-v0/1", "twin/Ledger-v0/1"]


@pytest.mark.parametrize(("seeds", "expected"), [(3, [0, 1, 2]), ([4, 2], [4, 2])])
def test_seeds_are_a_list_or_how_many(workplace, seeds, expected):
    assert read_grid(write_grid(workplace, seeds=seeds)).seeds == expected
    assert read_grid(write_grid(workplace, seeds=[9]), seeds=seeds).seeds == expected


def test_short_forms(workplace):
    (workplace / "short.yml").write_text("agents: {ppo: , arpo: }\nenvs: [CartPole-v1]\nevaluations:\n  natural:\n")
    grid = read_grid(workplace / "short.yml")
    assert (grid.name, list(grid.agents), list(grid.envs), grid.seeds) == (
        "short",
        ["ppo", "arpo"],
        ["CartPole-v1"],
        [0, 1, 2],
    )
    assert grid.evaluations_of("ppo", "CartPole-v1") == {"natural": Natural()}


def test_agents_choose_evaluations_and_environments_change_them(workplace):
    envs = {name: {"id": "Ledger-v0", "gym_packages": ["zoo_environments"]} for name in ("plain", "wild")}
    envs["wild"]["evaluations"] = {"random": {"epsilon": 0.5}}
    agents = {"ppo": {"params": TINY}, "twin": {"algo": "ppo", "params": TINY, "evaluations": ["natural"]}}
    grid = read_grid(write_grid(workplace, envs=envs, agents=agents))
    assert grid.evaluations_of("ppo", "plain")["random"] == Attack(attack="random", epsilon=0.1)
    assert grid.evaluations_of("ppo", "wild")["random"] == Attack(attack="random", epsilon=0.5)
    assert list(grid.evaluations_of("twin", "wild")) == ["natural"]
    assert grid.attacks == ["random"]


def test_the_command_of_a_run_says_what_the_grid_says(workplace):
    params = {
        **TINY,
        "policy_kwargs": {"net_arch": [8], "activation_fn": "tanh"},
        "max_grad_norm": float("inf"),
        "n_timesteps": 32,
    }
    env = {
        "id": "Ledger-v0",
        "gym_packages": ["zoo_environments"],
        "env_kwargs": {"pay": 2.0},
        "params": {"gamma": 0.5, "n_steps": 8},
    }
    (run,) = runs(workplace, agents={"mine": {"algo": "ppo", "params": params}}, envs={"paid": env}, seeds=[5])
    args = parse(run.command)
    assert args.hyperparams == {"gamma": 0.5, **{key: value for key, value in params.items() if key != "n_timesteps"}}
    assert (args.algo, args.env, args.seed, args.n_timesteps, args.eval_freq) == ("ppo", "Ledger-v0", 5, 32, 32)
    assert args.env_kwargs == {"pay": 2.0} and args.no_report
    assert run.folder.path == workplace / "out/mine/paid/seed_5"
    assert run.n_timesteps == 32


def test_one_environment_stands_in_a_grid_with_several_arguments(workplace):
    envs = {
        f"pay-{pay}": {"id": "Ledger-v0", "gym_packages": ["zoo_environments"], "env_kwargs": {"pay": pay}}
        for pay in (0.5, 1.0, 2.0)
    }
    found = runs(workplace, envs=envs, agents={"ppo": {"params": TINY}}, evaluations={"natural": {}})
    assert [run.key for run in found] == ["ppo/pay-0.5/0", "ppo/pay-1.0/0", "ppo/pay-2.0/0"]
    for run, pay in zip(found, (0.5, 1.0, 2.0), strict=True):
        plan = make_plan(parse(run.command))
        for recipe in (plan.recipe, evaluation_recipe(plan.config)):  # what it learns in, and what it is evaluated in
            env = recipe.build(1, 0, training=False)
            env.reset()
            assert env.step(np.array([0]))[1] == pay
            env.close()
        assert run.settings["settings"]["env_kwargs"] == {"pay": pay}


@pytest.mark.parametrize(
    "given",
    [
        {"profile": "breakout-3.2B", "noop_max": 30},
        {"type": "1", "probability": 0.1},
        {"profile": {"type": "2.1", "effect": "reward_drop", "probability": 0.5}},
    ],
)
def test_profiles_of_stochastic_environments_are_arguments_as_any(workplace, given):
    pytest.importorskip("ale_py")
    agents = {"ppo": {"params": {**TINY, "policy": "CnnPolicy"}}}
    envs = {"mine": {"id": "STORI/Breakout-v0", "env_kwargs": given}}
    (run,) = runs(workplace, envs=envs, agents=agents, evaluations={"natural": {}})
    assert parse(run.command).env_kwargs == given
    wrong = {"mine": {"id": "STORI/Breakout-v0", "env_kwargs": {"profile": "breakout-3.2Q"}}}
    with pytest.raises(UserError, match=r"ppo on mine: --env STORI/Breakout-v0 cannot be made .* Did you mean 'breakout-3.2"):
        runs(workplace, envs=wrong, agents=agents, evaluations={"natural": {}})


def test_an_agent_may_be_trained_in_another_way_than_its_environment_says(workplace):
    agents = {"fast": {"algo": "ppo", "params": TINY}, "slow": {"algo": "ppo", "params": TINY, "vec_env": "dummy"}}
    found = runs(workplace, agents=agents, envs={"CartPole-v1": {"vec_env": "native"}}, evaluations={"natural": {}}, seeds=1)
    assert [parse(run.command).vec_env for run in found] == ["native", "dummy"]


@pytest.mark.parametrize(
    ("env", "n_envs", "own"), [("CartPole-v1", 2, True), ("CartPole-v1", 1, False), ("Hopper-v5", 2, False)]
)
def test_native_environments_count_where_their_episodes_are_others(workplace, env, n_envs, own):
    """MuJoCo's tasks play the very same episodes, and a single one is not stepped natively."""
    kinds = ("native", "dummy", "subproc")
    agents = {kind: {"algo": "ppo", "params": {**TINY, "n_envs": n_envs}, "vec_env": kind} for kind in kinds}
    native, dummy, subproc = runs(workplace, agents=agents, envs=[env], evaluations={"natural": {}}, seeds=1)
    assert dummy.settings == subproc.settings
    assert native.training_changes({"settings": dummy.settings}) == (["native: False -> True"] if own else [])
    assert dummy.training_changes({"settings": native.settings}) == (["native: True -> False"] if own else [])
    before = {"settings": {key: value for key, value in dummy.settings.items() if key != "native"}}  # of an earlier version
    for said in kinds:
        record = {**before, "command": f"python -m rlspo.zoo.train --env {env} --vec-env {said} --seed 0"}
        changes = [bool(run.training_changes(record)) for run in (native, dummy)]
        assert changes == ([said != "native", said == "native"] if own else [False, said == "native"])
    assert native.training_changes({**before, "command": "python -m rlspo.zoo.train"}) == []


def test_a_file_of_hyperparameters_is_found_beside_the_grid(workplace):
    (workplace / "grids").mkdir()
    (workplace / "grids/mine.yml").write_text("default: {policy: MlpPolicy, n_timesteps: 77, n_steps: 11, batch_size: 11}\n")
    file = write_grid(workplace / "grids", agents={"ppo": {"conf_file": "mine.yml"}}, n_timesteps=None)
    (run,) = runs_of(file, workplace / "out")
    assert run.n_timesteps == 77
    assert parse(run.command).conf_file.as_posix() == "grids/mine.yml"


def test_a_file_of_hyperparameters_may_come_with_the_agent(workplace):
    (workplace / "grids").mkdir()
    file = write_grid(workplace / "grids", agents={"ppo": {"conf_file": "ppo_lstm.yml"}})
    (run,) = runs_of(file, workplace / "out")
    assert "MlpLstmPolicy" in str(run.settings)
    kept = workplace / "kept"
    kept.mkdir()
    grids.write_grid(read_grid(file), file, kept)
    assert "MlpLstmPolicy" in (kept / "hyperparams_ppo.yml").read_text()
    gone = write_grid(workplace / "grids", agents={"ppo": {"conf_file": "gone.yml"}})
    with pytest.raises(UserError, match=r"ppo on .*there is no file gone.yml"):
        runs_of(gone, workplace / "out")


def test_a_class_of_stable_baselines3_is_an_agent(workplace):
    settings = {"policy": "MlpPolicy", "n_steps": 16, "batch_size": 16}
    (run,) = runs(workplace, agents={"sb3": {"algo": "stable_baselines3.PPO", "params": settings}})
    assert run.settings["algo"] == "stable_baselines3.PPO"
    assert run.settings["agent"]["n_steps"] == 16


SAC = {"algo": "stable_baselines3.SAC", "params": {"policy": "MlpPolicy"}}
HALLS = {"Halls-v0": {"gym_packages": ["zoo_environments"]}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"agent": {}}, r"tiny\.yml: there is no key 'agent'\. Did you mean 'agents'\?"),
        ({"agents": None}, "the key 'agents' is missing"),
        ({"agents": {}}, "agents is empty"),
        ({"agents": {"ppo": {"parms": {}}}}, r"agents: ppo: there is no key 'parms'\. Did you mean 'params'\?"),
        ({"agents": {"ppoo": {}}}, "ppoo on Ledger-v0: --algo: There is no agent 'ppoo'. Did you mean 'ppo'"),
        ({"agents": {"ppo": {"params": {"n_step": 8}}}}, "-params: there is no key 'n_step'. Did you mean 'n_steps'"),
        ({"agents": {"ppo": {"evaluations": ["nature"]}}}, r"'nature' is none of the grid's\. Did you mean 'natural'"),
        ({"agents": {"a/b": {"algo": "ppo"}}}, "'a/b' cannot name a folder"),
        ({"agents": {"lock": {"algo": "ppo"}}}, "agents: 'lock' is a file in the folder of a grid"),
        ({"seeds": [2**31]}, "seeds: 0 is 2147483648: Input should be less than 2147483648"),
        ({"envs": ["CartPol-v1"]}, "--env: there is no environment 'CartPol-v1'. Did you mean 'CartPole-v1'"),
        ({"envs": ["CartPole-v1", "CartPole-v1"]}, "envs: CartPole-v1 stands twice"),
        ({"envs": ["a:X-v0", "b:X-v0"]}, "two of them would share the folder X-v0"),
        ({"envs": {"Ledger-v0": {"gym_packages": ["zoo_environments"], "env_kwargs": {"pays": 1}}}}, "no key 'pays'"),
        ({"seeds": 0}, "seeds: 0 seeds; at least 1 is needed"),
        ({"seeds": [1, 1]}, "names one twice"),
        ({"seeds": [-1]}, "seeds: 0 is -1"),
        ({"episodes": 0}, "episodes is 0: Input should be greater than 0"),
        ({"eval_freq": 0}, "eval_freq is 0"),
        ({"eval_freq": -1, "model": "best"}, "model: best needs evaluations during training"),
        ({"baseline": "pp"}, r"baseline: there is no agent 'pp' in this grid\. Did you mean 'ppo'"),
        ({"normalize": {"Ledger-v0": [3, 3]}}, "must be a low and a higher return"),
        ({"normalize": {"Ledger": [0, 3]}}, "normalize: there is no environment 'Ledger'"),
        ({"evaluations": {"mad": {"atack": "mad"}}}, r"evaluations: mad: there is no key 'atack'\. Did you mean 'attack'"),
        ({"evaluations": {"mad": {"attack": "mad"}}}, "evaluations: mad: the key 'epsilon' is missing"),
        ({"evaluations": {"mad": {"attack": "mid", "epsilon": 0.1}}}, "attack is 'mid': Input should be 'random', 'cr"),
        ({"evaluations": {"worst": {}}}, "'worst' is the name of a measure of its own"),
        ({"evaluations": {"x": {"attack": "random", "epsilon": 0.1, "solver": "pgd"}}}, "solver is the search of an attack"),
        ({"evaluations": {"x": {"attack": "mad", "epsilon": 0.1, "solver": "strong"}}}, "solver is 'strong'"),
        ({"agents": {"sac": SAC}, "envs": ["Pendulum-v1"]}, "sac on Pendulum-v1: the random attack needs an"),
        ({"envs": HALLS}, "ppo on Halls-v0: the random attack has nothing to shift"),
    ],
)  # fmt: skip
def test_mistakes_are_told_at_once(workplace, changes, message):
    with pytest.raises(UserError, match=message):
        runs(workplace, **changes)
    assert not (workplace / "out").exists()
