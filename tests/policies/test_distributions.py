"""Every distribution against torch.distributions, against sums and integrals over its support, and against its samples."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from torch import distributions as td

from rlspo.policies import Bernoulli, Categorical, Gaussian, MultiCategorical, SquashedGaussian

Tensor = torch.Tensor
BATCH, WIDTH = 4, 9
SIZES = (2, 3, 4)


@dataclass(frozen=True)
class Kind:
    """How to make a distribution, and what it should equal, from WIDTH numbers for each element of the batch."""

    make: Callable[[Tensor], Any]
    reference: Callable[[Tensor], Any]


def gaussian(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Three means and three log_std in [-3, 3]."""
    return numbers[:, :3], 3 * torch.tanh(numbers[:, 3:6] / 3)


class Product:
    """Independent torch distributions side by side."""

    def __init__(self, parts: list[Any]) -> None:
        self.parts = parts

    def log_prob(self, actions: Tensor) -> Tensor:
        return sum(part.log_prob(actions[:, i]) for i, part in enumerate(self.parts))

    def entropy(self) -> Tensor:
        return sum(part.entropy() for part in self.parts)

    def kl(self, other: "Product") -> Tensor:
        return sum(td.kl_divergence(mine, theirs) for mine, theirs in zip(self.parts, other.parts, strict=True))


def normals(mean: Tensor, log_std: Tensor) -> Product:
    return Product([td.Normal(mean[:, i], log_std.exp().expand_as(mean)[:, i]) for i in range(mean.shape[1])])


def squashed(mean: Tensor, log_std: Tensor) -> Product:
    return Product([td.TransformedDistribution(part, [td.TanhTransform()]) for part in normals(mean, log_std).parts])


class One(Product):
    """A distribution of scalar actions."""

    def log_prob(self, actions: Tensor) -> Tensor:
        return self.parts[0].log_prob(actions)


KINDS = {
    "gaussian": Kind(lambda x: Gaussian(x[:, :3], gaussian(x)[1][0]), lambda x: normals(x[:, :3], gaussian(x)[1][:1])),
    "gaussian_by_state": Kind(lambda x: Gaussian(*gaussian(x)), lambda x: normals(*gaussian(x))),
    "squashed": Kind(lambda x: SquashedGaussian(*gaussian(x)), lambda x: squashed(*gaussian(x))),
    "categorical": Kind(Categorical, lambda x: One([td.Categorical(logits=x)])),
    "multi_categorical": Kind(
        lambda x: MultiCategorical(x, SIZES),
        lambda x: Product([td.Categorical(logits=part) for part in x.split(SIZES, dim=1)]),
    ),
    "bernoulli": Kind(lambda x: Bernoulli(x[:, :4]), lambda x: Product([td.Bernoulli(logits=x[:, i]) for i in range(4)])),
}
DISCRETE = ["categorical", "multi_categorical", "bernoulli"]


def generator(device: str, seed: int = 0) -> torch.Generator:
    return torch.Generator(device=device).manual_seed(seed)


def support(kind: str, device: str) -> Tensor:
    """All actions of a discrete distribution."""
    ranges = {"categorical": [9], "multi_categorical": SIZES, "bernoulli": [2] * 4}[kind]
    grid = torch.cartesian_prod(*(torch.arange(n, device=device) for n in ranges))
    return grid.float() if kind == "bernoulli" else grid


def batched(distribution: Any, row: int, size: int) -> Any:
    """One row of the batch, repeated, so that it can be evaluated at ``size`` actions at once."""
    if isinstance(distribution, Gaussian):
        log_std = distribution.log_std.expand_as(distribution.mean)
        return type(distribution)(distribution.mean[row].expand(size, -1), log_std[row].expand(size, -1))
    logits = distribution.logits[row].expand(size, -1)
    return MultiCategorical(logits, SIZES) if isinstance(distribution, MultiCategorical) else type(distribution)(logits)


