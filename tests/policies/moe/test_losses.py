"""The losses of gate, experts and Q, and the statistics, against formulas written out by hand."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from rlspo import ARPO, PDPPO, PPO, SAC
from rlspo.envs import PostDecision
from rlspo.pdppo.advantages import HalfSteps, split, textbook
from rlspo.policies import GaussianMixture
from rlspo.policies.moe import routing
from tests.spaces import SpacesEnv

Tensor = torch.Tensor
MEANS, WEIGHTS = torch.tensor([-0.4, 0.9, 0.1]), torch.tensor([0.5, 0.2, 0.3])
B = 40_000


class Sum(nn.Module):
    """An action is worth the sum of its components."""

    def forward(self, features: Tensor, actions: Tensor) -> Tensor:
        return actions.float().sum(dim=-1)


def on_policy(**kwargs: Any) -> Any:
    """PPO's policy of three experts that hardly vary, at ``MEANS``, with a gate of ``WEIGHTS``, and the true Q."""
    options = {"n_steps": 32, "batch_size": 16, "seed": 3, "normalize_observations": False}
    policy = PPO("MoeMlpPolicy", SpacesEnv(), **options, policy_kwargs={"n_experts": 3, **kwargs}).policy
    with torch.no_grad():
        policy.action_net.weight.zero_()
        policy.action_net.bias.copy_(torch.stack([MEANS, torch.zeros(3)], dim=1).flatten())
        policy.log_std.fill_(-20.0)
        policy.gate_net[-1].weight.zero_()
        policy.gate_net[-1].bias.copy_(WEIGHTS.log())
    return policy


def minibatch(policy: Any) -> Any:
    noise = policy.draw_noise(B, torch.Generator().manual_seed(0))
    observations = torch.zeros(B, 5)
    return SimpleNamespace(observations=observations, actions=torch.zeros(B, 2), returns=torch.zeros(B), policy_noise=noise)


