"""`rlspo train` from end to end, on small environments."""

import json
import os
import pickle
import platform
import shlex
import signal
from pathlib import Path

import numpy as np
import pytest
import stable_baselines3
from stable_baselines3.common.monitor import load_results

import rlspo
from rlspo.zoo.config.schema import RunConfig
from rlspo.zoo.config.yaml_io import read_mapping
from rlspo.zoo.runs.monitor import read_episodes
from rlspo.zoo.train import summary
from rlspo.zoo.train.command import main
from rlspo.zoo.video import render

RUN = Path("logs/ppo/Ledger-v0_1")


@pytest.fixture(autouse=True)
def no_film(monkeypatch):
    """Recording has tests of its own."""
    monkeypatch.setattr(render, "record_run", lambda folder: "not in this test")


def test_a_run_leaves_a_folder_that_explains_itself(really_drawn, train):
    code, output, errors = train("--eval-freq", "32", "--save-freq", "32", "--eval-episodes", "2", algo="barpo")
    assert code == 0
    run = Path("logs/barpo/Ledger-v0_1")
    expected = {
        "0.monitor.csv",
        "args.yml",
        "best_model.zip",
        "checkpoints",
        "command.txt",
        "config.yml",
        "evaluations.npz",
        "last_model.zip",
        "learning_curve.png",
        "owner.txt",
        "report.json",
        "status.json",
        "tensorboard",
        "versions.json",
    }
    assert {path.name for path in run.iterdir()} == expected
    assert (run / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    assert list(run.glob("tensorboard/barpo_1/events.*"))
    assert rlspo.BARPO.load(run / "last_model.zip").num_timesteps == 64
    status = json.loads((run / "status.json").read_text())
    assert status.pop("seconds") >= 0
    assert (status.pop("host"), status.pop("pid")) == (platform.node(), os.getpid())
    assert status == {"state": "done", "num_timesteps": 64, "total": 64, "mean_return": 10.0}
    report = json.loads((run / "report.json").read_text())
    assert list(report["returns"]) == ["natural", "random", "critic", "mad"]
    assert report["attack"]["epsilon"] == 0.075
    for text in ("BARPO on Ledger-v0: 64 steps", "natural", "critic attack", "last_model.zip", "best_model.zip"):
        assert text in output
    assert f"tensorboard --logdir {run}/tensorboard" in output
    assert "video skipped: not in this test" in errors
    assert "--env Ledger-v0" in shlex.join(shlex.split((run / "command.txt").read_text()))
    assert read_mapping(run / "args.yml")["save_freq"] == 32


def test_the_record_holds_every_setting_and_the_seed_drawn(train, capsys):
    arguments = ["--algo", "ppo", "--env", "zoo_environments:Ledger-v0", "--verbose", "0", "--no-report", "-n", "16"]
    settings = ["n_steps:16", "batch_size:8", "learning_rate:lin_1e-3", "policy_kwargs:{net_arch: [4]}"]
    assert main([*arguments, "-params", *settings]) == 0
    config = RunConfig.read(RUN / "config.yml")
    assert config.agent["learning_rate"] == "lin_1e-3"
    assert config.agent["policy_kwargs"] == {"net_arch": [4]}
    assert config.agent["clip_range"] == 0.2  # a default, written all the same
    assert config.settings.n_timesteps == 16
    assert config.source.overridden == ["batch_size", "learning_rate", "n_steps", "n_timesteps", "policy_kwargs"]
    assert f"seed            {config.seeds.seed}" in capsys.readouterr().out


def test_a_continued_agent_goes_on_with_its_statistics(train):
    settings = ["n_steps:16", "batch_size:16", "n_epochs:1", "n_timesteps:64", "normalize:true"]
    assert train("--no-report", params=settings)[0] == 0
    first = RUN / "last_model_vecnormalize.pkl"
    assert train("--no-report", "-i", str(RUN / "last_model.zip"), params=["normalize:true", "n_timesteps:64"])[0] == 0
    counts = []
    for number in (1, 2):
        with Path(f"logs/ppo/Ledger-v0_{number}/last_model_vecnormalize.pkl").open("rb") as file:
            counts.append(pickle.load(file).obs_rms.count)
    assert counts[1] == pytest.approx(counts[0] + 65, abs=1)
    first.unlink()
    code, _, errors = train("--no-report", "-i", str(RUN / "last_model.zip"), params=["normalize:true", "n_timesteps:64"])
    assert code == 2
    assert "last_model_vecnormalize.pkl are not there" in errors
    assert not Path("logs/ppo/Ledger-v0_3").exists()


def test_a_continued_agent_does_not_draw_the_first_runs_numbers_again(train, monkeypatch):
    settings = ["n_steps:16", "batch_size:16", "n_epochs:1", "n_timesteps:16"]
    seeds = []
    seeded = rlspo.PPO.set_random_seed

    def note(model, seed=None):
        seeds.append(seed)
        seeded(model, seed)

    monkeypatch.setattr(rlspo.PPO, "set_random_seed", note)
    onwards = (["-i", str(RUN / "last_model.zip")], ["n_timesteps:16"])
    for flags, params in (([], settings), onwards, onwards):
        code, _, errors = train("--no-report", "--eval-freq", "-1", "--seed", "5", *flags, params=params)
        assert code == 0, errors
        seeds.append("done")
    first, second, third = (part.split()[-1] for part in " ".join(map(str, seeds)).split("done")[:3])
    assert first == "5" and second == third != "5"


def test_a_saved_agent_of_any_class_goes_on_without_a_file(train):
    settings = ["policy:MlpPolicy", "n_steps:16", "batch_size:16", "n_timesteps:32.0"]
    assert train("--no-report", algo="stable_baselines3.PPO", params=settings)[0] == 0
    saved = "logs/stable_baselines3.PPO/Ledger-v0_1/last_model.zip"
    code, _, errors = train("--no-report", "-i", saved, algo="stable_baselines3.PPO", params=["n_timesteps:32"])
    assert (code, errors) == (0, "")


def test_same_seed_same_agent(train):
    for _ in range(2):
        assert train("--no-report", "--eval-freq", "-1")[0] == 0
    first, second = (rlspo.PPO.load(f"logs/ppo/Ledger-v0_{n}/last_model.zip") for n in (1, 2))
    for mine, theirs in zip(first.policy.parameters(), second.policy.parameters(), strict=True):
        np.testing.assert_array_equal(mine.detach().cpu(), theirs.detach().cpu())


@pytest.mark.parametrize("source", ["file", "flag", "both"])
def test_arguments_of_the_environment_reach_evaluation_and_report(train, source):
    flags = ["--eval-freq", "32"]
    if source in ("file", "both"):
        Path("mine.yml").write_text("Ledger-v0: {n_timesteps: 64, policy: MlpPolicy, env_kwargs: {pay: 3.0}}\n")
        flags += ["--conf-file", "mine.yml"]
    if source in ("flag", "both"):
        flags += ["--env-kwargs", "pay:5.0"]
    assert train(*flags)[0] == 0
    expected = 30 if source == "file" else 50
    with np.load(RUN / "evaluations.npz") as data:
        assert (data["results"] == expected).all()
    assert json.loads((RUN / "report.json").read_text())["summary"]["natural"]["mean"] == expected
    assert f"\n{expected}.0,10," in (RUN / "0.monitor.csv").read_text()


def test_evaluation_may_differ_on_request(train):
    assert train("--eval-env-kwargs", "pay:7.0", "--no-report")[0] == 0
    with np.load(RUN / "evaluations.npz") as data:
        assert (data["results"] == 70).all()
    assert "\n10.0,10," in (RUN / "0.monitor.csv").read_text()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--algo", "barpi"], "Did you mean 'barpo'"),
        (["--env", "Legder-v0"], "Did you mean 'Ledger-v0'"),
        (["-params", "gama:0.9"], "-params: there is no key 'gama'. Did you mean 'gamma'"),
        (["-params", "gamma:high"], "gamma is 'high', but must be a number"),
        (["-params", "gamma"], "'gamma' is not of the form key:value"),
        (["-params", "gamma:["], "the value of 'gamma' is not YAML"),
        (["-params", "batch_size:1"], "PPO refuses its settings. batch_size is 1"),
        (["-params", "callback:rlspo.PPO"], "callback: rlspo.PPO is not a BaseCallback"),
        (["-params", "callback:zoo_environments.Ledger"], "callback: zoo_environments.Ledger is not a BaseCallback"),
        (["--env-kwargs", "pya:1"], "Did you mean 'pay'"),
        (["--conf-file", "gone.yml"], "there is no file gone.yml"),
        (["--trained-agent", "gone.zip"], "there is no file gone.zip"),
        (["--device", "abacus"], "--device: 'abacus' cannot be used here"),
        (["--n-timestep", "5"], "Did you mean --n-timesteps?"),
        (["-n", "1.5"], "'1.5' is not a whole number"),
        (["--seed", "-3"], "leave --seed out"),
        (["--attack-epsilon", "0"], "'0' is not a number above 0"),
        (["-P", "gamma:0.9"], "Hyperparameters go after -params"),
    ],
)
def test_mistakes_are_one_message_and_leave_nothing(train, flags, message):
    code, _, errors = train(*flags)
    assert code == 2
    assert message in errors
    assert "Traceback" not in errors
    assert not Path("logs").exists()


