"""Pictures of another memory, what holds in time, and the published behaviour, against the emulator itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.wrappers import AtariPreprocessing

from rlspo.envs.stori import masks, wrap
from rlspo.envs.stori.effects import Effect, Moment
from tests.envs.stori.games import PIPELINES, Spy, play, raw, same, stori


class Nothing(Effect):
    """Previews the game as it is."""

    previews = True


class HideBall(Effect):
    """Of Breakout."""

    previews = True

    def edit(self, now: Moment) -> None:
        now.ale.setRAM(99, 0)
        now.ale.setRAM(101, 0)


class Counting(Effect):
    """Notes what it is told."""

    def __init__(self, game: str, fidelity: str = "exact") -> None:
        super().__init__(game, fidelity)
        self.told: list[str] = []

    def reset(self, now: Moment) -> None:
        self.told.append("reset")

    def stop(self, now: Moment) -> None:
        self.told.append("stop")

    def begin(self, now: Moment) -> None:
        self.told.append("begin")

    def before_frame(self, open: bool, now: Moment) -> None:
        self.told.append("frame")


@pytest.fixture(autouse=True)
def stubs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, effect in (("nothing", Nothing), ("hide_ball", HideBall), ("counting", Counting)):
        monkeypatch.setitem(masks.SCREEN_EFFECTS, name, effect)


def preview(effect: str = "nothing", probability: float = 1.0, **settings: Any) -> dict[str, Any]:
    return {"type": "3.2", "effect": effect, "probability": probability, **settings}


@pytest.mark.parametrize("sticky", [0.0, 0.25])
@pytest.mark.parametrize("probability", [1.0, 0.5])
def test_a_preview_of_an_unchanged_memory_is_the_game_itself(sticky: float, probability: float) -> None:
    calm = stori("Breakout", repeat_action_probability=sticky, max_num_frames_per_episode=400)
    env = stori("Breakout", preview(probability=probability), repeat_action_probability=sticky, max_num_frames_per_episode=400)
    first, second = play(calm, 150), play(env, 150)
    # Only at a reset the picture is that of the next frame, as the emulator draws none of the present one.
    resets = [0, *(index for index, one in enumerate(first) if isinstance(one, np.ndarray) and first[index - 1] is True)]
    assert len(resets) > 1
    first, second = ([one for index, one in enumerate(told) if index not in resets] for told in (first, second))
    assert same(first, second)


@pytest.mark.parametrize("name", ["gymnasium", "SB3", "SB3 sticky", "grey"])
def test_previews_reach_every_pipeline_and_leave_its_course(name: str) -> None:
    first, second = play(PIPELINES[name](), 60), play(wrap(PIPELINES[name](), preview()), 60)
    assert same(first[1:], second[1:])


@pytest.mark.parametrize("kind", ["rgb", "grayscale"])
def test_the_ball_is_hidden_where_it_is_now_and_the_game_plays_on(kind: str) -> None:
    env, calm = (
        stori("Breakout", preview("hide_ball"), obs_type=kind, pool=False),
        stori("Breakout", obs_type=kind, pool=False),
    )
    env.reset(seed=0)
    calm.reset(seed=0)
    hidden = 0
    for step in range(60):
        # FIRE only once: without a ball in memory it serves another one, which the picture then shows.
        action = 1 if step < 1 else 2 + step // 3 % 2
        seen, true = env.step(action)[0], calm.step(action)[0]
        assert np.array_equal(env.unwrapped.ale.getRAM(), calm.unwrapped.ale.getRAM())
        rows = np.nonzero((seen != true).reshape(210, -1).any(axis=1))[0]
        # Nothing else moved: all that differs is a ball, four pixels high.
        assert step < 1 or (len(rows) <= 4 and seen.sum() <= true.sum())
        hidden += len(rows) > 0
        both = env.get_wrapper_attr("seen")()
        assert both.shape == (210, 160, 3) and (kind == "grayscale" or np.array_equal(both, seen))
    assert hidden > 10


def test_a_screen_that_was_never_asked_for_shows_no_more() -> None:
    env, calm = stori("Breakout", preview("hide_ball"), obs_type="grayscale"), stori("Breakout", pool=False)
    env.reset(seed=0)
    calm.reset(seed=0)
    for step in range(12):
        env.step(int(step < 2))
        calm.step(int(step < 2))
    assert not np.array_equal(env.get_wrapper_attr("seen")()[93:180], calm.unwrapped.ale.getScreenRGB()[93:180])


def test_render_is_true_also_after_a_reset_with_a_preview() -> None:
    env = stori("Breakout", preview("hide_ball"), render_mode="rgb_array")
    calm = stori("Breakout", render_mode="rgb_array")
    env.reset(seed=0)
    calm.reset(seed=0)
    assert np.array_equal(env.render(), calm.render())
    for _ in range(20):
        env.step(1)
        calm.step(1)
        assert np.array_equal(env.render(), calm.render())


def test_both_concepts_of_a_mixture_change_one_picture() -> None:
    profile = {"type": "2.2", "schedule": "ramp", "period": 4, "base": preview("nothing"), "concept": preview("hide_ball")}
    env, hidden = stori("Breakout", profile), stori("Breakout", preview("hide_ball"))
    env.reset(seed=0)
    hidden.reset(seed=0)
    for _ in range(30):
        seen, other = env.step(1)[0], hidden.step(1)[0]
    assert np.array_equal(seen, other)


# --- what holds in time -----------------------------------------------------------------------------------------------


def test_switching_thousands_of_times_grows_nothing_and_tells_the_effects() -> None:
    profile = {"type": "2.2", "schedule": "cyclic", "period": 1, "concept": preview("counting")}
    env = stori("Pong", profile, frameskip=1, pool=False, gate="frame")
    effect = env.get_wrapper_attr("emulator").sources[0].effect
    env.reset(seed=0)

    def depth() -> int:
        return 1 + str(env).count("<")

    before, concepts = depth(), []
    for _ in range(2000):
        concepts.append(env.step(0)[4]["stori"]["concept"])
    assert depth() == before and concepts == [0, 1] * 1000
    assert effect.told == ["reset", "reset"] + ["begin", "frame", "stop"] * 999 + ["begin", "frame"]
    env.reset()
    # The step that would have come ends the concept; the new episode starts without it.
    assert effect.told[-2:] == ["stop", "reset"]
    assert env.step(0)[4]["stori"]["concept"] == 0


def test_a_drift_begins_anew_with_each_episode() -> None:
    env = stori("Pong", {"type": "2.2", "schedule": "sudden", "period": 5, "concept": preview("flicker")})
    for _ in range(3):
        observation, info = env.reset(seed=0)
        assert observation.any() and info["stori"]["concept"] == 0
        black = [(not seen.any(), told["stori"]["concept"]) for seen, *_, told in (env.step(0) for _ in range(9))]
        assert black == [(False, 0)] * 5 + [(True, 1)] * 4


def test_an_always_drift_holds_at_the_reset() -> None:
    env = stori("Pong", {"type": "2.2", "schedule": "always", "concept": preview("flicker")})
    observation, info = env.reset(seed=0)
    assert not observation.any() and info["stori"]["concept"] == 1 and info["stori"]["perturbed"]


# --- the published behaviour ------------------------------------------------------------------------------------------


def test_published_previews_are_a_frame_ahead() -> None:
    env = stori("Breakout", preview("nothing", fidelity="original"), frameskip=1, render_mode="rgb_array")
    calm = raw("Breakout", frameskip=1)
    env.reset(seed=0)
    calm.reset(seed=0)
    game = calm.unwrapped.ale
    for step in range(60):
        action = (1, 2, 3)[step % 3]
        seen = env.step(action)[0]
        calm.step(action)
        assert np.array_equal(env.render(), game.getScreenRGB())
        assert np.array_equal(env.unwrapped.ale.getRAM(), game.getRAM())
        state = game.cloneState(include_rng=True)
        game.act(0)
        assert np.array_equal(seen, game.getScreenRGB())
        game.restoreState(state)


@pytest.mark.parametrize("sticky", [0.0, 0.25])
def test_published_previews_leave_the_course(sticky: float) -> None:
    calm = stori("Breakout", repeat_action_probability=sticky)
    env = stori("Breakout", preview("hide_ball", fidelity="original"), repeat_action_probability=sticky)
    keep = np.shape
    assert same(play(calm, 150, keep=keep), play(env, 150, keep=keep))
    assert np.array_equal(calm.unwrapped.ale.getRAM(), env.unwrapped.ale.getRAM())


def test_published_masks_are_drawn_for_each_frame_and_then_pooled() -> None:
    env = stori("Pong", preview("flicker", 0.75, fidelity="original"))
    env.reset(seed=0)
    black = sum(not env.step(0)[0].any() for _ in range(400))
    # A pooled screen is black if both frames were.
    assert abs(black / 400 - 0.75**2) < 0.08
    env = wrap(AtariPreprocessing(raw("Pong"), noop_max=0), preview("flicker", 0.75, gate="frame"))
    env.reset(seed=0)
    assert abs(sum(not env.step(0)[0].any() for _ in range(400)) / 400 - 0.75**2) < 0.08


def test_published_actions_are_drawn_for_each_frame() -> None:
    env = stori("Pong", {"type": "1", "effect": "replace", "probability": 0.3, "fidelity": "original"})
    env.reset(seed=0)
    spy = Spy(env)
    for _ in range(300):
        env.step(3)
    intended = (np.reshape(spy.take(), (300, 4)) == 3).all(axis=1).mean()
    assert intended == pytest.approx((1 - 0.3 + 0.3 / 6) ** 4, abs=0.08)


def test_the_published_sudden_drift_is_a_step_early() -> None:
    profile = {"type": "2.2", "schedule": "sudden", "period": 3, "concept": preview("flicker")}
    for fidelity, expected in (("exact", [0, 0, 0, 1, 1]), ("original", [0, 0, 1, 1, 1])):
        env = stori("Pong", {**profile, "fidelity": fidelity})
        env.reset(seed=0)
        assert [int(not env.step(0)[0].any()) for _ in range(5)] == expected
