"""The command `rlspo` teaches and dispatches."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import rlspo
from rlspo.zoo.cli import commands

#: What users of rl-baselines3-zoo know.
FLAGS = ["--algo", "--env", "-n", "--seed", "--eval-freq", "--eval-episodes", "--n-eval-envs", "--save-freq", "-f"]
FLAGS += ["--tensorboard-log", "-P", "--device", "--vec-env", "-params", "--env-kwargs", "--conf-file", "--verbose"]
FLAGS += ["--num-threads"]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["help"]])
def test_without_a_command_it_teaches(arguments, capsys):
    assert commands.main(arguments) == 0
    output = capsys.readouterr().out
    assert "rlspo train --algo barpo --env Hopper-v5" in output
    assert all(name in output for name in commands.COMMANDS)


def test_unknown_command_gets_the_nearest(capsys):
    assert commands.main(["trian"]) == 2
    assert "no command 'trian'. Did you mean 'train'? See: rlspo --help" in capsys.readouterr().err
    assert commands.main(["--algo", "ppo"]) == 2
    assert "no flag '--algo'. Commands: train, evaluate, " in capsys.readouterr().err


def test_an_interrupt_while_a_command_is_loaded_is_one_line(capsys, monkeypatch):
    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands.importlib, "import_module", interrupted)
    assert commands.main(["train"]) == 130
    assert capsys.readouterr().err == "Stopped by Ctrl-C; nothing was begun.\n"


def test_version(capsys):
    assert commands.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("rlspo ")


def test_train_is_the_same_command(capsys, monkeypatch):
    with pytest.raises(SystemExit) as stopped:
        commands.main(["train", "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert [flag for flag in FLAGS if f" {flag}" not in text] == []
    assert "barpo" in text
    monkeypatch.setattr(sys, "argv", ["rlspo", "train", "--algo", "nobody", "--env", "CartPole-v1"])
    assert commands.main() == 2
    assert "no agent 'nobody'" in capsys.readouterr().err
    assert commands.main(["train", "--algo", "td3", "--env", "Pendulum-v1"]) == 2
    assert "That of rl-baselines3-zoo is --algo stable_baselines3.TD3." in capsys.readouterr().err


ENVIRONMENT = """
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv
gym.register("Here-v0", CartPoleEnv, max_episode_steps=10)
"""
SCRIPT = "import sys; sys.path[:] = [path for path in sys.path if path]; from rlspo.zoo.cli import main; sys.exit(main())"


def test_modules_of_the_current_folder_are_found(tmp_path):
    """As by `python -m rlspo.zoo.train`: the installed script does not look there by itself. They replace nothing."""
    (tmp_path / "my_environment.py").write_text(ENVIRONMENT)
    (tmp_path / "pydantic.py").write_text("raise SystemExit('the wrong one')")
    words = ["--algo", "ppo", "--env", "Here-v0", "--gym-packages", "my_environment", "--device", "abacus"]
    root = str(Path(rlspo.__file__).parents[1])
    environ = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "train", *words], cwd=tmp_path, env=environ, capture_output=True, text=True
    )
    assert (done.returncode, "--device: 'abacus' cannot be used" in done.stderr) == (2, True), done.stderr
