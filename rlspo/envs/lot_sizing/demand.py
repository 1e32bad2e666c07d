"""Demand: independent over items and periods, one distribution for all items or one each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rlspo.envs.arguments import number

Array = np.ndarray
#: Name of each distribution and its parameters; ``probability_mass_function`` is the published name of ``pmf``.
PARAMETERS = {
    "binomial": ("n", "p"),
    "discrete_uniform": ("low", "high"),
    "normal": ("mu", "sigma"),
    "pmf": ("vals", "probs"),
}
ALIASES = {"probability_mass_function": "pmf", "uniform": "discrete_uniform"}


def _binomial(n: float, p: float) -> tuple[Array, Array]:
    """Values 0 to n and their probabilities, in logarithms, which do not underflow."""
    if n % 1 or n < 1 or not 0 <= p <= 1:
        raise ValueError(f"binomial demand has n = {n} and p = {p}; n must be a whole number of at least 1, p in [0, 1].")
    values = np.arange(int(n) + 1)
    if p in (0, 1):
        return values, (values == n * p).astype(float)
    ways = np.array([math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in values])
    return values, np.exp(ways + values * math.log(p) + (n - values) * math.log1p(-p))


def _discrete_uniform(low: float, high: float) -> tuple[Array, Array]:
    if low % 1 or high % 1 or not 0 <= low < high:
        raise ValueError(
            f"discrete_uniform demand is [{low}, {high}); it must be whole numbers with 0 <= low < high (high is left out)."
        )
    values = np.arange(int(low), int(high))
    return values, np.full(len(values), 1 / len(values))


def _pmf(vals: Sequence[float], probs: Sequence[float]) -> tuple[Array, Array]:
    values, probabilities = np.asarray(vals), np.asarray(probs, float)
    if values.shape != probabilities.shape or values.ndim != 1 or not len(values):
        raise ValueError(f"pmf demand has {len(values)} vals and {len(probabilities)} probs; give one for each.")
    if (probabilities < 0).any() or abs(probabilities.sum() - 1) > 1e-6 or (values < 0).any() or (values % 1).any():
        raise ValueError("pmf demand needs vals that are whole and not negative, and probs that sum to 1.")
    order = np.argsort(values)
    return values[order].astype(int), probabilities[order] / probabilities.sum()


_TABLES: dict[str, Callable[..., tuple[Array, Array]]] = {
    "binomial": _binomial,
    "discrete_uniform": _discrete_uniform,
    "pmf": _pmf,
}


def _mean_above_zero(mu: Array, sigma: Array) -> Array:
    """E[max(X, 0)] of normal X: mu Phi(mu / sigma) + sigma phi(mu / sigma)."""
    z = mu / np.maximum(sigma, 1e-12)
    below = np.array([0.5 * (1.0 + math.erf(each / math.sqrt(2.0))) for each in z])
    return mu * below + sigma * np.exp(-0.5 * z**2) / math.sqrt(2.0 * math.pi)


class Demand:
    """The demand of one period, for each item.

    :param description: ``{"name": "binomial", "n": 20, "p": 0.4}``, ``{"name": "discrete_uniform", "low": 0, "high": 8}``
        (``high`` left out), ``{"name": "normal", "mu": 8, "sigma": 2}`` (not rounded; negative draws count as 0),
        ``{"name": "pmf", "vals": [0, 5], "probs": [0.5, 0.5]}``; or a list of these, one for each item
    :param n_items: number of items
    :raises ValueError: for an unknown name, or parameters out of range
    """

    def __init__(self, description: Mapping[str, Any] | Sequence[Mapping[str, Any]], n_items: int) -> None:
        if isinstance(description, str):
            raise ValueError(f"demand_distribution is {description!r}; it must be a mapping with a name, or a list of these.")
        each = [description] * n_items if isinstance(description, Mapping) else list(description)
        if len(each) != n_items:
            raise ValueError(
                f"demand_distribution lists {len(each)} distributions for {n_items} items; give one each, or one."
            )
        named = [_named(entry) for entry in each]
        kinds = {name == "normal" for name, _ in named}
        if len(kinds) > 1:
            raise ValueError("demand_distribution mixes normal with discrete demand; use one kind for all items.")
        self.n_items = n_items
        self.integer = kinds == {False}
        if self.integer:
            self.tables = [_TABLES[name](**parameters) for name, parameters in named]
            self.mean = np.array([values @ probabilities for values, probabilities in self.tables])
            self._alias = _AliasTables(self.tables)
        else:
            self._mu, self._sigma = (np.array([p[key] for _, p in named], float) for key in ("mu", "sigma"))
            if (self._sigma < 0).any():
                raise ValueError("normal demand needs sigma of at least 0.")
            self.mean = _mean_above_zero(self._mu, self._sigma)

    def sample(self, generator: np.random.Generator, *shape: int) -> Array:
        """Draw demand.

        :return: ``(*shape, n_items)``, float64
        """
        if self.integer:
            return self._alias.sample(generator, shape)
        return np.maximum(generator.normal(self._mu, self._sigma, (*shape, self.n_items)), 0.0)


def _named(entry: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    parameters = dict(entry)
    name = str(parameters.pop("name", "")).lower()
    name = ALIASES.get(name, name)
    if name not in PARAMETERS:
        raise ValueError(f"demand_distribution is called {name!r}; it must be one of {', '.join(PARAMETERS)}.")
    if set(parameters) != set(PARAMETERS[name]):
        raise ValueError(f"{name} demand has parameters {sorted(parameters)}; it needs {list(PARAMETERS[name])}.")
    if name != "pmf":
        parameters = {key: number(f"{key} of {name} demand", value) for key, value in parameters.items()}
    return name, parameters


class _AliasTables:
    """Walker's alias method (1977): a draw takes two look-ups whatever the number of values, which makes thousands of copies
    cheap.

    :param tables: values and probabilities of each item
    """

    def __init__(self, tables: Sequence[tuple[Array, Array]]) -> None:
        self.size = max(len(values) for values, _ in tables)
        self.keep = np.zeros((len(tables), self.size))
        self.own = np.zeros((len(tables), self.size))
        self.other = np.zeros((len(tables), self.size))
        for row, (values, probabilities) in enumerate(tables):
            self._fill(row, np.resize(values, self.size), np.pad(probabilities, (0, self.size - len(values))))
        self._offsets = np.arange(len(tables)) * self.size

    def _fill(self, row: int, values: Array, probabilities: Array) -> None:
        scaled = probabilities * self.size
        small = [k for k in range(self.size) if scaled[k] < 1]
        large = [k for k in range(self.size) if scaled[k] >= 1]
        alias = np.arange(self.size)
        while small and large:
            little, big = small.pop(), large.pop()
            alias[little] = big
            scaled[big] -= 1 - scaled[little]
            (small if scaled[big] < 1 else large).append(big)
        for k in [*small, *large]:  # the rest differs from 1 only by rounding
            scaled[k] = 1.0
        self.keep[row], self.own[row], self.other[row] = scaled, values, values[alias]

    def sample(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
        place = generator.random((*shape, len(self.own))) * self.size
        column = place.astype(np.int64)
        index = column + self._offsets
        return np.where(place - column < self.keep.take(index), self.own.take(index), self.other.take(index))
