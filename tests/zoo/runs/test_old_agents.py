"""Agents that rl-baselines3-zoo published in past years are evaluated and gone on with, without it and without gym."""

import copy
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import sb3_contrib
import stable_baselines3
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from rlspo.common.agent import load_model
from rlspo.zoo.errors import UserError
from rlspo.zoo.evaluate.evaluation import evaluate
from rlspo.zoo.runs.compatibility import misfit
from rlspo.zoo.runs.saved_agent import find_agent
from rlspo.zoo.train.command import main
from tests.zoo import old_agents
from tests.zoo.runs.test_saved_agent import named

OFF = {"buffer_size": 50, "learning_starts": 5, "batch_size": 4, "policy_kwargs": {"net_arch": [4]}}
ON = {"n_steps": 8, "batch_size": 8}
#: Name there, class, environment, its arguments, and a schedule that its file holds.
AGENTS = [
    ("a2c", stable_baselines3.A2C, "Pendulum-v1", {"n_steps": 8, "use_sde": True}, "learning_rate"),
    ("ppo", stable_baselines3.PPO, "CartPole-v1", ON, "clip_range"),
    ("trpo", sb3_contrib.TRPO, "CartPole-v1", ON, "lr_schedule"),
    ("ppo_lstm", sb3_contrib.RecurrentPPO, "CartPole-v1", ON, "clip_range"),
    ("ars", sb3_contrib.ARS, "CartPole-v1", {"n_delta": 1}, "delta_std"),
    ("dqn", stable_baselines3.DQN, "CartPole-v1", OFF, "exploration_schedule"),
    ("qrdqn", sb3_contrib.QRDQN, "CartPole-v1", OFF, "exploration_schedule"),
    ("sac", stable_baselines3.SAC, "Pendulum-v1", OFF, "learning_rate"),
    ("td3", stable_baselines3.TD3, "Pendulum-v1", OFF, "lr_schedule"),
    ("tqc", sb3_contrib.TQC, "Pendulum-v1", OFF, "learning_rate"),
]


def trained(cls, env, **others):
    """An agent of a moment."""
    policy = {"ARS": "LinearPolicy", "RecurrentPPO": "MlpLstmPolicy"}.get(cls.__name__, "MlpPolicy")
    return cls(policy, env, seed=0, device="cpu", **copy.deepcopy(others)).learn(10)


@pytest.fixture(autouse=True)
def not_installed(workplace):
    """What those files name is not here."""
    assert not {"gym", "rl_zoo3", "utils"} & {*sys.modules}


@pytest.mark.parametrize(("algo", "cls", "env", "others", "schedule"), AGENTS, ids=[agent[0] for agent in AGENTS])
@pytest.mark.parametrize("pickle_of", [old_agents.code_of_zoo, old_agents.schedule_of_zoo])
def test_an_old_agent_acts_as_it_did(algo, cls, env, others, schedule, pickle_of):
    model = trained(cls, env, **others)
    run = old_agents.run_of_zoo(model, algo, env, policy="MlpPolicy", learning_rate="lin_0.001", n_timesteps=1e5)
    pickled = {**old_agents.spaces_of(model), schedule: pickle_of(1e-3)}
    old_agents.age(run / f"{env}.zip", old_agents.LATER, pickled)
    agent = find_agent(run)
    assert (agent.algo.rpartition(".")[2], agent.env, agent.statistics) == (cls.__name__, env, None)
    loaded = agent.load("cpu")
    observations = np.stack([model.observation_space.sample().clip(-3, 3) for _ in range(5)])
    np.testing.assert_array_equal(
        loaded.predict(observations, deterministic=True)[0], model.predict(observations, deterministic=True)[0]
    )
    built = agent.build_env(1, 0)
    agent.check_fit(loaded, built)
    assert evaluate(agent, 1, device="cpu").lengths[0] > 0


