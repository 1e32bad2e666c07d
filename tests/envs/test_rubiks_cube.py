"""The cube against group theory: orders, commutators, known numbers of states by depth; scrambles; what is no cube."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import rlspo  # noqa: F401
from rlspo.envs.rubiks_cube import COLOURS, FACES, MOVES, Cube, RubiksCubeEnv, RubiksCubeVectorEnv
from rlspo.envs.rubiks_cube.geometry import CUBES, move_sources, opposite
from rlspo.envs.rubiks_cube.scramble import random_scrambles

ID = "rlspo/RubiksCube-v0"
SOURCES = move_sources()
IDENTITY = np.arange(54)


def product(moves: str) -> np.ndarray:
    """The permutation of a sequence of moves, from the left to the right."""
    total = IDENTITY
    for name in moves.split():
        total = total[SOURCES[MOVES.index(name)]]
    return total


def order(moves: str) -> int:
    """How often a sequence has to be repeated until nothing is changed."""
    once = total = product(moves)
    count = 1
    while (total != IDENTITY).any():
        total, count = total[once], count + 1
    return count


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("checks", [check_env, sb3_check_env])
@pytest.mark.parametrize("unwrap", [True, False])
def test_it_is_an_environment_for_gymnasium_and_sb3(checks: Any, unwrap: bool) -> None:
    env = gym.make(ID, render_mode="rgb_array")
    checks(env.unwrapped if unwrap else env)


def test_each_move_moves_twenty_stickers_of_its_own_layer_and_no_middle() -> None:
    assert sorted(MOVES) == sorted(face + turn for face in FACES for turn in ("", "2", "'"))
    for name, source in zip(MOVES, SOURCES, strict=True):
        assert sorted(source) == IDENTITY.tolist()
        moved = np.flatnonzero(source != IDENTITY)
        assert len(moved) == 20
        normal = CUBES[9 * FACES.index(name[0]) + 4]
        assert (CUBES[moved] @ normal == 1).all()
        assert not set(moved) & set(range(4, 54, 9))


@pytest.mark.parametrize("face", FACES)
def test_turns_have_order_four_and_the_names_mean_what_they_say(face: str) -> None:
    assert order(face) == 4
    assert order(face + "2") == 2
    np.testing.assert_array_equal(product(f"{face} {face}"), product(face + "2"))
    np.testing.assert_array_equal(product(f"{face} {face}'"), IDENTITY)
    other = FACES[opposite(FACES.index(face))]
    np.testing.assert_array_equal(product(f"{face} {other}"), product(f"{other} {face}"))
    beside = FACES[(FACES.index(face) + 1) % 6]
    assert (product(f"{face} {beside}") != product(f"{beside} {face}")).any()


@pytest.mark.parametrize(
    ("moves", "expected"),
    [
        ("R U R' U'", 6),
        ("R U", 105),
        ("R U'", 63),
        ("R2 U2", 6),
        ("R2 U2 R2 U2 R2 U2", 2),
        # The longest order that any element of the group has (Singmaster 1981).
        ("R U2 D' B D'", 1260),
    ],
)
def test_orders_known_from_the_literature(moves: str, expected: int) -> None:
    assert order(moves) == expected


def test_a_turn_of_the_right_face_is_clockwise() -> None:
    """Front goes up, up goes back, back goes down, down comes to the front; the right face itself turns clockwise."""
    env = RubiksCubeEnv(render_mode="ansi")
    env.reset(options={"moves": "R"})
    assert env.render().splitlines() == [
        *["      U U F"] * 3,
        *["L L L F F D R R R U B B"] * 3,
        *["      D D B"] * 3,
    ]
    env.reset(options={"moves": "U R"})
    right = env.render().splitlines()[3:6]
    # After U, the upper row of the right face is the back's; turned by R it is the right column.
    assert [row[12:17] for row in right] == ["R R B"] * 3


def test_the_superflip_is_where_twenty_known_moves_lead() -> None:
    """All edges flipped, all corners at home: the first position shown to need 20 moves (Reid 1995)."""
    env = RubiksCubeEnv()
    seen, _ = env.reset(options={"moves": "U R2 F B R B2 R U2 L B2 R U' D' R2 F R' L B2 U2 F2"})
    seen = seen.reshape(6, 9)
    for face in range(6):
        assert (seen[face, [0, 2, 4, 6, 8]] == face).all()
        assert (seen[face, [1, 3, 5, 7]] != face).all()
    again, _ = env.reset(options={"stickers": seen.ravel()})
    np.testing.assert_array_equal(again, seen.ravel())


def test_numbers_of_states_by_depth_are_the_known_ones(device: str) -> None:
    """Rokicki, Kociemba, Davidson, Dethridge, "The diameter of the Rubik's cube group is twenty" (2014): half-turn metric."""
    form = RubiksCubeEnv().array_form(device)
    layer = Cube().solved[None].to(device)
    seen, counts = {tuple(layer[0].tolist())}, [1]
    for _ in range(3):
        actions = torch.arange(18, device=device).repeat(len(layer))
        new, *_ = form.step({"stickers": layer.repeat_interleave(18, dim=0)}, actions, None)
        fresh = {tuple(row) for row in new["stickers"].tolist()} - seen
        seen |= fresh
        counts.append(len(fresh))
        layer = torch.tensor(sorted(fresh), device=device)
    assert counts == [1, 18, 243, 3240]


def test_any_moves_keep_nine_stickers_of_each_colour_and_their_inverse_leads_back() -> None:
    generator = np.random.default_rng(0)
    env = RubiksCubeEnv()
    start, _ = env.reset(seed=0)
    moves = generator.integers(18, size=200)
    for move in moves:
        seen, *_ = env.step(move)
        assert np.bincount(seen).tolist() == [9] * 6
    for move in moves[::-1]:
        seen, *_ = env.step(move - move % 3 + 2 - move % 3)
    np.testing.assert_array_equal(seen, start)


def test_solving_pays_one_and_terminates() -> None:
    env = RubiksCubeEnv()
    _, info = env.reset(options={"moves": ["F", 1]})
    assert info == {"scramble_depth": 2}
    assert env.step(MOVES.index("U"))[1:] == (0.0, False, False, {"is_success": False})
    assert env.step(MOVES.index("U"))[1:3] == (0.0, False)
    env.reset(options={"moves": "F U2"})
    env.step(MOVES.index("U2"))
    seen, *rest = env.step(np.int64(MOVES.index("F'")))
    assert rest == [1.0, True, False, {"is_success": True}]
    np.testing.assert_array_equal(seen, np.repeat(np.arange(6), 9))


def test_scrambles_do_not_undo_themselves() -> None:
    depths = np.random.default_rng(1).integers(1, 12, 4000)
    moves = random_scrambles(np.random.default_rng(0), depths)
    assert ((moves < 18).sum(axis=1) == depths).all()
    followers = set()
    for row, depth in zip(moves, depths, strict=True):
        assert (row[depth:] == 18).all()
        faces = row[:depth] // 3
        followers |= {*zip(faces.tolist(), faces[1:].tolist(), strict=False)}
    expected = {(a, b) for a in range(6) for b in range(6) if a != b and a - b != 3}
    assert followers == expected
    # Each allowed face and each turn comes about equally often: at first 1 in 18, chi-square of 17 degrees of freedom.
    counts = np.bincount(moves[:, 0], minlength=18)
    assert ((counts - 4000 / 18) ** 2 / (4000 / 18)).sum() < 40.8  # p = 0.001


def test_scrambles_to_depth_three_reach_each_state_by_one_sequence() -> None:
    """To depth 3 sequences in the scrambles' form and states are as many: none is there twice, none is missing."""
    cube = Cube()
    moves = random_scrambles(np.random.default_rng(0), np.full(20_000, 2))
    pairs = {tuple(row) for row in moves.tolist()}
    states = {tuple(row) for row in cube.scrambled(np.array(sorted(pairs))).tolist()}
    assert len(pairs) == len(states) == 243


