"""What is seen while a grid runs."""

import pytest
from rich.console import Console

from rlspo.zoo.benchmark.live_view import Board, Lines
from rlspo.zoo.benchmark.progress import Progress, seconds_left
from tests.zoo.benchmark.tiny_grids import TINY, fake, runs_of, write_grid

ENV = {"id": "Ledger-v0", "gym_packages": ["zoo_environments"]}


@pytest.fixture
def board(workplace):
    """Draw a grid: seeds, how many environments, and the progress of some runs, to the lines of a terminal."""

    def draw(progress, seeds=2, envs=1, width=100, height=40):
        entries = {f"env{number}": ENV for number in range(envs)}
        runs = runs_of(write_grid(workplace, envs=entries, seeds=seeds), workplace / "out")
        everything = {run.key: progress.get(run.key, Progress()) for run in runs}
        console = Console(width=width, height=height, record=True, force_terminal=False)
        with console.capture() as captured:
            console.print(Board(runs, runs, everything, jobs=2).render(console))
        return captured.get()

    return draw


def row(text, agent):
    """The runs of an agent's first row."""
    line = next(line for line in text.splitlines() if f"│ {agent} " in line)
    return [part.strip() for part in line.strip("│").split("│")]


def test_every_run_has_a_place(board):
    text = board(
        {
            "ppo/env0/0": Progress("done", 64, 100.0, 2, {"natural": 1234.56, "random": 9.0}),
            "ppo/env0/1": Progress("training", 16, 50.0),
            "twin/env0/0": Progress("evaluating", 64, 30.0, evaluated=1),
            "twin/env0/1": Progress("failed", reason="killed by SIGKILL"),
        }
    )
    assert row(text, "ppo") == ["env0", "ppo", "1,234.6", "25%", "75"]
    assert row(text, "twin") == ["", "twin", "evaluated 1/2", "failed", "30"]
    assert "1 of 4 done, 2 running, 1 failed" in text and "mean return, natural" in text


def test_many_seeds_are_counted(board):
    text = board({f"ppo/env0/{seed}": Progress("done", 64, 100.0) for seed in range(7)}, seeds=20, width=80)
    assert row(text, "ppo")[2] == "13 waiting, 7 done"
    assert max(map(len, text.splitlines())) <= 80


def test_what_does_not_fit_is_summed_up_and_what_happens_is_seen(board):
    text = board({"twin/env7/1": Progress("training", 32, 10.0)}, envs=12, height=20)
    assert len(text.splitlines()) <= 20
    assert "env7" in text and "env11" not in text
    assert "50%" in text and "and 11 more rows: 22 waiting" in text


def test_time_left_is_told_from_what_is_known(workplace):
    runs = runs_of(write_grid(workplace, seeds=2), workplace / "out")
    ppo_0, twin_0, ppo_1, twin_1 = runs
    progress = {run.key: Progress() for run in runs}
    assert seconds_left(runs, progress, 1) is None
    progress[ppo_0.key] = Progress("done", 64, 8.0, seconds_evaluating=2.0)
    progress[twin_0.key] = Progress("training", 32, 4.0)
    # twin_0: 32 steps at 4 a second and 2 s of evaluating; ppo_1: 64 at 8 and 2; twin_1: 64 at 4 and 2.
    assert seconds_left(runs, progress, 1) == (8 + 2) + (8 + 2) + (16 + 2)
    assert seconds_left(runs, progress, 2) == 38 / 2
    assert seconds_left(runs, progress, 30) == 18  # the longest run
    progress[twin_1.key].state = progress[ppo_1.key].state = "failed"
    assert seconds_left(runs, progress, 1) == 10


def test_progress_is_read_from_the_folder(workplace):
    run = runs_of(write_grid(workplace, agents={"ppo": {"params": TINY}}), workplace / "out")[0]
    progress = Progress()
    progress.read(run)
    assert progress == Progress()
    fake(run, {"natural": [1.0, 3.0]})
    progress.read(run)
    assert (progress.steps, progress.steps_per_second, progress.evaluated, progress.means) == (64, 32.0, 1, {"natural": 2.0})


def test_without_a_terminal_each_change_is_a_line(workplace, capsys):
    runs = runs_of(write_grid(workplace, seeds=1), workplace / "out")
    lines = Lines(runs)
    lines.changed(runs[0], Progress("training"))
    lines.changed(runs[0], Progress("done", means={"natural": 12.0}, seconds=75.0))
    lines.changed(runs[1], Progress("failed", reason="exit code 1\nmuch more", seconds=1.0))
    assert capsys.readouterr().err.splitlines() == [
        "[0/2] ppo/Ledger-v0/0 training",
        "[1/2] ppo/Ledger-v0/0 done: natural 12.0 (1 min 15 s)",
        "[2/2] twin/Ledger-v0/0 failed: exit code 1 (1.0 s)",
    ]
