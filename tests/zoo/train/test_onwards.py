"""Training goes on from a saved agent as it was, and evaluations see what training sees."""

import json
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from rlspo.zoo.cli.output import only_json
from rlspo.zoo.config import yaml_io
from rlspo.zoo.config.schema import RunConfig
from rlspo.zoo.evaluate.evaluation import success_rate_of
from rlspo.zoo.plot.sources import find
from rlspo.zoo.runs.evaluation_log import read_evaluations
from rlspo.zoo.runs.monitor import frames_per_step, read_episodes
from rlspo.zoo.runs.saved_agent import find_agent
from tests.zoo.conftest import write_monitor

RUN, AGAIN = Path("logs/ppo/Ledger-v0_1"), Path("logs/ppo/Ledger-v0_2")


def test_an_off_policy_agent_does_not_go_on_without_its_normalisation(train):
    of_sac = {"algo": "sac", "env": "Pendulum-v1", "params": ["learning_starts:10", "n_timesteps:40"]}
    first = {**of_sac, "params": [*of_sac["params"], "normalize:true"]}
    assert train("--no-report", "--eval-freq", "-1", **first)[0] == 0
    saved = "logs/sac/Pendulum-v1_1/last_model.zip"
    code, _, errors = train("--no-report", "-i", saved, **{**of_sac, "params": ["n_timesteps:40"]})
    assert code == 2 and "it was trained in a VecNormalize" in errors
    alone = Path("alone.zip")
    alone.write_bytes(Path(saved).read_bytes())
    with pytest.raises(Exception, match="there are no statistics of it"):
        find_agent(alone, env="Pendulum-v1")


def test_evaluations_are_normalised_as_the_training_that_goes_on(train):
    assert train("--no-report", "--eval-freq", "-1", params=["normalize:{clip_obs: 5.0}", "n_timesteps:64"])[0] == 0
    saved = str(RUN / "last_model.zip")
    for given, clip in (("true", 5.0), ("{clip_obs: 0.5}", 0.5)):
        assert train("--no-report", "-i", saved, params=[f"normalize:{given}", "n_timesteps:64"])[0] == 0
        config = yaml_io.read_mapping(sorted(Path("logs/ppo").glob("Ledger-v0_*"))[-1] / "config.yml")
        assert config["settings"]["normalize"]["clip_obs"] == clip
    code, _, errors = train("--no-report", "-i", saved, params=["normalize:{norm_obs: false}", "n_timesteps:64"])
    assert code == 2 and "norm_obs is False, and the agent was trained with True" in errors


def test_a_run_that_goes_on_is_recorded_as_the_agent_that_it_trains(train):
    """The block has another policy, other settings and another provenance."""
    first = ["policy:MoeMlpPolicy", "gamma:0.5", "provenance:'of a study'"]
    assert train("--no-report", params=[*first, "n_timesteps:64"])[0] == 0
    saved = RUN / "last_model.zip"
    alone = Path("alone.zip")
    alone.write_bytes(saved.read_bytes())
    assert train("--no-report", "-i", str(saved), params=["n_timesteps:64"])[0] == 0
    assert train("--no-report", "-i", str(alone), params=["n_timesteps:64"])[0] == 0
    before, after, unknown = (RunConfig.read(Path(f"logs/ppo/Ledger-v0_{number}/config.yml")) for number in (1, 2, 3))
    assert after.settings.policy == unknown.settings.policy == "MoeMlpPolicy"
    assert (after.settings.provenance, after.agent) == ("of a study", before.agent)
    assert (unknown.settings.provenance, unknown.agent) == ("of the saved agent, whose run is not known", {})
    assert {run.agent for run in find([Path("logs")], {}).runs} == {"moe-ppo"}


def test_copies_that_are_stepped_together_are_evaluated_under_normalisation(train):
    code, _, errors = train(
        "--vec-env", "native", "--eval-freq", "64", env="rlspo/LotSizing-v0", params=["normalize:true", "n_timesteps:128"]
    )
    assert code == 0, errors
    assert len(read_evaluations(Path("logs/ppo/rlspo-LotSizing-v0_1/evaluations.npz"), None)[0])


@pytest.mark.parametrize("key", ["normalize:{clip: 1}", "env_wrapper:gymnasium.wrappers.Nothing", "monitor_kwargs:{a: 1}"])
def test_a_mistake_after_params_is_not_blamed_on_the_file(train, key):
    code, _, errors = train(params=[key])
    assert code == 2 and f"-params: {key.partition(':')[0]}" in " ".join(errors.split()), errors


class Quiet(gym.Env):
    """Tells of success only, in every second episode."""

    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)
    episode = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.t = self.episode + 1, 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        over = self.t == 4
        return np.zeros(1, np.float32), 0.0, over, False, {"is_success": True} if over and self.episode % 2 else {}


def test_an_episode_that_tells_nothing_is_no_success(train, monkeypatch):
    monkeypatch.setitem(gym.registry, "Quiet-v0", gym.envs.registration.EnvSpec("Quiet-v0", Quiet))
    code, _, errors = train(
        "--eval-freq",
        "64",
        "--eval-episodes",
        "5",
        "--no-report",
        env="Quiet-v0",
        params=["n_timesteps:192", "n_steps:64", "batch_size:64"],
    )
    assert code == 0 and "evaluations.npz" not in errors
    folder = Path("logs/ppo/Quiet-v0_1")
    steps, successes = read_evaluations(folder / "evaluations.npz", None, "successes")
    assert len(steps) == 3
    assert successes.shape == (3, 5)
    assert 0.2 <= successes.mean() <= 0.8


def test_the_rate_of_success_counts_every_episode():
    class Played:
        successes = np.array([1.0, np.nan, 1.0, np.nan])

    assert success_rate_of(Played()) == 0.5
    Played.successes = np.full(3, np.nan)
    assert success_rate_of(Played()) is None


@pytest.mark.parametrize(
    ("wrapper", "steps"), [("some.AtariWrapper", [25, 50]), ({"some.AtariWrapper": {"frame_skip": 1}}, [100, 200])]
)
def test_games_are_counted_in_decisions(tmp_path, wrapper, steps):
    """Monitor counts frames."""
    write_monitor(tmp_path / "0.monitor.csv", [(1.0, 100, 0.5), (1.0, 100, 1.0)])
    yaml_io.write(tmp_path / "config.yml", {"settings": {"env_wrapper": [wrapper]}})
    assert frames_per_step(tmp_path) == 100 // steps[0]
    assert read_episodes(tmp_path).steps.tolist() == steps


def test_what_other_processes_print_is_not_in_the_json(tmp_path):
    program = (
        "import subprocess, sys, json\n"
        "from rlspo.zoo.cli.output import only_json\n"
        "with only_json() as out:\n"
        "    print('noise', flush=True)\n"
        "    subprocess.run([sys.executable, '-c', 'print(1)'], check=True)\n"
        "    print(json.dumps({'a': 2}), file=out)\n"
        "print('after')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    document, after = done.stdout.splitlines()
    assert json.loads(document) == {"a": 2}
    assert after == "after"
    assert done.stderr.splitlines() == ["noise", "1"]


def test_nothing_changes_where_no_json_is_wanted(capsys):
    with only_json(False) as out:
        print("plain")
        print("more", file=out)
    assert capsys.readouterr().out == "plain\nmore\n"
