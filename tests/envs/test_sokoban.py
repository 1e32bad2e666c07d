"""Sokoban: generated levels have solutions, optimal lengths counted by hand, and rules against a plain reference."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import rlspo  # noqa: F401
from rlspo.envs.sokoban import SokobanEnv, SokobanVectorEnv, level_text, parse_level, random_level, solve
from rlspo.envs.sokoban.generate import most_boxes

ID = "rlspo/Sokoban-v0"
UP, DOWN, LEFT, RIGHT = range(4)
ROOM = ["#####", "#@  #", "# $ #", "#  .#", "#####"]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("checks", [check_env, sb3_check_env])
@pytest.mark.parametrize("unwrap", [True, False])
def test_it_is_an_environment_for_gymnasium_and_sb3(checks: Any, unwrap: bool) -> None:
    env = gym.make(ID, render_mode="rgb_array")
    checks(env.unwrapped if unwrap else env)


@pytest.mark.parametrize(
    ("level", "actions"),
    [
        (["#####", "#@$.#", "#####"], [RIGHT]),
        (["#######", "#@ $ .#", "#######"], [RIGHT, RIGHT, RIGHT]),
        # A push down, then around the box, and a push to the right.
        (ROOM, [RIGHT, DOWN, LEFT, DOWN, RIGHT]),
        # The box has to come out to the left, so the player walks around it.
        (["#######", "#     #", "#. $@ #", "#     #", "#######"], [LEFT, LEFT]),
        (["#######", "#     #", "#.@$  #", "#     #", "#######"], [UP, RIGHT, RIGHT, DOWN, LEFT, LEFT]),
        # Two boxes in a row cannot be pushed together; one of them has to go first.
        (["######", "#@$ .#", "# $ .#", "######"], [RIGHT, RIGHT, LEFT, LEFT, DOWN, RIGHT, RIGHT]),
    ],
)
def test_solutions_known_by_hand(level: list[str], actions: list[int]) -> None:
    found = solve(level)
    assert found is not None
    assert len(found) == len(actions)
    for way in (found, actions):
        assert [over for _, over in played(level, way)] == [False] * (len(actions) - 1) + [True]


def played(level: Any, actions: list[int]) -> list[tuple[float, bool]]:
    planes = parse_level(level) if not isinstance(level, np.ndarray) else level
    env = SokobanEnv(size=[max(n, 5) for n in planes.shape[1:]], n_boxes=1)
    env.reset(seed=0, options={"level": level_text(planes)})
    return [env.step(action)[1:3] for action in actions]


def brute_force(level: list[str]) -> int | None:
    """Length of a shortest solution by moving sets of coordinates about, with none of the solver's ideas."""
    cells = {(i, j): c for i, row in enumerate(level) for j, c in enumerate(row)}
    walls = {place for place, c in cells.items() if c == "#"}
    targets = {place for place, c in cells.items() if c in ".*+"}
    boxes = frozenset(place for place, c in cells.items() if c in "$*")
    player = next(place for place, c in cells.items() if c in "@+")
    seen, layer, length = {(player, boxes)}, [(player, boxes)], 0
    while layer:
        following = []
        for (i, j), crates in layer:
            if crates == targets:
                return length
            for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
                to, beyond = (i + down, j + right), (i + 2 * down, j + 2 * right)
                if to in walls or (to in crates and (beyond in walls or beyond in crates)):
                    continue
                moved = frozenset(crates - {to} | {beyond}) if to in crates else crates
                if (to, moved) not in seen:
                    seen.add((to, moved))
                    following.append((to, moved))
        layer, length = following, length + 1
    return None


@pytest.mark.parametrize(("size", "n_boxes"), [((5, 5), 1), ((5, 5), 2), ((5, 8), 2), ((7, 7), 2), ((6, 6), 3), ((8, 8), 3)])
def test_generated_levels_can_be_solved_and_are_not(size: tuple[int, int], n_boxes: int) -> None:
    lengths = []
    for seed in range(12):
        planes = random_level(np.random.default_rng(seed), *size, n_boxes)
        assert planes.shape == (4, *size) and planes.dtype == np.uint8
        walls, targets, boxes, player = planes
        assert boxes.sum() == targets.sum() == n_boxes and player.sum() == 1
        assert not (boxes & targets).any() and not (walls & (targets | boxes | player)).any() and not (boxes & player).any()
        assert walls[[0, -1]].all() and walls[:, [0, -1]].all()
        actions = solve(planes)
        assert actions
        lengths.append(len(actions))
        *before, last = played(planes, actions)
        assert not any(over for _, over in before) and last[1]
    assert len(set(lengths)) > 2


