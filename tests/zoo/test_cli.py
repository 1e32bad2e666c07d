"""The command `rlspo` teaches and dispatches."""

import sys

import pytest

from rlspo.zoo import cli

#: What users of rl-baselines3-zoo know.
FLAGS = ["--algo", "--env", "-n", "--seed", "--eval-freq", "--eval-episodes", "--n-eval-envs", "--save-freq", "-f"]
FLAGS += ["--tensorboard-log", "-P", "--device", "--vec-env", "-params", "--env-kwargs", "--conf-file", "--verbose"]
FLAGS += ["--num-threads"]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["help"]])
def test_without_a_command_it_teaches(arguments, capsys):
    assert cli.main(arguments) == 0
    output = capsys.readouterr().out
    assert "rlspo train --algo barpo --env Hopper-v5" in output
    assert all(name in output for name in cli.COMMANDS)


def test_unknown_command_gets_the_nearest(capsys):
    assert cli.main(["trian"]) == 2
    assert "no command 'trian'. Did you mean 'train'? See: rlspo --help" in capsys.readouterr().err
    assert cli.main(["--algo", "ppo"]) == 2
    assert "no flag '--algo'. Commands: train, evaluate, " in capsys.readouterr().err


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("rlspo ")


def test_train_is_the_same_command(capsys, monkeypatch):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["train", "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert [flag for flag in FLAGS if f" {flag}" not in text] == []
    assert "barpo" in text
    monkeypatch.setattr(sys, "argv", ["rlspo", "train", "--algo", "nobody", "--env", "CartPole-v1"])
    assert cli.main() == 2
    assert "no agent 'nobody'" in capsys.readouterr().err