numbers = arrays(np.float64, (2, BATCH, WIDTH), elements=st.floats(-30, 30, width=32))
hypothetical = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def close(got: Tensor, expected: Tensor, scale: float = 1.0) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9 * scale)


@pytest.mark.parametrize("kind", KINDS)
@hypothetical
@given(numbers=numbers, seed=st.integers(0, 1000))
def test_equals_torch(kind: str, device: str, numbers: np.ndarray, seed: int) -> None:
    first, second = torch.as_tensor(numbers, device=device)
    ours, reference = KINDS[kind].make(first), KINDS[kind].reference(first)
    other, other_reference = KINDS[kind].make(second), KINDS[kind].reference(second)
    actions = ours.sample(generator(device, seed))
    if kind == "squashed":
        # Not at the edges of (-1, 1): ours is, like SB3's, kept finite there by a small constant.
        actions = torch.tanh(2 * torch.tanh(torch.randn(BATCH, 3, generator=generator(device, seed), device=device))).double()
        torch.testing.assert_close(ours.log_prob(actions), reference.log_prob(actions), rtol=1e-4, atol=1e-4)
        assert ours.entropy() is None
    else:
        close(ours.log_prob(actions), reference.log_prob(actions))
        close(ours.entropy(), reference.entropy(), scale=30)
    assert ours.log_prob(actions).shape == ours.kl(other).shape == (BATCH,)
    close(ours.kl(other), reference.kl(other_reference), scale=100)


@pytest.mark.parametrize("kind", DISCRETE)
@hypothetical
@given(numbers=numbers)
def test_sums_over_the_support(kind: str, device: str, numbers: np.ndarray) -> None:
    """Probabilities sum to one, and entropy and KL are the sums that define them."""
    first, second = (KINDS[kind].make(part) for part in torch.as_tensor(numbers, device=device))
    actions = support(kind, device)
    for row in range(BATCH):
        log_p = batched(first, row, len(actions)).log_prob(actions)
        log_q = batched(second, row, len(actions)).log_prob(actions)
        close(log_p.exp().sum(), torch.ones((), dtype=torch.float64, device=device))
        close(first.entropy()[row], -(log_p.exp() * log_p).sum(), scale=100)
        close(first.kl(second)[row], (log_p.exp() * (log_p - log_q)).sum(), scale=100)


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize(("mean", "log_std"), [(0.0, 0.0), (1.3, -1.0), (-0.5, -0.3)])
def test_integrals_over_the_density(squash: bool, mean: float, log_std: float, device: str) -> None:
    """Densities integrate to one, and entropy and KL are the integrals that define them, the KL also after squashing."""
    std = math.exp(log_std)
    raw = torch.linspace(mean - 8 * std, mean + 8 * std, 20001, dtype=torch.float64, device=device)
    if squash:
        raw = raw[raw.abs() < 6]
    actions = torch.tanh(raw) if squash else raw
    kind = SquashedGaussian if squash else Gaussian

    def make(mean: float, log_std: float, size: int) -> Any:
        numbers = torch.tensor([mean, log_std], dtype=torch.float64, device=device)
        return kind(numbers[:1].expand(size, 1), numbers[1:])

    first, second = make(mean, log_std, len(raw)), make(mean + 0.4, log_std - 0.2, len(raw))
    log_p, log_q = first.log_prob(actions[:, None]), second.log_prob(actions[:, None])
    assert float(torch.trapezoid(log_p.exp(), actions)) == pytest.approx(1, abs=1e-3)
    assert float(torch.trapezoid(log_p.exp() * (log_p - log_q), actions)) == pytest.approx(
        float(first.kl(second)[0]), rel=1e-3
    )
    if not squash:
        assert float(torch.trapezoid(-log_p.exp() * log_p, actions)) == pytest.approx(float(first.entropy()[0]), rel=1e-6)


