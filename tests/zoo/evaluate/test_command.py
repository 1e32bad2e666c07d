"""`rlspo evaluate`: unbiased, repeatable, and the same numbers in every form."""

import csv
import functools
import json
import random
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium.utils.seeding import np_random
from scipy.stats import trim_mean
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

import rlspo
from rlspo.attacks.evaluation import Episodes
from rlspo.zoo.errors import UserError
from rlspo.zoo.evaluate.acting import Actor, own_randomness
from rlspo.zoo.evaluate.attack_report import radius
from rlspo.zoo.evaluate.command import evaluate, main
from rlspo.zoo.evaluate.evaluation import summary_of
from rlspo.zoo.runs.saved_agent import find_agent

RUN = "logs/ppo/Ledger-v0_1"
TINY = {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "seed": 0, "device": "cpu"}


class Lottery(gym.Env):
    """An episode lasts one step or nineteen, by the toss of a coin, and pays one a step; a long one is a success."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, says=True):
        self.says = says

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = self.length = 1 + 18 * int(self.np_random.integers(2))
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.left -= 1
        info = {"is_success": self.length == 19} if self.says and self.left == 0 else {}
        return np.zeros(2, np.float32), 1.0, self.left == 0, False, info


class Chatty(Lottery):
    """Prints."""

    def step(self, action):
        print("hello from the environment")
        return super().step(action)


class Broken(Lottery):
    """Cannot be made."""

    def __init__(self):
        raise RuntimeError("the robot is not connected")


class Picky(gym.Env):
    """Allows one action a step, which it draws, and raises at any other."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(4)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.elapsed = 0
        return self._next(), {}

    def step(self, action):
        assert action == self.allowed, "an action that was masked"
        self.elapsed += 1
        return self._next(), 1.0, self.elapsed >= 5, False, {}

    def action_masks(self):
        return np.arange(4) == self.allowed

    def _next(self):
        self.allowed = int(self.np_random.integers(4))
        return np.zeros(2, np.float32)


for env in (Broken, Chatty, Lottery, Picky):
    if f"{env.__name__}-v0" not in gym.registry:
        gym.register(f"{env.__name__}-v0", entry_point=env)


def saved(env_id, cls=rlspo.PPO, policy="MlpPolicy", settings=TINY, **env_kwargs):
    """A young agent on disk."""
    cls(policy, gym.make(env_id), **settings).save("agent.zip")
    return find_agent("agent.zip", env=env_id, env_kwargs=env_kwargs)


def lengths_by_chance(seed, n_episodes):
    """Lengths of the first episodes of a Lottery."""
    return [1 + 18 * int(draw) for draw in np_random(seed)[0].integers(2, size=n_episodes)]


