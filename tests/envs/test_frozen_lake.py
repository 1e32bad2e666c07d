"""The lake does what its exact model says, shows its post-decision state, and has the values known by hand."""

from collections import Counter
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import rlspo  # noqa: F401
from rlspo.envs.frozen_lake import FrozenLakePostDecisionEnv

ID = "rlspo/FrozenLakePostDecision-v0"
LEFT, DOWN, RIGHT, UP = range(4)
SMALL = ["SFFF", "FHFF", "FFFH", "FFFG"]


def lake(**options: Any) -> FrozenLakePostDecisionEnv:
    return FrozenLakePostDecisionEnv(**{"desc": SMALL, **options})


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("checks", [check_env, sb3_check_env])
@pytest.mark.parametrize("unwrap", [True, False])
def test_it_is_an_environment_for_gymnasium_and_sb3(checks: Any, unwrap: bool) -> None:
    env = gym.make(ID, render_mode="rgb_array")
    checks(env.unwrapped if unwrap else env)


def test_registration_cuts_episodes_off_at_100_steps() -> None:
    env = gym.make(ID, slip_probability=0.0)
    env.reset(seed=0)
    ends = [env.step(UP)[2:4] for _ in range(100)]
    assert ends == [(False, False)] * 99 + [(False, True)]


def test_steps_come_as_often_as_the_transitions_say() -> None:
    """Chi-square of outcomes for each state and action, so also: chance depends on them only through the intended cell."""
    env = lake()
    generator = np.random.default_rng(101)
    cell, _ = env.reset(seed=1)
    seen: dict[tuple[int, int], Counter] = {}
    for _ in range(40_000):
        action = int(generator.integers(4))
        after, reward, terminated, _, info = env.step(action)
        outcome = (after, round(reward - info["post_decision_reward"], 9), terminated)
        seen.setdefault((cell, action), Counter())[outcome] += 1
        cell = env.reset()[0] if terminated else after
    tested = 0
    for (cell, action), counts in seen.items():
        expected = Counter()
        for probability, after, earned, terminated in env.transitions(cell, action)[2]:
            expected[after, round(earned, 9), terminated] += probability
        assert sum(expected.values()) == pytest.approx(1.0)
        assert set(counts) <= set(expected)
        n, free = counts.total(), len(expected) - 1
        if n * min(expected.values()) < 5 or free == 0:
            continue
        statistic = sum((counts[outcome] - n * p) ** 2 / (n * p) for outcome, p in expected.items())
        assert statistic < free + 6 * np.sqrt(2 * free), (cell, action)
        tested += 1
    assert tested > 30


def test_the_model_is_the_transitions_as_arrays() -> None:
    env = lake()
    model = env.model()
    for cell in range(model.n_states):
        for action in range(4):
            post, decided, outcomes = env.transitions(cell, action)
            goes_on, earned = np.zeros(model.n_states), 0.0
            for probability, after, by_chance, terminated in outcomes:
                earned += probability * by_chance
                goes_on[after] += probability * (not terminated)
            assert (model.post[cell, action], model.decision_reward[cell, action]) == (post, decided)
            assert model.chance_reward[post] == pytest.approx(earned)
            assert model.transition[post] == pytest.approx(goes_on)


def test_the_two_rewards_are_those_of_the_two_moves() -> None:
    env = lake()
    generator = np.random.default_rng(102)
    cell, _ = env.reset(seed=2)
    for _ in range(2000):
        action = int(generator.integers(4))
        intended, decided, outcomes = env.transitions(cell, action)
        foretold = env.post_decision(action)
        after, reward, terminated, truncated, info = env.step(action)
        assert (info["post_decision_obs"], info["post_decision_reward"]) == (intended, decided) == foretold
        assert info["post_decision_obs"] in env.post_decision_space
        possible = [decided + earned for _, where, earned, over in outcomes if (where, over) == (after, terminated)]
        assert min(abs(reward - total) for total in possible) == 0.0
        assert not truncated
        cell = env.reset()[0] if terminated else after


