"""Finding saved agents, and building their environments as in training."""

import importlib
import os
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import stable_baselines3
import torch
import yaml
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize, unwrap_vec_normalize
from stable_baselines3.her import HerReplayBuffer

import rlspo
from rlspo.zoo.cli.parser import Parser
from rlspo.zoo.config.allowed import ALL, Allowed
from rlspo.zoo.errors import UserError
from rlspo.zoo.runs.agent_flags import add_agent_flags, agent_from
from rlspo.zoo.runs.model_files import algo_of, settings_of
from rlspo.zoo.runs.saved_agent import checkpoints_of, find_agent

RUN = Path("logs/ppo/Ledger-v0_1")
PACKAGES = {"gym_packages": ["zoo_environments"]}
TINY = {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "seed": 0, "device": "cpu"}
FULL = """
Ledger-v0:
  n_timesteps: 96
  policy: MlpPolicy
  env_kwargs: {pay: 3.0}
  env_wrapper: [{zoo_environments.Shift: {by: 5.0}}]
  normalize: {clip_obs: 7.0}
  frame_stack: 2
"""


def first_rewards(agent, **env_kwargs):
    """What two copies of the environment pay for one step."""
    env = agent.build_env(2, 0, **env_kwargs)
    env.reset()
    return list(env.step(np.zeros(2, int))[1])


@pytest.fixture
def environments(workplace):
    """The module of the tests' own environments."""
    return importlib.import_module("zoo_environments")


@pytest.fixture
def wrapped_run(train):
    """A run with everything around its environment, and models of different steps."""
    Path("mine.yml").write_text(FULL)
    params = ["n_steps:16", "batch_size:16", "n_epochs:1"]
    flags = ("--no-report", "--conf-file", "mine.yml", "--save-freq", "32", "--eval-freq", "48", "--eval-episodes", "1")
    assert train(*flags, params=params)[0] == 0
    return RUN


def test_environment_is_that_of_training(wrapped_run):
    env = find_agent(wrapped_run).build_env(2, 0)
    normalize = unwrap_vec_normalize(env)
    assert isinstance(env, VecFrameStack) and normalize.clip_obs == 7.0
    first = env.reset()
    assert first.shape == (2, 4)
    # Shift adds 5, and the statistics of training know it: what is seen is near 0, what is there is near 5.
    assert abs(first).max() < 3
    assert (normalize.get_original_obs() > 3).all()
    _, rewards, _, _ = env.step(np.zeros(2, int))
    assert list(rewards) == [3.0, 3.0], "raw, whatever training scaled them to"
    assert np.array_equal(normalize.obs_rms.mean, unwrap_vec_normalize(find_agent(wrapped_run).build_env(1, 0)).obs_rms.mean)


def test_every_model_has_its_own_statistics_and_they_stay(wrapped_run):
    counts = {}
    for which in ("last", "best", "32", "64"):
        agent = find_agent(wrapped_run, which)
        normalize = unwrap_vec_normalize(env := agent.build_env(1, 0))
        before = normalize.obs_rms.count
        env.reset()
        env.step(np.zeros(1, int))
        assert normalize.obs_rms.count == before
        counts[which] = round(before)
    # One observation of the reset, and one a step, of those that had been seen when the model was saved.
    assert counts["32"] < counts["64"] < counts["last"]
    assert counts["best"] in (49, 97)


def test_which_chooses_the_model(wrapped_run):
    assert find_agent(wrapped_run).model_file == wrapped_run / "last_model.zip"
    best = find_agent(wrapped_run, "best")
    assert (best.which, best.model_file.name) == ("best", "best_model.zip")
    assert [steps for steps, _ in checkpoints_of(wrapped_run)] == [32, 64]
    near = find_agent(wrapped_run, "34")
    assert (near.which, near.num_timesteps, near.load("cpu").num_timesteps) == ("checkpoint", 32, 32)
    by_file = find_agent(wrapped_run / "checkpoints" / "rl_model_64_steps.zip")
    assert (by_file.folder, by_file.which, by_file.env) == (wrapped_run, "checkpoint", "Ledger-v0")
    assert by_file.statistics == wrapped_run / "checkpoints" / "rl_model_64_steps_vecnormalize.pkl"
    assert find_agent(wrapped_run / "best_model").which == "best", "SB3 lets .zip be left out"
    assert find_agent("logs").folder == wrapped_run, "the only run there is"
    assert "trained for 96 steps" in find_agent(wrapped_run).title


