"""What SPO minimises, against closed forms and a numerical optimiser."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq, minimize_scalar

from rlspo.policies import Categorical, Gaussian, GaussianMixture, MultiCategorical
from rlspo.spo import losses
from rlspo.spo.exploration import RootNoise
from rlspo.spo.resampling import RESAMPLING, effective_sample_size
from rlspo.spo.search import search_divergence
from rlspo.spo.temperature import temperature_for


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("bound", [0.05, 0.5, 1.5])
def test_the_temperature_minimises_its_dual(scale, bound):
    advantages = scale * torch.randn(200, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def dual(log_temperature: float) -> float:
        temperature = math.exp(log_temperature)
        log_mean = torch.logsumexp(advantages / temperature, dim=-1) - math.log(16)
        return temperature * (bound + float(log_mean.mean()))

    best = minimize_scalar(dual, bounds=(math.log(scale) - 7, math.log(scale) + 7), method="bounded", options={"xatol": 1e-10})
    found = temperature_for(advantages, bound)
    assert found == pytest.approx(math.exp(best.x), rel=1e-4)
    assert float(search_divergence(advantages, found).mean()) == pytest.approx(bound, rel=1e-6)


def test_the_temperature_where_there_is_nothing_to_choose():
    assert temperature_for(torch.zeros(3, 8), 0.5) == 1.0


@pytest.mark.parametrize("quiet", [0, 30], ids=["all states", "one state in four"])
@pytest.mark.parametrize("scale", [1e-2, 100.0])
def test_the_temperature_where_the_policy_is_sure(quiet, scale):
    """Of 16 draws 15 are the usual action and one is better by ``scale``; in ``quiet`` states all are alike, but for noise.

    With weight w on the better one, KL is ``w log 16w + (1 - w) log(16 (1 - w) / 15)``, eta ``scale / log(15 w / (1 - w))``.
    """
    advantages = torch.zeros(10 + quiet, 16, dtype=torch.float64)
    advantages[:10, 3] = scale
    advantages[10:] += 1e-9 * scale * torch.randn(quiet, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    reached = 0.9 * math.log(16)  # in each state that differs; the mean is less
    weight = brentq(lambda w: w * math.log(16 * w) + (1 - w) * math.log(16 * (1 - w) / 15) - reached, 0.5, 1 - 1e-9)
    expected = scale / math.log(15 * weight / (1 - weight))
    assert temperature_for(advantages, 2.7) == pytest.approx(expected, rel=1e-3)
    # What can be reached is asked for as it is.
    share = 10 / (10 + quiet)
    half = temperature_for(advantages, 0.5 * share)
    assert float(search_divergence(advantages, half).mean()) == pytest.approx(0.5 * share, rel=1e-3)


def test_corrected_draws_give_the_temperature_of_draws_from_the_policy():
    generator = torch.Generator().manual_seed(0)
    values = torch.tensor([0.0, 1.0, 3.0])
    policy, other = Categorical(torch.tensor([2.0, 0.0, -1.0])), Categorical(torch.zeros(3))
    own = Categorical(policy.logits.expand(64, 4096, 3).reshape(-1, 3)).sample(generator).reshape(64, 4096)
    drawn = Categorical(other.logits.expand(64, 4096, 3).reshape(-1, 3)).sample(generator).reshape(64, 4096)
    log_ratio = policy.logits.log_softmax(-1)[drawn] - other.logits.log_softmax(-1)[drawn]
    expected = temperature_for(values[own], 0.4)
    assert temperature_for(values[drawn], 0.4, log_ratio) == pytest.approx(expected, rel=0.02)
    assert temperature_for(values[drawn], 0.4) != pytest.approx(expected, rel=0.03)


def test_gaussian_divergences_are_those_of_torch():
    generator = torch.Generator().manual_seed(0)
    old, new = (Gaussian(torch.randn(5, 3, generator=generator), torch.randn(5, 3, generator=generator)) for _ in range(2))

    def normal(mean, log_std):
        return torch.distributions.Normal(mean, log_std.exp())

    moved, spread = losses.gaussian_divergences(old, new)
    before = normal(old.mean, old.log_std)
    assert torch.allclose(moved, torch.distributions.kl_divergence(before, normal(new.mean, old.log_std)), atol=1e-5)
    assert torch.allclose(
        spread, torch.distributions.kl_divergence(before, normal(old.mean, new.log_std)), rtol=1e-5, atol=1e-5
    )


def test_likelihood_of_all_kinds_of_actions():
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(4, 6, generator=generator).softmax(dim=-1)
    cases = [
        (Gaussian(torch.randn(4, 2), torch.zeros(2)), torch.randn(4, 6, 2)),
        (Categorical(torch.randn(4, 5)), torch.randint(5, (4, 6))),
        (MultiCategorical(torch.randn(4, 5), (2, 3)), torch.randint(2, (4, 6, 2))),
        (GaussianMixture.of(torch.randn(4, 3), torch.randn(4, 3, 2), torch.zeros(3, 2)), torch.randn(4, 6, 2)),
    ]
    for distribution, actions in cases:
        columns = torch.stack([distribution.log_prob(actions[:, n]) for n in range(6)], dim=1)
        expected = (weights * columns).sum(dim=1).mean()
        assert torch.allclose(losses.log_likelihood(distribution, actions, weights), expected, atol=1e-6), type(distribution)


def test_the_gradient_of_the_decoupled_likelihood_moves_mean_and_spread_apart():
    generator = torch.Generator().manual_seed(0)
    mean, log_std = torch.randn(4, 2, generator=generator).requires_grad_(), torch.zeros(4, 2).requires_grad_()
    old = Gaussian(torch.randn(4, 2, generator=generator), torch.full((4, 2), 0.3))
    actions, weights = torch.randn(4, 6, 2, generator=generator), torch.full((4, 6), 1 / 6)
    value = losses.decoupled_likelihood(Gaussian(mean, log_std), old, actions, weights)
    by_mean, by_std = torch.autograd.grad(value, (mean, log_std))
    assert torch.allclose(by_mean, ((actions.mean(dim=1) - mean) * math.exp(-0.6) / 4).detach(), atol=1e-6)
    squares = (actions - old.mean.unsqueeze(1)).square().mean(dim=1)
    assert torch.allclose(by_std, (squares - 1) / 4, atol=1e-6)


def test_multipliers_hold_a_bound():
    """Minimise (x - 2)^2 under x^2 < 1 by the Lagrangian's gradients: x = 1, multiplier 1."""
    x, raw = torch.zeros(1, requires_grad=True), torch.tensor([losses.raw_of(0.1)], requires_grad=True)
    optimizer = torch.optim.SGD([{"params": [x], "lr": 0.05}, {"params": [raw], "lr": 0.05}])
    for _ in range(4000):
        price, multiplier_loss = losses.penalties(x.square(), raw, torch.ones(1))
        optimizer.zero_grad()
        ((x - 2).square().sum() + price + multiplier_loss).backward()
        optimizer.step()
    assert x.item() == pytest.approx(1.0, abs=1e-3)
    assert losses.dual(raw).item() == pytest.approx(1.0, abs=1e-2)


