"""The numbers behind learning curves, by hand."""

import numpy as np
import pytest

from rlspo.zoo.errors import UserError
from rlspo.zoo.evaluate.statistics import interval, iqm
from rlspo.zoo.plot.curves import _grouped
from rlspo.zoo.plot.lines import common_axis, line_of, smooth
from rlspo.zoo.plot.picture import Options
from rlspo.zoo.plot.runs import LearningCurve


def curve(steps, values, spread=0.0, seconds=np.nan, episodes=np.nan):
    steps = np.array(steps, dtype=float)
    arrays = (np.broadcast_to(np.asarray(each, dtype=float), steps.shape) for each in (seconds, episodes, values, spread))
    return LearningCurve(steps, *arrays)


def test_interquartile_mean_and_interval_at_each_step():
    runs = [[0.0, 10.0], [1.0, 20.0], [3.0, 30.0], [100.0, 1000.0]]
    line = line_of([curve([100, 200], values) for values in runs], "steps", window=1)
    assert line.x.tolist() == [100, 200]
    assert line.values.tolist() == [2.0, 25.0]  # the lowest and the highest of four are left out
    for number in (0, 1):
        expected = interval([values[number] for values in runs], iqm)
        assert (line.low[number], line.high[number]) == (expected.low, expected.high)
    assert line.runs.tolist() == [4, 4]
    assert line.whole.all()


def test_different_steps_are_joined_by_straight_lines():
    line = line_of([curve([0, 100], [0.0, 10.0]), curve([0, 50, 100], [0.0, 20.0, 20.0])], "steps", window=1)
    assert line.x.tolist() == [0, 50, 100]
    assert line.values.tolist() == [0.0, 12.5, 15.0]  # at 50 the first run is taken to be at 5


def test_nothing_is_made_up_beyond_the_end_of_a_run():
    line = line_of([curve([10, 20], [1.0, 1.0]), curve([10, 20, 30, 40], [3.0, 3.0, 3.0, 5.0])], "steps", window=1)
    assert line.x.tolist() == [10, 20, 30, 40]
    assert line.values.tolist() == [2.0, 2.0, 3.0, 5.0]
    assert line.runs.tolist() == [2, 2, 1, 1]
    assert line.whole.tolist() == [True, True, False, False]
    assert np.isnan(line.high[2:]).all()  # one run says nothing about how runs differ


def test_a_little_that_not_all_runs_have_is_left_out():
    line = line_of([curve([0, 100], [0.0, 1.0]), curve([0, 98], [0.0, 0.98])], "steps", window=1)
    assert line.x.tolist() == [0, 98]
    assert line.values == pytest.approx([0.0, 0.98])


def test_runs_that_are_never_there_together():
    line = line_of([curve([0, 10], [1.0, 1.0]), curve([20, 30], [3.0, 3.0])], "steps", window=1)
    assert line.values.tolist() == [1.0, 1.0, 3.0, 3.0]
    assert line.total == 2
    assert not line.whole.any()


def test_a_gap_between_runs_stays_one():
    many = np.arange(300.0)
    line = line_of([curve(many, 1.0), curve(many + 1000, 3.0)], "steps", window=1)
    assert np.isnan(line.values[(line.x > 299) & (line.x < 1000)]).all()
    assert np.isin(line.values[~np.isnan(line.values)], [1.0, 3.0]).all()


def test_a_value_that_is_no_number_is_a_gap_of_its_run_only():
    line = line_of([curve([0, 1, 2], [1.0, np.nan, 1.0]), curve([0, 1, 2], [3.0, 3.0, 3.0])], "steps", window=1)
    assert line.values.tolist() == [2.0, 3.0, 2.0]
    assert line.runs.tolist() == [2, 1, 2]


def test_a_single_run_is_shown_with_the_spread_of_its_episodes():
    line = line_of([curve([1, 2], [10.0, 20.0], spread=[3.0, 4.0])], "steps", window=1)
    assert line.low.tolist() == [7.0, 16.0]
    assert line.high.tolist() == [13.0, 24.0]


