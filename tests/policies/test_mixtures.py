"""Mixtures against torch.distributions, sums and integrals over their support, and their own samples."""

import math
from typing import Any

import pytest
import torch
from torch import distributions as td

from rlspo.policies import (
    Categorical,
    CategoricalMixture,
    Gaussian,
    GaussianMixture,
    Mixture,
    SquashedGaussian,
    SquashedGaussianMixture,
)
from rlspo.policies.distributions import log_slope_of_tanh
from tests.policies.some_mixtures import (
    BATCH,
    DISCRETE,
    EXPERTS,
    MAKE,
    Tensor,
    at_row,
    categorical,
    enumerated,
    gaussian,
    numbers,
    quadrature,
    repeated,
    squashed,
)


@pytest.mark.parametrize("kind", ["gaussian", "squashed"])
def test_densities_integrate_to_one(kind: str) -> None:
    log_probs, weights = quadrature(MAKE[kind]())
    torch.testing.assert_close((log_probs.exp() * weights).sum(-1), torch.ones(BATCH, dtype=torch.float64), atol=2e-3, rtol=0)


@pytest.mark.parametrize("log_std", [-2.0, 0.0, 1.0, 2.0])
@pytest.mark.parametrize("cls", [GaussianMixture, SquashedGaussianMixture])
def test_densities_of_one_dimension_integrate_to_one(cls: Any, log_std: float) -> None:
    """Up to the largest standard deviation of SAC, where nearly all of the density lies at the edges."""
    n, edge = 200_000, 17.0  # where float64 still tells tanh from 1
    raw = torch.linspace(-edge, edge, n, dtype=torch.float64)
    points, weights = raw, torch.full_like(raw, float(raw[1] - raw[0]))
    if cls is SquashedGaussianMixture:  # the substitution a = tanh(u) spreads the edges out
        points, weights = raw.tanh(), log_slope_of_tanh(raw).exp() * weights
    gate, mean = torch.tensor([[0.3, -1.0]]).double(), torch.tensor([[[-0.8], [1.1]]]).double()
    mixture = cls.of(gate, mean, torch.full_like(mean, log_std))
    density = at_row(mixture, 0, n).log_prob(points[:, None]).exp()
    cut = [torch.special.ndtr((side * edge - mean) / math.exp(log_std)).squeeze(-1) for side in (-1, 1)]
    between = float((gate.softmax(dim=-1) * (cut[1] - cut[0])).sum())
    assert float((density * weights).sum()) == pytest.approx(between, abs=1e-3)


@pytest.mark.parametrize("kind", DISCRETE)
def test_probabilities_sum_to_one(kind: str) -> None:
    torch.testing.assert_close(enumerated(kind, MAKE[kind]()).exp().sum(dim=-1), torch.ones(BATCH))


def reference(kind: str, mixture: Any) -> Any:
    experts: Any
    if kind in ("gaussian", "squashed"):
        experts = td.Independent(td.Normal(mixture.experts.mean, mixture.experts.log_std.exp()), 1)
    elif kind == "categorical":
        experts = td.Categorical(logits=mixture.experts.logits)
    else:
        experts = td.Independent(td.Bernoulli(logits=mixture.experts.logits), 1)
    same = td.MixtureSameFamily(td.Categorical(logits=mixture.gate), experts)
    return td.TransformedDistribution(same, [td.TanhTransform()]) if kind == "squashed" else same


@pytest.mark.parametrize("kind", ["gaussian", "squashed", "categorical", "binary"])
def test_log_prob_is_that_of_torch(kind: str, device: str) -> None:
    mixture = MAKE[kind](device=device)
    actions = mixture.sample(torch.Generator(device).manual_seed(1))
    torch.testing.assert_close(mixture.log_prob(actions), reference(kind, mixture).log_prob(actions), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["several", "binary"])
def test_log_probs_are_conditional_on_the_dimensions_before(kind: str) -> None:
    mixture, actions = MAKE[kind](), DISCRETE[kind]
    table = enumerated(kind, mixture).exp()
    for action in actions:
        ours = mixture.log_probs(repeated(action))
        torch.testing.assert_close(ours.sum(-1), mixture.log_prob(repeated(action)))
        before = torch.ones(BATCH)
        for d in range(len(action)):
            alike = torch.tensor([bool((other[: d + 1] == action[: d + 1]).all()) for other in actions])
            joint = (table * alike).sum(-1)
            torch.testing.assert_close(ours[:, d].exp(), joint / before)
            before = joint