def test_statistics_of_before_dict_observations():
    env = VecNormalize(make_vec_env("Pendulum-v1", seed=0))
    model = trained(stable_baselines3.A2C, env, n_steps=8)
    for name in ("CartPole-v1", "Pendulum-v1"):  # beside each other, as --exp-id -1 finds them
        settings = {"normalize": "{'norm_obs': True, 'norm_reward': False}"} if name == "Pendulum-v1" else {}
        run = old_agents.run_of_zoo(model, "a2c", name, old_agents.old_statistics(env), **settings)
        shutil.copytree(run, run.parent, dirs_exist_ok=True)
    agent = named("--algo", "a2c", "--env", "Pendulum-v1", "-f", "rl-trained-agents", "--exp-id", "-1")
    assert agent.model_file == Path("rl-trained-agents/a2c/Pendulum-v1.zip")
    built = agent.build_env(1, 0)
    np.testing.assert_array_equal(built.obs_rms.mean, env.obs_rms.mean)
    assert built.norm_obs_keys is None
    agent.check_fit(agent.load("cpu"), built)


def test_a_downloaded_repository_is_a_run_folder():
    """As the hub has it: the model by agent and environment, with its records beside it."""
    env = VecNormalize(make_vec_env("Pendulum-v1", seed=0))
    model = trained(stable_baselines3.PPO, env, **ON)
    run = old_agents.run_of_zoo(model, "ppo", "Pendulum-v1", old_agents.old_statistics(env), normalize=True, n_envs=4)
    folder = Path("ppo-Pendulum-v1")
    shutil.copytree(run / "Pendulum-v1", folder)
    (folder / "vecnormalize.pkl").rename(folder / "vec_normalize.pkl")
    shutil.copy(run / "Pendulum-v1.zip", folder / "ppo-Pendulum-v1.zip")
    for path in (folder, folder / "ppo-Pendulum-v1.zip"):
        agent = find_agent(path)
        assert (agent.algo, agent.env, agent.folder) == ("stable_baselines3.PPO", "Pendulum-v1", folder)
        assert agent.statistics == folder / "vec_normalize.pkl"
        agent.check_fit(agent.load("cpu"), agent.build_env(1, 0))


def test_wrappers_are_found_where_they_are_now(monkeypatch):
    model = trained(stable_baselines3.PPO, "CartPole-v1", **ON)
    wrappers = ["utils.wrappers.TimeFeatureWrapper", {"rl_zoo3.wrappers.TimeFeatureWrapper": {"max_steps": 100}}]
    run = old_agents.run_of_zoo(model, "ppo", "CartPole-v1", env_wrapper=wrappers)
    (first, _), (second, given) = find_agent(run).recipe.env_wrappers
    assert first is second is sb3_contrib.common.wrappers.TimeFeatureWrapper and given == {"max_steps": 100}


def test_an_old_agent_goes_on_learning(capsys):
    """Where its schedules can be read: bounds that are only written otherwise do not stop it."""
    env = VecNormalize(make_vec_env("CartPole-v1", seed=0))
    model = trained(stable_baselines3.PPO, env, **ON)
    run = old_agents.run_of_zoo(model, "ppo", "CartPole-v1", old_agents.old_statistics(env), normalize=True)
    old_agents.age(run / "CartPole-v1.zip", (), {**old_agents.spaces_of(model), "clip_range": old_agents.code_of_zoo(0.2)})
    words = ["--algo", "stable_baselines3.PPO", "--env", "CartPole-v1", "--no-report", "--verbose", "0", "--eval-freq", "-1"]
    assert main([*words, "-i", str(run / "CartPole-v1.zip"), "-n", "8", "-params", "normalize:true"]) == 0
    assert capsys.readouterr().err == ""
    last = find_agent("logs/stable_baselines3.PPO/CartPole-v1_1")
    assert last.num_timesteps == 24
    assert last.build_env(1, 0).obs_rms.count > env.obs_rms.count


