"""Every kind of picture shows the numbers that it should."""

import numpy as np
import pytest

from rlspo.zoo.errors import UserError
from rlspo.zoo.evaluate.statistics import interval, iqm, probability_of_improvement
from rlspo.zoo.plot import bars, curves, improvement, profiles
from rlspo.zoo.plot.picture import Options
from rlspo.zoo.plot.runs import LAST
from rlspo.zoo.plot.scores import collect, normalised, shared
from rlspo.zoo.plot.sources import find

ATTACKED = {
    "ppo": {"A-v0": {"natural": [0.0, 10.0, 20.0, 90.0], "random": [8.0, 9.0, 1.0, 2.0], "mad": [5.0, 5.0, 5.0, 0.0]}},
    "barpo": {"A-v0": {"natural": [10.0, 12.0], "random": [9.0, 9.0], "mad": [8.0, 9.0]}},
}
TWO_ENVS = {
    "ppo": {"A-v0": {"natural": [0.0, 5.0]}, "B-v0": {"natural": [-100.0, -100.0]}},
    "barpo": {"A-v0": {"natural": [5.0, 10.0]}, "B-v0": {"natural": [-100.0, 0.0]}},
}


@pytest.fixture
def runs(results):
    """Runs of a table made of scores."""
    return lambda scores: find([results(scores)], {}).runs


def texts(axes):
    """Everything written in a panel."""
    return {text.get_text() for text in axes.texts}


# Learning curves.


@pytest.fixture
def trained(run_folder, tmp_path):
    """Three runs of ppo on A, one of barpo on A and B."""
    for number, values in enumerate(([1.0, 2.0], [2.0, 4.0], [6.0, 9.0])):
        run_folder(f"logs/ppo/A-v0_{number}", {100 * k: [value] * 5 for k, value in enumerate(values, start=1)})
    run_folder("logs/barpo/A-v0_1", {100: [0.0, 4.0], 200: [5.0, 5.0]}, [[(1.0, 50, 4.0), (3.0, 150, 8.0)]])
    run_folder("logs/barpo/B-v0_1", {100: [1.0]})
    return find([tmp_path / "logs"], {}).runs


def test_curves_have_a_panel_for_each_environment_and_a_line_for_each_agent(trained):
    picture = curves.draw(trained, Options())
    panels = picture.figure.axes
    assert [panel.get_title("left") for panel in panels] == ["A-v0", "B-v0"]
    assert texts(panels[0]) == {"ppo (3)", "barpo (1)"}
    assert texts(panels[1]) == {"barpo"}
    drawn = {tuple(line.get_ydata()) for line in panels[0].lines}
    assert drawn == {(3.0, 5.0), (2.0, 5.0)}
    assert picture.notes == []


def test_lines_that_end_outside_of_what_is_shown_are_named_so(trained):
    panel, _ = curves.draw(trained, Options(returns=(3.5, 4.5))).figure.axes
    assert panel.get_ylim() == (3.5, 4.5)
    assert texts(panel) == {"ppo (3) (above)", "barpo (1) (above)"}
    panel, _ = curves.draw(trained, Options(returns=(5.5, 6.0))).figure.axes
    assert texts(panel) == {"ppo (3) (below)", "barpo (1) (below)"}


def test_rows_of_curves_are_what_is_drawn(trained):
    rows = {(row["env"], row["agent"], row["step"]): row for row in curves.draw(trained, Options()).rows}
    expected = interval([1.0, 2.0, 6.0], iqm)
    assert rows["A-v0", "ppo", 100.0] == {
        "env": "A-v0",
        "agent": "ppo",
        "step": 100.0,
        "value": 3.0,
        "low": expected.low,
        "high": expected.high,
        "runs": 3,
    }
    single = rows["A-v0", "barpo", 100.0]
    assert (single["value"], single["low"], single["high"]) == (2.0, 0.0, 4.0)  # one standard deviation of 0 and 4


def test_curves_over_wall_time_need_a_clock(trained):
    picture = curves.draw(trained, Options(along="time"))
    assert {(row["env"], row["agent"]) for row in picture.rows} == {("A-v0", "barpo")}
    # 100 steps lie a third of the way between the ends of the episodes, at 50 steps after 4 s and at 200 after 8 s.
    assert [row["seconds"] for row in picture.rows] == pytest.approx([4 + 4 / 3, 8.0])
    assert "logs/ppo/A-v0_0" in picture.notes[0]
    with pytest.raises(UserError, match="None of the 3 runs has evaluations during training with wall time"):
        curves.draw([run for run in trained if run.agent == "ppo"], Options(along="time"))


def test_training_episodes_are_drawn_where_there_are_no_evaluations(run_folder, tmp_path):
    episodes = [(float(k), 10, 0.5 * k) for k in range(1, 31)]
    run_folder("logs/ppo/A-v0_1", episodes=[episodes])
    runs = find([tmp_path / "logs"], {}).runs
    rows = curves.draw(runs, Options()).rows
    assert rows[0]["step"] == 200.0 and rows[0]["value"] == pytest.approx(10.5)  # the mean of the first 20
    assert rows[0]["high"] - rows[0]["value"] == pytest.approx(np.std(np.arange(1, 21)))
    assert [row["episode"] for row in curves.draw(runs, Options(along="episodes", smooth=29)).rows] == [29.0, 30.0]
    with pytest.raises(UserError, match="--metric train"):
        curves.draw(runs, Options(metric="eval"))


