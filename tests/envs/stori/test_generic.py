"""Types 2.1 and 2.2 for any game: rewards, frames, states and the difficulty, against the emulator itself."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.envs.stori.games import CALM, Spy, play, raw, same, stori

FIRE = 1


def noise(effect: str, probability: float = 1.0, **settings: Any) -> dict[str, Any]:
    return {"type": "2.1", "effect": effect, "probability": probability, **settings}


def rewards(profile: dict[str, Any], steps: int = 250) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of Boxing, played by the same actions: those returned, the true ones, and whether steps were perturbed."""
    env, actions = stori("Boxing", profile), np.random.default_rng(5)
    env.reset(seed=0)
    told = []
    for _ in range(steps):
        _, reward, *_, info = env.step(int(actions.integers(18)))
        told.append((reward, info["stori"]["reward"], info["stori"]["perturbed"]))
    returned, true, perturbed = np.array(told).T
    return returned, true, perturbed.astype(bool)


TRUE: dict[str, np.ndarray] = {}


def true_rewards() -> np.ndarray:
    if not TRUE:
        TRUE["boxing"] = rewards(CALM)[0]
        assert {-1, 0, 1} <= set(TRUE["boxing"])
    return TRUE["boxing"]


@pytest.mark.parametrize(
    ("effect", "settings", "factor"),
    [("reward_drop", {}, 0), ("reward_flip", {}, -1), ("reward_scale", {"scale": 2.5}, 2.5)],
)
def test_rewards_are_changed_and_the_true_ones_reported(effect: str, settings: dict[str, Any], factor: float) -> None:
    returned, true, perturbed = rewards(noise(effect, **settings))
    assert np.array_equal(true, true_rewards()) and np.array_equal(returned, factor * true)
    assert np.array_equal(perturbed, true != 0)
    returned, true, perturbed = rewards(noise(effect, 0.5, **settings))
    assert np.array_equal(true, true_rewards())
    assert np.array_equal(returned, np.where(perturbed, factor * true, true)) and not perturbed[true == 0].any()
    assert stats.binomtest(int(perturbed.sum()), int((true != 0).sum()), 0.5).pvalue > 1e-3


def test_reward_noise_is_added_once_in_a_step() -> None:
    returned, true, perturbed = rewards(noise("reward_noise", sigma=3))
    assert np.array_equal(true, true_rewards()) and perturbed.all()
    assert stats.kstest(returned - true, "norm", (0, 3)).pvalue > 1e-3
    returned, true, perturbed = rewards(noise("reward_noise", 0.2, sigma=3))
    assert np.array_equal(returned != true, perturbed)
    assert stats.binomtest(int(perturbed.sum()), 250, 0.2).pvalue > 1e-3


@pytest.mark.parametrize(("effect", "extra"), [("repeat", 3), ("noop_burst", 0)])
def test_frames_are_added_to_a_step(effect: str, extra: int) -> None:
    env = stori("Pong", noise(effect, 0.5, frames=3))
    env.reset(seed=0)
    spy, added = Spy(env), []
    for _ in range(200):
        *_, info = env.step(3)
        played = spy.take()
        assert played[-4:] == [3] * 4 and set(played[:-4]) <= {extra}
        assert info["stori"]["perturbed"] == (len(played) > 4) and info["stori"]["executed_action"] == 3
        added.append(len(played) - 4)
    counts = np.bincount(added, minlength=4)
    assert stats.chisquare(counts, [100, 100 / 3, 100 / 3, 100 / 3]).pvalue > 1e-3


def test_rewards_of_added_frames_are_paid() -> None:
    env, actions = stori("Boxing", noise("repeat", frames=8)), np.random.default_rng(5)
    env.reset(seed=0)
    spy, sums = Spy(env), 0
    for _ in range(150):
        spy.paid.clear()
        _, reward, *_, info = env.step(int(actions.integers(18)))
        assert reward == info["stori"]["reward"] == sum(spy.paid)
        sums += sum(map(abs, spy.paid[:-4]))
    assert sums > 0