def test_the_solver_finds_shortest_solutions() -> None:
    for seed in range(25):
        planes = random_level(np.random.default_rng(seed), 6, 6, 1 + seed % 2)
        assert len(solve(planes) or []) == brute_force(level_text(planes).splitlines())
    assert len(solve(ROOM) or []) == brute_force(ROOM) == 5


@pytest.mark.parametrize(
    "level",
    [
        ["#####", "#@ .#", "#   #", "# $ #", "#####"],  # the box is at the lower wall, the target is not
        ["#####", "#@ $#", "#. .#", "#$  #", "#####"],  # both in corners
        ["#######", "#@ #$ #", "#  #  #", "#. #  #", "#######"],  # no way there
        ["######", "#@   #", "# $$ #", "# $$ #", "#....#", "######"],  # a square of boxes, seen by search alone
    ],
)
def test_levels_without_a_solution_are_recognised(level: list[str]) -> None:
    assert brute_force(level) is None
    assert solve(level) is None


def test_the_solver_says_when_it_gives_up() -> None:
    with pytest.raises(RuntimeError, match="max_states=5"):
        solve(random_level(np.random.default_rng(0), 8, 8, 3), max_states=5)


def test_a_solved_level_needs_no_action() -> None:
    planes = parse_level(["#####", "#@$.#", "#####"])
    planes[2] = planes[1]
    assert solve(planes) == []


def test_rules_equal_a_plain_reference_over_random_play() -> None:
    """Coordinates in sets, step by step, with rewards counted from scratch."""
    generator = np.random.default_rng(0)
    env = SokobanEnv(6, 2)
    for seed in range(40):
        seen, _ = env.reset(seed=seed)
        walls, targets, boxes = ({*zip(*np.nonzero(plane), strict=True)} for plane in seen[:3])
        ((i, j),) = zip(*np.nonzero(seen[3]), strict=True)
        for action in generator.integers(4, size=60):
            down, right = [(-1, 0), (1, 0), (0, -1), (0, 1)][action]
            to, beyond = (i + down, j + right), (i + 2 * down, j + 2 * right)
            on = len(boxes & targets)
            if to not in walls and (to not in boxes or beyond not in walls | boxes):
                if to in boxes:
                    boxes = boxes - {to} | {beyond}
                i, j = to
            solved = boxes == targets
            expected = -0.1 + len(boxes & targets) - on + 10 * solved
            seen, reward, terminated, truncated, info = env.step(int(action))
            assert seen in env.observation_space
            assert {*zip(*np.nonzero(seen[0]), strict=True)} == walls
            assert {*zip(*np.nonzero(seen[1]), strict=True)} == targets
            assert {*zip(*np.nonzero(seen[2]), strict=True)} == boxes
            assert [*zip(*np.nonzero(seen[3]), strict=True)] == [(i, j)]
            assert reward == pytest.approx(expected, abs=1e-12)
            assert (terminated, truncated, info) == (solved, False, {"is_success": solved})
            if terminated:
                break


def test_rewards_are_the_fields() -> None:
    level = ["#########", "#@$.  $.#", "#########"]
    assert played(level, [LEFT, RIGHT, RIGHT, RIGHT]) == [(-0.1, False), (0.9, False), (-1.1, False), (-0.1, False)]
    assert played(["#####", "#@$.#", "#####"], [RIGHT]) == [(10.9, True)]


def test_levels_differ_by_seed_and_come_again_by_it() -> None:
    env = gym.make(ID)
    first, _ = env.reset(seed=1)
    second, _ = env.reset()
    assert first.shape == (4, 7, 7)
    np.testing.assert_array_equal(env.reset(seed=1)[0], first)
    np.testing.assert_array_equal(env.reset()[0], second)
    assert len({env.reset(seed=seed)[0].tobytes() for seed in range(30)}) == 30


def test_fixed_levels_are_drawn_and_filled_up_with_walls() -> None:
    levels = ["#####\n#@$.#\n#####", "######\n#.  *#\n#@ $ #\n######\n"]
    env = SokobanEnv(levels=levels, render_mode="ansi")
    assert env.observation_space.shape == (4, 4, 6)
    texts = set()
    for seed in range(20):
        env.reset(seed=seed)
        texts.add(env.render())
    assert texts == {"######\n#@$.##\n######\n######\n", "######\n#.  *#\n#@ $ #\n######\n"}


