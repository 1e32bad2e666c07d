"""The queue does what its exact model says, and its best policy keeps room for those who pay more."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import rlspo  # noqa: F401
from rlspo.envs.admission_control import ACCEPT, REJECT, AdmissionControlEnv
from rlspo.envs.tabular import TabularModel

ID = "rlspo/AdmissionControl-v0"
GAMMA = 0.99


def always(model: TabularModel, action: int) -> np.ndarray:
    return model.deterministic(np.full(model.n_states, action))


def acceptance(env: AdmissionControlEnv, gamma: float = GAMMA) -> np.ndarray:
    """Whether the best policy accepts, ``(capacity + 1, n_classes)``."""
    actions = env.model().solve(gamma).policy.argmax(axis=1)
    return actions.reshape(env.capacity + 1, env.n_classes + 1)[:, 1:]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("checks", [check_env, sb3_check_env])
@pytest.mark.parametrize("unwrap", [True, False])
def test_it_is_an_environment_for_gymnasium_and_sb3(checks: Any, unwrap: bool) -> None:
    env = gym.make(ID, render_mode="rgb_array")
    checks(env.unwrapped if unwrap else env)


def test_registration_cuts_episodes_off_at_200_steps() -> None:
    env = gym.make(ID)
    env.reset(seed=0)
    ends = [env.step(ACCEPT)[2:4] for _ in range(200)]
    assert ends == [(False, False)] * 199 + [(False, True)]


def test_steps_come_as_often_as_the_model_says() -> None:
    """Chi-square of the next state for each state and action, so also: chance depends on them only through x."""
    env = AdmissionControlEnv(capacity=3, servers=2, rewards=(1, 4), arrival_probabilities=(0.5, 0.2), service_probability=0.3)
    model = env.model()
    generator = np.random.default_rng(101)
    counts = np.zeros((model.n_states, 2, model.n_states))
    paid = np.zeros((model.n_states, 2))
    observation, _ = env.reset(seed=1)
    state = env.state_index(observation)
    for _ in range(40_000):
        action = int(generator.integers(2))
        observation, reward, _, _, info = env.step(action)
        after = env.state_index(observation)
        assert info["post_decision_obs"] == model.post[state, action]
        assert info["post_decision_reward"] == model.decision_reward[state, action]
        counts[state, action, after] += 1
        paid[state, action] += reward - info["post_decision_reward"]
        state = after
    tested = 0
    for state in range(model.n_states):
        for action in range(2):
            post, n = model.post[state, action], counts[state, action].sum()
            expected = n * model.transition[post]
            possible = expected > 0
            assert not counts[state, action][~possible].any()
            if expected[possible].min() < 5:
                continue
            free = possible.sum() - 1
            statistic = ((counts[state, action] - expected)[possible] ** 2 / expected[possible]).sum()
            assert statistic < free + 6 * np.sqrt(2 * free), (state, action)
            # The holding cost of a step varies by at most that of the servers' customers.
            assert abs(paid[state, action] / n - model.chance_reward[post]) < 4 * env.holding_cost * env.servers / np.sqrt(n)
            tested += 1
    assert tested >= 20


def test_the_two_rewards_are_what_is_paid_and_what_waiting_costs() -> None:
    env = AdmissionControlEnv(holding_cost=0.3)
    generator = np.random.default_rng(102)
    observation, _ = env.reset(seed=2)
    full = 0
    for _ in range(2000):
        number, door = observation.tolist()
        action = int(generator.random() < 0.9)
        foretold = env.post_decision(action)
        observation, reward, terminated, truncated, info = env.step(action)
        enters = action == ACCEPT and door > 0 and number < env.capacity
        full += action == ACCEPT and door > 0 and number == env.capacity
        assert info["accepted"] == enters
        assert (
            (info["post_decision_obs"], info["post_decision_reward"])
            == foretold
            == (number + enters, env.rewards[door] * enters)
        )
        assert info["post_decision_obs"] in env.post_decision_space
        assert observation[0] == number + enters - info["served"]
        assert info["holding_cost"] == pytest.approx(0.3 * observation[0])
        assert reward == info["post_decision_reward"] - info["holding_cost"]
        assert not terminated and not truncated
    assert full > 100  # accepting in a full system was tried


def test_asking_for_the_post_decision_state_changes_nothing() -> None:
    asked, plain = AdmissionControlEnv(), AdmissionControlEnv()
    state = np.random.get_state()
    actions = np.random.default_rng(3).integers(2, size=300).tolist()
    assert np.array_equal(asked.reset(seed=3)[0], plain.reset(seed=3)[0])
    for action in actions:
        for each in (REJECT, ACCEPT):
            asked.post_decision(each)
        assert asked.np_random.bit_generator.state == plain.np_random.bit_generator.state
        (seen, *rest), (expected, *others) = asked.step(action), plain.step(action)
        assert np.array_equal(seen, expected) and rest == others
    now = np.random.get_state()
    assert np.array_equal(now[1], state[1]) and now[2:] == state[2:]


def test_the_best_policy_has_a_threshold_for_each_class_in_the_order_of_what_they_pay() -> None:
    for rewards in ((1.0, 2.0, 5.0), (5.0, 1.0, 2.0)):
        env = AdmissionControlEnv(rewards=rewards)
        accepts = acceptance(env)
        assert (np.diff(accepts, axis=0) <= 0).all(), "a class that is turned away is turned away from fuller systems too"
        thresholds = accepts.sum(axis=0)
        assert (np.diff(thresholds[np.argsort(rewards)]) >= 0).all()
        assert 0 < thresholds.min() < np.median(thresholds) < thresholds.max() == env.capacity


def test_trunk_reservation_without_a_queue() -> None:
    """Miller's setting: as many servers as places and no holding cost. Room is kept for those who pay most."""
    env = AdmissionControlEnv(
        capacity=6, servers=6, rewards=(1, 3, 8), arrival_probabilities=(0.4, 0.3, 0.2), holding_cost=0.0
    )
    accepts = acceptance(env)
    assert (np.diff(accepts, axis=0) <= 0).all()
    assert (np.diff(accepts.sum(axis=0)) >= 0).all()
    assert accepts[:-1, -1].all()
    assert accepts[:, 0].sum() < 6


