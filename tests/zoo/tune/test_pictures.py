"""Pictures of studies: what there is to show is shown, and what there is not is left out."""

import optuna
import pytest
from matplotlib.figure import Figure
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from rlspo.zoo.tune.pictures import Nothing, draw_history, draw_importances, draw_slices, save_pictures

KINDS = {
    "learning_rate": FloatDistribution(1e-5, 1e-2, log=True),
    "n_epochs": IntDistribution(1, 20),
    "clip_range": FloatDistribution(0.1, 0.4),
    "policy_kwargs.net_arch": CategoricalDistribution(["small", "large"]),
    "normalize": CategoricalDistribution([True, False, None]),
}


def trial(k, value=None, state=TrialState.COMPLETE):
    """A trial whose parameters are scattered, and independent of one another."""
    params = {
        "learning_rate": 10 ** (-5 + 3 * ((k * 0.618) % 1)),
        "n_epochs": 1 + k * 7 % 20,
        "clip_range": 0.1 + 0.3 * ((k * 0.414) % 1),
        "policy_kwargs.net_arch": ["small", "large"][k % 2],
        "normalize": [True, False, None][k % 3],
    }
    return create_trial(params=params, distributions=KINDS, value=value, state=state)


def study_of(*trials):
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    return study


def mixed(number=30):
    """Values that follow ``n_epochs`` alone; every fifth trial is pruned, every seventh fails."""
    trials = []
    for k in range(number):
        state = TrialState.PRUNED if k % 5 == 3 else TrialState.FAIL if k % 7 == 6 else TrialState.COMPLETE
        trials.append(trial(k, -abs(1 + k * 7 % 20 - 8.0) if state == TrialState.COMPLETE else None, state))
    return study_of(*trials)


def labels(figure: Figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_all_three_pictures_are_saved(tmp_path):
    files = save_pictures(mixed(), tmp_path)
    assert [file.name for file in files] == ["history.png", "importances.png", "slices.png"]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)


@pytest.mark.parametrize(
    ("trials", "expected", "reasons"),
    [
        ([], [], ["no trial is complete"] * 2),
        ([trial(k, None, TrialState.PRUNED) for k in range(20)], [], ["no trial is complete"] * 2),
        ([trial(k, None, TrialState.FAIL) for k in range(20)], [], ["no trial is complete"] * 2),
        ([trial(0, 1.0)], ["history.png", "slices.png"], ["need 10 complete trials, and there are 1"]),
        ([trial(k, 5.0) for k in range(20)], ["history.png", "slices.png"], ["all complete trials have the same value"]),
        ([trial(k, float("inf")) for k in range(3)], [], ["no trial is complete"] * 2),
    ],
)
def test_what_cannot_be_drawn_is_left_out_with_a_reason(tmp_path, capsys, trials, expected, reasons):
    (tmp_path / "importances.png").write_text("of an earlier call")
    assert [file.name for file in save_pictures(study_of(*trials), tmp_path)] == expected
    assert sorted(file.name for file in tmp_path.iterdir()) == expected
    told = capsys.readouterr()
    assert told.out == ""
    assert all(told.err.count(reason) == reasons.count(reason) for reason in reasons)


def test_history_shows_the_best_so_far_and_what_was_lost():
    study = study_of(*(trial(k, value) for k, value in enumerate([3.0, 1.0, 5.0])), trial(3, None, TrialState.PRUNED))
    figure = draw_history(study.trials)
    (axes,) = figure.axes
    best = axes.lines[0]
    assert list(best.get_xdata()) == [0, 1, 2, 3]
    assert list(best.get_ydata()) == [3, 3, 5, 5]
    assert list(axes.lines[1].get_xdata()) == [3]
    assert labels(figure) == ["best so far", "complete", "pruned"]


def test_one_trial_that_went_astray_does_not_press_the_others_together():
    values = [*range(20), -1e9]
    figure = draw_history(study_of(*(trial(k, float(value)) for k, value in enumerate(values))).trials)
    low, high = figure.axes[0].get_ylim()
    assert high - low < 100
    assert any(label.startswith("complete, below -") for label in labels(figure))


def test_trials_to_be_shown_can_be_chosen(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("rlspo.zoo.tune.pictures.draw_history", lambda trials: seen.extend(trials) or Figure())
    study = mixed()
    save_pictures(study, tmp_path, study.trials[:4])
    assert [each.number for each in seen] == [0, 1, 2, 3]


def test_importances_find_what_mattered():
    figure = draw_importances(mixed(60))
    (axes,) = figure.axes
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert set(names) == set(KINDS)
    assert names[-1] == "n_epochs", "the most important is on top"
    widths = [bar.get_width() for bar in axes.patches]
    assert sum(widths) == pytest.approx(1)
    with pytest.raises(Nothing, match="need 10 complete trials"):
        draw_importances(mixed(10))


def test_slices_have_a_panel_for_each_parameter_over_all_of_its_range():
    figure = draw_slices(mixed().trials)
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_visible()}
    assert set(panels) == set(KINDS)
    assert panels["learning_rate"].get_xscale() == "log"
    low, high = panels["learning_rate"].get_xlim()
    assert low < 1e-5 < 1e-2 < high
    ticks = [text.get_text() for text in panels["normalize"].get_xticklabels()]
    assert ticks == ["true", "false", "null"]
    assert labels(figure) == ["complete", "best", "pruned"]