def test_no_arguments_at_all(capsys):
    assert main([]) == 2
    assert "rlspo train --algo barpo --env Hopper-v5 -P" in capsys.readouterr().err


def test_environment_without_a_block_is_announced_loudly(train):
    _, _, errors = train("--no-report")
    assert "NO SETTINGS FOR Ledger-v0" in errors
    assert "ppo.yml has no block for Ledger-v0" in errors.replace("│\n│ ", "")
    assert "--conf-file" in errors


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_saves_the_agent_and_the_exit_code_tells_which(train, number, code):
    given, output, _ = train("--env-kwargs", "signal_at:21", f"number:{int(number)}", "--eval-freq", "-1")
    assert given == code
    assert rlspo.PPO.load(RUN / "last_model.zip").num_timesteps == 21
    assert "after 21 steps, the agent is saved" in output
    assert not (RUN / "report.json").exists()


def test_environment_that_fails_leaves_the_agent_and_the_best_one(train):
    code, output, errors = train("--env-kwargs", "fail_at:40", "--eval-freq", "16", "--eval-episodes", "1")
    assert code == 1
    assert "training failed after" in errors
    assert "the ledger is on fire" in errors
    assert "Traceback" not in errors
    assert "the ledger is on fire" in (RUN / "traceback.txt").read_text()
    assert "traceback.txt" in output
    assert rlspo.PPO.load(RUN / "best_model.zip").num_timesteps == 16
    last = rlspo.PPO.load(RUN / "last_model.zip")
    assert any((mine != theirs).any() for mine, theirs in zip(
        last.policy.parameters(), rlspo.PPO.load(RUN / "best_model.zip").policy.parameters(), strict=True
    ))  # fmt: skip


