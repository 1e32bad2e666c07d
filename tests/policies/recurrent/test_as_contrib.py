"""The methods of sb3-contrib's recurrent policies, beside them."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy as Contrib
from sb3_contrib.common.recurrent.type_aliases import RNNStates

from rlspo.policies.recurrent import RecurrentActorCriticPolicy

SEQUENCES, LENGTH, WIDTH = 3, 5, 8
VARIANTS: dict[str, Any] = {
    "separate": {},
    "shared": {"shared_lstm": True, "enable_critic_lstm": False},
    "actor": {"enable_critic_lstm": False},
    "two layers": {"n_lstm_layers": 2},
}


@pytest.fixture(params=list(VARIANTS))
def both(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    spaces = gym.spaces.Box(-1, 1, (2,), np.float32), gym.spaces.Discrete(3)
    kind = {"lstm_hidden_size": WIDTH, "net_arch": [16], **VARIANTS[request.param]}
    torch.manual_seed(0)
    mine = RecurrentActorCriticPolicy(*spaces, lambda _: 1e-3, **kind)
    torch.manual_seed(0)
    return mine, Contrib(*spaces, lambda _: 1e-3, **kind)


@pytest.fixture
def rows(both: tuple[Any, Any]) -> tuple[Any, ...]:
    torch.manual_seed(1)
    shape = both[1].lstm_actor.num_layers, SEQUENCES, WIDTH
    states = RNNStates(*((torch.randn(shape), torch.randn(shape)) for _ in range(2)))
    starts = (torch.rand(SEQUENCES * LENGTH) > 0.7).float()
    return torch.randn(SEQUENCES * LENGTH, 2), torch.randint(3, (SEQUENCES * LENGTH,)), states, starts


def test_begin_with_the_same_weights_from_one_seed(both: tuple[Any, Any]) -> None:
    mine, theirs = (policy.state_dict() for policy in both)
    assert [*mine] == [*theirs]
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_evaluate_actions_of_sequences(both: tuple[Any, Any], rows: tuple[Any, ...]) -> None:
    observations, actions, states, starts = rows
    found, expected = (policy.evaluate_actions(observations, actions, states, starts) for policy in both)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_forward_step_by_step(both: tuple[Any, Any], rows: tuple[Any, ...]) -> None:
    observations, _, states, starts = rows
    all_states = [states, states]
    for step in range(LENGTH):
        seen, begins = observations[step::LENGTH], starts[step::LENGTH]
        results = [policy(seen, before, begins, deterministic=True) for policy, before in zip(both, all_states, strict=True)]
        for one, other in zip(*(result[:3] for result in results), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        all_states = [result[3] for result in results]
    for one, other in zip(all_states[0].pi, all_states[1].pi, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_values_and_distribution(both: tuple[Any, Any], rows: tuple[Any, ...]) -> None:
    observations, actions, states, starts = rows
    seen, begins = observations[:SEQUENCES], starts[:SEQUENCES]
    of_critic = states.pi if both[0].shared_lstm else states.vf
    found, expected = (policy.predict_values(seen, of_critic, begins) for policy in both)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    (mine, after), (theirs, their_after) = (policy.get_distribution(seen, states.pi, begins) for policy in both)
    taken = actions[:SEQUENCES]
    torch.testing.assert_close(mine.log_prob(taken), theirs.log_prob(taken), rtol=1e-4, atol=1e-5)
    for one, other in zip(after, their_after, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_state_of_another_shape_is_refused(both: tuple[Any, Any]) -> None:
    mine, _ = both
    with pytest.raises(ValueError, match="state is of"):
        mine.predict(np.zeros((2, 2), np.float32), (np.zeros((1, 2, 5), np.float32),) * 2)
    layers = mine.n_lstm_layers
    with pytest.raises(ValueError, match="of 3 environments, the observations are of 2"):
        mine.predict(np.zeros((2, 2), np.float32), (np.zeros((layers, 3, WIDTH), np.float32),) * 2)
