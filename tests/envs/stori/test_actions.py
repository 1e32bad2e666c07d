"""Type 1: what the game gets instead of the chosen action, as the emulator itself tells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.envs.stori.games import Spy, stori

CHOSEN = [2, 3, 1, 5, 4, 0, 2, 2, 3, 1]


def played(chosen: list[int], seed: int = 0, **noise: Any) -> list[int]:
    """What Pong gets in each decision step, the same in all its frames and as the info says."""
    env = stori("Pong", {"type": "1", **noise})
    env.reset(seed=seed)
    spy, executed = Spy(env), []
    for action in chosen:
        info = env.step(action)[4]["stori"]
        assert spy.take() == [info["executed_action"]] * 4
        assert info["perturbed"] == (info["executed_action"] != action)
        executed.append(info["executed_action"])
    return executed


def test_replaced_actions_are_uniform_the_chosen_one_among_them() -> None:
    counts = np.bincount(played([2] * 400, effect="replace", probability=1), minlength=6)
    assert stats.chisquare(counts).pvalue > 1e-3
    kept = played([2] * 400, effect="replace", probability=0.3).count(2)
    assert stats.binomtest(kept, 400, 0.7 + 0.3 / 6).pvalue > 1e-3


def test_replaced_actions_come_from_the_list() -> None:
    assert set(played([5] * 60, effect="replace", probability=1, actions=[1, 3])) == {1, 3}


def test_sticky_repeats_what_was_played_last() -> None:
    assert played(CHOSEN, effect="sticky", probability=1) == [0] * 10
    executed = played(CHOSEN * 10, effect="sticky", probability=0.5)
    repeated = [one in (chosen, before) for one, chosen, before in zip(executed, CHOSEN * 10, [0, *executed], strict=False)]
    assert all(repeated) and executed != CHOSEN * 10


def test_delay_is_a_queue_that_begins_with_no_action() -> None:
    assert played(CHOSEN, effect="delay", probability=1, steps=3) == [0, 0, 0, *CHOSEN[:-3]]
    executed = played(CHOSEN, effect="delay", probability=0.5, steps=1)
    assert all(one in pair for one, pair in zip(executed, zip(CHOSEN, [0, *CHOSEN[:-1]], strict=True), strict=True))


def test_dropout_plays_nothing() -> None:
    assert played(CHOSEN, effect="dropout", probability=1) == [0] * 10
    executed = played(CHOSEN, effect="dropout", probability=0.5)
    assert all(one in (0, chosen) for one, chosen in zip(executed, CHOSEN, strict=True)) and 0 in executed[:5]


def test_a_permutation_is_one_for_the_episode() -> None:
    executed = played([0, 1, 2, 3, 4, 5] * 3, effect="permute", probability=1)
    assert sorted(executed[:6]) == [0, 1, 2, 3, 4, 5] and executed == executed[:6] * 3
    given = [5, 4, 3, 2, 1, 0]
    assert played(CHOSEN, effect="permute", probability=1, permutation=given) == [5 - one for one in CHOSEN]


def test_each_episode_draws_its_own_permutation_and_forgets_its_queue() -> None:
    env = stori("Pong", {"type": "1", "effect": "permute"})
    env.reset(seed=0)
    tables = []
    for _ in range(6):
        tables.append(tuple(env.step(action)[4]["stori"]["executed_action"] for action in range(6)))
        env.reset()
    assert len(set(tables)) > 1
    env = stori("Pong", {"type": "1", "effect": "delay", "steps": 2})
    env.reset(seed=0)
    for _ in range(3):
        env.step(4)
    assert env.reset()[1]["stori"]["executed_action"] == 0
    assert [env.step(3)[4]["stori"]["executed_action"] for _ in range(3)] == [0, 0, 3]


def test_with_a_gate_for_each_frame_every_frame_draws() -> None:
    env = stori("Pong", {"type": "1", "effect": "replace", "gate": "frame"})
    env.reset(seed=0)
    spy = Spy(env)
    infos = [env.step(2)[4]["stori"] for _ in range(100)]
    frames = np.reshape(spy.take(), (100, 4))
    assert stats.chisquare(np.bincount(frames.ravel(), minlength=6)).pvalue > 1e-3
    # Four equal ones are as rare as they should be.
    assert stats.binomtest(int((frames == frames[:, :1]).all(axis=1).sum()), 100, 1 / 216).pvalue > 1e-3
    assert [info["executed_action"] for info in infos] == frames[:, -1].tolist()
    assert [info["perturbed"] for info in infos] == (frames != 2).any(axis=1).tolist()


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        ({"effect": "replace", "actions": [0, 6]}, "an entry of actions is 6; it must be a whole number from 0 to 5."),
        ({"effect": "replace", "actions": []}, r"actions is \[\]; it must be a list of actions"),
        ({"effect": "replace", "actions": "01"}, "actions is '01'; it must be a list"),
        ({"effect": "replace", "actions": [0.5]}, "an entry of actions is 0.5"),
        ({"effect": "delay", "steps": 0}, "profile: delay: steps is 0; it must be a whole number of at least 1."),
        ({"effect": "permute", "permutation": [0, 1, 2]}, "it must hold each of 0 to 5 once"),
        ({"effect": "permute", "permutation": [0, 0, 2, 3, 4, 5]}, "it must hold each of 0 to 5 once"),
        ({"effect": "stiky"}, "Did you mean 'sticky'?"),
    ],
)
def test_wrong_settings_are_rejected_when_the_game_is_made(noise: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stori("Pong", {"type": "1", **noise})
