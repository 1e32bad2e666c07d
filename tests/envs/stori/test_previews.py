"""Screens with another memory: what is hidden is hidden, all else is the true screen of the same frame."""

from __future__ import annotations

import numpy as np
import pytest

from rlspo.envs.stori import make_game
from rlspo.envs.stori.games import PREVIEWS
from tests.envs.stori.plays import GAMES, Frame, frames, moment, perturbed, tracking

RING = np.s_[36:177, 32:128]
MEADOW = {"carrot_left": (60, 67), "carrot_middle": (76, 83), "carrot_right": (92, 99), "carrots": (60, 99)}


def preview(game: str, mode: str, frame: Frame, writes: dict[int, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The picture of a frame and the true one, both RGB, after ``writes`` into the memory before it."""
    env, _ = frames(game)
    ale, pictures = env.ale, []
    for hidden in (True, False):
        ale.restoreState(frame.state)
        for address, value in (writes or {}).items():
            ale.setRAM(address, value)
        if hidden:
            PREVIEWS[game]["ram"](game=game, mode=mode).edit(moment(env))
        ale.act(frame.action)
        pictures.append(ale.getScreenRGB())
    return pictures[0], pictures[1]


def different(game: str, mode: str, frame: Frame, writes: dict[int, int] | None = None) -> np.ndarray:
    seen, true = preview(game, mode, frame, writes)
    return (seen != true).any(-1)


def test_the_ball_is_gone_and_nothing_else() -> None:
    _, kept = frames("breakout")
    hidden = 0
    for frame in kept:
        if not frame.before[101] or not frame.ram[101]:
            continue
        seen, true = preview("breakout", "ball", frame)
        changed = (seen != true).any(-1)
        # Where the ball is drawn: two by four pixels; on a brick a line more.
        x, y = int(frame.ram[99]) - 49, int(frame.ram[101]) + 9
        hidden += changed[y : y + 4, x : x + 2].any()
        changed[y - 1 : y + 5, x : x + 2] = False
        # In a frame with a hit the paddle may be a step behind.
        changed[189:196] = False
        assert not changed.any()
        assert (seen[93:189, 8:152] == 0).all()
    assert hidden > 100


def test_bricks_that_the_hidden_ball_hits_are_gone() -> None:
    env, _ = frames("breakout")
    ale, hits = env.ale, 0
    ale.reset_game()
    for _ in range(900):
        state, before = ale.cloneState(include_rng=True), ale.getRAM()
        action = env._action_set[tracking(before)]
        ale.act(action)
        if (before[:36] != ale.getRAM()[:36]).any() and before[101]:
            hits += 1
            frame = Frame(state, action, before, ale.getRAM(), ale.getScreenRGB(), ale.getScreenGrayscale())
            end = ale.cloneState(include_rng=True)
            seen, true = preview("breakout", "ball", frame)
            x = int(frame.ram[99]) - 49
            away = np.ones(160, bool)
            away[x : x + 2] = False
            np.testing.assert_array_equal(seen[57:93][:, away], true[57:93][:, away])
            ale.restoreState(end)
    assert hits >= 4


def test_the_wall_is_a_chessboard() -> None:
    _, kept = frames("breakout")
    seen, true = preview("breakout", "picture", kept[0])
    bricks = (seen[57:93, 8:152].reshape(6, 6, 18, 8, 3) > 0).any(-1)
    # Each brick is whole or gone; half of them are there.
    assert (bricks == bricks[:, :1, :, :1]).all()
    assert bricks[:, 0, :, 0].sum() == 54
    np.testing.assert_array_equal(seen[:57], true[:57])


@pytest.mark.parametrize(("mode", "colour"), [("enemy", (0, 0, 0)), ("player", (214, 214, 214)), ("ring", (195, 144, 61))])
def test_boxers_and_ropes_are_gone(mode: str, colour: tuple[int, int, int]) -> None:
    _, kept = frames("boxing")
    for frame in kept[::5]:
        seen, true = preview("boxing", mode, frame)
        assert (true[25:188] == colour).all(-1).any()
        assert not (seen[25:188, 24:136] == colour).all(-1).any()
        changed = (seen != true).any(-1)
        if mode == "ring":
            assert (true[changed] == colour).all()
        else:
            # Only his pixels changed, and the digits of his score, which the effect paints back.
            assert (true[changed] == colour).all()
            digits = np.s_[1:17, 87:135] if mode == "enemy" else np.s_[1:17, 33:70]
            changed[digits] = False
            assert not changed[:25].any()


@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("mode", ["enemy", "player"])
def test_digits_are_painted_back(mode: str, pool: bool) -> None:
    env = make_game("boxing", profile={"type": "3.2", "effect": "ram", "mode": mode}, pool=pool)
    true = make_game("boxing", type="3.1", pool=pool)
    seen, expected = env.reset(seed=0)[0], true.reset(seed=0)[0]
    random, scores = np.random.default_rng(1), set()
    for _ in range(300):
        ram = true.emulator.ale.getRAM()
        if (int(ram[18]), int(ram[19])) not in scores or random.random() < 0.1:
            scores.add((int(ram[18]), int(ram[19])))
        action = int(random.integers(18))
        seen, expected = env.step(action)[0], true.step(action)[0]
        # Pooled, a digit that changes within a step may be shown as its newer form alone.
        if pool and (true.emulator.ale.getRAM()[[18, 19]] != ram[[18, 19]]).any():
            continue
        np.testing.assert_array_equal(seen[:17], expected[:17])
    assert len(scores) > 5


def test_digits_are_there_at_the_reset_and_missing_as_published() -> None:
    true = make_game("boxing", type="3.1").reset(seed=0)[0]
    for fidelity in ("exact", "original"):
        env = make_game("boxing", profile={"type": "3.2", "effect": "ram", "mode": "enemy", "fidelity": fidelity})
        first, later = env.reset(seed=0)[0], env.step(0)[0]
        for seen in (first, later):
            assert (seen[1:17, 87:135] == true[1:17, 87:135]).all() == (fidelity == "exact")


@pytest.mark.parametrize("mode", MEADOW)
def test_carrots_are_gone_and_nothing_else(mode: str) -> None:
    _, kept = frames("gopher")
    left, right = MEADOW[mode]
    for frame in kept[::5]:
        changed = different("gopher", mode, frame)
        assert changed[151:178, left : right + 1].any()
        changed[151:178, left : right + 1] = False
        assert not changed.any()


def test_the_seed_is_gone_and_nothing_else() -> None:
    _, kept = frames("gopher")
    shown = 0
    for frame in kept[::5]:
        assert not different("gopher", "seed", frame).any()
        # A seed that falls.
        changed = different("gopher", "seed", frame, {92: 60, 95: 80})
        shown += changed.any()
        rows, columns = np.nonzero(changed)
        assert changed.sum() <= 16
        assert not len(rows) or (np.ptp(rows) < 8 and np.ptp(columns) < 8)
    assert shown > 10


def test_the_car_banks_and_police_are_gone_and_nothing_else() -> None:
    _, kept = frames("bank_heist")
    seen = dict.fromkeys(("car", "banks", "police"), 0)
    for frame in kept[::2]:
        slots = [(int(frame.ram[29 + slot]), int(frame.ram[9 + slot])) for slot in range(3)]
        if frame.before[24:27].tolist() != [253, 253, 253]:
            continue
        # For the police, the first bank is made one of theirs.
        for mode, places, writes in [
            ("car", [(int(frame.ram[28]), int(frame.ram[8]))], {}),
            ("banks", slots, {}),
            ("banks", slots[1:], {24: 254}),
            ("police", slots[:1], {24: 254}),
            ("police", [], {}),
        ]:
            # The left edge carries the bars of the console's timing, which move with what is drawn in a line.
            changed = different("bank_heist", mode, frame, writes)[:, 16:144]
            seen[mode] += changed.any()
            for x, y in places:
                changed[y + 34 : y + 47, max(x - 18, 0) : max(x - 6, 0)] = False
            assert not changed.any(), mode
    assert min(seen.values()) > 10


def test_the_gauge_is_full_and_nothing_else_changed() -> None:
    _, kept = frames("bank_heist")
    for frame in kept[::10]:
        changed = different("bank_heist", "fuel", frame)
        changed[11:37, 12:74] = False
        assert not changed.any()
    full, _ = preview("bank_heist", "fuel", kept[0])
    later, _ = preview("bank_heist", "fuel", kept[-1])
    np.testing.assert_array_equal(full[11:37, 12:74], later[11:37, 12:74])


def test_walls_are_gone_or_look_like_streets() -> None:
    _, kept = frames("bank_heist")
    for frame in kept[::10]:
        seen, true = preview("bank_heist", "blocks", frame)
        wall = true[40, 13]
        within, without = ((picture[45:173, 16:144] == wall).all(-1) for picture in (true, seen))
        # A column of blocks in the middle stays; in the third and fourth city, some at the edge, too.
        assert within.sum() > 3000 and without.sum() < (0.15 if frame.ram[0] % 4 < 2 else 0.4) * within.sum()
        changed = (seen != true).any(-1)
        changed[45:173, 16:144] = False
        assert not changed.any()
        seen, true = preview("bank_heist", "walls", frame)
        assert (seen[45:173, 16:144] == seen[40, 13]).all(-1).mean() > 0.9


@pytest.mark.parametrize("obs_type", ["rgb", "grayscale"])
@pytest.mark.parametrize("game", GAMES)
def test_an_edit_of_nothing_shows_the_true_screen(game: str, obs_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    effect = PREVIEWS[game]["ram"]
    monkeypatch.setattr(effect, "edit", lambda self, now: None)
    profile = {"type": "3.2", "effect": "ram", "mode": 1, "probability": 0.7}
    env, true = make_game(game, profile=profile, obs_type=obs_type), make_game(game, type="3.1", obs_type=obs_type)
    env.reset(seed=0), true.reset(seed=0)
    random, perturbed_steps = np.random.default_rng(0), 0
    for _ in range(150):
        action = tracking(true.emulator.ale.getRAM()) if game == "breakout" else int(random.integers(env.action_space.n))
        seen, reward, terminated, _, info = env.step(action)
        expected, true_reward, *_ = true.step(action)
        np.testing.assert_array_equal(seen, expected)
        assert reward == true_reward
        perturbed_steps += info["stori"]["perturbed"]
        if terminated:
            env.reset(), true.reset()
    assert 70 < perturbed_steps < 135


@pytest.mark.parametrize("game", GAMES)
def test_previews_leave_the_game_alone(game: str) -> None:
    true = make_game(game, type="3.1")
    for mode in PREVIEWS[game]["ram"].modes.values():
        env = perturbed(game, type="3.2", effect="ram", mode=mode)
        true.reset(seed=0)
        random = np.random.default_rng(0)
        for _ in range(40):
            action = int(random.integers(env.action_space.n))
            assert env.step(action)[1] == true.step(action)[1]
        np.testing.assert_array_equal(env.emulator.ale.getRAM(), true.emulator.ale.getRAM())
