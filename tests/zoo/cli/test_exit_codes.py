"""Exit codes, and what is said about mistakes and signals."""

import signal
from pathlib import Path

import pytest

from rlspo.zoo.cli.exit_codes import run
from rlspo.zoo.errors import UserError
from rlspo.zoo.evaluate import command as evaluate
from rlspo.zoo.plot import command as plot

SIGNALS = [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")]


def test_what_the_work_returns_is_returned():
    assert run(lambda arguments: len(arguments), ["a", "b", "c"]) == 3


def test_a_mistake_is_one_message(capsys):
    def work(arguments):
        raise UserError("--n: must be at least 1")

    assert run(work, []) == 2
    assert capsys.readouterr().err == "error: --n: must be at least 1\n"


@pytest.mark.parametrize(("number", "code", "name"), SIGNALS)
def test_a_signal_unwinds_the_work_and_is_said(capsys, number, code, name):
    before = signal.getsignal(number)
    cleaned = []

    def work(arguments):
        try:
            signal.raise_signal(number)
        except Exception:
            pytest.fail("a signal is no error of the work")
        finally:
            cleaned.append(True)

    assert run(work, []) == code
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"Stopped by {name}.\n")
    assert cleaned and signal.getsignal(number) is before


@pytest.mark.parametrize(("number", "code", "name"), SIGNALS)
def test_evaluate_is_stopped(train, capsys, number, code, name):
    assert train("--no-report", "--eval-freq", "-1")[0] == 0
    flags = ["--env-kwargs", "signal_at:5", f"number:{number.value}", "--n-envs", "1", "--csv", "episodes.csv", "--json"]
    assert evaluate.main(["logs/ppo/Ledger-v0_1", *flags]) == code
    captured = capsys.readouterr()
    assert captured.out == "" and f"Stopped by {name}." in captured.err
    assert not Path("episodes.csv").exists()


@pytest.mark.parametrize(("number", "code", "name"), SIGNALS)
def test_plot_is_stopped(train, capsys, monkeypatch, number, code, name):
    assert train("--no-report", "--eval-freq", "32", "--eval-episodes", "1")[0] == 0

    def save(figure, file):
        signal.raise_signal(number)

    monkeypatch.setattr(plot.style, "save", save)
    assert plot.main(["logs", "-o", "curves.png", "--json"]) == code
    captured = capsys.readouterr()
    assert captured.out == "" and f"Stopped by {name}." in captured.err
    assert not list(Path().glob("*curves.png"))