def test_rewards_by_hand() -> None:
    env = lake(slip_probability=0.0)
    env.reset(seed=0)
    assert env.step(RIGHT)[1] == pytest.approx(1 / 6)
    after, reward, terminated, *_ = env.step(DOWN)  # into the hole: its penalty is 1 / (rows + columns)
    assert (after, terminated) == (5, False)
    assert reward == pytest.approx(1 / 5 - 1 / 8)
    assert env.post_decision(LEFT) == (16, 0.0)
    after, reward, terminated, _, info = env.step(LEFT)
    assert (after, reward, terminated) == (5, 0.0, True)
    assert info == {"post_decision_obs": 16, "post_decision_reward": 0.0}


def test_the_goal_terminates_before_any_slip() -> None:
    env = FrozenLakePostDecisionEnv(desc=["SG"], slip_probability=1.0)
    for seed in range(20):
        env.reset(seed=seed)
        assert env.step(RIGHT) == (1, 1.0, True, False, {"post_decision_obs": 1, "post_decision_reward": 1.0})


def test_asking_for_the_post_decision_state_changes_nothing() -> None:
    asked, plain = lake(), lake()
    state = np.random.get_state()
    actions = np.random.default_rng(3).integers(4, size=300).tolist()
    assert asked.reset(seed=3) == plain.reset(seed=3)
    for action in actions:
        for each in range(4):
            asked.post_decision(each)
        assert asked.np_random.bit_generator.state == plain.np_random.bit_generator.state
        step = plain.step(action)
        assert asked.step(action) == step
        if step[2]:
            assert asked.reset() == plain.reset()
    now = np.random.get_state()
    assert np.array_equal(now[1], state[1]) and now[2:] == state[2:]


def test_the_map_and_the_slips_have_seeds_of_their_own() -> None:
    first, again, other = (FrozenLakePostDecisionEnv(map_seed=seed).lake for seed in (5, 5, 6))
    assert first.desc == again.desc != other.desc
    assert np.array_equal(first.slip_directions, other.slip_directions)
    assert not np.array_equal(first.slip_directions, FrozenLakePostDecisionEnv(slip_seed=7).lake.slip_directions)
    assert np.allclose(first.slip_directions.sum(axis=1), 1.0)
    assert (first.start, first.goal) == (0, 99)
    frozen = [1 - FrozenLakePostDecisionEnv(map_seed=seed).lake.holes.mean() for seed in range(30)]
    assert 0.78 < np.mean(frozen) < 0.86  # start, goal and the way between them raise it a little


def test_values_by_hand_without_slips() -> None:
    """Start, ice, goal in a row: to stay on the ice forever pays 1/2 a step, the goal pays 1 once."""
    model = FrozenLakePostDecisionEnv(desc=["SFG"], slip_probability=0.0).model()
    patient, hasty = model.solve(0.9), model.solve(0.4)
    assert patient.v == pytest.approx([0.5 / 0.1, 0.5 / 0.1, 0.0])
    assert hasty.v == pytest.approx([0.5 + 0.4 * 1.0, 1.0, 0.0])
    # Without chance, the value after a decision is the discounted value of the state that it leads to.
    assert patient.v_post == pytest.approx([*(0.9 * patient.v), 0.0])


def test_values_by_hand_with_slips() -> None:
    """One tile of ice: stay and be paid 1/2, slide into the wall for another 1/2, or into the goal for 1 and the end."""
    env, gamma = FrozenLakePostDecisionEnv(desc=["SG"]), 0.95
    goes = 0.5 * env.lake.slip_directions[0, RIGHT]
    stays = (0.5 + goes * 1.0 + (0.5 - goes) * 0.5) / (1 - gamma * (1 - goes))
    assert env.model().solve(gamma).v == pytest.approx([max(1.0, stays), 0.0])


