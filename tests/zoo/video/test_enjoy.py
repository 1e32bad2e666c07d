"""`rlspo enjoy`: a window, or else a video and a word about it; and returns that are right for every environment."""

import functools
import itertools
import json
import signal
from pathlib import Path

import pytest

from rlspo.zoo.evaluate.play import Episode
from rlspo.zoo.video import enjoy as command
from rlspo.zoo.video.render import RecordingFailed
from rlspo.zoo.video.spec import Recording, Video


@pytest.fixture
def enjoy(call):
    """Run ``rlspo enjoy``; gives exit code, output and errors."""
    return functools.partial(call, command.main)


@pytest.fixture
def display(monkeypatch):
    """There is one."""
    monkeypatch.setattr(command, "no_screen", lambda: None)


@pytest.fixture
def ordered(monkeypatch):
    """There is no display, specs of videos are collected, and no video is made."""
    specs = []

    def write_video(spec):
        specs.append(spec)
        episodes = (Episode(0, 10.0, 10), Episode(0, 12.0, 11))
        return Video(640, 480, 50, 25.0, (Recording(str(spec.agents[0].model_file), 64, 21, episodes),))

    monkeypatch.setattr(command, "no_screen", lambda: "there is no display")
    monkeypatch.setattr(command, "write_video", write_video)
    return specs


def test_a_window_shows_three_episodes(run, enjoy, display):
    code, out, err = enjoy(run, "--fps", "5000")
    assert (code, err) == (0, "")
    assert [line.split() for line in out.splitlines() if "episode" in line] == [
        ["episode", str(number), "return", "10.00", "length", "10"] for number in (1, 2, 3)
    ]
    assert "mean of 3" in out and "ppo on Lamp-v0, last model, trained for 64 steps" in out
    drawn = Path("window.txt").read_text().splitlines()
    assert sum(line.startswith("step") for line in drawn) == 30
    assert {line.split()[1] for line in drawn[1:]} != {"20"}  # the environment's own clock does not hold it back


def test_without_a_window_nothing_is_drawn(run, enjoy, display):
    code, out, err = enjoy(run, "--no-render", "--episodes", "2")
    assert (code, err) == (0, "") and out.count("return") == 3
    assert not Path("window.txt").exists()


def test_several_windows_are_processes_of_their_own(run, enjoy, display):
    code, out, _ = enjoy(run, "--n-envs", "2", "--episodes", "3", "--fps", "5000")
    assert code == 0
    assert sorted(line.split()[-2:] for line in out.splitlines() if "episode" in line) == [
        ["environment", "1"],
        ["environment", "2"],
        ["environment", "2"],
    ]


def test_returns_of_several_environments_are_right_and_their_own(run, enjoy):
    """An episode of environment k pays what its own actions earned; alone, an environment of that seed earns the same."""
    flags = ["--no-render", "--json", "--env-kwargs", "length:7", "prize:0.5", "--episodes"]
    together = json.loads(enjoy(run, "--n-envs", "3", *flags, "3")[1])
    assert [episode["env"] for episode in together["episodes"]] == [0, 1, 2]
    for index, episode in enumerate(together["episodes"]):
        alone = json.loads(enjoy(run, "--seed", str(1_000_000 + index), *flags, "1")[1])
        assert alone["episodes"] == [{**episode, "env": 0}]
        assert episode["length"] == 7 and 7 <= episode["return"] <= 10.5


def test_short_episodes_do_not_come_more_often(run, enjoy, monkeypatch):
    endings = itertools.cycle([[Episode(0, 1.0, 1)], [Episode(0, 1.0, 1), Episode(1, 2.0, 2)]])
    monkeypatch.setattr(command, "steps_of", lambda actor, env, observations: endings)
    data = json.loads(enjoy(run, "--no-render", "--json", "--n-envs", "2", "--episodes", "4")[1])
    assert [episode["env"] for episode in data["episodes"]] == [0, 0, 1, 1]


def test_steps_are_counted_over_all_environments(run, enjoy):
    code, out, _ = enjoy(run, "--no-render", "--json", "-n", "60", "--n-envs", "2")
    data = json.loads(out)
    assert code == 0 and [episode["env"] for episode in data["episodes"]] == [0, 1] * 3
    assert (data["num_timesteps"], data["deterministic"], data["video"]) == (64, True, None)


def test_without_a_display_a_note_and_a_video(run, enjoy, ordered):
    code, out, err = enjoy(run, "--episodes", "2", "--stochastic", "--seed", "5", "--fps", "9")
    assert code == 0
    assert err.strip() == ("No window here: there is no display. Making a video instead; --no-render gives only the returns.")
    (spec,) = ordered
    assert (spec.file, spec.episodes, spec.steps) == (run / "videos" / "last_model.mp4", 2, None)
    assert (spec.seed, spec.deterministic, spec.fps) == (5, False, 9)
    assert "episode 2" in out and "mean of 2" in out and "videos/last_model.mp4" in out


def test_without_a_display_json_names_the_video(run, enjoy, ordered):
    code, out, _ = enjoy(run, "--json", "-n", "50")
    data = json.loads(out)
    assert code == 0 and data["video"] == str(run / "videos" / "last_model.mp4")
    assert [episode["return"] for episode in data["episodes"]] == [10.0, 12.0]
    assert ordered[0].steps == 50


def test_a_video_where_the_window_does_not_open(run, enjoy, ordered, display):
    code, _, err = enjoy(run, "--env-kwargs", "broken_window:true")
    assert code == 0 and len(ordered) == 1
    assert "No window here: RuntimeError: the window is bricked up." in err


def test_an_environment_without_pictures(train, workplace, enjoy, display):
    assert train("--no-report", "--eval-freq", "-1", env="Blind-v0")[0] == 0
    run = workplace / "logs" / "ppo" / "Blind-v0_1"
    code, _, err = enjoy(run)
    assert code == 2 and "has no render mode 'human'" in err and "--no-render" in err
    assert not (run / "videos").exists()
    assert enjoy(run, "--no-render")[0] == 0


def test_a_failed_recording_is_reported(run, enjoy, ordered, monkeypatch):
    def write_video(spec):
        raise RecordingFailed("the lamp has burnt out")

    monkeypatch.setattr(command, "write_video", write_video)
    code, _, err = enjoy(run)
    assert code == 1 and "recording Lamp-v0 failed. the lamp has burnt out" in err


@pytest.mark.parametrize(("number", "code", "name"), [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")])
def test_signals_stop_it_and_ended_episodes_are_reported(run, enjoy, monkeypatch, number, code, name):
    def steps_of(actor, env, observations):
        yield [Episode(0, 1.0, 1)]
        signal.raise_signal(number)

    monkeypatch.setattr(command, "steps_of", steps_of)
    got, out, err = enjoy(run, "--no-render")
    assert got == code and "episode 1" in out and f"Stopped by {name}." in err
    got, out, _ = enjoy(run, "--no-render", "--json")
    assert got == code and len(json.loads(out)["episodes"]) == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--episodes", "2", "-n", "10"], "not allowed with"),
        (["--no-render", "--fps", "5"], "--fps is the speed of a window"),
        (["--which", "best"], "there is no best_model.zip"),
        (["--n-env", "2"], "Did you mean --n-envs?"),
    ],
)
def test_mistakes_are_reported(run, enjoy, flags, message):
    code, out, err = enjoy(run, *flags)
    assert (code, out) == (2, "") and message in err


def test_no_arguments_are_a_mistake(enjoy):
    code, _, err = enjoy()
    assert code == 2 and "Give a run folder or a model file, such as logs/" in err