def test_environment_that_fails_before_the_first_step_says_so(train):
    code, _, errors = train("--env-kwargs", "fail_at:0", "--eval-freq", "-1")
    assert code == 1
    assert "training failed after 0 steps: RuntimeError: the ledger is on fire" in errors
    status = json.loads((RUN / "status.json").read_text())
    assert (status["state"], status["num_timesteps"]) == ("failed", 0)


def test_an_agent_that_was_normalised_does_not_go_on_without(train):
    settings = ["n_steps:16", "batch_size:16", "n_epochs:1", "n_timesteps:32"]
    assert train("--no-report", params=[*settings, "normalize:{clip_reward: 2.0, gamma: 0.5}"])[0] == 0
    saved = str(RUN / "last_model.zip")
    code, _, errors = train("--no-report", "-i", saved, params=["n_timesteps:32"])
    assert code == 2 and "was trained in a VecNormalize, and the settings put none" in errors and "normalize:true" in errors
    assert train("--no-report", "-i", saved, params=["n_timesteps:32", "normalize:{clip_obs: 5.0}"])[0] == 0
    with Path("logs/ppo/Ledger-v0_2/last_model_vecnormalize.pkl").open("rb") as file:
        after = pickle.load(file)
    assert (after.clip_reward, after.gamma) == (2.0, 0.5)


def test_going_on_in_another_environment_is_said(train):
    assert train("--no-report", "--eval-freq", "-1", "--env-kwargs", "fail_at:1000")[0] == 0
    code, output, errors = train("--no-report", "-i", str(RUN / "last_model.zip"), "-n", "32", params=["n_envs:1"])
    assert code == 0 and "env_kwargs: {'fail_at': 1000}, now {}" in output + errors


def test_noise_of_a_saved_agent_is_its_own(train):
    of_sac = {"algo": "sac", "env": "Pendulum-v1", "params": ["learning_starts:100", "n_timesteps:8"]}
    assert train("--no-report", "--eval-freq", "-1", **of_sac)[0] == 0
    of_sac["params"] = ["noise_type:normal", "noise_std:0.9"]
    code, _, errors = train("-i", "logs/sac/Pendulum-v1_1/last_model.zip", **of_sac)
    assert code == 2 and "noise_type, noise_std cannot change with --trained-agent" in errors


