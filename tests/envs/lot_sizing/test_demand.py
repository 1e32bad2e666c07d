"""Demand: each kind has the distribution that it is called by."""

import math
from typing import Any

import numpy as np
import pytest

from rlspo.envs.lot_sizing.demand import Demand

BINOMIAL = [math.comb(4, k) * 0.4**k * 0.6 ** (4 - k) for k in range(5)]


@pytest.mark.parametrize(
    ("description", "values", "probabilities"),
    [
        ({"name": "binomial", "n": 4, "p": 0.4}, range(5), BINOMIAL),
        ({"name": "binomial", "n": 3, "p": 1.0}, [3], [1.0]),
        ({"name": "binomial", "n": 3, "p": 0}, [0], [1.0]),
        ({"name": "discrete_uniform", "low": 2, "high": 6}, [2, 3, 4, 5], [0.25] * 4),
        ({"name": "uniform", "low": 0, "high": 2}, [0, 1], [0.5] * 2),
        ({"name": "pmf", "vals": [7, 0, 5], "probs": [0.1, 0.7, 0.2]}, [0, 5, 7], [0.7, 0.2, 0.1]),
        ({"name": "probability_mass_function", "vals": [1, 3], "probs": [0.5, 0.5]}, [1, 3], [0.5] * 2),
    ],
)
def test_draws_are_as_frequent_as_they_should_be(description: Any, values: Any, probabilities: Any) -> None:
    demand, draws = Demand(description, 2), 50_000
    sample = demand.sample(np.random.default_rng(0), draws)
    assert sample.shape == (draws, 2)
    assert demand.integer
    expected = np.array(probabilities)
    for item in range(2):
        frequency = np.array([(sample[:, item] == value).mean() for value in values])
        assert frequency.sum() == pytest.approx(1), "nothing else is drawn"
        assert (np.abs(frequency - expected) <= 5 * np.sqrt(expected * (1 - expected) / draws)).all()
    np.testing.assert_allclose(demand.mean, np.array(values) @ expected)
    for table_values, table in demand.tables:
        assert {v: p for v, p in zip(table_values.tolist(), table.tolist(), strict=True) if p > 0} == pytest.approx(
            dict(zip(values, probabilities, strict=True))
        )


@pytest.mark.parametrize(("mu", "sigma"), [(8, 2), (1, 5), (-1, 2), (3, 0), (-3, 0)])
def test_what_counts_as_zero_raises_the_mean_of_normal_demand(mu: float, sigma: float) -> None:
    demand = Demand({"name": "normal", "mu": mu, "sigma": sigma}, 1)
    sample = demand.sample(np.random.default_rng(0), 400_000)
    assert demand.mean[0] == pytest.approx(sample.mean(), abs=0.02)


def test_normal_demand_is_not_rounded_and_never_negative() -> None:
    sample = Demand({"name": "normal", "mu": 8, "sigma": 2}, 3).sample(np.random.default_rng(0), 100_000)
    assert sample.mean() == pytest.approx(8, abs=0.02)
    assert sample.std() == pytest.approx(2, abs=0.02)
    assert (sample % 1).any()
    around_zero = Demand({"name": "normal", "mu": 0, "sigma": 1}, 1).sample(np.random.default_rng(0), 100_000)
    assert around_zero.min() == 0
    assert (around_zero == 0).mean() == pytest.approx(0.5, abs=0.01)


def test_each_item_can_have_a_distribution_of_its_own() -> None:
    demand = Demand([{"name": "pmf", "vals": [9], "probs": [1.0]}, {"name": "binomial", "n": 4, "p": 0.4}], 2)
    sample = demand.sample(np.random.default_rng(0), 20_000)
    assert (sample[:, 0] == 9).all()
    assert sample[:, 1].mean() == pytest.approx(1.6, abs=0.04)
    assert sample[:, 1].var() == pytest.approx(0.96, abs=0.05)
    np.testing.assert_allclose(demand.mean, [9, 1.6])
    normal = Demand([{"name": "normal", "mu": 5, "sigma": 0}, {"name": "normal", "mu": 6, "sigma": 0}], 2)
    assert normal.sample(np.random.default_rng(0), 1).tolist() == [[5, 6]]


def test_items_and_periods_are_independent() -> None:
    sample = Demand({"name": "binomial", "n": 20, "p": 0.4}, 2).sample(np.random.default_rng(0), 20_000)
    assert abs(np.corrcoef(sample.T)[0, 1]) < 0.03
    assert abs(np.corrcoef(sample[:-1, 0], sample[1:, 0])[0, 1]) < 0.03


@pytest.mark.parametrize(
    ("description", "words"),
    [
        ({"name": "poisson", "mu": 3}, "must be one of binomial"),
        ({"n": 3}, "must be one of"),
        ({"name": "binomial", "n": 3}, "needs \\['n', 'p'\\]"),
        ({"name": "binomial", "n": "20", "p": 0.5}, "n of binomial demand is '20'; it must be a finite number"),
        ({"name": "binomial", "n": 0, "p": 0.5}, "n must be a whole number"),
        ({"name": "binomial", "n": 3, "p": 1.5}, "p in \\[0, 1\\]"),
        ({"name": "discrete_uniform", "low": 3, "high": 3}, "low < high"),
        ({"name": "discrete_uniform", "low": -1, "high": 3}, "0 <= low"),
        ({"name": "pmf", "vals": [1, 2], "probs": [0.5, 0.4]}, "sum to 1"),
        ({"name": "pmf", "vals": [1.5, 2], "probs": [0.5, 0.5]}, "whole"),
        ({"name": "pmf", "vals": [1, 2], "probs": [1.0]}, "one for each"),
        ({"name": "normal", "mu": 3, "sigma": -1}, "sigma"),
        ([{"name": "binomial", "n": 3, "p": 0.5}], "lists 1 distributions for 2 items"),
        ([{"name": "binomial", "n": 3, "p": 0.5}, {"name": "normal", "mu": 3, "sigma": 1}], "mixes normal"),
    ],
)
def test_what_is_wrong_with_a_description_is_said(description: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Demand(description, 2)
