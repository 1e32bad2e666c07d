"""Exact dynamic programming agrees with enumeration, with hand calculation and with simulation."""

from itertools import product

import numpy as np
import pytest

from rlspo.envs.tabular import TabularModel

GAMMA = 0.9


def chain(**changed: object) -> TabularModel:
    """Three states in a row, 0 to the left and 1 to the right; the decision is a place, chance pushes back or ends it."""
    arrays = {
        "post": [[0, 1], [0, 2], [1, 2]],
        "decision_reward": [[0.0, -0.3], [0.1, -0.4], [0.0, 0.0]],
        "transition": [[1.0, 0.0, 0.0], [0.3, 0.7, 0.0], [0.0, 0.5, 0.3]],
        "chance_reward": [0.05, 0.0, 1.0],
        "start": [0.5, 0.5, 0.0],
    }
    return TabularModel(**{**arrays, **changed})  # type: ignore[arg-type]


def some_policy() -> np.ndarray:
    return np.array([[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]])


def test_the_optimum_is_the_best_of_all_deterministic_policies() -> None:
    model = chain()
    every = [model.evaluate(model.deterministic(actions), GAMMA) for actions in product(range(2), repeat=3)]
    best = model.solve(GAMMA)
    assert np.allclose(best.v, np.max([values.v for values in every], axis=0))
    assert np.allclose(best.v_post, np.max([values.v_post for values in every], axis=0))
    assert np.allclose(model.evaluate(best.policy, GAMMA).v, best.v)
    # The chain is no test if the first policy that is tried were the best.
    assert len({tuple(values.v.round(6)) for values in every}) == 8
    assert best.policy[:, 1].any()


def test_values_satisfy_both_halves_of_the_recursion() -> None:
    model, policy = chain(), some_policy()
    values = model.evaluate(policy, GAMMA)
    assert np.allclose(values.v, (policy * (model.decision_reward + values.v_post[model.post])).sum(axis=1))
    assert np.allclose(values.v_post, model.chance_reward + GAMMA * model.transition @ values.v)


def test_values_by_hand_where_each_step_may_be_the_last() -> None:
    """One state, paid 1 with the decision and 2 by chance, which goes on half of the time."""
    model = TabularModel(post=[[0]], decision_reward=[[1]], transition=[[0.5]], chance_reward=[2], start=[1])  # type: ignore[arg-type]
    values = model.solve(0.8)
    assert values.v == pytest.approx([3 / (1 - 0.8 * 0.5)])
    assert values.v_post == pytest.approx(values.v - 1)


def test_of_equally_good_actions_the_first_is_taken() -> None:
    model = chain(post=[[1, 1], [1, 1], [2, 2]], decision_reward=np.zeros((3, 2)))
    assert model.solve(GAMMA).policy.argmax(axis=1).tolist() == [0, 0, 0]


def test_expected_return_agrees_with_simulation_and_with_the_limit() -> None:
    model, policy, steps, copies = chain(), some_policy(), 8, 40_000
    generator = np.random.default_rng(0)

    def draw(rows: np.ndarray) -> np.ndarray:
        return (generator.random((len(rows), 1)) > rows.cumsum(axis=1)).sum(axis=1)

    state, alive, total = draw(np.tile(model.start, (copies, 1))), np.ones(copies, bool), np.zeros(copies)
    for step in range(steps):
        action = draw(policy[state])
        post = model.post[state, action]
        total += alive * GAMMA**step * (model.decision_reward[state, action] + model.chance_reward[post])
        state = draw(model.transition[post])
        alive &= state < model.n_states
        state = np.minimum(state, model.n_states - 1)
    exact = model.expected_return(policy, GAMMA, steps)
    assert abs(total.mean() - exact) < 4 * total.std() / np.sqrt(copies)
    assert model.expected_return(policy, GAMMA, 500) == pytest.approx(model.expected_return(policy, GAMMA))
    assert abs(exact - model.expected_return(policy, GAMMA)) > 0.1


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"post": [[0, 1], [0, 3], [1, 2]]}, "post must hold numbers from 0 to 2"),
        ({"post": [[0, 0.5], [0, 2], [1, 2]]}, "post must hold whole numbers"),
        ({"post": [0, 1, 2]}, "post has the shape"),
        ({"decision_reward": [[0, 1]]}, "decision_reward has the shape"),
        ({"decision_reward": [[0, 1], [0, 1], [0, np.inf]]}, "decision_reward must hold finite"),
        ({"transition": np.eye(2)}, "transition has the shape"),
        ({"transition": np.eye(3) * 1.1}, "transition must hold probabilities"),
        ({"transition": [[1, -0.1, 0], [0, 1, 0], [0, 0, 1]]}, "transition must hold probabilities"),
        ({"start": [0.5, 0.4, 0.0]}, "start must hold probabilities"),
    ],
)
def test_what_is_no_model_is_rejected(changed: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        chain(**changed)


def test_what_is_no_policy_and_no_discount_is_rejected() -> None:
    model = chain()
    with pytest.raises(ValueError, match="policy has the shape"):
        model.evaluate(np.ones(3), GAMMA)
    with pytest.raises(ValueError, match="policy must hold probabilities"):
        model.expected_return(np.ones((3, 2)), GAMMA, 5)
    with pytest.raises(ValueError, match="gamma is 1"):
        model.solve(1.0)


def test_a_model_cannot_be_changed() -> None:
    given = np.array([0.5, 0.5, 0.0])
    model = chain(start=given)
    given[:] = 0
    assert model.start.sum() == 1
    with pytest.raises(ValueError, match="read-only"):
        model.start[0] = 1