def test_wall_time_and_episodes_as_axis():
    fast = curve([100, 200], [0.0, 10.0], seconds=[1.0, 2.0], episodes=[5, 9])
    slow = curve([100, 200], [0.0, 10.0], seconds=[2.0, 4.0], episodes=[5, 9])
    line = line_of([fast, slow], "time", window=1)
    assert line.steps.tolist() == [100, 200]
    assert line.x.tolist() == [1.5, 3.0]
    assert line.values.tolist() == [0.0, 10.0]
    assert line_of([fast, slow], "episodes", window=1).x.tolist() == [5, 9]


def test_wall_time_never_runs_backwards():
    fast = curve([100, 200, 300, 400], [0.0, 10.0, 20.0, 30.0], seconds=[1.0, 2.0, 3.0, 4.0])
    slow = curve([100, 200], [0.0, 10.0], seconds=[9.0, 18.0])
    # To 200 steps it took 10 s on average; from there on only the fast run tells how long a step takes.
    assert line_of([fast, slow], "time", window=1).x.tolist() == [5.0, 10.0, 11.0, 12.0]


def test_moving_mean_and_the_spread_of_what_is_behind_it():
    smoothed = smooth(curve([1, 2, 3, 4], [0.0, 2.0, 4.0, 12.0]), 2)
    assert smoothed.steps.tolist() == [2, 3, 4]
    assert smoothed.values.tolist() == [1.0, 3.0, 8.0]
    assert smoothed.spread == pytest.approx([1.0, 1.0, 4.0])
    # Of evaluations, whose episodes differ too: the spread of all episodes together.
    episodes = np.array([[0.0, 2.0], [5.0, 9.0]])
    both = smooth(curve([1, 2], episodes.mean(axis=1), spread=episodes.std(axis=1)), 2)
    assert both.values[0] == episodes.mean()
    assert both.spread[0] == pytest.approx(episodes.std())


def test_what_is_no_number_is_left_out_of_the_mean():
    values = [1.0, np.nan, 3.0, np.nan, np.nan]
    assert smooth(curve([1, 2, 3, 4, 5], values), 2).values.tolist()[:3] == [1.0, 3.0, 3.0]
    assert np.isnan(smooth(curve([1, 2, 3, 4, 5], values), 2).values[3])


def test_a_window_longer_than_the_curve_is_its_mean():
    smoothed = smooth(curve([1, 2, 3], [0.0, 3.0, 6.0]), 100)
    assert (smoothed.steps.tolist(), smoothed.values.tolist()) == ([3], [3.0])


def test_too_many_points_are_thinned_out():
    axis = common_axis([np.arange(0.0, 1000.0), np.arange(0.5, 1000.5)])
    assert len(axis) == 200
    assert (axis[0], axis[-1]) == (0.0, 999.5)


def test_points_that_coincide_count_as_their_mean():
    line = line_of([curve([1, 1, 2], [0.0, 4.0, 6.0])], "steps", window=1)
    assert line.x.tolist() == [1, 2]
    assert line.values.tolist() == [2.0, 6.0]


def test_rows_have_nothing_for_what_is_unknown():
    line = line_of([curve([10, 20], [1.0, 1.0]), curve([10, 20, 40], [3.0, 3.0, 5.0])], "steps", window=1)
    assert list(line.rows())[-1] == {"step": 40.0, "x": 40.0, "value": 5.0, "low": None, "high": None, "runs": 1}


@pytest.mark.parametrize(("least", "kept"), [(300, True), (301, False)])
def test_training_ends_after_the_last_evaluation(least, kept):
    """Runs of 300 steps and a few more, evaluated every 100."""

    class Trained:
        source, agent, env, name = "logs/a", "a", "E-v0", "1"

        def evaluated(self, measure):
            return curve([100, 200], [1.0, 2.0])

    if kept:
        groups, left_out = _grouped([Trained()], "eval", Options(least=least))
        assert list(groups) == ["E-v0"] and not left_out
    else:
        with pytest.raises(UserError, match="until 301 steps"):
            _grouped([Trained()], "eval", Options(least=least))
