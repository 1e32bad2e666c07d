"""`rlspo export`: a run becomes a folder that other commands take like the run, and that says where it comes from."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import stable_baselines3
import torch
from safetensors.torch import load_file

import rlspo
from rlspo.common.exports.lookup import VARIABLE
from rlspo.zoo.errors import UserError
from rlspo.zoo.evaluate import command as evaluate
from rlspo.zoo.evaluate.evaluation import evaluate as evaluated
from rlspo.zoo.export.command import main
from rlspo.zoo.export.entry import Evaluated, median_of
from rlspo.zoo.export.replay import Recorded, play_one
from rlspo.zoo.runs.monitor import read_episodes
from rlspo.zoo.runs.saved_agent import find_agent
from rlspo.zoo.video import enjoy

Call = Callable[..., tuple[int, str, str]]
RUN = "logs/ppo/CartPole-v1_1"
ALLOWED = ["--gym-packages", "zoo_environments"]


@pytest.fixture
def train(train: Call) -> Call:
    """Without the report and the video after training."""
    return lambda *flags, **others: train("--no-report", *flags, **others)


def described(folder: str | Path) -> dict:
    return json.loads((Path(folder) / "agent.json").read_text())


def test_an_exported_run_acts_as_the_run_in_every_command(train: Call, call: Call) -> None:
    assert train(env="CartPole-v1")[0] == 0
    code, out, _ = call(main, RUN, "-o", "agent", *ALLOWED)
    assert code == 0 and "agent.json" in out
    assert sorted(os.listdir("agent")) == ["agent.json", "weights.safetensors"]
    both = [json.loads(call(evaluate.main, path, "-n", 4, "--json", *ALLOWED)[1]) for path in (RUN, "agent")]
    assert both[0]["episodes"] == both[1]["episodes"]
    assert both[1]["agent"]["env"] == "CartPole-v1" and both[1]["agent"]["num_timesteps"] == 128
    attacked = [
        json.loads(call(evaluate.main, path, "-n", 4, "--json", "--attack", "mad", "--epsilon", "0.5", *ALLOWED)[1])
        for path in (RUN, "agent")
    ]
    assert attacked[0]["episodes"] == attacked[1]["episodes"] != both[1]["episodes"]
    code, out, _ = call(enjoy.main, "agent", "--no-render", "--episodes", 1, "--json", *ALLOWED)
    assert code == 0 and json.loads(out)["episodes"]


def test_where_an_agent_comes_from(train: Call, call: Call) -> None:
    assert train("-f", "elsewhere/runs", env="CartPole-v1")[0] == 0
    assert call(main, "elsewhere/runs/ppo/CartPole-v1_1", "-o", "agent")[0] == 0
    data = described("agent")
    said = data["provenance"]
    assert said["command"].startswith("rlspo train --algo ppo --env CartPole-v1") and "elsewhere" not in json.dumps(data)
    assert said["seed"] == 0 and said["model"] == "last"
    assert {"learning_rate", "n_steps"} <= data["settings"].keys()
    assert set(said["hyperparameters"]["overridden"]) >= {"n_steps", "batch_size"}
    assert said["trained_with"]["rlspo"] == rlspo.__version__
    assert data["environment"]["id"] == "CartPole-v1"


def test_statistics_of_rewards_alone_come_along(train: Call, call: Call) -> None:
    params = ["n_steps:16", "batch_size:16", "n_epochs:1", "n_timesteps:64", "normalize:{norm_obs: false}"]
    assert train(env="CartPole-v1", params=params)[0] == 0
    assert call(main, RUN, "-o", "agent", *ALLOWED)[0] == 0
    assert described("agent")["normalize"]["norm_obs"] is False
    of_run, of_export = (find_agent(path, gym_packages=ALLOWED[1:]).reward_scaling() for path in (RUN, "agent"))
    assert of_run is not None and of_export is not None
    torch.testing.assert_close(of_run(torch.ones(1)), of_export(torch.ones(1)))


def test_wrappers_of_the_command_line_come_along(train: Call, call: Call) -> None:
    assert train(env="CartPole-v1")[0] == 0
    wrapper = "env_wrapper:{gymnasium.wrappers.TimeLimit: {max_episode_steps: 5}}"
    assert call(main, RUN, "-o", "agent", "-params", wrapper, *ALLOWED)[0] == 0
    _, out, _ = call(evaluate.main, "agent", "-n", 2, "--json", *ALLOWED)
    assert [episode["length"] for episode in json.loads(out)["episodes"]] == [5, 5]


def test_runs_with_other_settings_are_no_seeds_of_one_training(train: Call, call: Call) -> None:
    assert train("--seed", "0", env="CartPole-v1")[0] == 0
    params = ["policy:MlpPolicy", "n_steps:16", "batch_size:16", "n_epochs:1", "gamma:0.5"]
    assert train("--seed", "1", "-n", "128", env="CartPole-v1", params=params)[0] == 0
    code, _, errors = call(main, RUN, RUN.replace("_1", "_2"), "-o", "agent", "--evaluate", *ALLOWED)
    assert code == 2 and "are not seeds of one training" in errors and not Path("agent").exists()


def test_vecnormalize_and_wrappers_come_along(train: Call, call: Call) -> None:
    params = ["n_steps:16", "batch_size:16", "n_epochs:1", "n_timesteps:64", "normalize:true", "frame_stack:2"]
    assert train(env="CartPole-v1", params=params)[0] == 0
    assert call(main, RUN, "-o", "agent", *ALLOWED)[0] == 0
    data = described("agent")
    assert (
        data["environment"]["wrapping"] == {"normalize": {"gamma": 0.98}, "frame_stack": 2}
        and data["normalize"]["norm_reward"]
    )
    both = [json.loads(call(evaluate.main, path, "-n", 3, "--json", *ALLOWED)[1]) for path in (RUN, "agent")]
    assert both[0]["episodes"] == both[1]["episodes"]
    run, exported = (find_agent(path, gym_packages=["zoo_environments"]) for path in (RUN, "agent"))
    rewards = np.array([0.1, 50.0], np.float32)
    tensors = [one.reward_scaling()(torch.as_tensor(rewards)) for one in (run, exported)]
    np.testing.assert_array_equal(*tensors)


def test_names_of_modules_in_a_file_are_refused(train: Call, call: Call) -> None:
    assert train(env="CartPole-v1")[0] == 0
    assert call(main, RUN, "-o", "agent")[0] == 0
    assert described("agent")["environment"]["gym_packages"] == ["zoo_environments"]
    code, _, errors = call(evaluate.main, "agent", "-n", 1)
    assert code == 2 and "would import 'zoo_environments'" in errors and "--trust zoo_environments" in errors
    model = rlspo.load("agent")
    for bad in (
        {"id": "os:CartPole-v1"},
        {"id": "CartPole-v1", "wrapping": {"env_wrapper": "os.system"}},
        {"id": "CartPole-v1", "wrapping": {"env_wrapper": {"gymnasium.wrappers.RecordVideo": {"video_folder": "/"}}}},
    ):
        model.export("bad", environment=bad)
        assert call(evaluate.main, "bad", "-n", 1)[0] == 2
    with pytest.raises(ValueError, match="no proper 'wrapping'"):
        model.export("bad", environment={"id": "CartPole-v1", "wrapping": 3})


def test_mistakes_are_said_in_one_line(train: Call, call: Call, tmp_path: Path) -> None:
    assert train(env="CartPole-v1")[0] == 0
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    code, _, errors = call(main, RUN, "-o", "mine")
    assert code == 2 and "not overwritten" in errors
    assert call(main, RUN, RUN, "-o", "agent")[2].startswith("error: Of several runs")
    assert "give each seed once" in call(main, RUN, RUN, "-o", "agent", "--evaluate")[2]
    zips = [shutil.copy(f"{RUN}/last_model.zip", name) for name in ("one.zip", "two.zip")]
    assert "seeds of model files" in call(main, *zips, "--env", "CartPole-v1", "-o", "agent", "--evaluate")[2]
    (tmp_path / "file").write_text("")
    assert "-o: cannot write to file/agent" in call(main, RUN, "-o", "file/agent")[2]
    stable_baselines3.PPO("MlpPolicy", "CartPole-v1", n_steps=16, batch_size=16, device="cpu").save("sb3")
    assert "has no export" in call(main, "sb3.zip", "--env", "CartPole-v1", "-o", "agent")[2]
    assert not Path("agent").exists()
    rlspo.load(call(main, RUN, "-o", "agent") and "agent").export("bare")
    assert "--env ENV" in call(evaluate.main, "bare")[2]
    assert call(evaluate.main, "bare", "--env", "CartPole-v1", "-n", 1)[0] == 0
    assert "--algo is for runs" in call(evaluate.main, "bare", "--algo", "ppo")[2]
    (tmp_path / "bare" / "agent.json").write_text("{}")
    assert "cannot be read as an exported agent" in call(evaluate.main, "bare")[2]


def test_agents_are_found_by_name(train: Call, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert train(env="CartPole-v1")[0] == 0
    assert call(main, RUN, "-o", "mine/agents/ppo/Cart-v9", *ALLOWED)[0] == 0
    monkeypatch.setenv(VARIABLE, str(tmp_path / "mine" / "agents"))
    assert call(evaluate.main, "ppo/Cart-v9", "-n", 1, *ALLOWED)[0] == 0
    assert find_agent("ppo/Cart-v9", gym_packages=["zoo_environments"]).output_folder == Path()
    code, _, errors = call(evaluate.main, "ppo/Cart-v8", "-n", 1)
    assert code == 2 and "Trained agents by name: " in errors and "ppo/Cart-v9" in errors


# What an agent is evaluated by.


def test_an_entry_of_several_seeds(train: Call, call: Call) -> None:
    for seed in (4, 5, 6):
        assert train("--seed", str(seed), "--eval-freq", "32", "--eval-episodes", "2", env="CartPole-v1")[0] == 0
    runs = [f"logs/ppo/CartPole-v1_{number}" for number in (1, 2, 3)]
    code, out, _ = call(main, *runs, "-o", "agent", "--evaluate", "-n", 5, *ALLOWED)
    assert code == 0 and "the median one is exported" in out
    means = {}
    for seed, run in zip((4, 5, 6), runs, strict=True):
        means[seed] = float(evaluated(find_agent(run, gym_packages=["zoo_environments"]), 5).returns.mean())
    chosen = sorted(means, key=lambda seed: means[seed])[1]
    seeds = json.loads(Path("agent/seeds.json").read_text())
    assert seeds["chosen"] == chosen == described("agent")["provenance"]["seed"]
    assert {each["seed"]: each["mean"] for each in seeds["seeds"]} == means
    evaluation = json.loads(Path("agent/evaluation.json").read_text())
    assert evaluation["summary"]["mean"] == means[chosen] and len(evaluation["returns"]) == 5
    assert Path("agent/curve.csv").read_text().splitlines()[0] == "steps,mean,lowest,highest"
    assert len(Path("agent/curve.csv").read_text().splitlines()) == 5  # every 32 of 128 steps
    assert not Path("agent/attacks.json").exists()
    check_replay("agent")


def test_the_curve_of_a_run_without_evaluations_is_that_of_its_episodes(train: Call, call: Call) -> None:
    assert train("--seed", "4", "--eval-freq", "-1", env="CartPole-v1")[0] == 0
    assert call(main, "logs/ppo/CartPole-v1_1", "-o", "agent", "--evaluate", "-n", 2, *ALLOWED)[0] == 0
    header, *rows = (line.split(",") for line in Path("agent/curve.csv").read_text().splitlines())
    assert header == ["steps", "training_mean", "training_lowest", "training_highest"]
    episodes = read_episodes(Path("logs/ppo/CartPole-v1_1"))
    assert 1 < len(episodes.returns) <= 40, "else a row is not an episode"
    assert [[float(value) for value in row] for row in rows] == [
        [at, each, each, each] for at, each in zip(episodes.steps, episodes.returns, strict=True)
    ]


def check_replay(folder: str) -> None:
    agent = find_agent(folder, gym_packages=["zoo_environments"])
    model, recorded = agent.load("cpu"), Recorded.read(Path(folder))
    np.testing.assert_array_equal(recorded.actions_of(model), recorded.played.actions)
    again = play_one(agent, model, recorded.seed)
    assert again.total == recorded.played.total and len(again.rewards) == len(recorded.played.rewards)
    other = rlspo.PPO("MlpPolicy", "CartPole-v1", seed=99) if model.action_space.shape == () else None
    if other is not None and len(recorded.played.actions) > 20:
        assert not np.array_equal(recorded.actions_of(other), recorded.played.actions)


def test_an_entry_of_a_robust_agent_with_memory(train: Call, call: Call) -> None:
    params = ["n_steps:16", "batch_size:16", "n_epochs:1", "n_timesteps:64", "policy:MlpLstmPolicy", "epsilon:0.1"]
    assert train(algo="barpo", env="Pendulum-v1", params=params)[0] == 0
    code, _, errors = call(main, "logs/barpo/Pendulum-v1_1", "-o", "agent", "--evaluate", "-n", 1, *ALLOWED)
    assert code == 0, errors
    attacks = json.loads(Path("agent/attacks.json").read_text())
    assert attacks["epsilon"] == 0.1 and set(attacks["attacks"]) == {"random", "critic", "mad"}
    assert all(len(found["returns"]) == 1 for found in attacks["attacks"].values())
    assert load_file("agent/episode.safetensors")["observations/"].shape == (100, 3)
    check_replay("agent")


def test_a_file_of_onnx_beside_it(train: Call, call: Call) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'rlspo[onnx]'")
    params = ["n_steps:16", "batch_size:16", "n_epochs:1", "n_timesteps:64", "normalize:true"]
    assert train(env="CartPole-v1", params=params)[0] == 0
    assert call(main, RUN, "-o", "agent", "--onnx", *ALLOWED)[0] == 0
    session = onnxruntime.InferenceSession("agent/policy.onnx")
    shutil.copytree("agent", "again")
    code, output, errors = call(main, RUN, "-o", "again", *ALLOWED)
    assert code == 0 and not Path("again/policy.onnx").exists()
    assert "policy.onnx, of the agent that was there before, is removed" in " ".join((output + errors).split())
    agent = find_agent("agent", gym_packages=["zoo_environments"])
    model, env = agent.load("cpu"), agent.build_env(4, 0)
    seen = env.reset()
    for _ in range(5):
        (actions,) = session.run(None, {"observation": env.get_original_obs().astype(np.float32)})
        np.testing.assert_array_equal(actions, model.predict(seen, deterministic=True)[0])
        seen, *_ = env.step(actions)
    env.close()


def test_the_median_is_never_the_best_of_several() -> None:
    class Of(Evaluated):
        mean = 0.0

        def __init__(self, mean: float) -> None:
            object.__setattr__(self, "mean", mean)

    for means, expected in (([3.0], 3.0), ([2.0, 1.0], 1.0), ([5.0, 1.0, 3.0], 3.0), ([4.0, 1.0, 3.0, 2.0], 2.0)):
        assert median_of([Of(mean) for mean in means]).mean == expected


def test_runs_of_different_trainings_are_refused(train: Call, call: Call) -> None:
    assert train(env="CartPole-v1")[0] == 0
    assert train("--seed", "1", "-n", "200", env="CartPole-v1")[0] == 0
    code, _, errors = call(main, RUN, "logs/ppo/CartPole-v1_2", "-o", "agent", "--evaluate", *ALLOWED)
    assert code == 2 and "not seeds of one training: num_timesteps is 128 and 256" in errors


def test_an_export_can_be_exported_again(train: Call, call: Call) -> None:
    assert train(env="CartPole-v1")[0] == 0
    assert call(main, RUN, "-o", "one", *ALLOWED)[0] == 0
    assert call(main, "one", "-o", "two", *ALLOWED)[0] == 0
    one, two = described("one"), described("two")
    assert one["sha256"]["weights.safetensors"] == two["sha256"]["weights.safetensors"]
    assert one["environment"] == two["environment"] and one["provenance"] == two["provenance"]


def test_a_damaged_statistic_is_an_error(train: Call, call: Call) -> None:
    params = ["n_steps:16", "batch_size:16", "n_epochs:1", "n_timesteps:64", "normalize:true"]
    assert train(env="CartPole-v1", params=params)[0] == 0
    assert call(main, RUN, "-o", "agent", *ALLOWED)[0] == 0
    agent = find_agent("agent", env="Pendulum-v1", gym_packages=["zoo_environments"])
    with pytest.raises(UserError, match="obs_rms"):
        agent.build_env(1, 0)
