"""Type 3.2 for any game: each mask on screens of any height, RGB and grey, against what it should be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage, stats

from rlspo.envs.stori.effects import Moment
from rlspo.envs.stori.masks import SCREEN_EFFECTS
from tests.envs.stori.games import stori

SHAPES = [(210, 160, 3), (210, 160), (250, 160, 3), (250, 160), (230, 160)]
MASKS: dict[str, list[dict[str, Any]]] = {
    "crop": [{"mode": mode} for mode in ("left", "right", "top", "bottom", "disc")],
    "box": [{}, {"height": 0.1, "width": 1.0}],
    "flicker": [{}],
    "blur": [{}, {"radius": 1}],
    "noise": [{}, {"sigma": 0}],
    "quantise": [{}, {"levels": 1}],
}


def bright(shape: tuple[int, ...]) -> np.ndarray:
    """A screen without a black pixel."""
    return np.random.default_rng(0).integers(1, 256, shape, dtype=np.uint8)


def moment(seed: int = 0) -> Moment:
    return Moment(None, np.random.default_rng(seed), "pong", 6)


def masks() -> list[Any]:
    pairs = [(name, settings) for name, choices in MASKS.items() for settings in choices]
    return [pytest.param(*pair, id="-".join([pair[0], *map(str, pair[1].values())])) for pair in pairs]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("name", "settings"), masks())
def test_a_step_has_one_mask_and_a_closed_gate_none(name: str, settings: dict[str, Any], shape: tuple[int, ...]) -> None:
    effect, now = SCREEN_EFFECTS[name]("pong", **settings), moment()
    effect.draw(now)
    first, second, third = bright(shape), bright(shape), bright(shape)
    effect.screen(first, True, now)
    assert now.perturbed
    state = now.random.bit_generator.state
    effect.screen(second, True, now)
    now.perturbed = False
    effect.screen(third, False, now)
    assert np.array_equal(first, second) and np.array_equal(third, bright(shape)) and not now.perturbed
    assert now.random.bit_generator.state == state


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mode", ["left", "right", "top", "bottom"])
def test_halves(mode: str, shape: tuple[int, ...]) -> None:
    screen, now = bright(shape), moment()
    SCREEN_EFFECTS["crop"]("pong", mode=mode).screen(screen, True, now)
    rows, columns = np.indices(shape[:2])
    hidden = {"left": columns < 80, "right": columns >= 80, "top": rows < shape[0] // 2, "bottom": rows >= shape[0] // 2}[mode]
    assert (screen[hidden] == 0).all() and np.array_equal(screen[~hidden], bright(shape)[~hidden])


@pytest.mark.parametrize("shape", SHAPES)
def test_a_disc_has_the_published_radius_and_a_uniform_centre(shape: tuple[int, ...]) -> None:
    effect, now, centres = SCREEN_EFFECTS["crop"]("pong", mode=5), moment(), []
    rows, columns = np.indices(shape[:2])
    for _ in range(60):
        effect.draw(now)
        screen = bright(shape)
        effect.screen(screen, True, now)
        y, x = np.multiply(effect._centre, shape[:2]).astype(int)  # type: ignore[attr-defined]
        centres.append(effect._centre)  # type: ignore[attr-defined]
        seen = (rows - y) ** 2 + (columns - x) ** 2 <= 75**2
        assert (screen[~seen] == 0).all() and np.array_equal(screen[seen], bright(shape)[seen])
    assert stats.kstest(np.ravel(centres), "uniform").pvalue > 1e-3


def test_the_disc_shows_as_much_as_published() -> None:
    effect, now, shares = SCREEN_EFFECTS["crop"]("pong", mode="disc"), moment(), []
    for _ in range(300):
        effect.draw(now)
        screen = np.ones((210, 160), np.uint8)
        effect.screen(screen, True, now)
        shares.append(screen.mean())
    assert np.mean(shares) == pytest.approx(0.35, abs=0.01)
    assert min(shares) == pytest.approx(0.14, abs=0.02) and max(shares) == pytest.approx(0.53, abs=0.01)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_box_has_its_size_and_lies_on_the_screen(shape: tuple[int, ...]) -> None:
    effect, now, corners = SCREEN_EFFECTS["box"]("pong", height=0.2, width=0.5), moment(), []
    for _ in range(60):
        effect.draw(now)
        screen = bright(shape)
        effect.screen(screen, True, now)
        black = (screen == 0) if screen.ndim == 2 else (screen == 0).all(axis=2)
        rows, columns = np.nonzero(black)
        assert (
            np.ptp(rows) + 1 == np.ceil(0.2 * shape[0])
            and np.ptp(columns) + 1 == 80
            and black.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        )
        assert np.array_equal(screen[~black], bright(shape)[~black])
        corners.append((rows[0] / (0.8 * shape[0]), columns[0] / 80))
    assert stats.kstest(np.ravel(corners), "uniform").pvalue > 1e-4


def test_rgb_and_grey_are_masked_at_the_same_place() -> None:
    for name, settings in [("crop", {"mode": "disc"}), ("box", {})]:
        effect, now = SCREEN_EFFECTS[name]("pong", **settings), moment()  # type: ignore[arg-type]
        effect.draw(now)
        colour, grey = np.full((210, 160, 3), 9, np.uint8), np.full((210, 160), 9, np.uint8)
        effect.screen(colour, True, now)
        effect.screen(grey, True, now)
        assert np.array_equal(colour[..., 0], grey) and np.array_equal(colour[..., 2], grey)


@pytest.mark.parametrize("shape", SHAPES[:2])
def test_blur_is_the_mean_of_the_square_around_a_pixel(shape: tuple[int, ...]) -> None:
    screen, now = bright(shape), moment()
    SCREEN_EFFECTS["blur"]("pong", radius=2).screen(screen, True, now)
    size = (5, 5) if len(shape) == 2 else (5, 5, 1)
    mean = ndimage.uniform_filter(bright(shape).astype(float), size, mode="mirror")
    assert np.abs(screen - mean).max() <= 0.5 + 1e-6


def test_noise_is_normal_with_its_standard_deviation_and_new_in_each_step() -> None:
    effect, now, added = SCREEN_EFFECTS["noise"]("pong", sigma=10), moment(), []
    for _ in range(2):
        effect.draw(now)
        screen = np.full((210, 160), 128, np.uint8)
        effect.screen(screen, True, now)
        added.append(screen.astype(float).ravel() - 128)
    assert added[0].std() == pytest.approx(10, rel=0.02) and added[0].mean() == pytest.approx(0, abs=0.2)
    assert abs(np.corrcoef(added)[0, 1]) < 0.03
    assert stats.kstest(added[0] + np.random.default_rng(1).uniform(-0.5, 0.5, added[0].size), "norm", (0, 10)).pvalue > 1e-3
    dark = np.zeros((210, 160), np.uint8)
    effect.screen(dark, True, now)
    assert dark.max() < 60


def test_quantised_pixels_are_the_lowest_of_their_level() -> None:
    screen, now = np.arange(256, dtype=np.uint8).reshape(16, 16), moment()
    SCREEN_EFFECTS["quantise"]("pong", levels=4).screen(screen, True, now)
    assert screen.ravel().tolist() == [64 * (value // 64) for value in range(256)]
    whole = np.arange(256, dtype=np.uint8).reshape(16, 16)
    SCREEN_EFFECTS["quantise"]("pong", levels=256).screen(whole, True, now)
    assert whole.ravel().tolist() == list(range(256))


def test_a_frozen_screen_is_that_of_the_step_before() -> None:
    env, clear = stori("Pong", {"type": "3.2", "effect": "freeze", "probability": 0.5}), stori("Pong")
    before, _ = env.reset(seed=0)
    assert np.array_equal(before, clear.reset(seed=0)[0])
    frozen = 0
    for step in range(80):
        seen, *_, info = env.step(step % 6)
        true, *_ = clear.step(step % 6)
        assert np.array_equal(seen, before if info["stori"]["perturbed"] else true)
        assert np.array_equal(env.get_wrapper_attr("seen")(), seen)
        frozen += info["stori"]["perturbed"]
        before = seen
    assert 20 < frozen < 60


def test_a_screen_frozen_for_good_stays_at_the_reset_and_each_episode_forgets() -> None:
    env = stori("Pong", {"type": "3.2", "effect": "freeze"}, noop_max=30)
    first, _ = env.reset(seed=1)
    assert all(np.array_equal(env.step(3)[0], first) for _ in range(5))
    assert np.array_equal(env.reset()[0], env.unwrapped.ale.ale.getScreenRGB())


def test_flicker_shows_black() -> None:
    env = stori("Pong", {"type": "3.2", "effect": "flicker", "probability": 0.5})
    env.reset(seed=0)
    for _ in range(20):
        seen, *_, info = env.step(0)
        assert seen.any() != info["stori"]["perturbed"]


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        ({"effect": "box", "height": 0}, "both must be above 0"),
        ({"effect": "box", "width": 1.5}, "width is 1.5; it must be a finite number, at least 0 and at most 1"),
        ({"effect": "blur", "radius": 0}, "radius is 0; it must be a whole number of at least 1"),
        ({"effect": "noise", "sigma": -1}, "sigma is -1"),
        ({"effect": "quantise", "levels": 257}, "levels is 257; it must be a whole number from 1 to 256"),
        ({"effect": "crop", "mode": "discs"}, "Did you mean 'disc'?"),
        ({"effect": "flicker", "colour": 3}, "flicker takes no 'colour'"),
    ],
)
def test_wrong_settings(noise: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stori("Pong", {"type": "3.2", **noise})


def test_a_memory_cannot_be_masked() -> None:
    with pytest.raises(ValueError, match=r"type 3\.2 hides parts of the screen, and obs_type='ram' shows the memory"):
        stori("Pong", {"type": "3.2", "effect": "flicker"}, obs_type="ram")
    stori("Pong", {"type": "1", "effect": "dropout"}, obs_type="ram").reset()
