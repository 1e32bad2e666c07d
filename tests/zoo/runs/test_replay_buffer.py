"""Replay memories are kept when asked to, taken up by a run that goes on, and missed aloud."""

import json
import os
from pathlib import Path

import pytest
import stable_baselines3
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise

from rlspo.common import files
from rlspo.zoo.train import callbacks
from rlspo.zoo.train.command import main

DQN = "stable_baselines3.DQN"
RUN = Path(f"logs/{DQN}/Ledger-v0_1")
SMALL = ["policy:MlpPolicy", "learning_starts:8", "batch_size:4", "buffer_size:64", "n_timesteps:32"]
QUICK = ("--no-report", "--eval-freq", "-1")


def test_a_buffer_is_saved_and_loaded(train):
    assert train(*QUICK, "--save-replay-buffer", algo=DQN, params=SMALL)[0] == 0
    model = stable_baselines3.DQN.load(RUN / "last_model.zip")
    model.load_replay_buffer(RUN / "replay_buffer.pkl")
    assert model.replay_buffer.size() == 32
    code, _, errors = train(*QUICK, "-i", f"{RUN}/last_model.zip", algo=DQN, params=["n_timesteps:8"])
    assert code == 0 and "replay_buffer.pkl, 32 transitions" in errors
    code, _, errors = train(*QUICK, "-i", f"{RUN}/last_model.zip", algo=DQN, params=["n_timesteps:8", "n_envs:2"])
    assert code == 2 and "It is of 1 environments side by side, not of 2" in errors and "rename it" in errors
    (RUN / "replay_buffer.pkl").write_bytes(b"no buffer")
    code, _, errors = train(*QUICK, "-i", f"{RUN}/last_model.zip", algo=DQN, params=["n_timesteps:8"])
    assert code == 2 and "replay_buffer.pkl cannot be used" in errors
    (RUN / "replay_buffer.pkl").unlink()
    code, _, errors = train(*QUICK, "-i", f"{RUN}/last_model.zip", algo=DQN, params=["n_timesteps:8"])
    assert code == 0 and "EMPTY REPLAY BUFFER" in errors and "--save-replay-buffer" in errors
    assert len(list(RUN.parent.iterdir())) == 3, "what could not begin left nothing"


def test_an_agent_without_a_replay_buffer_is_refused(train):
    code, _, errors = train("--save-replay-buffer")
    assert code == 2 and "PPO learns from each rollout once and has no replay buffer" in errors
    assert train(*QUICK)[0] == 0
    code, _, errors = train(*QUICK, "-i", "logs/ppo/Ledger-v0_1/last_model.zip", params=["n_timesteps:16"])
    assert (code, "MEMORY" in errors) == (0, False)


def test_a_buffer_that_cannot_be_written_is_no_success(train, monkeypatch):
    def full(self, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(callbacks, "_PAUSES", (0.0,))
    monkeypatch.setattr(stable_baselines3.DQN, "save_replay_buffer", full)
    code, _, errors = train(*QUICK, "--save-replay-buffer", algo=DQN, params=SMALL)
    assert code == 1 and "the replay buffer could not be saved anywhere: [Errno 28] No space left" in errors
    assert (RUN / "last_model.zip").is_file()
    assert json.loads((RUN / "status.json").read_text())["state"] == "failed"


def test_a_buffer_that_does_not_fit_beside_its_agent_is_saved_elsewhere(train, monkeypatch):
    save = stable_baselines3.DQN.save_replay_buffer

    def full_there(self, path):
        if "rescued" not in str(path):
            raise OSError(28, "No space left on device")
        save(self, path)

    monkeypatch.setattr(callbacks, "_PAUSES", (0.0,))
    monkeypatch.setattr(stable_baselines3.DQN, "save_replay_buffer", full_there)
    code, _, errors = train(*QUICK, "--save-replay-buffer", algo=DQN, params=SMALL)
    (kept,) = Path.cwd().glob("rlspo_rescued_*/replay_buffer.pkl")
    assert code == 1 and f"The buffer is saved in {kept}; put it beside the agent." in " ".join(errors.split())
    kept.rename(RUN / kept.name)
    code, _, errors = train(*QUICK, "-i", f"{RUN}/last_model.zip", algo=DQN, params=["n_timesteps:8"])
    assert code == 0 and "replay_buffer.pkl, 32 transitions" in errors


def test_a_rescued_agent_has_its_buffer_beside_it(train, monkeypatch):
    save = callbacks.save_model

    def full_there(model, file, folder):
        if "rescued" not in str(file):
            raise OSError(28, "No space left on device")
        save(model, file, folder)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks, "_PAUSES", (0.0,))
        patch.setattr(callbacks, "save_model", full_there)
        assert train(*QUICK, "--save-replay-buffer", algo=DQN, params=SMALL)[0] == 1
    (agent,) = Path.cwd().glob("rlspo_rescued_*/last_model.zip")
    code, _, errors = train(*QUICK, "-i", str(agent), algo=DQN, params=["n_timesteps:8"])
    assert code == 0 and "replay_buffer.pkl, 32 transitions" in errors