def test_episodes_never_start_solved() -> None:
    cube = Cube(1)
    states, infos = cube.begin(np.random.default_rng(0), 3000, {"scramble_depth": (1, 9)})
    assert not cube.is_solved(states["stickers"]).any()
    assert set(infos["scramble_depth"]) == set(range(1, 10))


def test_a_scramble_that_comes_back_to_the_solved_cube_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    cube, drawn = Cube(8), []

    def rigged(generator: np.random.Generator, depths: np.ndarray) -> np.ndarray:
        drawn.append(len(depths))
        if len(drawn) > 1:
            return random_scrambles(generator, depths)
        moves = np.zeros((len(depths), 8), np.int64)
        moves[1] = [MOVES.index(name) for name in ["R", "L", "R'", "L'", "U", "D", "U'", "D'"]]
        moves[0, 0] = 3
        return moves

    monkeypatch.setattr("rlspo.envs.rubiks_cube.rules.random_scrambles", rigged)
    states, _ = cube.begin(np.random.default_rng(0), 2, {})
    assert drawn == [2, 1]
    assert not cube.is_solved(states["stickers"]).any()


def test_scramble_depth_and_seed() -> None:
    env = gym.make(ID, scramble_depth=4)
    assert {env.reset(seed=seed)[1]["scramble_depth"] for seed in range(5)} == {4}
    first, _ = env.reset(seed=3)
    second, _ = env.reset()
    np.testing.assert_array_equal(env.reset(seed=3)[0], first)
    np.testing.assert_array_equal(env.reset()[0], second)
    assert (first != second).any()
    # The option holds for one episode.
    assert env.reset(options={"scramble_depth": 1})[1]["scramble_depth"] == 1
    assert env.reset()[1]["scramble_depth"] == 4
    depths = {env.reset(options={"scramble_depth": (2, 4)})[1]["scramble_depth"] for _ in range(60)}
    assert depths == {2, 3, 4}