@pytest.mark.parametrize("kind", MAKE)
def test_one_expert_is_the_plain_distribution(kind: str) -> None:
    mixture, other = MAKE[kind](n_experts=1), MAKE[kind](seed=1, n_experts=1)
    plain, another = (m.experts.each(lambda tensor: tensor.squeeze(1)) for m in (mixture, other))
    actions = plain.sample(torch.Generator().manual_seed(2))
    torch.testing.assert_close(mixture.log_prob(actions), plain.log_prob(actions))
    torch.testing.assert_close(mixture.log_probs(actions).reshape(BATCH, -1), plain.log_probs(actions))
    torch.testing.assert_close(mixture.kl(other), plain.kl(another))
    assert torch.equal(mixture.mode(), plain.mode())
    if kind != "squashed":
        for bound in (mixture.entropy(), *mixture.entropy_bounds()):
            torch.testing.assert_close(bound, plain.entropy())


@pytest.mark.parametrize("kind", ["several", "binary"])
def test_bounds_hold_for_what_can_be_enumerated(kind: str) -> None:
    mixture, other = MAKE[kind](), MAKE[kind](seed=1)
    mine, theirs = enumerated(kind, mixture), enumerated(kind, other)
    entropy, kl = -(mine.exp() * mine).sum(-1), (mine.exp() * (mine - theirs)).sum(-1)
    lower, upper = mixture.entropy_bounds()
    assert (lower <= entropy).all()
    assert (entropy <= upper).all()
    assert (kl <= mixture.kl(other)).all()
    crude = (mixture.weights * (mixture.log_weights - other.log_weights + mixture.experts.kl(other.experts))).sum(-1)
    assert (mixture.kl(other) <= crude + 1e-5).all()  # each expert paired with its namesake


def test_a_mixture_of_one_choice_is_a_categorical_distribution() -> None:
    mixture, other = categorical(), categorical(seed=1)
    mine, theirs = (Categorical(enumerated("categorical", m)) for m in (mixture, other))
    torch.testing.assert_close(mixture.entropy(), mine.entropy())
    torch.testing.assert_close(mixture.kl(other), mine.kl(theirs))
    lower, upper = mixture.entropy_bounds()
    assert (lower <= mine.entropy()).all()
    assert (mine.entropy() <= upper).all()
    size = mixture.experts.logits.shape[-1]
    listed, others = (CategoricalMixture.of(m.gate, m.experts.logits, (size,)) for m in (mixture, other))
    torch.testing.assert_close(listed.entropy(), mine.entropy())
    torch.testing.assert_close(listed.kl(others), mine.kl(theirs))


@pytest.mark.parametrize("kind", ["gaussian", "squashed"])
def test_bounds_hold_for_densities(kind: str) -> None:
    mixture, other = MAKE[kind](), MAKE[kind](seed=1)
    log_probs, weights = quadrature(mixture)
    theirs, _ = quadrature(other)
    mass = log_probs.exp() * weights
    entropy, kl = -(mass * log_probs).sum(-1), (mass * (log_probs - theirs)).sum(-1)
    lower, upper = mixture.entropy_bounds()
    tolerance = 5e-3
    assert (lower <= entropy + tolerance).all()
    assert (entropy <= upper + tolerance).all()
    assert (kl <= mixture.kl(other) + tolerance).all()