def test_infinite_settings_come_back(train):
    assert (
        train(
            "--no-report",
            "--eval-freq",
            "-1",
            params=["n_steps:16", "batch_size:16", "n_epochs:1", "n_timesteps:32", "normalize:{clip_obs: .inf}"],
        )[0]
        == 0
    )
    assert RunConfig.read(RUN / "config.yml").settings.normalize["clip_obs"] == float("inf")


def test_training_goes_on_from_a_saved_agent(train):
    assert train("--no-report", "--eval-freq", "-1")[0] == 0
    saved = str(RUN / "last_model.zip")
    code, output, _ = train("--no-report", "-i", saved, "-n", "32", "--eval-freq", "-1", params=["n_envs:1"])
    assert code == 0
    assert rlspo.PPO.load("logs/ppo/Ledger-v0_2/last_model.zip").num_timesteps == 64 + 32
    assert "PPO on Ledger-v0: 32 steps" in output
    code, _, errors = train("-i", saved, params=["gamma:0.9"])
    assert (code, "gamma cannot change with --trained-agent" in errors) == (2, True)
    code, _, errors = train("-i", saved, algo="arpo", params=["n_envs:1"])
    assert (code, "saved by PPO" in errors) == (2, True)
    assert not Path("logs/arpo").exists()


def test_a_continued_run_counts_on_wherever_steps_are_shown(train):
    more = ("--no-report", "--eval-freq", "32", "--eval-episodes", "1", "--log-format", "json")
    assert train(*more)[0] == 0
    assert train(*more, "-i", str(RUN / "last_model.zip"), params=["n_timesteps:64", "n_envs:1"])[0] == 0
    second = RUN.with_name("Ledger-v0_2")
    assert RunConfig.read(second / "config.yml").steps_before == 64
    assert np.load(second / "evaluations.npz")["timesteps"].tolist() == [96, 128]
    assert read_episodes(second).steps.tolist() == [74, 84, 94, 104, 114, 124]
    logged = [json.loads(line) for line in (second / "progress.json").read_text().splitlines()]
    assert {line["time/total_timesteps"] for line in logged if "time/total_timesteps" in line} <= {80, 96, 112, 128}
    status = json.loads((second / "status.json").read_text())
    assert (status["num_timesteps"], status["total"]) == (128, 128)


def test_progress_bar_silences_the_tables(capsys):
    flags = ["--algo", "ppo", "--env", "zoo_environments:Ledger-v0", "-P", "-n", "32", "--no-report"]
    assert main([*flags, "-params", "n_steps:16", "batch_size:16"]) == 0
    captured = capsys.readouterr()
    assert "rollout/" not in captured.out
    assert "32/32" in captured.out + captured.err


def test_whatever_fails_after_training_is_one_line(train, monkeypatch):
    def broken(*args, **kwargs):
        raise ZeroDivisionError("in somebody's policy")

    monkeypatch.setattr(summary, "evaluate_attacked", broken)
    code, output, errors = train()
    assert code == 0
    assert "report skipped: ZeroDivisionError: in somebody's policy" in errors
    assert "last_model.zip" in output


def test_environments_in_processes_of_their_own(train):
    code, _, _ = train("--vec-env", "subproc", "--no-report", "--eval-freq", "-1", "-params", "n_envs:2")
    assert code == 0
    assert {path.name for path in RUN.glob("*.monitor.csv")} == {"0.monitor.csv", "1.monitor.csv"}


@pytest.mark.filterwarnings("error:Training and eval env")
def test_copies_that_step_as_one(workplace):
    flags = ["--algo", "pdppo", "--env", "rlspo/LotSizing-v0", "--env-kwargs", "instance:2x1", "--vec-env", "native"]
    assert main([*flags, "-n", "500", "-params", "n_envs:4", "n_steps:16", "batch_size:32", "--verbose", "0"]) == 0
    folder = Path("logs/pdppo/rlspo-LotSizing-v0_1")
    assert len(load_results(str(folder))) == 4
    assert (folder / "report.json").is_file()


