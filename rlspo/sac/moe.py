"""Mixture-of-experts actors for SAC (arXiv 2104.09122, section 3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch.nn import functional as F

from rlspo.common.errors import check_choice
from rlspo.policies.distributions import SquashedGaussian, gumbel
from rlspo.policies.functional import Functional, Parameters
from rlspo.policies.mixtures import SquashedGaussianMixture, of_expert
from rlspo.policies.moe import routing
from rlspo.policies.moe.settings import HasExperts
from rlspo.sac.mixture_actor import MixtureActor
from rlspo.sac.policies import SACCnnPolicy, SACMultiInputPolicy, SACPolicy

Tensor = torch.Tensor


class MoeSACPolicy(HasExperts, SACPolicy):
    """A mixture of K experts for vectors ("MoeMlpPolicy"); they share the actor's hidden layers.

    In a state each expert k draws a_k, and the critics say which is best, k*. Frequency routing regresses the gate to k*, and

    ::

        primitive_update="all"   E[ mean_k ( alpha log pi(a_k|s) - Q(s, a_k) ) ]
        primitive_update="max"   E[ alpha log pi(a_k*|s) - Q(s, a_k*) ]          the best expert alone learns, as published

    The other routings train gate and experts together, on the expectation over experts, on one drawn, or on a relaxed draw.

    All arguments of :class:`~rlspo.sac.policies.SACPolicy` and of :class:`~rlspo.policies.moe.MoeSettings`, and:

    :param entropy_of: whose log-probability is meant by log pi: ``"mixture"``, or ``"component"``, that of the expert which
        acts, as published; it leaves the gate's entropy out, and nothing then keeps experts apart
    :param mode_by: which expert acts where ``deterministic=True``: the one that the ``"gate"`` likes best, or the one whose
        mode the ``"critic"`` does
    :raises ValueError: for several experts with gSDE, whose noise is that of one
    """

    multi_input = SACMultiInputPolicy
    used_by: ClassVar[dict[str, tuple[str, ...]]] = {
        "primitive_update": ("frequency",),
        "routing_coef": ("frequency", "score"),
    }

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        lr_schedule: Schedule,
        *args: Any,
        entropy_of: str = "mixture",
        mode_by: str = "gate",
        **kwargs: Any,
    ) -> None:
        self.entropy_of = check_choice("entropy_of", entropy_of, ("component", "mixture"))
        self.mode_by = check_choice("mode_by", mode_by, ("gate", "critic"))
        super().__init__(observation_space, action_space, lr_schedule, *args, **kwargs)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "entropy_of": self.entropy_of, "mode_by": self.mode_by}

    def make_actor(self, features_extractor: Any = None) -> Any:
        if self.n_experts == 1:
            return super().make_actor(features_extractor)
        given = self._update_features_extractor(self.actor_kwargs, features_extractor)
        return MixtureActor(**given, moe=self.moe).to(self.device)

    # Acting.

    def distribution_of(self, inputs: Any) -> Any:
        if self.n_experts == 1:
            return super().distribution_of(inputs)
        actor: Any = self.actor
        with self._low_precision():
            features = self._features(inputs, actor.features_extractor)
            latent = actor.latent_pi(features)
        return actor.mixture_of(latent.float(), features.float())

    def fast_actor(self, generator: np.random.Generator) -> Callable[[np.ndarray], np.ndarray] | None:
        """Of one expert, who is the plain policy."""
        return super().fast_actor(generator) if self.n_experts == 1 else None

    _repeated_in_numpy: ClassVar = (distribution_of, SACPolicy._heads, Functional._features)

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        if self.n_experts == 1:
            return super()._predict(observation, deterministic)
        inputs = self.preprocess(observation)
        mixture = self.distribution_of(inputs)
        if not deterministic:
            actions, index = mixture.sample_with_expert(self.generator)
        else:
            index = self._acting_expert(mixture, inputs)
            actions = mixture.expert(index).mode()
        self.acting_experts = index.cpu().numpy()
        return actions

    def _acting_expert(self, mixture: Any, inputs: Any) -> Tensor:
        """Which expert acts where nothing is drawn, ``(B,)``."""
        if self.mode_by == "gate":
            return mixture.best_expert()
        return self.q_values_of((inputs, mixture.experts.mode())).amin(dim=0).argmax(dim=-1)

    def mode_of(self, inputs: Any) -> Tensor:
        mixture = self.distribution_of(inputs)
        return mixture.mode() if self.n_experts == 1 else mixture.expert(self._acting_expert(mixture, inputs)).mode()

    # Learning.

    def draw_noise(self, batch_size: int, generator: torch.Generator) -> Any:
        """Standard normal noise for one action of each expert, ``(B, K, A)``, and Gumbel noise for the gate's draw."""
        if self.n_experts == 1:
            return super().draw_noise(batch_size, generator)
        actor: Any = self.actor
        size = (batch_size, self.n_experts, actor.mu.out_features // self.n_experts)
        return {
            "actions": torch.randn(size, generator=generator, device=self.device),
            "gate": gumbel(size[:2], generator, self.device),
        }

    def sample_of(self, seen: tuple[Any, Any]) -> tuple[Tensor, Tensor]:
        """Actions of the experts that the gate draws, ``(B, A)``, and their log-probabilities, ``(B,)``."""
        if self.n_experts == 1:
            return super().sample_of(seen)
        inputs, noise = seen
        mixture = self.distribution_of(inputs)
        index = mixture.sample_expert(noise["gate"])
        raw = of_expert(mixture.experts.raw(noise["actions"]), index)
        return mixture.experts.squash(raw), self._log_prob(mixture, raw, index)

    def _log_prob(self, mixture: SquashedGaussianMixture, raw: Tensor, index: Tensor | None = None) -> Tensor:
        """log pi of what the experts ``index`` drew, ``(B,)``; None: of what every expert drew, ``(B, K)``."""
        if self.entropy_of == "mixture":
            return mixture.log_prob_of_raw(raw)
        experts: Any = mixture.experts if index is None else mixture.expert(index)
        return experts.log_probs_of_raw(raw).sum(dim=-1)

    def actor_loss(
        self, parameters: Parameters, inputs: Any, noise: Any, ent_coef: Tensor, soft_q: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The loss of experts and gate.

        :param noise: of :meth:`draw_noise`
        :param soft_q: the smallest Q of all critics, from actions ``(B, ..., A)`` to ``(B, ...)``
        :return: the loss, log pi of the actions with the gate's weights, ``(B,)``, and scalar statistics
        """
        if self.n_experts == 1:
            return super().actor_loss(parameters, inputs, noise, ent_coef, soft_q)
        mixture = self._with(parameters, self.distribution_of, inputs)
        raw = mixture.experts.raw(noise["actions"])
        still = mixture.detach()
        log_probs = self._log_prob(still, raw.detach())
        if self._one_learns:
            values = soft_q(mixture.experts.squash(raw.detach()))
            costs, routed = self._loss_of_one(mixture, raw, values, log_probs, noise, ent_coef, soft_q)
        else:
            values = soft_q(mixture.experts.squash(raw))
            costs, routed = self._loss_of_all(mixture, raw, values, noise, ent_coef)
        stats = {**routing.gate_statistics(mixture), **routing.win_statistics(values.detach())}
        stats["moe/routing_loss"] = routed.detach()
        return costs.mean() + self.moe.routing_coef * routed, (still.weights * log_probs).sum(dim=-1), stats

    @property
    def _one_learns(self) -> bool:
        """Whether a single expert learns from each state."""
        return self.moe.routing == "score" or (self.moe.routing == "frequency" and self.moe.primitive_update == "max")

    def _loss_of_one(
        self,
        mixture: SquashedGaussianMixture,
        raw: Tensor,
        values: Tensor,
        log_probs: Tensor,
        noise: Any,
        ent_coef: Tensor,
        soft_q: Callable[[Tensor], Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Costs ``(B,)`` of the best expert or of the one drawn, and the gate's loss."""
        if self.moe.routing == "score":
            index = mixture.sample_expert(noise["gate"])
            routed = routing.score(mixture, values - ent_coef * log_probs, index)
            log_prob = self._log_prob(mixture, of_expert(raw, index), index)
        else:
            index, routed = values.argmax(dim=-1), routing.frequency(mixture, routing.wins(values), self.moe)
            # The gate follows the wins and the losers stand still: the density of the draw moves with the winner alone.
            log_prob = self._log_prob(_learning_alone(mixture, index), of_expert(raw, index), index)
        drawn = of_expert(raw, index)
        return ent_coef * log_prob - soft_q(mixture.experts.squash(drawn)), routed

    def _loss_of_all(
        self, mixture: SquashedGaussianMixture, raw: Tensor, values: Tensor, noise: Any, ent_coef: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Costs of all experts, weighted as the routing says, and the gate's own loss."""
        routed = torch.zeros_like(ent_coef)
        if self.moe.routing == "frequency":  # the gate follows the wins alone
            routed = routing.frequency(mixture, routing.wins(values.detach()), self.moe)
            costs = ent_coef * self._log_prob(replace(mixture, gate=mixture.gate.detach()), raw) - values
            return costs, routed
        costs = ent_coef * self._log_prob(mixture, raw) - values
        if self.moe.routing == "marginal":
            return (mixture.weights * costs).sum(dim=-1), routed
        choice = routing.relaxed_choice(mixture, noise["gate"], self.moe.gumbel_temperature)
        return (choice * costs).sum(dim=-1), routed


def _learning_alone(mixture: SquashedGaussianMixture, index: Tensor) -> SquashedGaussianMixture:
    """The mixture, through which gradients reach one expert of each row and nothing else."""
    alone = F.one_hot(index, mixture.n_experts).bool().unsqueeze(-1)
    experts = SquashedGaussian(
        *(torch.where(alone, part, part.detach()) for part in (mixture.experts.mean, mixture.experts.log_std))
    )
    return replace(mixture, gate=mixture.gate.detach(), experts=experts)


class MoeSACCnnPolicy(MoeSACPolicy, SACCnnPolicy):
    """:class:`MoeSACPolicy` for images ("MoeCnnPolicy")."""


class MoeSACMultiInputPolicy(MoeSACPolicy, SACMultiInputPolicy):
    """:class:`MoeSACPolicy` for Dict observations ("MoeMultiInputPolicy")."""
