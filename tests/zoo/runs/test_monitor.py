"""Episodes are put where they ended, by steps and by the clock."""

import json

import numpy as np
import pytest

from rlspo.zoo.runs.monitor import env_id, monitor_files, read_episodes


def test_environments_step_together(tmp_path, monitor):
    # Two environments: when one has made 10 steps, both have made 20.
    monitor(tmp_path / "0.monitor.csv", [(1.0, 10, 0.1), (3.0, 20, 0.3)])
    monitor(tmp_path / "1.monitor.csv", [(2.0, 20, 0.2)])
    episodes = read_episodes(tmp_path)
    assert episodes.steps.tolist() == [20, 40, 60]
    assert episodes.returns.tolist() == [1.0, 2.0, 3.0]
    assert episodes.seconds.tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_environments_side_by_side_share_the_clock(tmp_path, monitor):
    """Eight environments, 100 steps a second each: 8000 steps take ten seconds, not the eighty of one after the other."""
    for number in range(8):
        monitor(tmp_path / f"{number}.monitor.csv", [(1.0, 1000, 10.0), (2.0, 1000, 20.0)])
    episodes = read_episodes(tmp_path)
    assert episodes.steps.tolist() == [8000] * 8 + [16000] * 8
    assert episodes.seconds_at(np.array([4000, 8000, 12000, 16000, 20000])).tolist() == [5.0, 10.0, 15.0, 20.0, 25.0]
    # Were the lengths added up in the order of the endings, the first 4000 steps would have taken all of the ten seconds.


def test_copies_that_share_a_file_step_together(tmp_path):
    lines = ['#{"t_start": 0.0, "env_id": "A-v0", "n_envs": 2}', "r,l,t,copy", "1.0,10,0.1,0", "2.0,20,0.2,1", "3.0,20,0.3,0"]
    (tmp_path / "0.monitor.csv").write_text("\n".join(lines))
    assert read_episodes(tmp_path).steps.tolist() == [20, 40, 60]


def test_each_file_has_a_clock_of_its_own(tmp_path, monitor):
    monitor(tmp_path / "0.monitor.csv", [(1.0, 10, 5.0)], t_start=1000.0)
    monitor(tmp_path / "1.monitor.csv", [(2.0, 20, 4.5)], t_start=1002.0)
    assert read_episodes(tmp_path).seconds.tolist() == [5.0, 6.5]


def test_moments_between_and_beyond_episodes(tmp_path, monitor):
    monitor(tmp_path / "0.monitor.csv", [(1.0, 10, 2.0), (1.0, 30, 10.0)])
    episodes = read_episodes(tmp_path)
    assert episodes.seconds_at(np.array([5, 10, 25, 60])).tolist() == [1.0, 2.0, 6.0, 15.0]
    assert episodes.episodes_at(np.array([9, 10, 39, 60])).tolist() == [0, 1, 1, 2]


def test_a_moment_at_which_several_episodes_ended_is_the_last_of_them(tmp_path, monitor):
    monitor(tmp_path / "0.monitor.csv", [(1.0, 10, 2.0)])
    monitor(tmp_path / "1.monitor.csv", [(1.0, 10, 2.5)])
    assert read_episodes(tmp_path).seconds_at(np.array([20])).tolist() == [2.5]


def test_lines_that_are_no_episodes_are_left_out(tmp_path):
    lines = ["#{not json", "r,l,t,is_success", "1.0,10,0.1,True", "nonsense,10,0.2,True", "5.0,10,0.3,False", "7.0,1"]
    (tmp_path / "0.monitor.csv").write_text("\n".join(lines))
    assert read_episodes(tmp_path).returns.tolist() == [1.0, 5.0]


def test_a_return_that_is_no_number_is_nan(tmp_path, monitor):
    monitor(tmp_path / "0.monitor.csv", [(1.0, 10, 0.1), (float("inf"), 10, 0.2)])
    assert np.isnan(read_episodes(tmp_path).returns).tolist() == [False, True]


def test_folders_without_episodes(tmp_path, monitor):
    assert len(read_episodes(tmp_path).steps) == 0
    assert env_id(tmp_path) is None
    monitor(tmp_path / "0.monitor.csv", [])
    episodes = read_episodes(tmp_path)
    assert len(episodes.steps) == 0
    assert np.isnan(episodes.seconds_at(np.array([5.0]))).all()
    assert np.isnan(episodes.episodes_at(np.array([5.0]))).all()


