"""Mixture-of-experts actors for PPO and its variants (arXiv 2104.09122), beside SB3's critic."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import nn

from rlspo.common.errors import check_layers
from rlspo.common.gradients import stop_gradient
from rlspo.common.spaces import as_env_numbers, from_env_numbers
from rlspo.policies.actor_critic import ActorCriticCnnPolicy, ActorCriticPolicy, MultiInputActorCriticPolicy
from rlspo.policies.distributions import gumbel
from rlspo.policies.functional import Parameters
from rlspo.policies.mixtures import BernoulliMixture, CategoricalMixture, GaussianMixture, Mixture
from rlspo.policies.moe import routing
from rlspo.policies.moe.action_values import ActionValue
from rlspo.policies.moe.sb3_distribution import SB3Mixture
from rlspo.policies.moe.settings import HasExperts

Tensor = torch.Tensor


class MixtureOfExperts(HasExperts, ActorCriticPolicy):
    """Stands before an actor-critic policy and makes K experts of its actor, which share its hidden layers.

    The surrogate of the mixture's density trains experts in proportion to their responsibility, and the gate; that is all
    with ``routing="marginal"``, the default here. The other routings add a loss of the gate. Which expert's action is best is
    told by Q(s, a), a network of this policy's own that learns the returns of the actions taken.

    All arguments of the policy it stands before, those of :class:`~rlspo.policies.moe.MoeSettings`, and:

    :param q_net_arch: hidden layers of Q
    :raises ValueError: for several experts with gSDE, whose noise is that of one
    """

    multi_input = MultiInputActorCriticPolicy
    used_by: ClassVar[dict[str, tuple[str, ...]]] = {"routing_coef": ("frequency", "gumbel", "score")}

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *args: Any,
        routing: str = "marginal",
        q_net_arch: Sequence[int] = (64, 64),
        **kwargs: Any,
    ) -> None:
        self.q_net_arch = check_layers("q_net_arch", q_net_arch)
        super().__init__(observation_space, action_space, lr_schedule, *args, routing=routing, **kwargs)
        if self.q_net_arch != [64, 64] and not self.has_action_values:
            warnings.warn(
                f"q_net_arch is {self.q_net_arch}, which does nothing with routing={routing!r} and {self.n_experts} experts: "
                "nothing asks what actions are worth. Leave it out, or use another routing.",
                stacklevel=2,
            )

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "q_net_arch": self.q_net_arch}

    _template: tuple[tuple[int, torch.device], Any] | None = None

    @property
    def has_auxiliary_loss(self) -> bool:
        return self.n_experts > 1

    @property
    def has_action_values(self) -> bool:
        """Whether the routing asks what actions are worth."""
        return self.n_experts > 1 and self.moe.routing != "marginal"

    def _add_parts(self) -> None:
        super()._add_parts()
        if self.n_experts == 1:
            return
        latent, features = self.mlp_extractor.latent_dim_pi, self.n_features
        plain: Any = self.action_net
        self.action_net = nn.Linear(latent, self.n_experts * plain.out_features)
        if self.ortho_init:
            self.init_weights(self.action_net, gain=0.01)
        nn.init.normal_(self.action_net.bias, std=self.moe.initial_spread)
        if isinstance(self.action_dist, DiagGaussianDistribution):
            self.log_std = nn.Parameter(self.log_std.detach().expand(self.n_experts, -1).clone())
        width = latent if self.moe.gate == "latent" else features
        self.gate_net = routing.make_gate(self.moe, width, self.activation_fn)
        if self.has_action_values:
            self.action_value_net = ActionValue(features, self.action_space, self.q_net_arch, self.activation_fn)

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """Q's gradients, which are of another scale, do not shrink the others'."""
        first, *others = super()._parameter_groups()
        if not self.has_action_values:
            return [first, *others]
        own = [*self.action_value_net.parameters()]
        known = {id(parameter) for parameter in own}
        rest = {**first, "params": [p for p in first["params"] if id(p) not in known]}
        return [rest, *others, {"params": own, "clip_apart": True}]

    # Acting.

    def _distribution_at(self, latent: Tensor, features: Tensor) -> Any:
        if self.n_experts == 1:
            return super()._distribution_at(latent, features)
        head = self.action_net(latent).unflatten(-1, (self.n_experts, -1))
        gate = self.gate_net(stop_gradient(latent if self.moe.gate == "latent" else features))
        seen = features.detach() if self.has_action_values else None
        return replace(self._mixture(gate, head), one_learns=self.moe.primitive_update == "max", features=seen)

    def _mixture(self, gate: Tensor, head: Tensor) -> Mixture:
        if isinstance(self.action_dist, DiagGaussianDistribution):
            return GaussianMixture.of(gate, head, self.log_std)
        if isinstance(self.action_space, spaces.MultiBinary):
            return BernoulliMixture.of(gate, head)
        return CategoricalMixture.of(gate, head, self._choices)

    _repeated_in_numpy: ClassVar[tuple[Callable[..., Any], ...]] = (
        ActorCriticPolicy.distribution_of,
        _distribution_at,
        ActorCriticPolicy._distribution,
        ActorCriticPolicy._features,
        _mixture,
    )

    def _choose(self, distribution: Any, deterministic: bool) -> Tensor:
        if self.n_experts == 1:
            return super()._choose(distribution, deterministic)
        actions, index = (
            (distribution.mode(), distribution.best_expert())
            if deterministic
            else distribution.sample_with_expert(self.generator)
        )
        self.acting_experts = index.cpu().numpy()
        return actions

    def get_distribution(self, obs: PyTorchObs) -> Any:
        """SB3's distribution object at ``obs``, for code written against SB3."""
        if self.n_experts == 1:
            return super().get_distribution(obs)
        mixture: Any = self.distribution_of(self.preprocess(obs))
        return SB3Mixture(mixture, self.generator)

    def forward(self, obs: Any, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Actions, values ``(B, 1)`` and log-probabilities, as SB3's policies."""
        if self.n_experts == 1:
            return super().forward(obs, deterministic)
        distribution, values = self.evaluation_of(self.preprocess(obs))
        actions = distribution.mode() if deterministic else distribution.sample(self.generator)
        elements = as_env_numbers(actions.reshape(-1, *(self.action_space.shape or ())), self.action_space)
        return elements, values.unsqueeze(-1), distribution.log_prob(actions)

    def evaluate_actions(self, obs: PyTorchObs, actions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Values ``(B, 1)``, log-probabilities and entropy, as SB3's policies."""
        if self.n_experts == 1:
            return super().evaluate_actions(obs, actions)
        distribution, values = self.evaluation_of(self.preprocess(obs))
        log_probs = distribution.log_prob(from_env_numbers(actions, self.action_space))
        return values.unsqueeze(-1), log_probs, distribution.entropy()

    # The routing loss.

    def draw_noise(self, batch_size: int, generator: torch.Generator) -> Any:
        """For one action of each expert, and for the gate's draw."""
        if not self.has_action_values:
            return None
        experts = self._experts_of(batch_size)
        return {
            "actions": experts.draw_noise(generator),
            "gate": gumbel((batch_size, self.n_experts), generator, self.device),
        }

    def _experts_of(self, batch_size: int) -> Any:
        """Experts in the shapes of a minibatch, whatever their numbers; kept, since every minibatch asks."""
        where = (batch_size, self.device)
        if self._template is None or self._template[0] != where:
            widths = (self.mlp_extractor.latent_dim_pi, self.n_features)
            with torch.no_grad():
                mixture = self._distribution_at(*(torch.zeros(batch_size, width, device=self.device) for width in widths))
            self._template = (where, mixture.experts)
        return self._template[1]

    def auxiliary_loss(self, parameters: Parameters, distribution: Any, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The routing loss, and the loss of Q."""
        stats = routing.gate_statistics(distribution)
        if not self.has_action_values:
            return torch.zeros_like(stats["moe/gate_entropy"]), stats
        loss, more = self._with(parameters, self.auxiliary_loss_of, (distribution, batch))
        return loss, stats | more

    def auxiliary_loss_of(self, seen: tuple[Mixture, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """:meth:`auxiliary_loss` where a Q tells what actions are worth, with the module's own parameters.

        :param seen: the mixture at the minibatch's observations, and the minibatch
        """
        mixture, batch = seen
        q_loss = (self.action_value_net(mixture.features, batch.actions) - batch.returns).square().mean()
        drawn = mixture.experts.from_noise(batch.policy_noise["actions"]).detach()
        values = self.action_value_net(mixture.features, drawn).detach()
        loss = self._routing_loss(mixture, values, batch.policy_noise["gate"])
        stats = {**routing.win_statistics(values), "moe/routing_loss": loss.detach(), "moe/q_loss": q_loss.detach()}
        return self.moe.routing_coef * loss + q_loss, stats

    def _routing_loss(self, mixture: Mixture, values: Tensor, noise: Tensor) -> Tensor:
        settings = self.moe
        if settings.routing == "frequency":
            return routing.frequency(mixture, routing.wins(values), settings)
        # Only differences within a state matter to a choice among experts; returns have any scale, log-probabilities have not.
        within = values - values.mean(dim=-1, keepdim=True)
        scaled = within / (within.std() + 1e-8)
        if settings.routing == "score":
            return routing.score(mixture, scaled, mixture.sample_expert(noise))
        choice = routing.relaxed_choice(mixture, noise, settings.gumbel_temperature)
        return -(choice * scaled).sum(dim=-1).mean()


class MoeActorCriticPolicy(MixtureOfExperts):
    """A mixture of experts for vectors ("MoeMlpPolicy")."""


class MoeActorCriticCnnPolicy(MixtureOfExperts, ActorCriticCnnPolicy):
    """A mixture of experts for images ("MoeCnnPolicy")."""


class MoeMultiInputActorCriticPolicy(MixtureOfExperts, MultiInputActorCriticPolicy):
    """A mixture of experts for Dict observations ("MoeMultiInputPolicy")."""