def test_runs_of_unequal_length_are_reported_and_drawn_faint(run_folder, tmp_path):
    run_folder("logs/ppo/A-v0_1", {10: [1.0], 20: [1.0]})
    run_folder("logs/ppo/A-v0_2", {10: [3.0], 20: [3.0], 30: [9.0]})
    picture = curves.draw(find([tmp_path / "logs"], {}).runs, Options())
    assert picture.notes == ["ppo on A-v0: all 2 runs cover 10 to 20 steps; the rest is drawn faint."]
    faint, firm = picture.figure.axes[0].lines
    assert faint.get_alpha() < 0.5 and faint.get_ydata().tolist() == [2.0, 2.0, 9.0]
    assert np.isnan(firm.get_ydata()).tolist() == [False, False, True]


# Final scores.


def test_bars_are_interquartile_means_with_intervals(runs):
    picture = bars.draw(runs(ATTACKED), Options())
    rows = {(row["agent"], row["evaluation"]): row for row in picture.rows}
    assert list(rows) == [(agent, name) for agent in ("ppo", "barpo") for name in ("natural", "random", "mad")]
    expected = interval([0.0, 10.0, 20.0, 90.0], iqm)
    row = rows["ppo", "natural"]
    assert (row["value"], row["low"], row["high"]) == (15.0, expected.low, expected.high)
    assert (row["runs"], row["scores"]) == (4, "0.0 10.0 20.0 90.0")
    axes = picture.figure.axes[0]
    assert sorted(bar.get_height() for bar in axes.patches) == sorted(row["value"] for row in picture.rows)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["ppo", "barpo"]
    legend = picture.figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["no attack", "random attack", "MAD attack"]
    dots = np.concatenate([dots.get_offsets()[:, 1] for dots in axes.collections if len(dots.get_offsets()) in (2, 4)])
    assert {0.0, 10.0, 20.0, 90.0} <= {*dots.tolist()}


def test_bars_differ_by_hatches(runs):
    axes = bars.draw(runs(ATTACKED), Options()).figure.axes[0]
    assert len({bar.get_hatch() for bar in axes.patches}) == 3


def test_the_worst_attack_is_that_of_each_run(runs):
    picture = bars.draw(runs(ATTACKED), Options(evaluations=["worst"]))
    assert {row["agent"]: row["scores"] for row in picture.rows} == {"ppo": "5.0 5.0 1.0 0.0", "barpo": "8.0 9.0"}


def test_a_single_run_has_no_whiskers(runs):
    picture = bars.draw(runs({"ppo": {"A-v0": {"natural": [3.0]}}}), Options())
    (row,) = picture.rows
    assert (row["value"], row["low"], row["high"]) == (3.0, None, None)
    assert picture.figure.axes[0].containers[0].errorbar is None


def test_missing_scores_are_reported(runs, run_folder, tmp_path):
    with pytest.raises(UserError, match=r"--evaluations: no run has a score 'made'. Did you mean 'mad'"):
        bars.draw(runs(ATTACKED), Options(evaluations=["made"]))
    run_folder("logs/ppo/A-v0_1", episodes=[[(1.0, 1, 1.0)]])
    with pytest.raises(UserError, match="final score"):
        bars.draw(find([tmp_path / "logs"], {}).runs, Options())


def test_the_last_evaluation_stands_in_where_some_agent_has_nothing_better(runs, run_folder, tmp_path):
    run_folder("logs/sac/A-v0_1", {10: [1.0, 1.0], 20: [5.0, 7.0]})
    run_folder("logs/sac/A-v0_2", {10: [2.0, 2.0]})
    picture = bars.draw(find([tmp_path / "logs"], {}).runs, Options())
    (row,) = picture.rows
    assert (row["evaluation"], row["scores"]) == (LAST, "6.0 2.0")
    assert picture.notes == ["A-v0: the last evaluations lie between 10 and 20 steps."]
    mixed = collect([*runs({"ppo": {"A-v0": {"natural": [1.0]}}}), *find([tmp_path / "logs"], {}).runs], [])
    assert list(mixed.tables) == [LAST]
    assert "(ppo, A-v0, seed 0)" in mixed.notes[0]


# Over environments.


def test_scores_are_normalised_by_what_is_given_or_by_what_there_is(runs):
    scores = normalised(collect(runs(TWO_ENVS), []), {"A-v0": (-10.0, 30.0)})
    table = scores.tables["natural"]
    assert table["ppo"]["A-v0"].tolist() == [0.25, 0.375]
    assert table["barpo"]["B-v0"].tolist() == [0.0, 1.0]
    constant = normalised(collect(runs({"ppo": {"A-v0": {"natural": [4.0, 4.0]}}}), []), {})
    assert constant.tables["natural"]["ppo"]["A-v0"].tolist() == [0.5, 0.5]