@pytest.mark.parametrize("which", ["48", "1000000", "newest", "-32"])
def test_a_missing_model_is_reported_with_those_that_exist(wrapped_run, which):
    with pytest.raises(UserError, match="has: --which last, best, 32, 64"):
        find_agent(wrapped_run, which)


def test_arguments_of_evaluation_and_of_the_user_come_on_top(train):
    assert train("--env-kwargs", "pay:3.0", "--eval-env-kwargs", "pay:7.0", "--no-report")[0] == 0
    assert first_rewards(find_agent(RUN)) == [7.0, 7.0]
    assert first_rewards(find_agent(RUN, env_kwargs={"pay": 2.0})) == [2.0, 2.0]
    assert first_rewards(find_agent(RUN), pay=1.5) == [1.5, 1.5]
    with pytest.raises(UserError, match="Did you mean 'pay'"):
        find_agent(RUN, env_kwargs={"pya": 2.0})


def test_missing_statistics_are_an_error_and_never_silent(wrapped_run):
    (wrapped_run / "last_model_vecnormalize.pkl").rename("elsewhere.pkl")
    with pytest.raises(UserError, match=r"trained in a VecNormalize.*--vecnormalize FILE"):
        find_agent(wrapped_run)
    moved = find_agent(wrapped_run, vecnormalize="elsewhere.pkl").build_env(1, 0)
    assert abs(moved.reset()).max() < 3
    assert find_agent(wrapped_run, vecnormalize="none").build_env(1, 0).reset().max() > 3
    with pytest.raises(UserError, match="there is no file gone"):
        find_agent(wrapped_run, vecnormalize="gone.pkl")
    Path("junk.pkl").write_bytes(b"junk")
    with pytest.raises(UserError, match=r"junk\.pkl holds no statistics for these environments"):
        find_agent(wrapped_run, vecnormalize="junk.pkl").build_env(1, 0)


def test_several_runs_are_listed(train):
    for _ in range(2):
        assert train("--no-report", "--eval-freq", "-1", "-n", "16")[0] == 0
    os.utime(RUN, (2e9, 2e9))
    with pytest.raises(UserError, match=r"(?s)holds 2 runs.*Ledger-v0_1.*Ledger-v0_2"):
        find_agent("logs")


def test_files_that_are_no_agent_are_refused(tmp_path):
    with pytest.raises(UserError, match="no run folder and no model file gone"):
        find_agent("gone")
    with pytest.raises(UserError, match=r"is not a run folder: it holds no config\.yml"):
        find_agent(tmp_path)
    Path("text.zip").write_text("no zip")
    with pytest.raises(UserError, match="not a readable model file"):
        find_agent("text.zip", env="CartPole-v1")


def test_a_file_alone_names_its_agent_but_not_its_environment(environments):
    rlspo.PPO("MlpPolicy", environments.Ledger(), **TINY).save("mine.zip")
    with pytest.raises(UserError, match="Name the environment: --env"):
        find_agent("mine.zip")
    agent = find_agent("mine.zip", env="Ledger-v0", env_kwargs={"pay": 4.0}, **PACKAGES)
    assert (agent.algo, agent.which, agent.folder, agent.config) == ("ppo", "file", None, None)
    assert first_rewards(agent) == [4.0, 4.0]
    model = agent.load("cpu")
    assert type(model) is rlspo.PPO
    with pytest.raises(UserError, match=r"(?s)does not fit CartPole-v1.*spaces do not match"):
        find_agent("mine", env="CartPole-v1").check_fit(model, make_vec_env("CartPole-v1"))
    with pytest.raises(UserError, match="Did you mean 'Ledger-v0'"):
        find_agent("mine", env="Legder-v0", **PACKAGES)
    with pytest.raises(UserError, match="Did you mean 'barpo'"):
        find_agent("mine", algo="barpi", env="Ledger-v0", **PACKAGES)
    with pytest.raises(UserError, match=r"(?s)cannot be loaded as an agent of barpo.*--algo"):
        find_agent("mine", algo="barpo", env="Ledger-v0", **PACKAGES).load("cpu")
    with pytest.raises(UserError, match="'abacus' cannot be used here"):
        agent.load("abacus")