@pytest.mark.parametrize(("n_episodes", "n_envs"), [(6, 1), (24, 8), (21, 8), (3, None)])
def test_every_copy_plays_its_first_episodes_from_its_own_seed(n_episodes, n_envs):
    result = evaluate(saved("Lottery-v0"), n_episodes, n_envs, seed=5)
    copies = n_envs or n_episodes
    shares = [(n_episodes + copy) // copies for copy in range(copies)]
    expected = [length for copy, share in enumerate(shares) for length in lengths_by_chance(5 + copy, share)]
    assert list(result.lengths) == expected
    assert list(result.returns) == expected
    assert [row["seed"] for row in result.rows()] == [5 + copy for copy, share in enumerate(shares) for _ in range(share)]
    assert len(result.returns) == n_episodes


def test_short_episodes_do_not_count_more_often():
    """Half of the episodes are long, so the mean is 10, with a standard error of 0.64; the first to end are mostly short."""
    agent = saved("Lottery-v0")
    assert evaluate(agent, 200, n_envs=200, seed=0).returns.mean() == pytest.approx(10, abs=2.5)
    env = agent.build_env(200, 0)
    env.reset()
    first_to_end = []
    while len(first_to_end) < 200:
        *_, infos = env.step(np.zeros(200, int))
        first_to_end += [info["episode"]["r"] for info in infos if "episode" in info]
    assert np.mean(first_to_end[:200]) < 7.5


def test_success_is_reported_where_the_environment_reports_it():
    reported = evaluate(saved("Lottery-v0"), 40, seed=0)
    assert reported.success_rate == np.mean(reported.lengths == 19)
    assert {(row["length"], row["success"]) for row in reported.rows()} == {(1, False), (19, True)}
    silent = evaluate(saved("Lottery-v0", says=False), 5, seed=0)
    assert (silent.success_rate, silent.rows()[0]["success"]) == (None, None)


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("cls", [rlspo.PPO, stable_baselines3.PPO, stable_baselines3.DQN])
def test_same_seed_same_episodes_and_no_trace_on_the_global_generators(cls, deterministic):
    agent = saved("CartPole-v1", cls, settings=TINY if cls is not stable_baselines3.DQN else {"buffer_size": 100})
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    first, again, other = (evaluate(agent, 6, 3, deterministic, seed).returns for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert list(first) != list(other)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]


def test_sampled_actions_are_not_the_likeliest():
    agent = saved("CartPole-v1")
    assert evaluate(agent, 20, seed=0).returns.mean() < 12 < evaluate(agent, 20, deterministic=False, seed=0).returns.mean()


@pytest.mark.parametrize("noise", ["ours", "torch", "numpy", "ahead"])
def test_samples_come_from_the_seed_wherever_an_agent_draws_them(noise):
    """The same agent is asked again and again: what it drew before makes no difference, the seed does."""
    cls = {"ours": rlspo.PPO, "numpy": stable_baselines3.DQN}.get(noise, stable_baselines3.PPO)
    settings = {"buffer_size": 100} if noise == "numpy" else TINY
    env = make_vec_env("Pendulum-v1" if noise == "ahead" else "CartPole-v1", 20)
    model = cls("MlpPolicy", env, **{**settings, "use_sde": True} if noise == "ahead" else settings)
    observations = env.reset()
    if noise == "numpy":
        model.exploration_rate = 0.5
        np.random.seed(0)  # whose first draw means not to explore

    def actions(seed):
        with own_randomness(model, seed):
            return Actor(model, env, deterministic=False)(observations, np.ones(20, bool))

    first, other, first_again, other_again = (actions(seed) for seed in (0, 1, 0, 1))
    np.testing.assert_array_equal(first, first_again)
    np.testing.assert_array_equal(other, other_again)
    assert (first != other).any()


def test_each_episode_has_gsde_noise_of_its_own():
    """One noise matrix for all episodes would make their returns one sample."""
    env = make_vec_env("Pendulum-v1", 2)
    model = stable_baselines3.PPO("MlpPolicy", env, **TINY, use_sde=True)
    observations, act = env.reset(), Actor(model, env, deterministic=False)
    begins, goes_on = np.ones(2, bool), np.zeros(2, bool)
    first, within, second = act(observations, begins), act(observations, goes_on), act(observations, begins)
    np.testing.assert_array_equal(first, within)
    assert (first != second).any()


def test_looking_at_an_agent_that_still_acts_at_random_changes_nothing():
    """SAC's first actions are samples of the action space."""
    drawn = []
    for look in (False, True):
        model = rlspo.SAC("MlpPolicy", "Pendulum-v1", learning_starts=50, seed=0).learn(10)
        if look:
            with own_randomness(model, 3):
                model.action_space.sample()
        drawn.append(np.asarray(model.learn(10, reset_num_timesteps=False).replay_buffer.data["actions"][:20]))
    np.testing.assert_array_equal(*drawn)


def test_agrees_with_sb3():
    agent = saved("CartPole-v1", stable_baselines3.PPO)
    env = make_vec_env("CartPole-v1", 3)
    env.seed(5)
    returns, lengths = evaluate_policy(agent.load("cpu"), env, 9, return_episode_rewards=True)
    mine = evaluate(agent, 9, 3, seed=5)
    assert sorted(mine.returns) == sorted(returns)
    assert sorted(mine.lengths) == sorted(lengths)


def test_recurrent_agents_remember_within_an_episode_and_forget_after_it():
    contrib = pytest.importorskip("sb3_contrib")
    agent = saved("CartPole-v1", contrib.RecurrentPPO, "MlpLstmPolicy")
    model = agent.load("cpu")
    with torch.no_grad():  # else a young memory changes nothing
        for parameter in model.policy.lstm_actor.parameters():
            parameter.mul_(3)
        model.policy.action_net.weight.mul_(1000)
    model.save("agent.zip")
    env = make_vec_env("CartPole-v1", 2)
    env.seed(5)
    returns, _ = evaluate_policy(model, env, 12, return_episode_rewards=True)
    assert len(set(returns)) > 1
    assert sorted(evaluate(agent, 12, 2, seed=5).returns) == sorted(returns)


def test_masked_actions_are_never_taken():
    contrib = pytest.importorskip("sb3_contrib")
    agent = saved("Picky-v0", contrib.MaskablePPO)
    for deterministic in (True, False):
        assert list(evaluate(agent, 6, 3, deterministic).returns) == [5.0] * 6
    unmasked = saved("CartPole-v1", contrib.MaskablePPO)
    assert len(evaluate(unmasked, 2).returns) == 2


def test_attack_hurts_and_is_repeatable():
    rlspo.PPO("MlpPolicy", "CartPole-v1", n_steps=256, seed=0, device="cpu").learn(3000).save("agent.zip")
    agent = find_agent("agent.zip", env="CartPole-v1")
    natural, attacked, again = (evaluate(agent, 12, seed=3, attack=attack, epsilon=0.2) for attack in (None, "mad", "mad"))
    assert attacked.returns.mean() < 0.9 * natural.returns.mean()
    np.testing.assert_array_equal(attacked.returns, again.returns)
    assert (natural.epsilon, attacked.epsilon) == (None, 0.2)
    assert attacked.lengths.sum() == attacked.returns.sum(), "CartPole pays one a step"
    published, own = (evaluate(agent, 12, seed=3, attack="mad", epsilon=0.2, solver=name) for name in ("langevin", "power"))
    np.testing.assert_array_equal(published.returns, attacked.returns, "named, it is the same search")
    assert list(own.returns) != list(attacked.returns) and own.returns.mean() < natural.returns.mean()
    assert own.as_dict()["attack"]["solver"] == "power" and "solver" not in attacked.as_dict()["attack"]
    default = evaluate(agent, 2, attack="random")
    assert default.epsilon == radius(agent.load("cpu"), None) == 0.075


def test_an_agent_that_cannot_be_attacked():
    agent = saved("CartPole-v1", stable_baselines3.DQN, settings={"buffer_size": 100})
    with pytest.raises(UserError, match=r"--attack: .*actor-critic"):
        evaluate(agent, 1, attack="mad")
    with pytest.raises(UserError, match=r"--attack: attack is 'mid'"):
        evaluate(saved("CartPole-v1"), 1, attack="mid")
    with pytest.raises(UserError, match=r"--attack: solver is 'pwr'"):
        evaluate(saved("CartPole-v1"), 1, attack="mad", solver="pwr")


# The command.


@pytest.fixture
def run(call):
    """Run the command; gives exit code, output and errors."""
    return functools.partial(call, main)


@pytest.fixture
def trained(train):
    """A run with two checkpoints."""
    flags = ("--no-report", "--save-freq", "16", "--eval-freq", "32", "--eval-episodes", "1", "--env-kwargs", "pay:3.0")
    assert train(*flags)[0] == 0
    return RUN


def test_table_shows_which_model_was_evaluated_and_how(run, trained):
    code, output, errors = run(trained)
    assert (code, errors) == (0, "")
    for text in (f"{RUN}/last_model.zip (last)", "64 steps", "16, seeds from 1000000", "deterministic", "{'pay': 3.0}"):
        assert text in output
    assert "│ mean                      │         30.0 │" in output
    assert "mean length of an episode │         10.0" in output
    assert "success" not in output
    code, output, _ = run(trained, "--which", "16", "-n", "5", "--stochastic", "--attack", "random", "--epsilon", "0.3")
    for text in ("rl_model_16_steps.zip (checkpoint)", "16 steps", "5, seeds from 1000000", "sampled", "random, epsilon 0.3"):
        assert text in output
    code, output, _ = run(trained, "-n", "2", "--attack", "critic", "--solver", "power")
    assert code == 0 and "critic by power, epsilon 0.075" in output


def test_json_is_alone_on_standard_output_and_agrees_with_csv(run):
    saved("Lottery-v0")
    flags = ("agent.zip", "--env", "Lottery-v0", "-n", "30", "--n-envs", "4", "--seed", "5")
    code, output, errors = run(*flags, "--json", "--csv", "episodes.csv")
    assert (code, errors) == (0, "")
    data = json.loads(output)
    with open("episodes.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(data["episodes"]) == data["n_episodes"] == 30
    for row, episode in zip(rows, data["episodes"], strict=True):
        assert {key: str(value) for key, value in episode.items()} == row
    returns = np.array([episode["return"] for episode in data["episodes"]])
    summary = data["summary"]
    assert summary["mean"] == returns.mean() and summary["std"] == returns.std()
    assert summary["median"] == np.median(returns)
    assert (summary["min"], summary["max"], summary["mean_length"]) == (1, 19, returns.mean())
    assert summary["iqm"] == pytest.approx(trim_mean(returns, 0.25), rel=0.05)
    low, high = summary["iqm_interval"]
    assert 1 <= low < summary["iqm"] < high <= 19
    assert summary["success_rate"] == (returns == 19).mean()
    assert data["agent"] == {
        "model": "agent.zip", "which": "file", "algo": "ppo", "env": "Lottery-v0", "env_kwargs": {}, "num_timesteps": 0
    }  # fmt: skip
    assert (data["seed"], data["n_envs"], data["deterministic"], data["attack"]) == (5, 4, True, None)
    assert data["versions"]["stable-baselines3"] == stable_baselines3.__version__
    code, output, _ = run(*flags, "--json", "evaluation.json")
    assert json.loads(Path("evaluation.json").read_text()) == data
    assert "success rate" in output and "evaluation.json" in output
    assert not list(Path().glob("*.part"))


def test_what_an_environment_prints_does_not_get_into_the_json(run):
    saved("Chatty-v0")
    _, output, errors = run("agent.zip", "--env", "Chatty-v0", "-n", "2", "--json")
    assert json.loads(output)["n_episodes"] == 2
    assert "hello from the environment" in errors


def test_success_is_left_empty_in_csv_where_nothing_is_known(run, trained):
    assert run(trained, "-n", "2", "--csv", "episodes.csv")[0] == 0
    assert Path("episodes.csv").read_text().splitlines() == [
        "episode,env,seed,return,length,success",
        "0,0,1000000,30.0,10,",
        "1,1,1000001,30.0,10,",
    ]


def test_returns_that_are_not_finite_have_no_statistics():
    returns = np.array([1.0, np.inf, np.nan])
    episodes = Episodes(returns, np.ones(3, int), np.full(3, np.nan), np.zeros(3, int))
    with pytest.raises(UserError, match=r"2 of 3 returns are NaN or infinite, that of episode 1 first"):
        summary_of(episodes)


def test_one_episode_has_no_interval(run, trained):
    _, output, _ = run(trained, "-n", "1", "--json")
    assert json.loads(output)["summary"]["iqm_interval"] is None
    code, output, _ = run(trained, "-n", "1")
    assert (code, "nan" in output) == (0, False)


def test_env_kwargs_change_the_environment(run, trained):
    _, output, _ = run(trained, "-n", "2", "--env-kwargs", "pay:0.25", "--json")
    assert json.loads(output)["summary"]["mean"] == 2.5


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "Give a run folder or a model file, such as logs/"),
        (["gone"], "no run folder and no model file gone"),
        ([RUN, "--which", "nan"], "has: --which last, best, 16, 32, 48"),
        ([RUN, "--which", "99999"], "has: --which last, best, 16, 32, 48"),
        ([RUN, "--wich", "best"], "Did you mean --which?"),
        ([RUN, "--epsilon", "0.1"], "--epsilon is the radius of an attack"),
        ([RUN, "--solver", "power"], "--solver is the search of an attack that searches"),
        ([RUN, "--attack", "random", "--solver", "power"], "--solver is the search of an attack that searches"),
        ([RUN, "--attack", "fgsm"], "invalid choice: 'fgsm'"),
        ([RUN, "--deterministic", "--stochastic"], "not allowed with"),
        ([RUN, "-n", "0"], "must be at least 1"),
        ([RUN, "--csv", "no/where.csv"], "--csv no/where.csv: there is no folder no"),
        ([RUN, "--json", "logs"], "--json logs: is a folder"),
        (["--json", RUN], "Put the agent first"),
        ([RUN, "--device", "abacus"], "'abacus' cannot be used here"),
        (["agent.zip"], "Name the environment: --env"),
        (["agent.zip", "--env", "Pendulum-v1"], "does not fit Pendulum-v1"),
        (["agent.zip", "--env", "Broken-v0"], "--env Broken-v0 cannot be made. RuntimeError: the robot is not connected"),
        (["agent.zip", "--env", "Gone-v0"], "there is no environment 'Gone-v0'"),
    ],
)
def test_mistakes_are_one_message(run, trained, flags, message):
    saved("Lottery-v0")
    code, output, errors = run(*flags)
    assert (code, output) == (2, "")
    assert message in errors
    assert "Traceback" not in errors


def test_help_shows_examples(run, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(["--help"])
    assert exit_info.value.code == 0
    text = capsys.readouterr().out
    assert "rlspo evaluate logs/ppo/CartPole-v1_1 --which best" in text
    assert "--trust runs the code in their files" in text
