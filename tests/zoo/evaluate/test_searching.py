"""Acting by search in the zoo: what it finds, what it costs, in which units, and what is refused."""

import csv
import functools
import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium.utils import EzPickle
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import rlspo
from rlspo.zoo.errors import UserError
from rlspo.zoo.evaluate.command import evaluate, main
from rlspo.zoo.evaluate.searching import Budget, SearchingActor
from rlspo.zoo.runs.saved_agent import find_agent
from rlspo.zoo.video import enjoy, record
from rlspo.zoo.video.spec import Video, VideoSpec
from rlspo.zoo.video.worker import record_agents

TINY = {"n_steps": 16, "batch_size": 16, "seed": 0, "device": "cpu"}
TINY_SPO = {**TINY, "gradient_steps": 1, "n_particles": 8, "depth": 2}
PARAMS = ["n_envs:1", "n_steps:16", "batch_size:16", "gradient_steps:1", "n_particles:4", "depth:2", "n_timesteps:32"]


class Fork(gym.Env):
    """Action 0 pays 1 and all is over; action 1 pays nothing for two steps and 10 at last."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012
    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.elapsed = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.elapsed += 1
        if self.elapsed == 1 and action == 0:
            return np.zeros(2, np.float32), 1.0, True, False, {"is_success": False}
        over = self.elapsed == 3
        return np.full(2, self.elapsed / 3, np.float32), 10.0 * over, over, False, {"is_success": over} if over else {}

    def render(self):
        return np.full((64, 64, 3), 80 * self.elapsed, np.uint8)


class Sealed(Fork, EzPickle):
    """A deep copy of it is a new one."""

    def __init__(self, render_mode=None):
        EzPickle.__init__(self)
        Fork.__init__(self, render_mode)


for env in (Fork, Sealed):
    if f"{env.__name__}-v0" not in gym.registry:
        gym.register(f"{env.__name__}-v0", entry_point=env)


def timid(model):
    """Prefer action 0, and expect nothing."""
    with torch.no_grad():
        for net in (model.policy.action_net, model.policy.value_net):
            net.weight.zero_()
            net.bias.zero_()
        model.policy.action_net.bias[0] = 1.0
    return model


def saved(cls=rlspo.PPO, settings=TINY, env="Fork-v0", file="agent.zip"):
    """A timid agent on disk."""
    timid(cls("MlpPolicy", gym.make(env), **settings)).save(file)
    return find_agent(file, env=env)


@pytest.fixture
def run(call):
    """Run ``rlspo evaluate``; gives exit code, output and errors."""
    return functools.partial(call, main)


@pytest.mark.parametrize("cls", [rlspo.PPO, rlspo.SPO, stable_baselines3.PPO, stable_baselines3.A2C])
@pytest.mark.parametrize("deterministic", [True, False])
def test_search_finds_what_the_policy_does_not_look_for(cls, deterministic):
    settings = {rlspo.SPO: TINY_SPO, stable_baselines3.A2C: {"seed": 0}}.get(cls, TINY)
    budget = Budget(n_particles=64, depth=3, temperature=0.1)
    result = evaluate(saved(cls, settings), 6, 3, deterministic, search=budget)
    assert list(result.searched.episodes.returns) == [10.0] * 6
    if deterministic:
        assert list(result.returns) == [1.0] * 6
    assert (result.success_rate == 0) == deterministic
    # Three steps each, of three environments, two episodes in each.
    assert result.searched.real_steps == 18
    assert result.searched.settings["n_particles"] == 64 and result.searched.settings["temperature"] == 0.1


def test_model_steps_are_counted_and_the_budget_is_what_is_asked_for():
    agent = saved(rlspo.SPO, TINY_SPO)
    for particles in (4, 32):
        result = evaluate(agent, 4, 2, search=Budget(particles, depth=1, temperature=1.0)).searched
        told = result.as_dict()
        assert result.model_steps == particles * result.real_steps
        assert told["model_steps_per_real_step"] == particles
        assert told["model_steps_per_second"] == pytest.approx(result.model_steps / result.seconds)
    first, again = (evaluate(agent, 20, 5, False, search=Budget(4, 2)).searched.episodes.returns for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_both_ways_begin_from_the_same_starts():
    """The first observation of each episode, as the policy's and the search's."""
    rlspo.PPO("MlpPolicy", "CartPole-v1", **TINY).save("agent.zip")
    agent = find_agent("agent.zip", env="CartPole-v1")
    plain = evaluate(agent, 4, 2, seed=5)
    both = evaluate(agent, 4, 2, seed=5, search=Budget(1, depth=1))
    np.testing.assert_array_equal(plain.returns, both.returns)
    sampled = evaluate(agent, 40, 20, False, seed=5).lengths
    # One particle is a draw of the policy: other random numbers, the same distribution.
    searched = evaluate(agent, 40, 20, False, seed=5, search=Budget(1, depth=1)).searched.episodes.lengths
    assert abs(sampled.mean() - searched.mean()) < 6


def test_greed_is_as_asked_for_or_as_in_training():
    env = DummyVecEnv([lambda: gym.make("Fork-v0")])
    env.reset()
    model = timid(rlspo.SPO("MlpPolicy", gym.make("Fork-v0"), **TINY_SPO, search_kl=0.3, resample_period=2))
    model._temperature = 0.7
    model.save("agent.zip")
    agent = find_agent("agent.zip", env="Fork-v0")

    def settings(model, **budget):
        return SearchingActor(agent, model, env, Budget(**budget), True, 0).settings()

    loaded = agent.load("cpu")
    assert settings(loaded)["temperature"] == 0.7 and settings(loaded)["resample_period"] == 2
    assert settings(loaded, temperature=2.0)["temperature"] == 2.0
    asked = settings(loaded, search_kl=1.0)
    assert (asked["temperature"], asked["search_kl"]) == (None, 1.0)
    ppo = rlspo.PPO("MlpPolicy", gym.make("Fork-v0"), **TINY, gamma=0.9)
    usual = settings(ppo)
    assert (usual["temperature"], usual["search_kl"], usual["gamma"]) == (None, 0.5, 0.9)


# In which units.


def first_advantages(agent, budget):
    """What one step looks worth where nothing is expected."""
    env = agent.build_env(1, 0)
    actor = SearchingActor(agent, timid(agent.load("cpu")), env, budget, True, 0)
    return np.unique(actor.planner.search(env, env.reset()).advantages.numpy())


@pytest.mark.parametrize("norm_obs", [True, False])
def test_rewards_in_a_search_are_scaled_as_in_training(norm_obs):
    env = VecNormalize(make_vec_env("Fork-v0", 1), norm_obs=norm_obs, clip_reward=3.0)
    model = stable_baselines3.PPO("MlpPolicy", env, **TINY).learn(64)
    model.save("agent.zip")
    env.save("agent_vecnormalize.pkl")
    agent = find_agent("agent.zip", env="Fork-v0")
    expected = env.normalize_reward(np.array([0.0, 1.0]))
    assert expected[1] != 1.0
    np.testing.assert_allclose(first_advantages(agent, Budget(16, depth=1, temperature=1.0)), expected, rtol=1e-5)
    assert float(agent.reward_scaling()(torch.tensor(1e6))) == 3.0


def test_a_run_knows_which_rewards_were_scaled(train):
    code, _, _ = train("--no-report", "--eval-freq", "-1", "-params", "normalize:{norm_obs: false, gamma: 0.9}")
    assert code == 0
    agent = find_agent("logs/ppo/Ledger-v0_1")
    assert agent.statistics is None and agent.reward_scaling() is not None
    Path(agent.reward_statistics).unlink()
    assert evaluate(agent, 1).returns.shape == (1,)
    with pytest.raises(UserError, match="in units of scaled rewards, and there are no statistics in"):
        evaluate(agent, 1, search=Budget(4, 2))
    assert train("--no-report", "--eval-freq", "-1")[0] == 0
    assert find_agent("logs/ppo/Ledger-v0_2").reward_scaling() is None


def test_unscaled_rewards_stay_as_they_are():
    env = VecNormalize(make_vec_env("Fork-v0", 1), norm_reward=False)
    stable_baselines3.PPO("MlpPolicy", env, **TINY).learn(16).save("agent.zip")
    env.save("agent_vecnormalize.pkl")
    agent = find_agent("agent.zip", env="Fork-v0")
    assert agent.reward_scaling() is None
    np.testing.assert_allclose(first_advantages(agent, Budget(16, depth=1, temperature=1.0)), [0.0, 1.0])


def test_the_agents_own_scaling_is_kept():
    model = timid(rlspo.SPO("MlpPolicy", gym.make("Fork-v0"), **TINY_SPO, normalize_rewards=True).learn(64))
    scale = model.reward_scaler.scale
    model.save("agent.zip")
    found = first_advantages(find_agent("agent.zip", env="Fork-v0"), Budget(16, depth=1, temperature=1.0))
    assert scale != pytest.approx(1.0, abs=0.05)
    np.testing.assert_allclose(found, [0.0, min(1 / scale, 10.0)], rtol=1e-5)


# The command.

SEARCH = ("agent.zip", "--env", "Fork-v0", "-n", "4", "--n-envs", "2", "--search", "--temperature", "0.1", "--depth", "3")


def test_both_stand_side_by_side_in_every_form(run):
    saved()
    code, output, errors = run(*SEARCH, "--csv", "episodes.csv", "--json", "evaluation.json")
    assert (code, errors) == (0, "")
    for text in ("64 particles, depth 3, temperature 0.1", "for each step of the environment", "per second"):
        assert text in output
    assert "│ mean                      │         1.00 │         10.0 │" in output
    assert "│ success rate              │         0.0% │       100.0% │" in output
    data = json.loads(Path("evaluation.json").read_text())
    assert (data["summary"]["mean"], data["search"]["summary"]["mean"]) == (1.0, 10.0)
    search = data["search"]
    assert search["model_steps"] == pytest.approx(search["model_steps_per_real_step"] * search["real_steps"])
    assert search["settings"]["depth"] == 3
    with open("episodes.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["acts_by"], row["return"]) for row in rows] == [("policy", "1.0")] * 4 + [("search", "10.0")] * 4
    assert [row["acts_by"] for row in data["episodes"]] == ["policy"] * 4 + ["search"] * 4


def test_without_search_nothing_of_it_is_there(run):
    saved()
    code, output, _ = run("agent.zip", "--env", "Fork-v0", "-n", "2", "--json")
    data = json.loads(output)
    assert (code, data["search"]) == (0, None)
    assert "acts_by" not in data["episodes"][0]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--particles", "8"], "--particles is a setting of a search. Add --search."),
        (["--search", "--particles", "1"], "a single particle acts as the policy does"),
        (["--search-kl", "1"], "--search-kl is a setting of a search"),
        (["--search", "--attack", "random"], "--search does not go with --attack"),
        (["--search", "--temperature", "1", "--search-kl", "1"], "both set how greedy a search is"),
        (["--search", "--particles", "4", "--search-kl", "2"], "4 particles deviate at most 1.39 nats"),
        (["--search", "--depth", "0"], "must be at least 1"),
    ],
)
def test_mistakes_are_one_message(run, flags, message):
    saved()
    code, output, errors = run("agent.zip", "--env", "Fork-v0", *flags)
    assert (code, output) == (2, "")
    assert message in errors and "Traceback" not in errors


def test_what_cannot_be_searched_is_said_before_anything_is_played(run, monkeypatch):
    saved(env="Sealed-v0")
    monkeypatch.setattr("rlspo.zoo.evaluate.evaluation.play", lambda *given: pytest.fail("played"))
    code, _, errors = run("agent.zip", "--env", "Sealed-v0", "--search")
    assert code == 2 and "--search: " in errors and "EzPickle" in errors and "What can: " in errors
    stable_baselines3.DQN("MlpPolicy", gym.make("Fork-v0"), buffer_size=10, device="cpu").save("dqn.zip")
    code, _, errors = run("dqn.zip", "--env", "Fork-v0", "--search")
    assert code == 2 and "--search: DQN cannot be planned with" in errors
    contrib = pytest.importorskip("sb3_contrib")
    contrib.RecurrentPPO("MlpLstmPolicy", gym.make("Fork-v0"), **TINY).save("lstm.zip")
    code, _, errors = run("lstm.zip", "--env", "Fork-v0", "--search")
    assert code == 2 and "RecurrentPPO cannot be planned with" in errors


def test_a_run_of_worker_processes_is_searched_in_this_process(train, run):
    assert train("--vec-env", "subproc", "--no-report", "--eval-freq", "-1", "-params", "n_envs:2")[0] == 0
    code, output, errors = run("logs/ppo/Ledger-v0_1", "-n", "2", "--search", "--particles", "4", "--depth", "2")
    assert (code, errors) == (0, "") and "4 particles, depth 2" in output


def test_enjoy_acts_by_search(capsys):
    saved()
    flags = ["agent.zip", "--env", "Fork-v0", "--no-render", "--episodes", "2", "--n-envs", "2"]
    search = ["--search", "--temperature", "0.1", "--depth", "3"]
    for more, expected in (([], 1.0), (search, 10.0)):
        assert enjoy.main([*flags, *more, "--json"]) == 0
        data = json.loads(capsys.readouterr().out)
        assert [episode["return"] for episode in data["episodes"]] == [expected] * 2
        assert data["search"] == bool(more)
    assert enjoy.main(["agent.zip", "--env", "Fork-v0", "--n-envs", "2", *search]) == 2
    assert "several windows need a process each" in capsys.readouterr().err


def test_record_passes_the_search_to_the_video(monkeypatch, capsys):
    saved()
    specs = []
    monkeypatch.setattr(record, "write_video", lambda spec: specs.append(spec) or Video(64, 64, 1, 20.0, ()))
    assert record.main(["agent.zip", "--env", "Fork-v0", "--search", "--particles", "16", "--json"]) == 0
    assert specs[0].search == Budget(n_particles=16)
    assert json.loads(capsys.readouterr().out)["search"]["n_particles"] == 16
    assert record.main(["agent.zip", "--env", "Fork-v0", "--search", "--experts"]) == 2


def test_a_video_shows_the_search(workplace):
    pytest.importorskip("imageio_ffmpeg")
    agent = saved()
    spec = VideoSpec((agent,), workplace / "video.gif", seed=0, episodes=2, search=Budget(64, 3, temperature=0.1))
    video = record_agents(spec, lambda share: None)
    assert [episode.total for episode in video.recordings[0].episodes] == [10.0, 10.0]


# Training.


def test_spo_trains_from_its_settings_and_is_evaluated_early(train):
    assert train("--no-report", algo="spo", params=PARAMS)[0] == 0
    folder = Path("logs/spo/Ledger-v0_1")
    assert (folder / "best_model.zip").is_file()
    assert "eval_freq: 5000" in (folder / "args.yml").read_text()
    assert evaluate(find_agent(folder), 2, search=Budget(4, 2)).searched.episodes.returns.shape == (2,)


def test_spo_learns_in_copies_that_step_as_one(train):
    env, params = "rlspo/RubiksCube-v0", [*PARAMS, "n_envs:4", "n_timesteps:64"]
    assert train("--no-report", "--eval-freq", "-1", "--vec-env", "native", algo="spo", env=env, params=params)[0] == 0
    assert Path("logs/spo/rlspo-RubiksCube-v0_1/0.monitor.csv").is_file()


@pytest.mark.parametrize(
    ("env", "flags", "message"),
    [
        ("Ledger-v0", ["--vec-env", "subproc"], "--vec-env subproc: SPO plans in copies of its environments"),
        ("Sealed-v0", [], "SPO refuses its settings. "),
        ("Sealed-v0", [], "EzPickle"),
    ],
)
def test_what_spo_cannot_train_in_is_refused_and_nothing_is_left(train, env, flags, message):
    code, _, errors = train(*flags, algo="spo", env=env, params=PARAMS)
    assert code == 2 and message in errors and "Traceback" not in errors
    assert not list(Path().glob("logs/spo/*/*"))