def test_wrappers_of_a_file_alone_are_named_by_the_user(environments):
    env = VecFrameStack(make_vec_env(lambda: environments.Shift(environments.Ledger(), 5.0)), 3)
    rlspo.PPO("MlpPolicy", env, **TINY).save("mine.zip")
    wrapping = {"frame_stack": 3, "env_wrapper": {"zoo_environments.Shift": {"by": 5.0}}}
    agent = find_agent("mine.zip", env="Ledger-v0", wrapping=wrapping, **PACKAGES)
    built = agent.build_env(1, 0)
    agent.check_fit(agent.load("cpu"), built)
    assert built.reset().max() > 3
    with pytest.raises(UserError, match=r"learning_rate cannot change.*Allowed: env_wrapper"):
        find_agent("mine.zip", env="Ledger-v0", wrapping={"learning_rate": 1}, **PACKAGES)
    with pytest.raises(UserError, match="frame_stack"):
        find_agent("mine.zip", env="Ledger-v0", wrapping={"frame_stack": "many"}, **PACKAGES)


def test_a_file_of_sb3_with_statistics(environments):
    env = VecNormalize(make_vec_env(lambda: environments.Shift(environments.Ledger(), 5.0), seed=0), clip_obs=6.0)
    model = stable_baselines3.PPO("MlpPolicy", env, **TINY).learn(32)
    model.save("sb3.zip")
    env.save("statistics.pkl")
    shift = {"env_wrapper": {"zoo_environments.Shift": {"by": 5.0}}}
    with pytest.raises(UserError, match="trained in a VecNormalize"):
        find_agent("sb3.zip", env="Ledger-v0", wrapping=shift, **PACKAGES)
    agent = find_agent("sb3.zip", env="Ledger-v0", vecnormalize="statistics.pkl", wrapping=shift, **PACKAGES)
    assert (agent.algo, agent.num_timesteps) == ("stable_baselines3.PPO", 32)
    normalize = unwrap_vec_normalize(built := agent.build_env(1, 0))
    assert (normalize.clip_obs, normalize.training, normalize.norm_reward) == (6.0, False, False)
    np.testing.assert_array_equal(normalize.obs_rms.mean, env.obs_rms.mean)
    observations = built.reset()
    np.testing.assert_array_equal(
        agent.load("cpu").predict(observations, deterministic=True)[0], model.predict(observations, deterministic=True)[0]
    )


@pytest.mark.parametrize("name", ["A2C", "PPO", "DQN", "SAC", "TD3"])
def test_agents_of_sb3_are_recognised_and_act(name):
    cls = getattr(stable_baselines3, name)
    env_id = "Pendulum-v1" if name in ("SAC", "TD3") else "CartPole-v1"
    small = {} if name in ("A2C", "PPO") else {"buffer_size": 1_000}
    model = cls("MlpPolicy", env_id, device="cpu", policy_kwargs={"net_arch": [4]}, **small)
    model.save("agent.zip")
    agent = find_agent("agent.zip", env=env_id)
    assert agent.algo == f"stable_baselines3.{name}"
    observations = agent.build_env(2, 0).reset()
    loaded = agent.load("cpu")
    np.testing.assert_array_equal(
        loaded.predict(observations, deterministic=True)[0], model.predict(observations, deterministic=True)[0]
    )
    assert getattr(loaded, "buffer_size", 1) == 1, "no memory is set aside for what only acts"