def test_the_game_is_back_where_it_was_before_the_action() -> None:
    env, true = stori("Breakout", noise("rewind", 0.4, steps=2), render_mode="rgb_array"), raw("Breakout", frameskip=4)
    env.reset(seed=0)
    true.reset(seed=0)
    game, now = true.unwrapped.ale, env.get_wrapper_attr("emulator").now
    states, jumps = [], 0
    for step in range(120):
        action = (FIRE, 2, 3)[step % 3]
        before = env.unwrapped.ale.getEpisodeFrameNumber()
        _, reward, *_, info = env.step(action)
        if info["stori"]["perturbed"]:
            jumps += 1
            game.restoreState(states[max(len(states) - 2, 0)])
            del states[: max(len(states) - 2, 0)], states[1:]
            assert before - game.getEpisodeFrameNumber() in (4, 8)
        else:
            states.append(game.cloneState())
        assert sum(game.act(game.getMinimalActionSet()[action]) for _ in range(4)) == reward == info["stori"]["reward"]
        assert np.array_equal(game.getRAM(), env.unwrapped.ale.getRAM())
        assert np.array_equal(game.getScreenRGB(), env.render())
    assert jumps > 20 and env.unwrapped.ale.getEpisodeFrameNumber() + now.rewound == 480


def test_a_game_that_is_rewound_for_ever_is_cut_after_as_many_frames() -> None:
    env = stori("Pong", noise("rewind"), max_num_frames_per_episode=200, pool=False)
    for _ in range(2):
        env.reset(seed=0)
        ends = [env.step(2)[2:4] for _ in range(50)]
        assert ends == [(False, False)] * 49 + [(False, True)]
        assert env.unwrapped.ale.game_over() and not env.unwrapped.ale.game_over(with_truncation=False)
    assert same(*(play(stori("Pong", profile, max_num_frames_per_episode=200), 120) for profile in (CALM, noise("rewind", 0))))


# --- difficulty -------------------------------------------------------------------------------------------------------


class Switch:
    """Notes what the console's switch is set to."""

    def __init__(self, env: Any) -> None:
        emulator = env.get_wrapper_attr("emulator")
        self._ale, self.sets = emulator.ale, []
        emulator.ale = emulator.now.ale = self

    def setDifficulty(self, value: int) -> None:
        self.sets.append(value)
        self._ale.setDifficulty(value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ale, name)


def difficulty(**settings: Any) -> dict[str, Any]:
    return {"type": "2.2", "schedule": "sudden", "period": 20, "effect": "difficulty", "difficulty": 1, **settings}


def test_the_difficulty_drifts_as_if_it_were_set_by_hand() -> None:
    env, true = stori("Breakout", difficulty()), raw("Breakout", frameskip=4)
    other = raw("Breakout", frameskip=4)
    for game in (env, true, other):
        game.reset(seed=0)
    differs = False
    for step in range(60):
        if step == 20:
            true.unwrapped.ale.setDifficulty(1)
        action = (FIRE, 2, 3, 3)[step % 4]
        *_, info = env.step(action)
        true.step(action)
        other.step(action)
        assert np.array_equal(env.unwrapped.ale.getRAM(), true.unwrapped.ale.getRAM())
        assert info["stori"]["concept"] == int(step >= 20) == int(info["stori"]["perturbed"])
        differs |= not np.array_equal(env.unwrapped.ale.getRAM(), other.unwrapped.ale.getRAM())
    assert differs


def test_the_switch_goes_back_with_the_concept_and_at_a_reset() -> None:
    env = stori("Breakout", difficulty(schedule="cyclic", period=3))
    env.reset(seed=0)
    switch = Switch(env)
    for _ in range(10):
        env.step(0)
    assert switch.sets == [1, 0, 1]
    # Steps 9 to 11 were to be difficult.
    env.reset()
    assert switch.sets == [1, 0, 1, 0]
    for _ in range(4):
        env.step(0)
    assert switch.sets[4:] == [1]


def test_the_switch_goes_back_to_where_the_game_was_made() -> None:
    env = stori("Boxing", difficulty(period=1, difficulty=3), game_difficulty=2)
    env.reset(seed=0)
    switch = Switch(env)
    env.step(0)
    env.step(0)
    env.reset()
    assert switch.sets == [3, 2]


def test_a_difficulty_that_a_game_lacks_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"difficulty is 3; breakout has \[0, 1\]. The nearest is 1."):
        stori("Breakout", difficulty(difficulty=3))


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        (noise("reward_scale", scale="2"), "scale is '2'"),
        (noise("reward_noise", sigma=-1), "sigma is -1"),
        (noise("repeat", frames=0), "frames is 0; it must be a whole number of at least 1"),
        (noise("rewind", steps=1.5), "steps is 1.5"),
        (noise("reward_dorp"), "Did you mean 'reward_drop'?"),
    ],
)
def test_wrong_settings(profile: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stori("Pong", profile)


def test_the_same_seed_rewinds_alike_with_sticky_actions() -> None:
    envs = [stori("Breakout", noise("rewind", 0.3), repeat_action_probability=0.25) for _ in range(2)]
    assert all(same(one, other) for one, other in itertools.pairwise(play(env, 100) for env in envs))
