"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347): SB3's PPO on the compiled engine."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Unpack

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import Schedule

from rlspo.common.acting import ACTING_DEVICES
from rlspo.common.arguments import OnPolicySettings
from rlspo.common.errors import check_choice
from rlspo.common.on_policy import OnPolicyAgent
from rlspo.common.sequences import check_burn_in, check_sequence_length
from rlspo.common.settings import (
    as_schedule,
    check_flag,
    check_limit_schedule,
    check_positive_schedule,
    fixed_setting,
    scheduled,
    setting,
)
from rlspo.common.update import Minibatch, Parameters
from rlspo.policies import (
    ActorCriticCnnPolicy,
    ActorCriticPolicy,
    Distribution,
    MultiInputActorCriticPolicy,
    functional_policy_class,
)
from rlspo.policies.moe import MoeActorCriticCnnPolicy, MoeActorCriticPolicy, MoeMultiInputActorCriticPolicy
from rlspo.policies.recurrent import LSTM_POLICIES
from rlspo.ppo import losses

Tensor = torch.Tensor


class PPO(OnPolicyAgent):
    """Proximal policy optimisation with the clipped surrogate.

    ::

        L = -E[min(r A, clip(r, 1 - clip_range, 1 + clip_range) A)] + vf_coef E[(V(s) - R)^2] - ent_coef E[H(pi(.|s))]
        r = pi(a|s) / pi_old(a|s)                                                        (arXiv 1707.06347, eq. 7 and 9)

    Same arguments, defaults, logs and numbers as SB3's PPO, several times faster.

    :param policy: ``"MlpPolicy"`` (vectors), ``"CnnPolicy"`` (images), ``"MultiInputPolicy"`` (Dict observations), their
        mixtures of experts ``"MoeMlpPolicy"``, ``"MoeCnnPolicy"`` and ``"MoeMultiInputPolicy"``
        (:class:`rlspo.policies.moe.MixtureOfExperts`), any of these six with memory, such as ``"MlpLstmPolicy"`` and
        ``"MoeCnnLstmPolicy"`` (:class:`rlspo.policies.recurrent.Recurrent`), or a subclass of SB3's ``ActorCriticPolicy`` or
        of :class:`rlspo.policies.ActorCriticPolicy`
    :param env: environment id, gymnasium environment, SB3 VecEnv or gymnasium VectorEnv
    :param learning_rate: of Adam, or a function of the remaining progress (1 to 0); lower it when ``approx_kl`` or the
        return jump, usual range 3e-5 to 1e-3
    :param n_steps: steps per environment and rollout; more gives better advantages and fewer, larger updates (128 to 4096)
    :param batch_size: minibatch size; larger is faster per step (64 to 4096). Where it does not divide ``n_steps * n_envs``,
        the last minibatch of an epoch is smaller, as in SB3, and is not compiled
    :param n_epochs: passes over a rollout; more learns more from it until ``approx_kl`` grows (3 to 20)
    :param gamma: discount factor; nearer to 1 looks farther ahead (0.9 to 0.9999)
    :param gae_lambda: 0: one-step advantages (biased, quiet), 1: Monte Carlo (unbiased, noisy); usual 0.9 to 0.99
    :param clip_range: how far r may move from 1 before its gradient vanishes; float or schedule (0.1 to 0.3)
    :param clip_range_vf: limit on the change of V per update, in units of the return; None for none
    :param normalize_advantage: zero mean and unit variance in each minibatch
    :param ent_coef: weight of the entropy bonus; raise it when exploration dies early (0 to 0.01, with many components of
        the action up to 0.1); a schedule may let it fall, from exploring to settling
    :param vf_coef: weight of the value loss (0.25 to 1)
    :param max_grad_norm: limit on the norm of the whole gradient
    :param use_sde: state-dependent exploration (gSDE, arXiv 2005.05719), for Box actions
    :param sde_sample_freq: steps between new exploration matrices; -1: once per rollout
    :param rollout_buffer_class: a subclass of :class:`~rlspo.common.rollout_buffer.RolloutBuffer`
    :param rollout_buffer_kwargs: for it
    :param target_kl: stop a rollout's updates once ``approx_kl`` exceeds 1.5 times this; None for no limit
    :param sequence_length: of a policy with memory: steps of the sequences that minibatches are made of, and through which
        gradients go; it must divide ``n_steps`` and ``batch_size``. More learns to remember for longer and costs time (8 to
        128). None: their largest common divisor up to 32
    :param burn_in: of a policy with memory: steps before each sequence that are gone through again by the policy as it is now,
        without gradient, so that what is remembered at its beginning is not that of older weights (0 to 32)
    :param recompute_states: of a policy with memory: go through the whole rollout again before each epoch but the first, for
        the same end; else sequences begin with what was remembered while acting
    :param acting_device: of a policy on a GPU: ``"auto"``: small networks of plain layers act on the CPU, where their answer
        comes sooner, with weights that are copied once per rollout; ``"policy"``: the policy acts where it is
    :raises ValueError: for values out of range, here and where a setting is changed later
    :raises TypeError: for a policy class that losses cannot use

    >>> from rlspo import PPO
    >>> model = PPO("MlpPolicy", "CartPole-v1", n_steps=64, seed=0).learn(128)
    >>> action, _ = model.predict(model.env.reset(), deterministic=True)
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": ActorCriticPolicy,
        "CnnPolicy": ActorCriticCnnPolicy,
        "MultiInputPolicy": MultiInputActorCriticPolicy,
        "MoeMlpPolicy": MoeActorCriticPolicy,
        "MoeCnnPolicy": MoeActorCriticCnnPolicy,
        "MoeMultiInputPolicy": MoeMultiInputActorCriticPolicy,
        **LSTM_POLICIES,
    }

    clip_range = setting(check_positive_schedule, kept_as=as_schedule)
    clip_range_vf = setting(check_limit_schedule, kept_as=as_schedule)
    normalize_advantage = setting(check_flag, then="check_minibatches")
    sequence_length = fixed_setting(check_sequence_length)
    burn_in = fixed_setting(check_burn_in)
    recompute_states = setting(check_flag)
    acting_device = setting(partial(check_choice, allowed=ACTING_DEVICES))

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: Any,
        learning_rate: float | Schedule = 3e-4,
        n_steps: int = 2048,
        batch_size: int = 64,
        n_epochs: int = 10,
        gamma: float = 0.99,
        gae_lambda: float = 0.95,
        clip_range: float | Schedule = 0.2,
        clip_range_vf: float | Schedule | None = None,
        normalize_advantage: bool = True,
        ent_coef: float | Schedule = 0.0,
        vf_coef: float = 0.5,
        max_grad_norm: float = 0.5,
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        rollout_buffer_class: type[Any] | None = None,
        rollout_buffer_kwargs: dict[str, Any] | None = None,
        target_kl: float | None = None,
        *,
        sequence_length: int | None = None,
        burn_in: int = 0,
        recompute_states: bool = False,
        acting_device: str = "auto",
        _init_setup_model: bool = True,
        **settings: Unpack[OnPolicySettings],
    ) -> None:
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            n_steps=n_steps,
            batch_size=batch_size,
            n_epochs=n_epochs,
            gamma=gamma,
            gae_lambda=gae_lambda,
            ent_coef=ent_coef,
            vf_coef=vf_coef,
            max_grad_norm=max_grad_norm,
            use_sde=use_sde,
            sde_sample_freq=sde_sample_freq,
            rollout_buffer_class=rollout_buffer_class,
            rollout_buffer_kwargs=rollout_buffer_kwargs,
            target_kl=target_kl,
            **settings,
            supported_action_spaces=(spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary),
        )
        _check_two(batch_size, normalize_advantage)
        if normalize_advantage and self.env is not None and n_steps * self.n_envs < 2:
            raise ValueError(
                f"`n_steps * n_envs` must be greater than 1. Currently n_steps={n_steps} and n_envs={self.n_envs}. One "
                "advantage cannot be normalised: let n_steps be larger, or normalize_advantage=False."
            )
        self.clip_range = clip_range
        self.clip_range_vf = clip_range_vf
        self.normalize_advantage = normalize_advantage
        self.sequence_length = sequence_length
        self.burn_in = burn_in
        self.recompute_states = recompute_states
        self.acting_device = acting_device
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        self.policy_class = functional_policy_class(self.policy_class, self.policy_aliases)
        super()._setup_model()
        # Where these were given to load, they have been set by nobody yet.
        self.clip_range, self.clip_range_vf = self.clip_range, self.clip_range_vf

    def schedules(self) -> dict[str, float]:
        schedules = {"clip_range": self.clip_range, "clip_range_vf": self.clip_range_vf}
        if callable(self.ent_coef):
            schedules["ent_coef"] = self.ent_coef
        remaining = self._current_progress_remaining
        return {name: scheduled(name, value, remaining) for name, value in schedules.items() if value is not None}

    def check_minibatches(self) -> None:
        _check_two(self.batch_size, self.normalize_advantage)
        super().check_minibatches()

    def surrogate(self, distribution: Distribution, batch: Minibatch) -> tuple[Tensor, Tensor]:
        """The clipped surrogate of each sample, ``(B,)``, to be maximised; and log r, ``(B,)`` or in K parts, ``(B, K)``."""
        log_ratio = distribution.log_prob(batch.actions) - batch.old_log_prob
        advantages = losses.standardize(batch.advantages) if self.normalize_advantage else batch.advantages
        return losses.clipped_surrogate(log_ratio, advantages, batch.scalars["clip_range"]), log_ratio

    def loss(self, parameters: Parameters, batch: Minibatch) -> tuple[Tensor, dict[str, Tensor]]:
        distribution, values = self.evaluate(parameters, batch)
        surrogate, log_ratio = self.surrogate(distribution, batch)
        policy_loss = -surrogate.mean()
        stats = {"policy_gradient_loss": policy_loss, **losses.ratio_statistics(log_ratio, batch.scalars["clip_range"])}
        return self.total_loss(policy_loss, distribution, values, batch, stats)

    def total_loss(
        self, policy_loss: Tensor, distribution: Distribution, values: Tensor, batch: Minibatch, stats: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Policy loss, value loss and entropy bonus together, and ``stats`` with the latter two."""
        value_loss = losses.value_loss(values, batch.returns, batch.old_values, batch.scalars.get("clip_range_vf"))
        entropy_loss = losses.entropy_loss(distribution, batch.actions)
        loss = policy_loss + batch.scalars["ent_coef"] * entropy_loss + batch.scalars["vf_coef"] * value_loss
        return loss, {**stats, "value_loss": value_loss, "entropy_loss": entropy_loss}


def _check_two(batch_size: int, normalize_advantage: bool) -> None:
    """
    :raises ValueError: for a single advantage, which cannot be normalised
    """
    if normalize_advantage and batch_size < 2:
        raise ValueError(f"batch_size is {batch_size}; normalize_advantage needs at least 2 samples to a minibatch.")