@hypothetical
@given(numbers=numbers)
def test_squashing_leaves_the_kl_alone(device: str, numbers: np.ndarray) -> None:
    first, second = torch.as_tensor(numbers, device=device)
    inside = SquashedGaussian(*gaussian(first)).kl(SquashedGaussian(*gaussian(second)))
    assert torch.equal(inside, Gaussian(*gaussian(first)).kl(Gaussian(*gaussian(second))))


@pytest.mark.parametrize("kind", KINDS)
@hypothetical
@given(numbers=arrays(np.float32, (2, BATCH, WIDTH), elements=st.floats(-1000, 1000, width=32)))
def test_kl_is_never_negative_and_zero_to_oneself(kind: str, device: str, numbers: np.ndarray) -> None:
    first, second = (KINDS[kind].make(part) for part in torch.as_tensor(numbers, device=device))
    assert (first.kl(second) >= -1e-3).all()
    torch.testing.assert_close(first.kl(first), torch.zeros(BATCH, device=device), atol=1e-6, rtol=0)
    assert (first.kl(KINDS[kind].make(torch.as_tensor(numbers[0], device=device) + 7.0)) >= -1e-3).all()


EXTREMES: dict[str, Callable[[Tensor], Any]] = {
    "gaussian": lambda x: Gaussian(x[:, :3], torch.sign(x[:, 3:6]) * 20),
    "squashed": lambda x: SquashedGaussian(x[:, :3], torch.sign(x[:, 3:6]) * 20),
    "categorical": Categorical,
    "multi_categorical": lambda x: MultiCategorical(x, SIZES),
    "bernoulli": lambda x: Bernoulli(x[:, :4]),
}


@pytest.mark.parametrize("kind", EXTREMES)
def test_extreme_parameters_give_finite_numbers_and_gradients(kind: str, device: str) -> None:
    """Logits of thousands and standard deviations from e^-20 to e^20, in float32."""
    raw = (3000 * torch.randn(2, 16, WIDTH, generator=generator(device), device=device)).requires_grad_()
    first, second = EXTREMES[kind](raw[0]), EXTREMES[kind](raw[1])
    actions = first.sample(generator(device)).detach()
    if kind == "squashed":
        assert actions.abs().max() == 1, "the edge itself should be among the actions"
    quantities = {"log_prob": first.log_prob(actions), "kl": first.kl(second), "kl to itself": first.kl(first.detach())}
    if first.entropy() is not None:
        quantities["entropy"] = first.entropy()
    for name, quantity in quantities.items():
        assert torch.isfinite(quantity).all(), name
        (gradient,) = torch.autograd.grad(quantity.sum(), raw, retain_graph=True)
        assert torch.isfinite(gradient).all(), f"gradient of {name}"
    improbable = torch.zeros_like(actions)
    assert torch.isfinite(first.log_prob(improbable)).all()


def chi_square(counts: np.ndarray, probabilities: np.ndarray) -> None:
    """Fail where the counts are further from their expectation than chance allows (about one in a million)."""
    expected = probabilities * counts.sum()
    large = expected > 5
    statistic = ((counts - expected)[large] ** 2 / expected[large]).sum()
    freedom = max(int(large.sum()) - 1, 1)
    assert statistic < freedom + 6 * math.sqrt(2 * freedom) + 10, f"chi-square {statistic:.0f} at {freedom} degrees of freedom"


@pytest.mark.parametrize("kind", DISCRETE)
def test_frequencies_of_samples(kind: str, device: str) -> None:
    distribution = KINDS[kind].make(torch.randn(1, WIDTH, generator=generator(device, 1), device=device))
    samples = batched(distribution, 0, 40_000).sample(generator(device))
    actions = support(kind, device)
    rows = (samples.reshape(40_000, 1, -1) == actions.reshape(1, len(actions), -1)).all(dim=-1)
    assert (rows.sum(dim=1) == 1).all(), "every sample is in the support"
    probabilities = batched(distribution, 0, len(actions)).log_prob(actions).exp()
    chi_square(rows.sum(dim=0).cpu().numpy(), probabilities.cpu().numpy())