def test_which_files_are_of_training(tmp_path, monitor):
    for name in ("monitor.csv", "eval.monitor.csv", "10.monitor.csv"):
        monitor(tmp_path / name, [], env_id="Maze-v0")
    assert [file.name for file in monitor_files(tmp_path)] == ["10.monitor.csv", "monitor.csv"]
    assert env_id(tmp_path) == "Maze-v0"


CONTINUED = "algo: ppo\nenv: E-v0\ntrained_agent: old.zip\nsettings: {n_timesteps: 60}\n"


@pytest.mark.parametrize(
    ("config", "status", "before"),
    [
        (CONTINUED + "steps_before: 4096\n", None, 4096),
        (CONTINUED, '{"total": 4156}', 4096),  # as recorded before there was such a key
        (CONTINUED, "{", 0),
        ("algo: ppo\nenv: E-v0\ntrained_agent: null\nsteps_before: 0\n", '{"total": 60}', 0),
        ("- of something else\n", None, 0),
        (None, None, 0),
    ],
)
def test_a_continued_run_counts_on(tmp_path, monitor, config, status, before):
    """As its evaluations, model and TensorBoard do; the clock is that of this training."""
    for name, text in (("config.yml", config), ("status.json", status)):
        if text is not None:
            (tmp_path / name).write_text(text)
    monitor(tmp_path / "0.monitor.csv", [(1.0, 10, 2.0), (1.0, 30, 10.0)])
    episodes = read_episodes(tmp_path)
    assert episodes.steps.tolist() == [before + 10, before + 40]
    assert episodes.seconds_at(before + np.array([0, 5, 10, 25, 60])).tolist() == [0.0, 1.0, 2.0, 6.0, 15.0]
    assert episodes.episodes_at(before + np.array([9, 10, 60])).tolist() == [0, 1, 2]


def test_lengths_and_successes(tmp_path):
    lines = ["r,l,t,is_success", "1.0,10,0.1,True", "2.0,20,0.2,False", "3.0,5,0.3,", "4.0,6,0.4,1.0"]
    (tmp_path / "monitor.csv").write_text("\n".join(lines))
    episodes = read_episodes(tmp_path)
    assert episodes.lengths.tolist() == [10, 20, 5, 6]
    assert np.array_equal(episodes.successes, [1.0, 0.0, np.nan, 1.0], equal_nan=True)


def test_duplicate_lines_are_reported_and_counted_once(tmp_path, monitor, capsys):
    monitor(tmp_path / "0.monitor.csv", [(1.0, 5, 0.5), (1.0, 5, 0.5), (1.0, 5, 0.75)])
    assert read_episodes(tmp_path).steps.tolist() == [5, 10]
    assert "0.monitor.csv: 1 lines are duplicates" in capsys.readouterr().err


def test_copies_that_step_at_once_may_end_at_once(tmp_path, capsys):
    header = json.dumps({"t_start": 0.0, "env_id": "E-v0", "n_envs": 2})
    (tmp_path / "0.monitor.csv").write_text(f"#{header}\nr,l,t\n1.0,5,0.5\n1.0,5,0.5\n")
    assert read_episodes(tmp_path).steps.tolist() == [5, 10]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("wrappers", "frames"),
    [
        ("{a.MaxAndSkipObservation: {skip: 2}, a.FlattenObservation: {}}", 2),
        ("[{a.RepeatAction: {num_repeats: 3}}, a.FlattenObservation]", 3),
        ("[{a.RepeatAction: {num_repeats: 3}}, {a.MaxAndSkipEnv: {skip: 2}}]", 6),
        ("a.AtariWrapper", 4),
        ("null", 1),
    ],
)
def test_steps_are_those_of_the_agent_where_wrappers_skip_frames(tmp_path, monitor, wrappers, frames):
    (tmp_path / "config.yml").write_text(f"settings: {{env_wrapper: {wrappers}}}\n")
    monitor(tmp_path / "0.monitor.csv", [(1.0, 12, 2.0), (1.0, 24, 10.0)])
    assert read_episodes(tmp_path).steps.tolist() == [12 // frames, 36 // frames]