def test_a_buffer_whose_writing_was_killed_is_named(capsys, monkeypatch):
    """A kill leaves the torn file under one temporary name, and the run is not told to be done."""
    words = ("--algo", "sac", "--env", "Pendulum-v1", *QUICK, "--verbose", "0", "-n", "8")
    small = ("-params", "learning_starts:4", "batch_size:4", "buffer_size:64", "train_freq:1")

    def killed(path):
        if path.name.endswith("replay_buffer.pkl"):
            raise SystemExit  # nothing after it, but that the temporary file stays
        sync(path)

    sync, unlink = files._sync, Path.unlink
    with monkeypatch.context() as patch:
        patch.setattr(files, "_sync", killed)
        patch.setattr(Path, "unlink", lambda self, **_: None if self.name.startswith("partial_") else unlink(self, **_))
        with pytest.raises(SystemExit):
            main([*words, "--save-replay-buffer", *small])
    run = Path("logs/sac/Pendulum-v1_1")
    (torn,) = run.glob("*replay_buffer.pkl")
    assert torn.name == f"partial_{os.getpid()}_replay_buffer.pkl"
    assert json.loads((run / "status.json").read_text())["state"] == "running"
    capsys.readouterr()
    assert main([*words, "-i", f"{run}/last_model.zip"]) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert torn.name in told and "keep the buffer" not in told


@pytest.mark.parametrize(
    ("kind", "expected"), [("normal", NormalActionNoise), ("ornstein-uhlenbeck", OrnsteinUhlenbeckActionNoise)]
)
def test_noise_on_actions(kind, expected, capsys):
    words = "--algo stable_baselines3.TD3 --env Pendulum-v1 --no-report --verbose 0 --eval-freq -1 -n 4 -params"
    settings = ["policy:MlpPolicy", "buffer_size:8", f"noise_type:{kind}", "noise_std:0.25"]
    assert main([*words.split(), *settings]) == 0
    model = stable_baselines3.TD3.load("logs/stable_baselines3.TD3/Pendulum-v1_1/last_model.zip")
    assert isinstance(model.action_noise, expected)
    assert model.action_noise._sigma == pytest.approx([0.25])


def test_noise_on_actions_that_are_no_numbers(train, capsys):
    words = ["--algo", "stable_baselines3.TD3", "--env", "CartPole-v1", "--verbose", "0", "-n", "4", "-params"]
    assert main([*words, "policy:MlpPolicy", "noise_type:normal", "noise_std:0.25"]) == 2
    assert "noise can be added to numbers, and the actions are Discrete(2)" in capsys.readouterr().err
    assert not Path("logs").exists()


@pytest.mark.parametrize(("interval", "rollouts"), [("-1", 4), ("2", 2), ("-2", 0)])
def test_log_interval_sets_how_often_is_logged(train, interval, rollouts):
    assert train(*QUICK, "--log-interval", interval, "--log-format", "json")[0] == 0
    file = Path("logs/ppo/Ledger-v0_1/progress.json")
    lines = file.read_text().splitlines() if file.exists() else []
    assert sum("rollout/ep_rew_mean" in json.loads(line) for line in lines) == rollouts


def test_a_log_interval_of_zero_is_refused(train):
    assert "0 is not an interval" in train("--log-interval", "0")[2]