def test_text_and_planes_are_one_another() -> None:
    rows = ["########", "#+ $ * #", "# .$-_ #", "########"]
    planes = parse_level(rows)
    assert level_text(planes) == "\n".join(rows).replace("-", " ").replace("_", " ") + "\n"
    np.testing.assert_array_equal(parse_level("\n" + "\n".join(rows) + "\n\n"), planes)
    for seed in range(10):
        planes = random_level(np.random.default_rng(seed), 7, 9, 3)
        np.testing.assert_array_equal(parse_level(level_text(planes)), planes)


@pytest.mark.parametrize(
    ("level", "says"),
    [
        (["#####", "#@$?#", "#####"], r"characters \['\?'\]"),
        (["#####", "# $.#", "#####"], "0 players"),
        (["######", "#@@$.#", "######"], "2 players"),
        (["######", "#@$$.#", "######"], "2 boxes and 1 targets"),
        (["#####", "#@  #", "#####"], "at least one"),
        (["#####", "#@* #", "#####"], "already"),
        (["#####", "#@$.", "#####"], "gap"),
        (["## ##", "#@$.#", "#####"], "gap"),
        (["########", "#@$.   #", "########"], "room for 7 and 7"),
        ([], "empty"),
        ([1, 2], "list of rows"),
    ],
)
def test_rejects_what_is_no_level(level: list[Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        SokobanEnv().reset(options={"level": level})


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"size": 4}, "size"),
        ({"size": (5, 4)}, "columns of size"),
        ({"size": (5, 5, 5)}, "rows and columns"),
        ({"size": "7"}, "size"),
        ({"n_boxes": 0}, "n_boxes"),
        ({"n_boxes": 7}, "from 1 to 6"),
        ({"levels": []}, "with one at least"),
        ({"levels": "#####\n#@$.#\n#####"}, "a list of levels"),
        ({"render_mode": "human"}, "render_mode"),
    ],
)
def test_rejects_arguments_out_of_range(kwargs: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        SokobanEnv(**kwargs)


def test_as_many_boxes_as_are_allowed_can_be_placed() -> None:
    for size in ((5, 5), (5, 7), (7, 7)):
        assert random_level(np.random.default_rng(0), *size, most_boxes(*size))[2].sum() == most_boxes(*size)
    for rows, columns, n_boxes in ((4, 5, 1), (5, 4, 1), (5, 5, 3)):
        with pytest.raises(ValueError, match="it must be"):
            random_level(np.random.default_rng(0), rows, columns, n_boxes)


@pytest.mark.parametrize("action", [4, -1, 1.5, [3], None])
def test_rejects_actions_that_are_none(action: Any) -> None:
    env = SokobanEnv()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="from 0 to 3: up, down, left, right"):
        env.step(action)


def test_rejects_other_options_and_asks_for_a_reset() -> None:
    with pytest.raises(ValueError, match="no option depth"):
        SokobanEnv().reset(options={"depth": 3})
    with pytest.raises(gym.error.ResetNeeded):
        SokobanEnv().step(0)


def test_registration_cuts_episodes_off_at_120_steps() -> None:
    env = gym.make(ID)
    env.reset(seed=0, options={"level": ROOM})
    assert [env.step(UP)[2:4] for _ in range(120)] == [(False, False)] * 119 + [(False, True)]
    assert SokobanVectorEnv(2).max_episode_steps == 120


def test_picture_shows_a_step() -> None:
    env = SokobanEnv(render_mode="rgb_array")
    env.reset(options={"level": ROOM})
    before = env.render()
    assert before.dtype == np.uint8 and before.shape == (450, 420, 3)
    env.step(RIGHT)
    changed = (env.render() != before).any(axis=2)
    rows, columns = np.nonzero(changed)
    # Only the two cells, of 60 pixels each, that the player left and came to.
    assert rows.min() >= 60 and rows.max() < 120 and columns.min() >= 60 and columns.max() < 180


def test_sb3_learns_on_it() -> None:
    model = PPO("MlpPolicy", gym.make(ID, size=5, n_boxes=1), n_steps=64, batch_size=32, seed=0, device="cpu").learn(128)
    action, _ = model.predict(gym.make(ID, size=5, n_boxes=1).reset(seed=0)[0])
    assert 0 <= int(action) < 4