def test_registration_cuts_episodes_off_at_20_moves() -> None:
    env = gym.make(ID)
    env.reset(options={"moves": "R F U"})
    assert [env.step(0)[2:4] for _ in range(20)] == [(False, False)] * 19 + [(False, True)]
    assert RubiksCubeVectorEnv(2).max_episode_steps == 20


@pytest.mark.parametrize("depth", [0, -1, (3, 2), (1, 2, 3), 2.5, True, "3", None])
def test_rejects_a_scramble_depth_that_is_none(depth: Any) -> None:
    with pytest.raises(ValueError, match="scramble_depth"):
        RubiksCubeEnv(scramble_depth=depth)
    with pytest.raises(ValueError, match="scramble_depth"):
        RubiksCubeEnv().reset(options={"scramble_depth": depth})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"depth": 3}, "no option depth"),
        ({"moves": "R", "scramble_depth": 2}, "one of them"),
        ({"moves": "R W"}, "'W' is among the moves"),
        ({"moves": [18]}, "from 0 to 17"),
        ({"moves": 3}, "it must be a text"),
    ],
)
def test_rejects_options_that_do_not_fit(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        RubiksCubeEnv().reset(options=options)


def solved_but(*swaps: tuple[int, int]) -> np.ndarray:
    stickers = np.repeat(np.arange(6), 9)
    for one, other in swaps:
        stickers[[one, other]] = stickers[[other, one]]
    return stickers


def test_rejects_cubes_that_no_turns_lead_to() -> None:
    """Numbers of stickers: U is 0 to 8, R 9 to 17, F 18 to 26. The corner URF is 8, 9, 20; the edges UF 7, 19, UR 5, 10."""
    cases = {
        "54 whole numbers": np.zeros(53, int),
        "from 0 to 5": np.full(54, 6),
        "middles of the faces": (solved_but() + 1) % 6,
        "each must be there 9 times": np.where(np.arange(54) == 0, 1, solved_but()),
        "edge that was flipped": solved_but((7, 19)),
        "corner that was twisted": solved_but((8, 9), (9, 20)),
        "swapped by themselves": solved_but((7, 5), (19, 10)),
        "on one corner": solved_but((8, 20)),
        "on one edge": solved_but((7, 46)),
    }
    for says, stickers in cases.items():
        with pytest.raises(ValueError, match=says):
            RubiksCubeEnv().reset(options={"stickers": stickers})


def test_takes_all_cubes_that_turns_lead_to() -> None:
    env, generator = RubiksCubeEnv(), np.random.default_rng(0)
    for _ in range(200):
        seen, _ = env.reset(options={"moves": generator.integers(18, size=30).tolist()})
        np.testing.assert_array_equal(env.reset(options={"stickers": seen})[0], seen)


@pytest.mark.parametrize("action", [18, -1, 1.5, [3], None])
def test_rejects_actions_that_are_none(action: Any) -> None:
    env = RubiksCubeEnv()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="from 0 to 17: U, U2, U'"):
        env.step(action)


def test_asks_for_a_reset() -> None:
    for call in (lambda env: env.step(0), lambda env: env.render()):
        with pytest.raises(gym.error.ResetNeeded):
            call(RubiksCubeEnv(render_mode="ansi"))


def test_picture_shows_the_colours_of_the_faces() -> None:
    env = RubiksCubeEnv(render_mode="rgb_array")
    env.reset(options={"moves": "R"})
    picture = env.render()
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    # The middle of the front, and the sticker right of it, which came from below.
    front, beside = picture[175, 172].tolist(), picture[175, 206].tolist()
    assert np.argmax(front) == 1, "green"
    assert front != beside and min(beside[:2]) > 150 > beside[2], "yellow"
    assert COLOURS[2] == "green"
    with pytest.warns(UserWarning, match="render_mode"):
        assert RubiksCubeEnv().render() is None
    with pytest.raises(ValueError, match="human"):
        RubiksCubeEnv(render_mode="human")


def test_sb3_learns_one_turn() -> None:
    model = PPO("MlpPolicy", gym.make(ID, scramble_depth=1), n_steps=64, batch_size=32, seed=0, device="cpu").learn(128)
    action, _ = model.predict(gym.make(ID).reset(seed=0)[0])
    assert 0 <= int(action) < 18


@pytest.mark.parametrize("options", [{"moves": "R R'"}, {"stickers": np.arange(6).repeat(9)}], ids=["moves", "stickers"])
def test_a_solved_cube_is_nothing_to_solve(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"option {next(iter(options))} gives a solved cube"):
        gym.make(ID).reset(options=options)