@pytest.mark.parametrize(
    ("saved", "here", "acted", "fits"),
    [
        (spaces.Box(-old_agents.HUGE, old_agents.HUGE, (2,)), spaces.Box(-np.inf, np.inf, (2,)), False, True),
        (spaces.Box(-old_agents.HUGE, old_agents.HUGE, (2,)), spaces.Box(-np.inf, np.inf, (2,)), True, True),
        (spaces.Box(-1.5, 1.5, (2,)), spaces.Box(-2.5, 2.5, (2,)), False, True),
        (spaces.Box(-1.5, 1.5, (2,)), spaces.Box(-2.5, 2.5, (2,)), True, False),
        (spaces.Box(-2.0, 2.0, (2,)), spaces.Box(-2.00001, 2.0, (2,)), True, True),
        (spaces.Box(-1, 1, (2,), np.float32), spaces.Box(-1, 1, (2,), np.float64), False, True),
        (spaces.Box(-1, 1, (2,)), spaces.Box(-1, 1, (3,)), False, False),
        (spaces.Box(0, 255, (4, 4, 3), np.uint8), spaces.Box(0, 1, (4, 4, 3), np.uint8), False, False),
        (spaces.Box(0, 255, (4,), np.uint8), spaces.Box(0, 255, (4,), np.float32), False, False),
        (spaces.Discrete(2), spaces.Discrete(3), False, False),
        (spaces.Discrete(2), spaces.MultiBinary(2), True, False),
        (spaces.Dict({"a": spaces.Box(0, 1, (2,))}), spaces.Dict({"a": spaces.Box(0, 2, (2,))}), False, True),
        (spaces.Dict({"a": spaces.Discrete(2)}), spaces.Dict({"a": spaces.Discrete(3)}), False, False),
        (spaces.Dict({"a": spaces.Discrete(2)}), spaces.Dict({"b": spaces.Discrete(2)}), False, False),
    ],
)
def test_spaces_fit_up_to_bounds_of_observations(saved, here, acted, fits):
    why = misfit(saved, here, acted)
    assert (why is None) == fits
    assert fits or why.startswith("Action" if acted else "Observation")


@pytest.mark.parametrize("trust", [False, True])
def test_trust_takes_nothing_away(trust):
    """A trusted file, such as one in one's own folder of runs, may run code; it loads no worse for that."""
    model = trained(stable_baselines3.PPO, "CartPole-v1", **ON)
    run = old_agents.run_of_zoo(model, "ppo", "CartPole-v1")
    pickled = {"learning_rate": old_agents.schedule_of_zoo(0.1), "clip_range": pickle.dumps(_answer)}
    old_agents.age(run / "CartPole-v1.zip", (), {**old_agents.spaces_of(model), **pickled})
    loaded = load_model(stable_baselines3.PPO, run / "CartPole-v1.zip", trust, device="cpu")
    assert loaded.observation_space.shape == (4,)
    assert "rl_zoo3" in loaded._withheld["learning_rate"]
    assert ("clip_range" in loaded._withheld) != trust, "code that is there is run where it is trusted"
    assert not trust or loaded.clip_range(0.0) == 42.0


def _answer(progress_remaining):
    return 42.0


@pytest.mark.parametrize(
    "text", ["algo: ppo\nenv: 2001-02-30", "[" * 3000, "env: " + "{a: " * 3000, "? !!python/tuple [[]]\n: 1"]
)
@pytest.mark.parametrize("name", ["args", "config"])
def test_records_that_cannot_be_read_are_named(name, text):
    run = old_agents.run_of_zoo(trained(stable_baselines3.PPO, "CartPole-v1", **ON), "ppo", "CartPole-v1")
    (run / "CartPole-v1" / f"{name}.yml").write_text(text)
    with pytest.raises(UserError, match=rf"{name}\.yml cannot be read"):
        find_agent(run)