def test_the_model_predicts_the_return_of_episodes() -> None:
    env, episodes, steps, gamma = lake(), 1500, 30, 0.95
    model = env.model()
    best = model.solve(gamma).policy
    policy = 0.8 * best + 0.2 / 4
    # Not the environment's seed, which would draw the same numbers for decisions and for chance.
    generator = np.random.default_rng(104)
    returns = np.zeros(episodes)
    env.reset(seed=4)
    for episode in range(episodes):
        cell, _ = env.reset()
        for step in range(steps):
            cell, reward, terminated, *_ = env.step(int(generator.choice(4, p=policy[cell])))
            returns[episode] += gamma**step * reward
            if terminated:
                break
    exact = model.expected_return(policy, gamma, steps)
    assert abs(returns.mean() - exact) < 4 * returns.std() / np.sqrt(episodes)
    # Not by chance: another policy is worth something else.
    assert abs(exact - model.expected_return(np.full((16, 4), 0.25), gamma, steps)) > 10 * returns.std() / np.sqrt(episodes)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"desc": None, "size": 1}, "size is 1; it must be a whole number of at least 2"),
        ({"desc": None, "map_seed": -1}, "map_seed is -1"),
        ({"slip_probability": 1.5}, "slip_probability is 1.5; it must be a finite number, at least 0 and at most 1"),
        ({"slip_seed": 0.5}, "slip_seed is 0.5"),
        ({"desc": "SFG"}, "list of rows"),
        ({"desc": ["SF", "G"]}, "one length"),
        ({"desc": ["SF", "XG"]}, "letters S, F, H and G"),
        ({"desc": ["SF", "SG"]}, "one S and one G"),
        ({"desc": ["SH", "HG"]}, "no way over ice"),
    ],
)
def test_what_is_no_lake_is_rejected(options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        lake(**options)


@pytest.mark.parametrize("action", [4, -1, 0.5, [0, 1], "left"])
def test_what_is_no_action_is_rejected(action: Any) -> None:
    env = lake()
    env.reset(seed=0)
    for call in (env.step, env.post_decision):
        with pytest.raises(ValueError, match="0 to 3: left, down, right, up"):
            call(action)


def test_nothing_goes_before_reset() -> None:
    env = lake()
    for call in (env.step, env.post_decision):
        with pytest.raises(gym.error.ResetNeeded):
            call(0)


def test_text_shows_where_it_stands_and_where_it_meant_to() -> None:
    env = lake(render_mode="ansi", slip_probability=1.0, desc=["SFF", "FFF", "FFF", "HHG"])
    env.reset(seed=0)
    assert env.render() == "@FF\nFFF\nFFF\nHHG\nstep 0, return 0.00: at the start\n"
    while True:
        before = env.lake.start
        after, _, _, _, info = env.step(DOWN)
        if after not in (info["post_decision_obs"], before):
            break
        env.reset()
    text = env.render()
    assert "slid" in text
    tiles = text.replace("\n", "")
    assert (tiles.index("@"), tiles.index("x")) == (after, info["post_decision_obs"])


def test_a_picture_shows_the_slide() -> None:
    env = lake(render_mode="rgb_array", slip_probability=0.0)
    env.reset(seed=0)
    first = env.render()
    assert (first.shape, first.dtype) == ((480 + 52, 480, 3), np.uint8)
    env.step(RIGHT)
    tile = 120
    changed = (env.render() != first).any(axis=2)[:480].reshape(4, tile, 4, tile).any(axis=(1, 3))
    assert changed.tolist() == [[True, True, False, False]] + [[False] * 4] * 3
    tall = FrozenLakePostDecisionEnv(desc=["S", "F", "G"], render_mode="rgb_array")
    tall.reset(seed=0)
    assert tall.render().shape == (480 + 52, 320, 3)


def test_without_a_render_mode_there_is_a_warning() -> None:
    env = lake()
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode='rgb_array' or render_mode='ansi'"):
        assert env.render() is None