def test_a_more_expensive_wait_lowers_the_thresholds() -> None:
    thresholds = [acceptance(AdmissionControlEnv(holding_cost=cost)).sum(axis=0) for cost in (0.0, 0.05, 0.2)]
    assert (np.diff(thresholds, axis=0) <= 0).all()
    assert (thresholds[-1] < thresholds[0]).all()


def test_the_best_policy_clearly_beats_those_that_do_not_look() -> None:
    env = AdmissionControlEnv()
    model = env.model()
    best = model.expected_return(model.solve(GAMMA).policy, GAMMA)
    by_class = [
        model.expected_return(model.deterministic(np.tile([0, *(np.arange(3) >= lowest)], env.capacity + 1)), GAMMA)
        for lowest in range(3)
    ]
    assert by_class[0] == pytest.approx(model.expected_return(always(model, ACCEPT), GAMMA))
    assert best > 1.4 * by_class[0]
    assert best > 1.04 * max(by_class)
    assert model.expected_return(always(model, REJECT), GAMMA) == pytest.approx(0.0)


def test_where_everybody_is_served_at_once_everybody_is_accepted() -> None:
    """With a server for everyone and sure service the system is empty at each decision: values have a closed form."""
    env = AdmissionControlEnv(capacity=4, servers=4, service_probability=1.0, holding_cost=1.0)
    values = env.model().solve(GAMMA)
    mean = float(env.arrivals @ env.rewards)
    assert values.v_post == pytest.approx(np.full(5, GAMMA * mean / (1 - GAMMA)))
    empty = values.v[: env.n_classes + 1]
    assert empty == pytest.approx(env.rewards + GAMMA * mean / (1 - GAMMA))
    assert acceptance(env)[0].all()


def test_the_model_predicts_the_return_of_episodes() -> None:
    env, episodes, steps = AdmissionControlEnv(), 200, 100
    model = env.model()
    policy = 0.9 * model.solve(GAMMA).policy + 0.05
    # Not the environment's seed, which would draw the same numbers for decisions and for chance.
    generator = np.random.default_rng(104)
    returns = np.zeros(episodes)
    env.reset(seed=4)
    for episode in range(episodes):
        observation, _ = env.reset()
        for step in range(steps):
            action = int(generator.random() < policy[env.state_index(observation), ACCEPT])
            observation, reward, *_ = env.step(action)
            returns[episode] += GAMMA**step * reward
    error = returns.std() / np.sqrt(episodes)
    assert abs(returns.mean() - model.expected_return(policy, GAMMA, steps)) < 4 * error
    # Not by chance: always accepting is worth something else.
    assert abs(returns.mean() - model.expected_return(always(model, ACCEPT), GAMMA, steps)) > 10 * error


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"capacity": 0}, "capacity is 0"),
        ({"servers": 11}, "servers is 11; it must be a whole number from 1 to 10"),
        ({"rewards": (1.0, 2.0)}, "2 rewards and 3 arrival_probabilities"),
        ({"rewards": (), "arrival_probabilities": ()}, "at least one class"),
        ({"rewards": (1.0, 2.0, np.nan)}, "an entry of rewards is nan"),
        ({"arrival_probabilities": (0.5, 0.4, 0.2)}, "1.1 together"),
        ({"arrival_probabilities": (0.5, -0.4, 0.2)}, "an entry of arrival_probabilities is -0.4"),
        ({"rewards": 5.0}, "rewards is 5.0; it must be a list"),
        ({"service_probability": 0.0}, "nobody would ever leave"),
        ({"service_probability": 1.2}, "service_probability is 1.2"),
        ({"holding_cost": -1.0}, "holding_cost is -1.0; it must be a finite number, at least 0"),
    ],
)
def test_what_is_no_queue_is_rejected(options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        AdmissionControlEnv(**options)


@pytest.mark.parametrize("action", [2, -1, 0.5, [0, 1]])
def test_what_is_no_action_is_rejected(action: Any) -> None:
    env = AdmissionControlEnv()
    env.reset(seed=0)
    for call in (env.step, env.post_decision):
        with pytest.raises(ValueError, match="0 to 1: 0 to reject, 1 to accept"):
            call(action)


def test_nothing_goes_before_reset() -> None:
    env = AdmissionControlEnv(render_mode="rgb_array")
    for call in (lambda: env.step(0), lambda: env.post_decision(0), env.render):
        with pytest.raises(gym.error.ResetNeeded):
            call()


@pytest.mark.parametrize(("capacity", "servers"), [(10, 4), (3, 3), (40, 20)])
def test_a_picture_shows_each_step(capacity: int, servers: int) -> None:
    env = AdmissionControlEnv(capacity, servers, render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    assert before.dtype == np.uint8 and before.shape[2] == 3
    for _ in range(3):
        env.step(ACCEPT)
        after = env.render()
        assert after.shape == before.shape and (after != before).any()
        before = after
