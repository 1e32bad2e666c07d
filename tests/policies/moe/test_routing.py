"""What the routing losses converge to, on bandits whose answer is known."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rlspo.policies import CategoricalMixture, GaussianMixture
from rlspo.policies.moe import routing
from rlspo.policies.moe.settings import MoeSettings
from rlspo.sac.moe import MoeSACPolicy

Tensor = torch.Tensor
MEANS, STDS = torch.tensor([0.0, 0.5, -0.2]), torch.tensor([1.0, 0.3, 2.0])


def win_probabilities(n: int = 400_000) -> Tensor:
    """P(expert k draws the largest of the three), by brute force."""
    draws = MEANS + STDS * torch.randn(n, 3, generator=torch.Generator().manual_seed(0))
    return torch.bincount(draws.argmax(dim=-1), minlength=3) / n


def at(gate: Tensor, n: int) -> GaussianMixture:
    return GaussianMixture.of(gate.expand(n, 3), MEANS.reshape(1, 3, 1).expand(n, 3, 1), STDS.log().reshape(3, 1))


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_frequency_routing_finds_the_win_probabilities(loss: str) -> None:
    """The worth of an action is the action itself; the gate starts far off."""
    settings, generator = MoeSettings(n_experts=3, routing_loss=loss), torch.Generator().manual_seed(1)
    gate = torch.tensor([[3.0, 0.0, -3.0]], requires_grad=True)
    optimizer = torch.optim.Adam([gate], lr=0.03)
    for _ in range(600):
        mixture = at(gate, 256)
        values = mixture.experts.sample(generator).squeeze(-1)
        optimizer.zero_grad()
        routing.frequency(mixture, routing.wins(values), settings).backward()
        optimizer.step()
    torch.testing.assert_close(at(gate, 1).weights[0], win_probabilities(), atol=0.03, rtol=0)


@pytest.mark.parametrize("better", [0.1, 0.5, 0.999])
def test_experts_that_are_alike_share_the_gate_where_actions_are_few(better: float) -> None:
    """Two choices, the same chances in every expert: they often choose alike, and nobody wins by standing first."""
    logits = torch.tensor([1 - better, better]).log().expand(256, 4, 2)
    settings, generator = MoeSettings(), torch.Generator().manual_seed(1)
    gate = torch.tensor([[1.0, 0.0, 0.0, -1.0]], requires_grad=True)
    optimizer = torch.optim.Adam([gate], lr=0.03)
    for _ in range(400):
        mixture = CategoricalMixture.of(gate.expand(256, 4), logits, (2,))
        values = mixture.experts.sample(generator).float().reshape(256, 4)
        optimizer.zero_grad()
        routing.frequency(mixture, routing.wins(values), settings).backward()
        optimizer.step()
    torch.testing.assert_close(gate.softmax(dim=-1), torch.full((1, 4), 0.25), atol=0.03, rtol=0)


def test_cross_entropy_wakes_a_gate_that_is_sure_of_the_wrong_expert() -> None:
    sizes = {}
    for loss in ("cross_entropy", "squared_error"):
        gate = torch.tensor([[7.0, 0.0]], requires_grad=True)
        mixture = GaussianMixture.of(gate, torch.zeros(1, 2, 1), torch.zeros(1))
        routing.frequency(mixture, torch.tensor([[0.0, 1.0]]), MoeSettings(n_experts=2, routing_loss=loss)).backward()
        sizes[loss] = float(gate.grad.abs().max())
    assert sizes["cross_entropy"] > 0.99
    assert sizes["squared_error"] < 0.01


@pytest.mark.parametrize("estimator", ["score", "gumbel"])
def test_other_estimators_point_where_the_exact_gradient_does(estimator: str) -> None:
    """Their mean over many draws is the gradient of the expected value (of a relaxed one: nearly)."""
    values, n = torch.tensor([[0.2, 1.0, -0.5]]), 200_000
    gate = torch.tensor([[0.5, -0.2, 0.1]], requires_grad=True)
    (exact,) = torch.autograd.grad(-(at(gate, 1).weights * values).sum(), gate)
    wide = at(gate, n)
    noise = -torch.empty(n, 3).exponential_(generator=torch.Generator().manual_seed(2)).log()
    if estimator == "score":
        loss = routing.score(wide, values.expand(n, 3), wide.sample_expert(noise))
    else:
        loss = -(routing.relaxed_choice(wide, noise, 0.1) * values).sum(dim=-1).mean()
    (found,) = torch.autograd.grad(loss, gate)
    torch.testing.assert_close(found, exact, atol=0.015, rtol=0)


def test_relaxed_choices_are_drawn_with_the_gates_weights() -> None:
    gate = torch.tensor([[0.5, -1.0, 0.1]])
    wide = at(gate, 100_000)
    noise = -torch.empty(100_000, 3).exponential_(generator=torch.Generator().manual_seed(3)).log()
    shares = torch.bincount(routing.relaxed_choice(wide, noise, 0.5).argmax(dim=-1), minlength=3) / 100_000
    torch.testing.assert_close(shares, wide.weights[0], atol=0.01, rtol=0)


def two_peaks(actions: Tensor) -> Tensor:
    """Worth 1 at -0.6 and at 0.6, next to nothing in between."""
    return torch.exp(-(((actions[..., 0].abs() - 0.6) / 0.2) ** 2))


def trained_actor(**kwargs: Any) -> MoeSACPolicy:
    """An actor that has learned against the true worth of actions."""
    torch.manual_seed(3)
    one = spaces.Box(-1, 1, (1,), np.float32)
    policy = MoeSACPolicy(one, one, lambda _: 3e-3, net_arch=[16], **kwargs)
    generator, inputs = torch.Generator().manual_seed(4), torch.zeros(64, 1)
    for _ in range(1000):
        parameters = dict(policy.named_parameters())
        noise = policy.draw_noise(64, generator)
        loss, _, _ = policy.actor_loss(parameters, inputs, noise, torch.tensor(0.15), two_peaks)
        policy.actor.optimizer.zero_grad()
        loss.backward()
        policy.actor.optimizer.step()
    return policy


def test_one_gaussian_averages_two_peaks() -> None:
    distribution = trained_actor(n_experts=1).distribution_of(torch.zeros(1, 1))
    assert two_peaks(distribution.mode()) < 0.5
    assert float(distribution.mode().abs()) < 0.3


@pytest.mark.parametrize("routing_name", ["frequency", "marginal", "score", "gumbel"])
def test_a_mixture_finds_both_peaks(routing_name: str) -> None:
    mixture = trained_actor(n_experts=4, routing=routing_name).distribution_of(torch.zeros(1, 1)).detach()
    modes, weights = mixture.experts.mode()[0], mixture.weights[0]
    good = two_peaks(modes) > 0.8
    left, right = (float(weights[good & side].sum()) for side in (modes[:, 0] < 0, modes[:, 0] > 0))
    assert min(left, right) > 0.25
    assert two_peaks(mixture.mode()) > 0.8


def test_published_settings_leave_all_experts_between_the_peaks() -> None:
    """Nothing in the entropy of the expert that acts keeps experts apart."""
    settings = {"primitive_update": "max", "entropy_of": "component", "routing_loss": "squared_error"}
    mixture = trained_actor(n_experts=4, **settings).distribution_of(torch.zeros(1, 1)).detach()
    assert two_peaks(mixture.experts.mode()).max() < 0.5


@pytest.mark.parametrize("alpha", [0.2, 1.0, 2.0])
@pytest.mark.parametrize("update", ["max", "all"])
def test_the_gate_of_sac_finds_the_win_probabilities_whatever_the_entropy_weighs(update: str, alpha: float) -> None:
    """Experts stand still and lie apart; expert 1 wins three times in four, by luck that the critic adds."""
    one = spaces.Box(-1, 1, (1,), np.float32)
    policy = MoeSACPolicy(one, one, lambda _: 1e-2, net_arch=[4], n_experts=2, primitive_update=update)
    with torch.no_grad():
        for layer, bias in ((policy.actor.mu, [-1.0, 1.0]), (policy.actor.log_std, [-3.0, -3.0])):
            layer.weight.zero_()
            layer.bias.copy_(torch.tensor(bias))
    generator, inputs = torch.Generator().manual_seed(0), torch.zeros(256, 1)
    optimizer = torch.optim.Adam(policy.actor.gate.parameters(), lr=0.03)

    def worth(actions: Tensor) -> Tensor:
        lucky = torch.rand(len(actions), 1, generator=generator) < 0.75
        return torch.where(lucky, actions[..., 0], -actions[..., 0]) if actions.dim() == 3 else actions[..., 0]

    for _ in range(300):
        noise = policy.draw_noise(256, generator)
        loss, _, _ = policy.actor_loss(dict(policy.named_parameters()), inputs, noise, torch.tensor(alpha), worth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    weights = policy.distribution_of(inputs).weights[0]
    torch.testing.assert_close(weights, torch.tensor([0.25, 0.75]), atol=0.05, rtol=0)


def test_only_the_best_expert_learns_from_a_state() -> None:
    one = spaces.Box(-1, 1, (1,), np.float32)
    policy = MoeSACPolicy(one, one, lambda _: 1e-2, net_arch=[4], n_experts=3, primitive_update="max")
    with torch.no_grad():
        policy.actor.mu.weight.zero_()
        policy.actor.mu.bias.copy_(torch.tensor([-0.5, 0.0, 0.5]))
    noise = policy.draw_noise(8, torch.Generator().manual_seed(0))
    noise["actions"] *= 0.01
    loss, _, _ = policy.actor_loss(
        dict(policy.named_parameters()), torch.zeros(8, 1), noise, torch.tensor(1.0), lambda actions: actions[..., 0]
    )
    loss.backward()
    assert [bool(gradient) for gradient in policy.actor.mu.bias.grad] == [False, False, True]