def test_the_main_job():
    pytest.importorskip("mujoco")
    flags = ["--algo", "barpo", "--env", "Hopper-v5", "-n", "128", "--seed", "1", "--verbose", "0", "--no-report"]
    assert main([*flags, "-params", "n_steps:128"]) == 0
    config = RunConfig.read(Path("logs/barpo/Hopper-v5_1/config.yml"))
    assert (config.source.block, config.agent["epsilon"]) == ("Hopper-v5", 0.075)


def test_another_packages_agent_is_trained_by_name(train, workplace, monkeypatch):
    site = workplace / "site"
    metadata = site / "cautious-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: cautious\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[rlspo.agents]\ncautious=cautious:Cautious\n")
    (site / "cautious").mkdir()
    (site / "cautious" / "__init__.py").write_text(
        "from rlspo import PPO\n\n\nclass Cautious(PPO):\n"
        "    def __init__(self, *args, caution: float = 0.5, **kwargs):\n"
        "        self.caution = caution\n        super().__init__(*args, **kwargs)\n"
    )
    (site / "cautious" / "hyperparams").mkdir()
    (site / "cautious" / "hyperparams" / "cautious.yml").write_text(
        "Ledger-v0: {n_timesteps: 16, n_steps: 16, batch_size: 16, policy: MlpPolicy, caution: 0.75}\n"
    )
    monkeypatch.syspath_prepend(str(site))
    code, output, errors = train("--no-report", algo="cautious", params=["n_epochs:1"])
    assert (code, errors) == (0, "")
    assert "Cautious on Ledger-v0" in output
    assert RunConfig.read(Path("logs/cautious/Ledger-v0_1/config.yml")).agent["caution"] == 0.75
    assert "Did you mean 'caution'" in train(algo="cautious", params=["cautin:1.0"])[2]


def test_run_folder_is_exactly_the_one_named(train):
    assert train("--no-report", "--run-folder", "runs/first")[0] == 0
    first = Path("runs/first")
    before = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    assert first / "last_model.zip" in before
    assert not Path("logs").exists()
    code, _, errors = train("--no-report", "--run-folder", "runs/first")
    assert (code, "runs/first is not empty" in errors) == (2, True)
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*")} == before


def test_an_agent_of_stable_baselines3_is_trained_by_its_class(train):
    algo = "stable_baselines3.PPO"
    settings = ["policy:MlpPolicy", "n_steps:16", "batch_size:16", "n_timesteps:32", "gamma:0.5", "normalize:true"]
    code, output, errors = train("--eval-freq", "16", algo=algo, params=settings)
    assert code == 0
    run = Path("logs/stable_baselines3.PPO/Ledger-v0_1")
    config = RunConfig.read(run / "config.yml")
    assert config.settings.normalize == {"gamma": 0.5}  # the normaliser discounts as the agent does
    assert config.agent["gamma"] == 0.5
    model = stable_baselines3.PPO.load(run / "last_model.zip")
    assert (type(model), model.num_timesteps, model.gamma) == (stable_baselines3.PPO, 32, 0.5)
    assert (run / "last_model_vecnormalize.pkl").is_file()
    report = json.loads((run / "report.json").read_text())
    assert list(report["summary"]) == ["natural", "random", "critic", "mad"]
    assert report["summary"]["natural"]["mean"] == 10
    assert report["attack"]["units"] == "standard deviations of the observation"
    assert "PPO on Ledger-v0: 32 steps" in output
    assert "attacks skipped" not in errors


def test_a_class_has_no_policy_of_its_own_accord(train):
    code, _, errors = train(algo="stable_baselines3.PPO", params=["n_timesteps:32"])
    assert (code, "the key 'policy' is missing" in errors) == (2, True)
    assert not Path("logs").exists()


def test_signal_before_training_leaves_nothing(train, monkeypatch):
    monkeypatch.setattr("rlspo.zoo.train.training._build", lambda *args: signal.raise_signal(signal.SIGTERM))
    code, _, errors = train()
    assert (code, "Stopped by SIGTERM" in errors) == (143, True)
    assert not Path("logs").exists()


def test_off_policy_agents_train_too_and_are_not_attacked(train):
    small = ["n_timesteps:40", "learning_starts:10", "batch_size:8", "buffer_size:100", "policy_kwargs:{net_arch: [8]}"]
    code, out, err = train(algo="sac", env="rlspo/MultiGoal-v0", params=small)
    assert code == 0
    assert "the attacks need an actor-critic policy, and this one is a SACPolicy" in out + err
    assert "last model" in out
