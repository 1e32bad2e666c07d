"""Noise of its own for each game: what the memory, the score, the reward and the screen are after an event."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rlspo.envs.stori import Stori, make_game
from rlspo.envs.stori.games import GAME_EFFECTS, gopher
from rlspo.envs.stori.games.breakout import SCORE_BYTES, WALL, WHOLE, brick_area, bricks_of
from rlspo.envs.stori.memory import decimal
from tests.envs.stori.plays import perturbed, tracking

POINTS = (1, 1, 4, 4, 7, 7)


def noisy(game: str, mode: Any, probability: float = 1.0, pool: bool = False, **more: Any) -> Stori:
    return perturbed(game, pool, type="2.1", effect="game", mode=mode, probability=probability, **more)


def gaps(ram: np.ndarray) -> list[int]:
    """Points of all bricks that are gone."""
    return [
        POINTS[byte % 6] for byte in range(36) for brick in bricks_of(byte, WHOLE[byte // 6]) if not ram[byte] >> 2 * brick & 3
    ]


@pytest.mark.parametrize(("mode", "probability"), [(1, 1.0), (2, 1.0), (2, 0.4), (3, 0.02)])
def test_the_score_of_breakout_counts_the_bricks_that_are_gone(mode: int, probability: float) -> None:
    env, total, true, perturbed_steps = noisy("breakout", mode, probability), 0.0, 0.0, 0
    for count in range(700):
        ram = env.emulator.ale.getRAM()
        *_, reward, terminated, _, info = env.step(tracking(ram))
        told = info["stori"]
        assert reward >= 0 and told["reward"] >= 0
        if mode != 2 or not told["perturbed"]:
            assert reward == told["reward"]
        total, true, perturbed_steps = total + reward, true + told["reward"], perturbed_steps + told["perturbed"]
        ram = env.emulator.ale.getRAM()
        if count > 20:
            assert decimal(ram, SCORE_BYTES) == sum(gaps(ram))
        if terminated:
            break
    assert true > 8 and perturbed_steps > 0
    if probability == 1:
        assert gaps(ram) == [] and total == (true if mode == 1 else 0)
    if (mode, probability) == (2, 0.4):
        assert total == sum(gaps(ram)) < true


@pytest.mark.parametrize("pool", [False, True])
def test_a_brick_that_comes_back_is_never_missing_on_the_screen(pool: bool) -> None:
    env, hits, original = noisy("breakout", 2, pool=pool), 0, noisy("breakout", 2, pool=False, fidelity="original")
    missing = 0
    for count in range(400):
        seen, *_, info = env.step(tracking(env.emulator.ale.getRAM()))
        other = original.step(tracking(original.emulator.ale.getRAM()))[0]
        hits += info["stori"]["reward"] > 0
        if count > 20:
            assert seen[57:93, 8:152].any(-1).all()
            missing += not other[57:93, 8:152].any(-1).all()
    assert hits > 2 and missing > 0


def test_as_published_the_score_of_breakout_goes_on() -> None:
    env, true = noisy("breakout", 2, fidelity="original"), 0.0
    for _ in range(400):
        *_, reward, _, _, info = env.step(tracking(env.emulator.ale.getRAM()))
        assert reward == 0
        true += info["stori"]["reward"]
    ram = env.emulator.ale.getRAM()
    assert true == decimal(ram, SCORE_BYTES) > 0 and gaps(ram) == []


def test_the_wall_is_built_anew_when_all_bricks_are_gone() -> None:
    # A single brick stands, and the score says so; the ball is sent to it, and the second hit lasts.
    env = noisy("breakout", 2)
    ale, undone = env.emulator.ale, 0
    for _ in range(20):
        env.step(tracking(ale.getRAM()))
    for byte in range(36):
        ale.setRAM(byte, 3 if byte == 18 else 0)
    ale.setRAM(76, 0x04), ale.setRAM(77, 0x31)
    env.emulator.now.debt = -(WALL - 1)
    for _ in range(900):
        ram = ale.getRAM()
        if 90 < ram[101] < 110 and ram[103] > 127:
            ale.setRAM(99, 52 + 49)
        undone += env.step(tracking(ram))[4]["stori"]["perturbed"]
        if undone:
            (source,) = env.emulator.sources
            source.concept = replace(source.concept, probability=0.0)
        if decimal(ale.getRAM(), SCORE_BYTES) == WALL:
            break
    assert undone == 1
    for _ in range(20):
        env.step(0)
    assert gaps(ale.getRAM()) == []


def test_bricks_are_where_the_screen_shows_them() -> None:
    env = perturbed("breakout", type="3.1")
    for _ in range(20):
        env.step(0)
    ale, state = env.emulator.ale, env.emulator.ale.cloneState(include_rng=True)
    ale.act(0)
    whole, bricks = ale.getScreenRGB(), 0
    for byte in range(36):
        for brick in bricks_of(byte, WHOLE[byte // 6]):
            ale.restoreState(state)
            ale.setRAM(byte, int(ale.getRAM()[byte]) & ~(3 << 2 * brick))
            ale.act(0)
            changed, area = (ale.getScreenRGB() != whole).any(-1), brick_area(byte, brick)
            assert changed[area.pixels].all() and changed.sum() == 48
            assert (whole[area.pixels] == area.colour).all()
            bricks += 1
    assert bricks == 108


def test_boxers_swap_colours_and_have_their_own_again_afterwards() -> None:
    env, swaps, swapped, random = noisy("boxing", "swap_colours", 0.1), 0, False, np.random.default_rng(0)
    source = env.emulator.sources[0]

    def digits_are_swapped(seen: np.ndarray) -> bool:
        return bool((seen[1:17, 87:135] == 214).all(-1).any())

    while swaps < 8 or not swapped:
        seen = env.step(int(random.integers(18)))[0]
        swaps += source.open
        swapped ^= source.open
        assert digits_are_swapped(seen) == swapped
    # The concept of a drift is over.
    source.effect.stop(env.emulator.now)
    source.concept = type(source.concept)("2.1", "game", 0.0)
    assert not digits_are_swapped(env.step(0)[0])
    assert env.emulator.ale.getRAM()[[1, 2]].tolist() == [12, 0]
    # An episode begins in their own colours.
    source.effect._swapped = True  # type: ignore[attr-defined]
    assert digits_are_swapped(env.step(0)[0])
    env.reset()
    assert not digits_are_swapped(env.step(0)[0])


def test_swapped_colours_are_all_that_changes_on_the_screen() -> None:
    env, true = noisy("boxing", "swap_colours", 0.02), perturbed("boxing", False, type="3.1")
    random, differing = np.random.default_rng(0), 0
    for _ in range(150):
        action = int(random.integers(18))
        seen, expected = env.step(action)[0], true.step(action)[0]
        changed = (seen != expected).any(-1)
        differing += changed.any()
        white, black = (expected == 214).all(-1), (expected == 0).all(-1)
        if changed.any():
            assert (seen[changed & white] == 0).all() and (seen[changed & black] == 214).all()
            assert not (changed & ~white & ~black).any()
    assert 20 < differing < 150


@pytest.mark.parametrize("probability", [1.0, 0.4])
def test_hits_that_do_not_count(probability: float) -> None:
    env, total, true, hits = noisy("boxing", "hit_without_score", probability), 0.0, 0.0, 0
    random = np.random.default_rng(0)
    for _ in range(500):
        *_, reward, _, _, info = env.step(int(random.integers(18)))
        if not info["stori"]["perturbed"]:
            assert reward == info["stori"]["reward"]
        hits += info["stori"]["perturbed"]
        total, true = total + reward, true + abs(info["stori"]["reward"])
    ram = env.emulator.ale.getRAM()
    assert hits > 3 and true > hits / 2
    assert total == decimal(ram, (18,)) - decimal(ram, (19,))
    if probability == 1:
        assert ram[[18, 19]].tolist() == [0, 0]


def test_boxers_swap_corners() -> None:
    env = noisy("boxing", "swap_corners", 0.05)
    random, swaps = np.random.default_rng(0), 0
    for _ in range(200):
        env.step(int(random.integers(18)))
        if env.emulator.sources[0].open:
            swaps += 1
            ram = env.emulator.ale.getRAM().astype(int)
            # Four frames later both are still near the corner in which the other one started.
            assert np.abs(ram[[32, 34, 33, 35]] - [109, 87, 30, 4]).max() < 12
    assert swaps > 4


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("mode", ["fill_undone", "fill_undone_without_reward"])
def test_no_fill_lasts(mode: str, full: bool) -> None:
    profile = {"type": "2.1", "effect": "game", "mode": mode, "probability": 1}
    env = make_game("gopher", profile=profile, pool=False, full_action_space=full)
    env.reset(seed=0)
    ale, random, fills, total = env.emulator.ale, np.random.default_rng(0), 0, 0.0
    for _ in range(1100):
        before = ale.getRAM()
        seen, reward, terminated, _, info = env.step(int(random.integers(env.action_space.n)))
        after, true = ale.getRAM(), info["stori"]["reward"]
        total += reward
        if true % 100 == 20:
            fills += 1
            assert info["stori"]["perturbed"]
            # All that was dug still is, and the screen never showed it filled.
            assert not (before[:24] & ~after[:24]).any()
            assert reward == (true if mode == "fill_undone" else true - 20)
            for byte in range(24):
                for bit in range(4 if byte % 3 == 0 else 0, 8):
                    if before[byte] >> bit & 1:
                        assert not (seen[gopher.dug_area(byte, bit).pixels] == gopher.UNDUG).all()
        else:
            assert reward == true and not info["stori"]["perturbed"]
        assert decimal(after, (48, 49, 50)) == total
        if terminated:
            break
    assert fills > 3


def test_a_carrot_vanishes_once_in_each_episode() -> None:
    env = noisy("gopher", "carrot_vanishes", 0.2)
    for _ in range(3):
        env.reset()
        events = [env.step(0)[4]["stori"]["perturbed"] for _ in range(60)]
        assert sum(events) == 1
        assert env.emulator.ale.getRAM()[52] in (0b110, 0b101, 0b011)


def test_bombs_vanish() -> None:
    env, true = noisy("bank_heist", "bomb_vanishes"), perturbed("bank_heist", type="3.1")
    random, dropped = np.random.default_rng(0), [0, 0]
    for _ in range(300):
        action = int(random.integers(18))
        for place, one in enumerate((env, true)):
            one.step(action)
            dropped[place] += one.emulator.ale.getRAM()[12] > 0
    assert dropped[0] == 0 and dropped[1] > 10


def test_fuel_leaks_once_in_each_city() -> None:
    env = noisy("bank_heist", "fuel_leaks", 0.2)
    ale, used = env.emulator.ale, []
    for count in range(120):
        if count == 80:
            ale.setRAM(0, int(ale.getRAM()[0]) + 1), ale.setRAM(86, 0)
        *_, info = env.step(0)
        if info["stori"]["perturbed"]:
            used.append((count, int(ale.getRAM()[86])))
    assert [amount for _, amount in used] == [12, 12]
    assert used[0][0] < 80 <= used[1][0]


@pytest.mark.parametrize("fidelity", ["exact", "original"])
def test_cities_change_to_other_streets_and_the_counter_never_runs_back(fidelity: str) -> None:
    env, random = noisy("bank_heist", "city_changes", 0.1, fidelity=fidelity), np.random.default_rng(0)
    ale, cities, back = env.emulator.ale, set(), 0
    for _ in range(100):
        before = int(ale.getRAM()[0])
        *_, info = env.step(int(random.integers(18)))
        after = int(ale.getRAM()[0])
        back += after < before
        if info["stori"]["perturbed"] and fidelity == "exact":
            assert after % 4 != before % 4
        cities.add(after % 4)
    assert cities == {0, 1, 2, 3}
    assert (back == 0) == (fidelity == "exact")


def test_a_robbery_earns_nothing() -> None:
    env, random, events = noisy("bank_heist", "bank_without_reward"), np.random.default_rng(0), 0
    for _ in range(1600):
        *_, reward, terminated, _, info = env.step(int(random.integers(18)))
        if info["stori"]["perturbed"]:
            events += 1
            assert reward == 0 and info["stori"]["reward"] == 10
        else:
            assert reward == info["stori"]["reward"]
        if terminated:
            env.reset()
    assert events > 1


@pytest.mark.parametrize("game", GAME_EFFECTS)
def test_modes_have_numbers_and_names(game: str) -> None:
    effect = GAME_EFFECTS[game]["game"]
    for number, name in effect.modes.items():  # type: ignore[attr-defined]
        assert effect(game=game, mode=number).mode == effect(game=game, mode=name).mode == name  # type: ignore[call-arg, attr-defined]
    with pytest.raises(ValueError, match=r"mode is 99\..* Modes: 1: "):
        effect(game=game, mode=99)  # type: ignore[call-arg]