@pytest.mark.parametrize("kind", [Gaussian, SquashedGaussian])
def test_moments_of_samples(kind: type[Gaussian], device: str) -> None:
    mean, log_std = torch.tensor([0.3, -0.6], device=device), torch.tensor([-0.5, -1.2], device=device)
    samples = kind(mean.expand(40_000, 2), log_std).sample(generator(device))
    raw = torch.atanh(samples) if kind is SquashedGaussian else samples
    standard = (raw - mean) / log_std.exp()
    assert standard.mean(dim=0).abs().max() < 0.025
    assert (standard.var(dim=0) - 1).abs().max() < 0.04
    assert standard.prod(dim=1).mean().abs() < 0.025, "the dimensions are independent"
    for level in (-1.0, 0.0, 1.5):
        below = (standard < level).float().mean(dim=0)
        assert (below - td.Normal(0.0, 1.0).cdf(torch.tensor(level)).item()).abs().max() < 0.015


@pytest.mark.parametrize("kind", KINDS)
def test_samples_come_from_the_given_generator_alone(kind: str, device: str) -> None:
    distribution = KINDS[kind].make(torch.randn(BATCH, WIDTH, generator=generator(device), device=device))
    before = torch.get_rng_state()
    first, again = distribution.sample(generator(device, 5)), distribution.sample(generator(device, 5))
    assert torch.equal(first, again)
    others = [distribution.sample(generator(device, seed)) for seed in range(6, 16)]
    assert any(not torch.equal(first, other) for other in others)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", ["gaussian", *DISCRETE])
def test_mode_is_the_most_probable_action(kind: str, device: str) -> None:
    distribution = KINDS[kind].make(torch.randn(BATCH, WIDTH, generator=generator(device), device=device))
    best = distribution.log_prob(distribution.mode())
    for seed in range(50):
        assert (distribution.log_prob(distribution.sample(generator(device, seed))) <= best + 1e-6).all()


def test_squashed_gaussian_is_that_of_sb3() -> None:
    mean, log_std = torch.randn(16, 3), torch.randn(3) / 2
    reference = SquashedDiagGaussianDistribution(3).proba_distribution(mean, log_std)
    ours = SquashedGaussian(mean, log_std)
    actions = ours.sample(generator("cpu"))
    assert actions.abs().max() <= 1
    torch.testing.assert_close(ours.log_prob(actions), reference.log_prob(actions), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(ours.mode(), reference.mode())


@pytest.mark.parametrize("kind", KINDS)
def test_detach_stops_the_gradient_and_changes_nothing_else(kind: str, device: str) -> None:
    raw = torch.randn(BATCH, WIDTH, generator=generator(device), device=device).requires_grad_()
    distribution = KINDS[kind].make(raw)
    detached = distribution.detach()
    actions = distribution.sample(generator(device)).detach()
    assert type(detached) is type(distribution)
    assert torch.equal(detached.log_prob(actions), distribution.log_prob(actions))
    assert distribution.log_prob(actions).requires_grad
    assert not detached.log_prob(actions).requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_compiles_whole_and_differentiates_functionally(kind: str, device: str) -> None:
    """``torch.func.grad``, eager and compiled as one graph, gives the gradient of plain autograd."""
    first, second = torch.randn(2, BATCH, WIDTH, generator=generator(device), device=device)
    actions = KINDS[kind].make(first).sample(generator(device))

    def quantity(numbers: Tensor) -> Tensor:
        mine, other = KINDS[kind].make(numbers), KINDS[kind].make(second)
        entropy = mine.entropy()
        total = mine.log_prob(actions) + 2 * mine.kl(other) + 3 * other.kl(mine.detach()) + mine.mode().sum()
        return (total if entropy is None else total + 4 * entropy).sum()

    leaf = first.clone().requires_grad_()
    (expected,) = torch.autograd.grad(quantity(leaf), leaf)
    functional = torch.func.grad(quantity)
    torch.testing.assert_close(functional(first), expected)
    compiled = torch.compile(functional, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(first), expected)
