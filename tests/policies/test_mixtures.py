"""Mixtures against torch.distributions, sums and integrals over their support, finite differences, and their own samples."""

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import distributions as td

from rlspo.policies import (
    BernoulliMixture,
    Categorical,
    CategoricalMixture,
    Gaussian,
    GaussianMixture,
    Mixture,
    SquashedGaussian,
    SquashedGaussianMixture,
)
from rlspo.policies.distributions import log_slope_of_tanh

Tensor = torch.Tensor
BATCH, EXPERTS, DIMENSIONS, SIZES = 5, 3, 2, (2, 3)


def numbers(*shape: int, seed: int = 0, scale: float = 1.0, device: str = "cpu") -> Tensor:
    return (scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))).to(device)


def gaussian(seed: int = 0, n_experts: int = EXPERTS, cls: Any = GaussianMixture, device: str = "cpu") -> Any:
    parts = numbers(BATCH, n_experts, 2 * DIMENSIONS + 1, seed=seed, device=device)
    return cls.of(parts[..., 0], parts[..., 1 : DIMENSIONS + 1], 0.5 * parts[..., DIMENSIONS + 1 :] - 0.5)


def squashed(seed: int = 0, n_experts: int = EXPERTS, device: str = "cpu") -> Any:
    return gaussian(seed, n_experts, SquashedGaussianMixture, device)


def categorical(seed: int = 0, n_experts: int = EXPERTS, device: str = "cpu") -> Any:
    return CategoricalMixture.of(
        numbers(BATCH, n_experts, seed=seed, device=device), numbers(BATCH, n_experts, 4, seed=seed + 50, device=device)
    )


def several(seed: int = 0, n_experts: int = EXPERTS, device: str = "cpu") -> Any:
    logits = numbers(BATCH, n_experts, sum(SIZES), seed=seed + 50, scale=1.5, device=device)
    return CategoricalMixture.of(numbers(BATCH, n_experts, seed=seed, device=device), logits, SIZES)


def binary(seed: int = 0, n_experts: int = EXPERTS, device: str = "cpu") -> Any:
    logits = numbers(BATCH, n_experts, 3, seed=seed + 50, scale=1.5, device=device)
    return BernoulliMixture.of(numbers(BATCH, n_experts, seed=seed, device=device), logits)


MAKE: dict[str, Callable[..., Any]] = {
    "gaussian": gaussian,
    "squashed": squashed,
    "categorical": categorical,
    "several": several,
    "binary": binary,
}
DISCRETE = {
    "categorical": [torch.tensor(a) for a in range(4)],
    "several": [torch.tensor(a) for a in product(*map(range, SIZES))],
    "binary": [torch.tensor(a, dtype=torch.float32) for a in product(range(2), repeat=3)],
}


def repeated(action: Tensor) -> Tensor:
    return action.expand(BATCH, *action.shape)


def enumerated(kind: str, mixture: Mixture) -> Tensor:
    """log pi of every action there is, ``(B, n_actions)``."""
    return torch.stack([mixture.log_prob(repeated(action)) for action in DISCRETE[kind]], dim=-1)


def quadrature(mixture: Any, n: int = 400) -> tuple[Tensor, Tensor]:
    """log pi on a two-dimensional grid, and the grid's weights, ``(B, n * n)`` and ``(n * n)``."""
    bounded = isinstance(mixture, SquashedGaussianMixture)
    edge = 1.0 if bounded else 12.0
    points, weights = (edge * torch.tensor(x, dtype=torch.float64) for x in np.polynomial.legendre.leggauss(n))
    grid = torch.cartesian_prod(points, points)
    log_probs = torch.stack([at_row(mixture.each(Tensor.double), row, len(grid)).log_prob(grid) for row in range(BATCH)])
    return log_probs, torch.cartesian_prod(weights, weights).prod(dim=-1)


def at_row(mixture: Any, row: int, n: int) -> Any:
    """One row of the batch, ``n`` times."""
    return mixture.each(lambda tensor: tensor[row : row + 1].expand(n, *tensor.shape[1:]))


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


def quantities(mixture: Any, other: Any, actions: Tensor) -> dict[str, Tensor]:
    found = {
        "log_prob": mixture.log_prob(actions),
        "log_probs": mixture.log_probs(actions),
        "entropy": mixture.entropy(),
        "upper bound": mixture.entropy_bounds()[1],
        "kl": mixture.kl(other),
    }
    return found


@pytest.mark.parametrize("kind", MAKE)
def test_gradients_are_those_of_finite_differences(kind: str) -> None:
    base, other = (MAKE[kind](seed=seed).each(Tensor.double) for seed in (0, 1))
    actions = base.sample(torch.Generator().manual_seed(5))
    actions = actions.double() if actions.is_floating_point() else actions
    leaves: list[Tensor] = []
    base.each(lambda tensor: leaves.append(tensor) or tensor)

    def value(*tensors: Tensor) -> tuple[Tensor, ...]:
        given_tensors = iter(tensors)
        found = quantities(base.each(lambda _: next(given_tensors)), other, actions)
        # kl() treats its pairing of experts as fixed, where it is not yet the best one: checked apart
        return tuple(found[name] for name in ("log_prob", "log_probs", "entropy", "upper bound"))

    torch.autograd.gradcheck(value, [leaf.clone().requires_grad_() for leaf in leaves], atol=1e-6)