def auxiliary_loss(policy: Any, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """With the policy's own parameters, so that gradients reach them."""
    parameters = dict(policy.named_parameters())
    distribution, _ = policy.evaluate(parameters, policy.preprocess(batch.observations))
    return policy.auxiliary_loss(parameters, distribution, batch)


@pytest.mark.parametrize("name", ["frequency", "squared", "score", "gumbel"])
def test_gradient_of_the_gate_in_ppo(name: str) -> None:
    """Q says what the expert's action is worth; the gate's gradient is known for every routing."""
    kwargs: dict[str, Any] = {"routing": "frequency" if name == "squared" else name, "routing_coef": 2.0}
    kwargs |= {"routing_loss": "squared_error"} if name == "squared" else {}
    kwargs |= {"gumbel_temperature": 0.1} if name == "gumbel" else {}
    policy = on_policy(**kwargs)
    policy.action_value_net = Sum()
    loss, stats = auxiliary_loss(policy, minibatch(policy))
    (found,) = torch.autograd.grad(loss, policy.gate_net[-1].bias)
    best = torch.tensor([0.0, 1.0, 0.0])  # 0.9 is the largest mean
    jacobian = torch.diag(WEIGHTS) - torch.outer(WEIGHTS, WEIGHTS)  # of the softmax
    within = MEANS - MEANS.mean()
    scaled = within / within.std(correction=0)  # of all experts in all states, which are alike
    expected = {
        "frequency": WEIGHTS - best,
        "squared": -2 * jacobian @ (best - WEIGHTS),
        "score": -jacobian @ scaled,
        "gumbel": -jacobian @ scaled,
    }[name]
    torch.testing.assert_close(found, 2 * expected, atol=0.05 if name in ("score", "gumbel") else 1e-4, rtol=0)
    assert [round(float(stats[f"moe/wins_{k}"]), 3) for k in range(3)] == [0, 1, 0]
    assert float(stats["moe/q_spread"]) == pytest.approx(1.3, abs=1e-4)


def test_experts_win_as_often_as_their_draws_do() -> None:
    policy = on_policy(routing="frequency")
    policy.action_value_net = Sum()
    with torch.no_grad():
        policy.log_std.fill_(0.0)
    _, stats = auxiliary_loss(policy, minibatch(policy))
    draws = MEANS + 2**0.5 * torch.randn(400_000, 3, generator=torch.Generator().manual_seed(1))  # the sum of two components
    expected = torch.bincount(draws.argmax(dim=-1), minlength=3) / len(draws)
    torch.testing.assert_close(torch.stack([stats[f"moe/wins_{k}"] for k in range(3)]), expected, atol=0.01, rtol=0)


@pytest.mark.parametrize("gate", ["observation", "latent"])
def test_the_routing_loss_reaches_gate_and_q_alone(gate: str) -> None:
    policy = on_policy(routing="score", gate=gate)
    with torch.no_grad():  # a gate whose input matters
        policy.gate_net[-1].weight.normal_()
    batch = minibatch(policy)
    batch.observations = torch.randn(B, 5)
    auxiliary_loss(policy, batch)[0].backward()
    reached = {name.split(".")[0] for name, p in policy.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {"gate_net", "action_value_net"}


def test_images_are_not_shaped_by_gate_and_q() -> None:
    options = {"n_steps": 16, "batch_size": 8, "policy_kwargs": {"n_experts": 2, "routing": "score"}}
    policy: Any = PPO("MoeCnnPolicy", SpacesEnv("image"), **options).policy
    noise = policy.draw_noise(8, torch.Generator().manual_seed(0))
    images = torch.randint(0, 255, (8, 3, 36, 36), dtype=torch.uint8)
    batch = SimpleNamespace(observations=images, actions=torch.zeros(8, 2), returns=torch.ones(8), policy_noise=noise)
    auxiliary_loss(policy, batch)[0].backward()
    extractor = [*policy.features_extractor.parameters()]
    assert extractor
    assert not any(p.grad is not None and p.grad.any() for p in extractor)


def test_q_learns_the_returns_of_the_actions_taken() -> None:
    policy = on_policy(routing="frequency")
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(policy.action_value_net.parameters(), lr=1e-2)
    for _ in range(300):
        seen, actions = torch.randn(64, 5, generator=generator), torch.rand(64, 2, generator=generator) * 2 - 1
        noise = policy.draw_noise(64, generator)
        batch = SimpleNamespace(observations=seen, actions=actions, returns=3 * actions[:, 0] + seen[:, 1], policy_noise=noise)
        optimizer.zero_grad()
        auxiliary_loss(policy, batch)[0].backward()
        optimizer.step()
    with torch.no_grad():
        values = policy.action_value_net(seen, actions)
    assert torch.corrcoef(torch.stack([values, batch.returns]))[0, 1] > 0.98
    assert (values - batch.returns).square().mean() < 0.1 * batch.returns.var()


def test_q_is_clipped_apart() -> None:
    """Returns of any scale leave the other parameters' step alone."""
    moved = []
    for scale in (1.0, 1e4):
        options = {"n_steps": 32, "batch_size": 32, "n_epochs": 1, "seed": 3, "normalize_rewards": False}
        model = PPO(
            "MoeMlpPolicy", SpacesEnv(), **options, vf_coef=0.0, policy_kwargs={"routing": "score", "routing_coef": 0.0}
        )
        model.learn(32)
        before = model.policy.action_net.weight.detach().clone()
        data = model.rollout_buffer.data
        data["returns"][:] *= scale
        model.update.vector.first_moment.zero_()
        model.update.vector.second_moment.zero_()
        model.randomness.numpy = np.random.default_rng(0)
        model.train()
        moved.append(model.policy.action_net.weight.detach() - before)
    assert moved[0].any()
    torch.testing.assert_close(moved[0], moved[1])


class Counting(FlattenExtractor):
    """Counts its passes; its statistics are those of a layer that keeps some."""

    def __init__(self, observation_space: Any) -> None:
        super().__init__(observation_space)
        self.norm, self.passes = nn.BatchNorm1d(self.features_dim), 0

    def forward(self, observations: Tensor) -> Tensor:
        self.passes += 1
        return self.norm(super().forward(observations))


@pytest.mark.parametrize("agent", [PPO, PDPPO, ARPO])
@pytest.mark.parametrize("routing", ["marginal", "score"])
def test_a_loss_evaluates_the_mixture_once(agent: type[PPO], routing: str) -> None:
    """The routing loss takes features and mixture from the agent's own, whose layers see each minibatch once, as in SB3."""
    model = agent(
        "MoeMlpPolicy",
        PostDecision(SpacesEnv(), lambda seen, taken: (seen, 0.0)),
        n_steps=32,
        batch_size=32,
        n_epochs=1,
        seed=0,
        compile=False,
        **({"epsilon": 0.0} if agent is ARPO else {}),
        policy_kwargs={"routing": routing, "features_extractor_class": Counting},
    ).learn(32)
    extractor: Any = model.policy.features_extractor
    before, seen = extractor.passes, int(extractor.norm.num_batches_tracked)
    model.train()
    assert seen == 1
    assert extractor.passes == before + 1


def test_an_action_of_pdppo_is_worth_both_streams_of_rewards() -> None:
    """With split targets neither critic's target is what an action is worth; their sum is."""
    generator = np.random.default_rng(0)
    shape, last = (6, 1), np.zeros(1, np.float32)
    decision, chance = generator.normal(size=(2, *shape)).astype(np.float32)
    continues = np.ones(shape, np.float32)
    continues[-1] = 0.0
    zeros = np.zeros(shape, np.float32)
    steps = HalfSteps(decision, chance, zeros, zeros, last, continues, zeros.astype(bool), 0.9, 1.0)
    found, whole = split(steps), textbook(steps)
    np.testing.assert_allclose(found.returns + found.post_returns, whole.returns, rtol=1e-5)
    batch: Any = SimpleNamespace(returns=torch.tensor([1.0]), extra={"post_returns": torch.tensor([2.0])})
    options = {"n_steps": 32, "batch_size": 16, "policy_kwargs": {"routing": "frequency"}}
    for targets, worth in (("split", 3.0), ("textbook", 1.0)):
        model = PDPPO("MoeMlpPolicy", "rlspo/FrozenLakePostDecision-v0", targets=targets, **options)
        assert float(model.action_returns(batch)) == worth
        seen: list[Any] = []
        model.policy.auxiliary_loss = lambda _, mixture, batch, seen=seen: (seen.append(batch.returns), (torch.zeros(()), {}))[
            1
        ]
        model.compile = False
        model.learn(32)
        both = model.rollout_buffer.flat("returns") + model.rollout_buffer.flat("post_returns") * (targets == "split")
        assert all(any(np.isclose(value, both, atol=1e-5)) for value in seen[0].tolist())


# SAC.

ALPHA = 0.3


def off_policy(**kwargs: Any) -> Any:
    """SAC's policy of three experts and one action component, far from uniform."""
    options = {"learning_starts": 10, "batch_size": 16, "buffer_size": 100, "seed": 3}
    policy = SAC("MoeMlpPolicy", OneEnv(), **options, policy_kwargs={"n_experts": 3, "net_arch": [4], **kwargs}).policy
    with torch.no_grad():
        for head in (policy.actor.mu, policy.actor.log_std, policy.actor.gate[-1]):
            head.weight.zero_()
        policy.actor.mu.bias.copy_(MEANS)
        policy.actor.log_std.bias.copy_(torch.tensor([-1.0, -0.5, -1.5]))
        policy.actor.gate[-1].bias.copy_(WEIGHTS.log())
    return policy


class OneEnv(SpacesEnv):
    def __init__(self) -> None:
        super().__init__()
        self.action_space = type(self.action_space)(-1, 1, (1,), np.float32)


def worth(actions: Tensor) -> Tensor:
    return (2 * actions[..., 0]).sin() + actions[..., 0] ** 2


def written_out(name: str, noise: Any, coef: float) -> dict[str, Tensor]:
    """Gradients of the loss by bias, with densities from torch.distributions and nothing of ours but the noise."""
    mean = MEANS.clone().requires_grad_()
    log_std = torch.tensor([-1.0, -0.5, -1.5], requires_grad=True)
    logits = WEIGHTS.log().requires_grad_()
    raw = mean + log_std.exp() * noise["actions"][..., 0]  # (B, K)
    q = worth(torch.tanh(raw).unsqueeze(-1))

    def log_pi(raw: Tensor, logits: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
        normals = torch.distributions.Normal(mean, log_std.exp())
        of_experts = normals.log_prob(raw.unsqueeze(-1)) + torch.log_softmax(logits, dim=-1)
        return torch.logsumexp(of_experts, dim=-1) - torch.log1p(-(torch.tanh(raw) ** 2))

    everything = (logits, mean, log_std)
    if name == "marginal":
        loss = (torch.softmax(logits, -1) * (ALPHA * log_pi(raw, *everything) - q)).sum(-1).mean()
    elif name == "all":
        routed = nn.functional.cross_entropy(logits.expand(len(raw), 3), q.argmax(dim=-1))
        loss = (ALPHA * log_pi(raw, logits.detach(), mean, log_std) - q).mean() + coef * routed
    else:  # score: E over the expert drawn of its cost, and REINFORCE for the gate
        drawn = (logits.detach() + noise["gate"]).argmax(dim=-1)
        rows = torch.arange(len(raw))
        cost = ALPHA * log_pi(raw, *everything) - q
        soft = (q - ALPHA * log_pi(raw, *everything)).detach()
        advantage = soft[rows, drawn] - (torch.softmax(logits, -1).detach() * soft).sum(-1)
        loss = cost[rows, drawn].mean() - coef * (torch.log_softmax(logits, -1)[drawn] * advantage).mean()
    return dict(zip(("gate", "mu", "log_std"), torch.autograd.grad(loss, everything), strict=True))


@pytest.mark.parametrize(
    ("name", "kwargs"), [("marginal", {}), ("all", {"routing_coef": 2.0}), ("score", {"routing_coef": 2.0})]
)
def test_gradients_of_sacs_actor(name: str, kwargs: dict[str, Any]) -> None:
    policy = off_policy(routing="frequency" if name == "all" else name, **kwargs)
    noise = policy.draw_noise(4000, torch.Generator().manual_seed(0))
    parameters = dict(policy.named_parameters())
    loss, log_prob, _ = policy.actor_loss(parameters, torch.zeros(4000, 5), noise, torch.tensor(ALPHA), worth)
    expected = written_out(name, noise, kwargs.get("routing_coef", 1.0))
    biases = {"gate": policy.actor.gate[-1].bias, "mu": policy.actor.mu.bias, "log_std": policy.actor.log_std.bias}
    for part, gradient in zip(biases, torch.autograd.grad(loss, [*biases.values()]), strict=True):
        torch.testing.assert_close(
            gradient, expected[part], atol=1e-4, rtol=1e-3, msg=lambda text, part=part: f"{part}: {text}"
        )
    mixture = policy.distribution_of(torch.zeros(4000, 5))
    actions = torch.tanh(mixture.experts.mean + mixture.experts.log_std.exp() * noise["actions"])
    each = torch.stack([mixture.log_prob(actions[:, k]) for k in range(3)], dim=1)
    torch.testing.assert_close(log_prob, (each * WEIGHTS).sum(-1), atol=1e-3, rtol=1e-3)  # as often as the gate lets them act


@pytest.mark.parametrize("gate", ["observation", "latent"])
def test_the_gate_does_not_shape_what_it_sees_in_sac(gate: str) -> None:
    policy = off_policy(routing="frequency", gate=gate, share_features_extractor=False)
    noise = policy.draw_noise(64, torch.Generator().manual_seed(0))
    with torch.no_grad():
        policy.actor.gate[-1].weight.normal_()
    mixture = policy.distribution_of(torch.randn(64, 5))
    routing.frequency(mixture, routing.wins(noise["gate"]), policy.moe).backward()
    reached = {name.split(".")[1] for name, p in policy.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {"gate"}


def test_the_bellman_target_acts_as_the_gate_does() -> None:
    policy = off_policy()
    with torch.no_grad():
        policy.actor.mu.bias.copy_(torch.tensor([-2.0, 0.0, 2.0]))
        policy.actor.log_std.bias.fill_(-5.0)
    actions, _ = policy.sample_of((torch.zeros(B, 5), policy.draw_noise(B, torch.Generator().manual_seed(0))))
    shares = torch.stack([(actions[:, 0].atanh() - place).abs() < 0.5 for place in (-2, 0, 2)]).float().mean(dim=1)
    torch.testing.assert_close(shares, WEIGHTS, atol=0.01, rtol=0)


# Statistics.


def test_statistics_of_gates_made_by_hand() -> None:
    weights = torch.tensor([[0.98, 0.01, 0.01], [0.5, 0.49, 0.01]])
    mean = torch.tensor([0.0, 1.0, 4.0]).reshape(1, 3, 1).expand(2, 3, 1)
    found = routing.gate_statistics(GaussianMixture.of(weights.log(), mean, torch.zeros(1)))
    usage = weights.mean(dim=0)
    assert [float(found[f"moe/usage_{k}"]) for k in range(3)] == pytest.approx(usage.tolist())
    assert float(found["moe/usage_entropy"]) == pytest.approx(float(-(usage * usage.log()).sum()), rel=1e-5)
    assert float(found["moe/gate_entropy"]) == pytest.approx(float(-(weights * weights.log()).sum(dim=-1).mean()), rel=1e-5)
    assert float(found["moe/dead_experts"]) == 1  # 0.01 is below a tenth of a third
    assert float(found["moe/kl_min"]) == pytest.approx(0.5)  # half the square of the distance
    assert float(found["moe/kl_mean"]) == pytest.approx((0.5 + 4.5 + 8.0) / 3, rel=1e-5)