@pytest.mark.parametrize("name", ["MaskablePPO", "RecurrentPPO", "TRPO", "QRDQN", "TQC", "CrossQ", "ARS"])
def test_agents_of_contrib_are_recognised(name):
    contrib = pytest.importorskip("sb3_contrib")
    env_id = "Pendulum-v1" if name in ("TQC", "CrossQ") else "CartPole-v1"
    policy = "MlpLstmPolicy" if name == "RecurrentPPO" else "MlpPolicy"
    getattr(contrib, name)(policy, env_id, device="cpu", policy_kwargs={"net_arch": [4]}).save("agent.zip")
    assert algo_of(settings_of(Path("agent.zip"))) == f"sb3_contrib.{name}"


def test_a_memory_that_wants_an_environment_is_left_behind():
    env = BitFlippingEnv(n_bits=3)
    stable_baselines3.DQN("MultiInputPolicy", env, replay_buffer_class=HerReplayBuffer, buffer_size=100).save("her.zip")
    model = find_agent("her.zip", env="CartPole-v1").load("cpu")
    assert model.predict(env.reset()[0])[0] in range(3)


def test_an_unknown_policy_needs_a_name():
    class Own(stable_baselines3.common.policies.ActorCriticPolicy):
        pass

    stable_baselines3.PPO(Own, "CartPole-v1", **TINY).save("own.zip")
    with pytest.raises(UserError, match="does not name the agent that wrote it"):
        find_agent("own.zip", env="CartPole-v1")
    named = {"algo": "stable_baselines3.PPO", "env": "CartPole-v1"}
    with pytest.raises(UserError, match=r"policy_class is more than data, it would run the class Own.*--trust"):
        find_agent("own.zip", **named).load("cpu")
    trusted = find_agent("own.zip", **named, allowed=Allowed((ALL,)))
    assert trusted.load("cpu").policy_class.__name__ == "Own"


# Run folders of rl-baselines3-zoo.


@pytest.fixture
def foreign_run(environments):
    """As it writes them: ordered dictionaries and tuples with Python tags, and Python in text."""
    folder = Path("logs/ppo/Ledger-v0_1")
    record = folder / "Ledger-v0"
    record.mkdir(parents=True)
    env = VecNormalize(make_vec_env(lambda: environments.Shift(environments.Ledger(), 5.0), seed=0))
    model = stable_baselines3.PPO("MlpPolicy", env, **TINY).learn(16)
    model.save(folder / "rl_model_16_steps.zip")
    model.learn(16, reset_num_timesteps=False).save(folder / "Ledger-v0.zip")
    env.save(str(record / "vecnormalize.pkl"))
    config = OrderedDict(
        env_wrapper=[{"zoo_environments.Shift": {"by": 5.0}}],
        n_timesteps=32,
        normalize="dict(norm_obs=True, norm_reward=True)",
        policy="MlpPolicy",
        train_freq=(1, "step"),
    )
    args = OrderedDict(
        algo="ppo", env="Ledger-v0", env_kwargs={"pay": 6.0}, gym_packages=["zoo_environments"], conf_file=Path("mine.yml")
    )
    for name, data in (("config", config), ("args", args)):
        (record / f"{name}.yml").write_text(yaml.dump(data))
    assert "!!python/tuple" in (record / "config.yml").read_text()
    assert "!!python/object/apply:collections.OrderedDict" in (record / "args.yml").read_text()
    return folder


@pytest.mark.parametrize("path", ["logs/ppo/Ledger-v0_1", "logs", "logs/ppo/Ledger-v0_1/Ledger-v0.zip"])
def test_a_run_of_rl_zoo(foreign_run, path):
    agent = find_agent(path, **PACKAGES)
    assert (agent.algo, agent.env, agent.num_timesteps, agent.folder) == (
        "stable_baselines3.PPO",
        "Ledger-v0",
        32,
        foreign_run,
    )
    assert abs(agent.build_env(2, 0).reset()).max() < 3
    assert first_rewards(agent) == [6.0, 6.0]
    assert first_rewards(find_agent(path, env_kwargs={"pay": 8.0}, **PACKAGES)) == [8.0, 8.0]
    assert agent.load("cpu").num_timesteps == 32


