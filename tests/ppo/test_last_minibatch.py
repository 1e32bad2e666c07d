"""A ``batch_size`` that does not divide the rollout trains as in SB3: the last minibatch of an epoch is smaller."""

from typing import Any

import numpy as np
import pytest

from rlspo import BARPO, PDPPO, PPO
from tests.ppo.test_parity_with_sb3 import assert_same_parameters, logged, pair
from tests.spaces import SpacesEnv

SMALL: dict[str, Any] = {"n_steps": 8, "n_epochs": 2, "seed": 1, "device": "cpu"}


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
@pytest.mark.parametrize("batch_size", [12, 31, 256])
def test_as_in_sb3(batch_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """12, 12 and 8 of 32 rows; 31 and a single one, whose advantage is not normalised; all at once."""
    reference, ours = pair("box", "box", batch_size=batch_size)
    orders = [np.random.default_rng(epoch).permutation(32) for epoch in range(3)]
    for model, name in ((reference, "permutation"), (ours, "minibatches")):
        left = iter(orders)
        if model is reference:
            monkeypatch.setattr(np.random, name, lambda n, left=left: next(left))
        else:
            order = ours.randomness.numpy
            monkeypatch.setattr(ours.randomness, "numpy", Ordered(left, order))
        model.train()
    assert_same_parameters(reference, ours)
    expected, got = logged(reference), logged(ours)
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name


class Ordered:
    """A generator whose permutations are given."""

    def __init__(self, orders: Any, generator: np.random.Generator) -> None:
        self.orders, self.generator = orders, generator

    def permutation(self, rows: np.ndarray) -> np.ndarray:
        return rows[next(self.orders)]


def test_sb3_warns_in_the_same_words() -> None:
    with pytest.warns(
        UserWarning, match="after every 0 untruncated mini-batches, there will be a truncated mini-batch of size 8"
    ):
        PPO("MlpPolicy", SpacesEnv(), **SMALL, batch_size=256)


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
@pytest.mark.parametrize("batch_size", [3, 256])
@pytest.mark.parametrize(
    ("agent", "policy", "env"),
    [
        (BARPO, "MlpPolicy", "CartPole-v1"),
        (PPO, "MoeMlpPolicy", "CartPole-v1"),
        (PDPPO, "MlpPolicy", "rlspo/FrozenLakePostDecision-v0"),
    ],
)
def test_relatives_learn_from_every_row(agent: type[PPO], policy: str, env: str, batch_size: int) -> None:
    model = agent(policy, env, **SMALL, batch_size=batch_size).learn(16)
    rows = np.concatenate([*model.minibatches()])
    assert sorted(rows) == [*range(8)]
    assert model.updates_per_rollout() == 2 * (3 if batch_size == 3 else 1)
    assert model.update.vector.steps.item() == 2 * model.updates_per_rollout()