def test_the_gradient_of_kl_is_that_of_finite_differences_where_experts_pair_up() -> None:
    mixture = gaussian().each(Tensor.double)
    near = GaussianMixture.of(mixture.gate + 0.1, mixture.experts.mean * 30, mixture.experts.log_std)
    mean = (mixture.experts.mean * 30 + 0.05).requires_grad_()
    torch.autograd.gradcheck(lambda m: GaussianMixture.of(mixture.gate, m, mixture.experts.log_std).kl(near), [mean])


def test_samples_carry_gradients_to_mean_and_standard_deviation() -> None:
    mixture = squashed().each(Tensor.double)
    noise = mixture.experts.draw_noise(torch.Generator().manual_seed(0)).double()

    def draw(mean: Tensor, log_std: Tensor) -> Tensor:
        return SquashedGaussianMixture.of(mixture.gate, mean, log_std).experts.from_noise(noise)

    leaves = [mixture.experts.mean.clone().requires_grad_(), mixture.experts.log_std.clone().requires_grad_()]
    torch.autograd.gradcheck(draw, leaves)


N_EXTREME = 2_000


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10**9), scale=st.sampled_from([1.0, 10.0, 100.0]), saturated=st.booleans())
@pytest.mark.parametrize("kind", MAKE)
def test_nothing_becomes_nan(kind: str, seed: int, scale: float, saturated: bool) -> None:
    """50 x 2000 rows of every kind: gates one-hot, standard deviations from e^-20 to e^2, means and logits in the hundreds."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return scale * torch.randn(N_EXTREME, *shape, generator=generator)

    gate = 1e4 * draw(EXPERTS) if saturated else draw(EXPERTS)
    both = []
    for _ in range(2):
        if kind in ("gaussian", "squashed"):
            cls = GaussianMixture if kind == "gaussian" else SquashedGaussianMixture
            mean, log_std = draw(EXPERTS, 2), draw(EXPERTS, 2).clamp(-20, 2)
            leaves = [gate.clone().requires_grad_(), mean.requires_grad_(), log_std.requires_grad_()]
            both.append(cls.of(*leaves))
        elif kind == "binary":
            both.append(BernoulliMixture.of(gate.clone().requires_grad_(), draw(EXPERTS, 3).requires_grad_()))
        else:
            sizes, width = (SIZES, sum(SIZES)) if kind == "several" else ((), 4)
            both.append(CategoricalMixture.of(gate.clone().requires_grad_(), draw(EXPERTS, width).requires_grad_(), sizes))
    mixture, other = both
    own, foreign = (m.sample(generator).detach() for m in both)
    edges = torch.sign(own) if kind == "squashed" else 100 * scale * own if kind == "gaussian" else own
    for name, value in quantities(mixture, other, own).items():
        assert not value.isnan().any(), name
    leaves: list[Tensor] = []
    mixture.each(lambda tensor: leaves.append(tensor) or tensor)
    log_probs = [mixture.log_prob(actions) for actions in (own, foreign, edges)]
    for value in (*log_probs, mixture.entropy(), mixture.kl(other)):
        assert not value.isnan().any()
        for gradient in torch.autograd.grad(value.sum(), leaves, retain_graph=True, materialize_grads=True):
            assert not gradient.isnan().any()


@pytest.mark.parametrize("kind", MAKE)
def test_low_precision_stays_near(kind: str) -> None:
    mixture, other = MAKE[kind](), MAKE[kind](seed=1)
    actions = mixture.sample(torch.Generator().manual_seed(6))
    low = quantities(mixture.each(Tensor.bfloat16), other.each(Tensor.bfloat16), actions)
    for name, value in quantities(mixture, other, actions).items():
        assert (low[name].float() - value).abs().max() < 0.25, name


@pytest.mark.parametrize("kind", ["gaussian", "squashed"])
def test_samples_and_gradients_of_low_precision_stay_near(kind: str, device: str) -> None:
    mixture = MAKE[kind](device=device)
    noise = mixture.experts.draw_noise(torch.Generator(device).manual_seed(8))
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        low = mixture.each(lambda tensor, dtype=dtype: tensor.detach().to(dtype).requires_grad_())
        drawn = low.experts.from_noise(noise.to(dtype))
        loss = low.log_prob(drawn[:, 0].detach()).sum() + low.entropy().sum() + drawn.sum()
        gradients = torch.autograd.grad(loss, [low.gate, low.experts.mean, low.experts.log_std])
        found.append([drawn.detach().float(), *(gradient.float() for gradient in gradients)])
    for exact, low in zip(*found, strict=True):
        assert (low - exact).abs().max() < 0.05 * exact.abs().max() + 0.05


@pytest.mark.parametrize("kind", MAKE)
def test_compiles_as_one_graph(kind: str, device: str) -> None:
    mixture, other = MAKE[kind](device=device), MAKE[kind](seed=1, device=device)
    actions = mixture.sample(torch.Generator(device).manual_seed(7))
    compiled = torch.compile(quantities, fullgraph=True, backend="aot_eager")(mixture, other, actions)
    for name, value in quantities(mixture, other, actions).items():
        torch.testing.assert_close(compiled[name], value, atol=1e-4, rtol=1e-4, msg=name)