@pytest.mark.parametrize("value", [1e-4, 0.5, 1.0, 500.0])
def test_dual_variables_come_back(value):
    assert losses.dual(torch.tensor(losses.raw_of(value), dtype=torch.float64)).item() == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize("name", RESAMPLING)
def test_resampling_is_unbiased(name):
    generator = torch.Generator().manual_seed(0)
    weights = torch.tensor([[0.5, 0.3, 0.15, 0.05, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0]]).repeat(20_000, 1)
    drawn = RESAMPLING[name](weights, generator)
    copies = torch.nn.functional.one_hot(drawn, 5).sum(dim=1).double()
    for row in (0, 1):
        assert torch.allclose(copies[row::2].mean(dim=0), 5 * weights[row].double(), atol=0.03)
    if name == "systematic":
        assert ((copies - 5 * weights).abs() < 1.0).all()
    if name == "residual":
        assert (copies >= torch.floor(5 * weights + 1e-6)).all()


def test_effective_sample_size():
    weights = torch.tensor([[0.25] * 4, [1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]])
    assert torch.allclose(effective_sample_size(weights), torch.tensor([4.0, 1.0, 2.0]))


def test_root_noise_weighs_as_if_the_policy_had_drawn():
    from gymnasium import spaces

    generator = torch.Generator().manual_seed(0)
    logits = torch.tensor([2.0, 0.0, -3.0])
    noise = RootNoise(0.25, 0.3, spaces.Discrete(3))
    actions, correction = noise(Categorical(logits.expand(8 * 20_000, 3)), 20_000, generator)
    assert float(correction.max()) <= -math.log(0.75) + 1e-5
    share = torch.zeros(3).index_add(0, actions, correction.exp()) / len(actions)
    assert torch.allclose(share, logits.softmax(-1), atol=0.005)
    # An action that the policy would hardly take is drawn more often.
    assert (actions == 2).float().mean() > 3 * logits.softmax(-1)[2]


def test_root_noise_of_box_actions():
    from gymnasium import spaces

    generator = torch.Generator().manual_seed(0)
    noise = RootNoise(0.5, 1.0, spaces.Box(-2.0, 2.0, (1,), np.float32))
    gaussian = Gaussian(torch.full((200_000, 1), 0.5), torch.zeros(1))
    actions, correction = noise(gaussian, 200_000, generator)
    weights = correction.exp()
    assert float(weights.mean()) == pytest.approx(1.0, abs=0.01)
    assert float((weights * actions[:, 0]).mean()) == pytest.approx(0.5, abs=0.01)
    with pytest.raises(ValueError, match="no noise to draw from"):
        RootNoise(0.5, 1.0, spaces.Box(-np.inf, np.inf, (1,), np.float32))