def test_profiles_are_shares_of_runs_above_a_score(runs):
    picture = profiles.draw(runs(TWO_ENVS), Options())
    for agent, scores in (("ppo", [0.0, 0.5, 0.0, 0.0]), ("barpo", [0.5, 1.0, 0.0, 1.0])):
        rows = [row for row in picture.rows if row["agent"] == agent]
        shares = [np.mean(np.array(scores) > row["score"]) for row in rows]
        assert [row["share"] for row in rows] == pytest.approx(shares)
        assert all(row["low"] <= row["share"] <= row["high"] for row in rows)
    assert picture.figure.axes[0].get_title("left") == "2 environments"
    (lines,) = ([line for line in axes.lines] for axes in picture.figure.axes)
    assert [line.get_ydata()[0] for line in lines] == [1.0, 1.0]


def test_improvement_is_that_of_the_statistics(runs):
    picture = improvement.draw(runs(TWO_ENVS), Options())
    (row,) = picture.rows
    expected = probability_of_improvement(
        {env: evaluations["natural"] for env, evaluations in TWO_ENVS["barpo"].items()},
        {env: evaluations["natural"] for env, evaluations in TWO_ENVS["ppo"].items()},
    )
    assert (row["agent"], row["over"], row["probability"]) == ("barpo", "ppo", expected)
    assert row["low"] <= expected <= row["high"]
    assert [label.get_text() for label in picture.figure.axes[0].get_yticklabels()] == ["barpo over ppo"]


def points(picture):
    """The colour of the point of each pair."""
    return [line.get_markerfacecolor() for line in picture.figure.axes[0].lines if line.get_marker() == "o"]


@pytest.mark.parametrize(("better", "worse", "sure"), [(3, 3, False), (3, 4, False), (4, 4, True), (3, 5, True)])
def test_a_point_is_filled_only_where_so_many_runs_can_tell(runs, better, worse, sure):
    """All runs of one agent beat all of the other: the interval has no width, however few there are."""
    scores = {
        "ppo": {"A-v0": {"natural": [float(number) for number in range(worse)]}},
        "barpo": {"A-v0": {"natural": [100.0 + number for number in range(better)]}},
    }
    picture = improvement.draw(runs(scores), Options())
    (row,) = picture.rows
    assert (row["low"], row["high"]) == (1.0, 1.0)
    assert points(picture) == ["#0072B2" if sure else "white"]


def test_runs_in_several_environments_tell_together(runs):
    scores = {agent: {env: {"natural": [n, n + 1, n + 2]} for env in "ABC"} for agent, n in (("ppo", 0.0), ("barpo", 5.0))}
    assert points(improvement.draw(runs(scores), Options())) == ["#0072B2"]


def test_a_point_stays_white_where_the_interval_leaves_it_open(runs):
    scores = {agent: {"A-v0": {"natural": [n, 9.0, 5.0, 1.0, 3.0]}} for agent, n in (("ppo", 2.0), ("barpo", 4.0))}
    assert points(improvement.draw(runs(scores), Options())) == ["white"]


def test_a_baseline_leaves_the_pairs_with_it(runs):
    three = runs({agent: {"A-v0": {"natural": [1.0, number]}} for number, agent in enumerate(("a", "b", "c"))})
    everyone = [(row["agent"], row["over"]) for row in improvement.draw(three, Options()).rows]
    assert everyone == [("b", "a"), ("c", "a"), ("c", "b")]
    against = [(row["agent"], row["over"]) for row in improvement.draw(three, Options(baseline="b")).rows]
    assert against == [("a", "b"), ("c", "b")]
    with pytest.raises(UserError, match=r"--baseline: there is no agent 'd'"):
        improvement.draw(three, Options(baseline="d"))


def test_agents_are_compared_in_the_environments_that_they_share(runs):
    scores = {**TWO_ENVS, "sac": {"A-v0": {"natural": [3.0, 3.0]}}}
    found = shared(collect(runs(scores), []), "improvement")
    assert found.envs == ["A-v0"]
    assert found.notes == ["Left out, because not every agent has runs there: B-v0."]
    for kind in (improvement, profiles):
        with pytest.raises(UserError, match="share none: ppo: A-v0; sac: B-v0"):
            kind.draw(runs({"ppo": {"A-v0": {"natural": [1.0]}}, "sac": {"B-v0": {"natural": [1.0]}}}), Options())


def test_improvement_needs_two_agents_in_an_evaluation(runs):
    with pytest.raises(UserError, match="there is only ppo"):
        improvement.draw(runs({"ppo": {"A-v0": {"natural": [1.0]}}}), Options())
    with pytest.raises(UserError, match="no evaluation has two agents"):
        improvement.draw(runs({"ppo": {"A-v0": {"natural": [1.0]}}, "sac": {"A-v0": {"mad": [1.0]}}}), Options())