@pytest.mark.parametrize("kind", MAKE)
def test_monte_carlo_lies_between_the_bounds(kind: str) -> None:
    mixture, other = MAKE[kind](), MAKE[kind](seed=1)
    entropy = mixture.entropy_monte_carlo(10_000, torch.Generator().manual_seed(3))
    lower, upper = mixture.entropy_bounds()
    assert (lower <= entropy + 0.05).all()
    assert (entropy <= upper + 0.05).all()
    estimate = mixture.kl_monte_carlo(other, 10_000, torch.Generator().manual_seed(3))
    assert (estimate <= 1.03 * mixture.kl(other) + 0.05).all()


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, 2.0), (3.0, 1.0), (10.0, 0.0), (-0.5, -3.0)])
def test_squashed_entropy_and_samples_near_the_edges(mean: float, log_std: float) -> None:
    """Against the integral over the value before tanh, also where tanh rounds to 1."""
    mixture = SquashedGaussianMixture.of(torch.zeros(1, 1), torch.full((1, 1, 1), mean), torch.tensor([log_std]))
    mixture = mixture.each(Tensor.double)
    raw = mean + math.exp(log_std) * torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    log_prob = mixture.log_prob_of_raw(raw.reshape(1, -1, 1))[0]
    mass = torch.exp(log_prob + log_slope_of_tanh(raw)) * (raw[1] - raw[0])
    exact = -(mass * log_prob).sum().reshape(1)
    torch.testing.assert_close(mixture.entropy(), exact, atol=0.02, rtol=0)
    estimate = mixture.entropy_monte_carlo(50_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(estimate, exact, atol=0.1, rtol=0, check_dtype=False)


def test_monte_carlo_kl_at_the_edges() -> None:
    near, far = (SquashedGaussianMixture.of(torch.zeros(1, 1), torch.full((1, 1, 1), m), torch.zeros(1)) for m in (8.0, 10.0))
    torch.testing.assert_close(far.kl(near), torch.tensor([2.0]))
    torch.testing.assert_close(
        far.kl_monte_carlo(near, 50_000, torch.Generator().manual_seed(0)), torch.tensor([2.0]), atol=0.05, rtol=0
    )


def test_squashed_entropy_of_one_expert_is_that_of_its_samples() -> None:
    mixture = squashed(n_experts=1)
    estimate = mixture.entropy_monte_carlo(20_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(mixture.entropy(), estimate, atol=0.03, rtol=0)


@pytest.mark.parametrize("kind", MAKE)
def test_no_distance_to_oneself_in_any_order(kind: str) -> None:
    mixture = MAKE[kind]()
    order = [2, 0, 1]
    shuffled = mixture.each(lambda tensor: tensor[:, order])
    torch.testing.assert_close(mixture.kl(mixture), torch.zeros(BATCH), atol=1e-5, rtol=0)
    if kind == "gaussian":
        apart = GaussianMixture.of(mixture.gate, 20 * mixture.experts.mean, mixture.experts.log_std)
        far = apart.each(lambda tensor: tensor[:, order])
        torch.testing.assert_close(apart.kl(far), torch.zeros(BATCH), atol=1e-4, rtol=0)
    torch.testing.assert_close(mixture.entropy(), shuffled.entropy())


def test_experts_far_apart_add_the_entropy_of_the_gate() -> None:
    mean = torch.tensor([-100.0, 0.0, 100.0]).reshape(1, 3, 1).expand(BATCH, 3, 1)
    mixture = GaussianMixture.of(numbers(BATCH, 3), mean, torch.zeros(1))
    exact = Gaussian(torch.zeros(BATCH, 1), torch.zeros(1)).entropy() + Categorical(mixture.gate).entropy()
    for bound in mixture.entropy_bounds():
        torch.testing.assert_close(bound, exact)


@pytest.mark.parametrize("kind", DISCRETE)
def test_samples_have_their_probabilities(kind: str, device: str) -> None:
    mixture = MAKE[kind](device=device)
    generator, n = torch.Generator(device).manual_seed(4), 20_000
    row = at_row(mixture, 0, n)
    for actions in (row.sample(generator), _drawn_inside(row, generator)):
        for action, log_prob in zip(DISCRETE[kind], enumerated(kind, MAKE[kind]())[0], strict=True):
            hits = (actions.reshape(n, -1) == action.to(device).reshape(1, -1)).all(dim=-1).float().mean().item()
            assert abs(hits - math.exp(log_prob)) < 0.015


def _drawn_inside(mixture: Mixture, generator: torch.Generator) -> Tensor:
    """As a loss draws: all experts from noise, then one of them."""
    index = mixture.sample_expert(Categorical(mixture.gate).draw_noise(generator))
    drawn = mixture.experts.from_noise(mixture.experts.draw_noise(generator))
    return drawn[torch.arange(len(index)), index]


def test_gaussian_samples_have_mean_and_share() -> None:
    mixture, n = gaussian(), 50_000
    row = at_row(mixture, 0, n)
    actions, index = row.sample_with_expert(torch.Generator().manual_seed(0))
    shares = torch.bincount(index, minlength=EXPERTS) / n
    torch.testing.assert_close(shares, mixture.weights[0], atol=0.01, rtol=0)
    mean = (mixture.weights[0, :, None] * mixture.experts.mean[0]).sum(0)
    torch.testing.assert_close(actions.mean(0), mean, atol=0.03, rtol=0)


def test_the_mode_is_the_best_experts_own() -> None:
    mixture = squashed()
    expected = torch.tanh(mixture.experts.mean[torch.arange(BATCH), mixture.gate.argmax(-1)])
    assert torch.equal(mixture.mode(), expected)


def test_squashed_density_stays_exact_where_tanh_rounds_to_one() -> None:
    """At u = 10 the slope of tanh is 4 e^-20, which 1 - tanh(u)^2 cannot tell from 0 in float32."""
    plain = SquashedGaussian(torch.tensor([[10.0]]), torch.zeros(1))
    expected = -0.5 * math.log(2 * math.pi) - (math.log(4) - 20 - 2 * math.log1p(math.exp(-20)))
    torch.testing.assert_close(plain.log_probs_of_raw(torch.tensor([[10.0]])), torch.tensor([[expected]]))
    mixture = SquashedGaussianMixture.of(torch.zeros(1, 1), torch.tensor([[[10.0]]]), torch.zeros(1))
    torch.testing.assert_close(mixture.log_prob_of_raw(torch.tensor([[10.0]])), torch.tensor([expected]))