def test_models_of_a_run_of_rl_zoo(foreign_run):
    assert find_agent(foreign_run, "16", **PACKAGES).load("cpu").num_timesteps == 16
    with pytest.raises(UserError, match="has: --which last, 16"):
        find_agent(foreign_run, "best", **PACKAGES)
    (foreign_run / "Ledger-v0" / "vecnormalize.pkl").unlink()
    with pytest.raises(UserError, match="trained in a VecNormalize"):
        find_agent(foreign_run, **PACKAGES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("env_wrapper: []\nx: !!python/object/apply:os.system ['touch owned']\n", None),
        ('normalize: \'{"norm_obs": __import__("os").system("touch owned")}\'\n', "Of Python only literals are read"),
        ('normalize: \'dict(norm_obs=open("owned", "w"))\'\n', "Of Python only literals are read"),
        ("normalize: [\n", "cannot be read"),
    ],
)
def test_no_code_of_a_foreign_file_runs(foreign_run, text, message):
    (foreign_run / "Ledger-v0" / "config.yml").write_text(text)
    if message is None:
        assert find_agent(foreign_run, vecnormalize="none", **PACKAGES).env == "Ledger-v0"
    else:
        with pytest.raises(UserError, match=message):
            find_agent(foreign_run, **PACKAGES)
    assert not Path("owned").exists()


# The flags.


def named(*words):
    """What the flags of a command name."""
    parser = Parser("evaluate", "", "", "evaluate PATH")
    add_agent_flags(parser)
    return agent_from(parser.read(words))


@pytest.mark.parametrize(
    ("flags", "steps"), [(("--load-checkpoint", "32"), 32), (("--load-last-checkpoint",), 64), (("--which", "checkpoint"), 64)]
)
def test_flags_of_rl_zoo_choose_the_model_too(wrapped_run, flags, steps):
    agent = named(str(wrapped_run), *flags)
    assert (agent.which, agent.num_timesteps) == ("checkpoint", steps)
    assert named(str(wrapped_run), "--load-best").which == "best"


def test_flags_find_a_run_by_agent_and_environment(train):
    for _ in range(2):
        assert train("--no-report", "--eval-freq", "-1", "-n", "16")[0] == 0
    by_name = ("--algo", "ppo", "--env", "Ledger-v0")
    assert named(*by_name).folder == Path("logs/ppo/Ledger-v0_2"), "the latest"
    assert named(*by_name, "--exp-id", "0").folder == Path("logs/ppo/Ledger-v0_2")
    assert named(*by_name, "--exp-id", "1").folder == RUN
    assert named(str(RUN), "--env-kwargs", "pay:2.5").recipe.env_kwargs == {"pay": 2.5}
    for words, message in [
        ((*by_name, "--exp-id", "3"), "There is no run .*Ledger-v0_3. There are: Ledger-v0_1, Ledger-v0_2"),
        (("--algo", "ppo", "--env", "Halls-v0"), "There is none of this agent and environment"),
        (("--algo", "ppo"), "or both --algo and --env"),
        ((str(RUN), "--exp-id", "1"), "--exp-id finds a run without PATH"),
        ((str(RUN / "last_model.zip"), "--which", "best"), "--which chooses in a run folder"),
    ]:
        with pytest.raises(UserError, match=message):
            named(*words)


def test_nothing_is_unpickled_before_it_is_loaded(monkeypatch):
    """Finding an agent reads text only: what a pickle could do, it does not do then."""
    rlspo.PPO("MlpPolicy", "CartPole-v1", **TINY).save("mine.zip")

    def refuse(*args, **kwargs):
        raise AssertionError("unpickled")

    monkeypatch.setattr("cloudpickle.loads", refuse)
    monkeypatch.setattr("pickle.load", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    assert find_agent("mine.zip", env="CartPole-v1").algo == "ppo"
