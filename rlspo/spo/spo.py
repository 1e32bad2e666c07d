"""Sequential Monte Carlo policy optimisation (Macfarlane et al. 2024, arXiv 2402.07963)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Unpack

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import Schedule

from rlspo.common.arguments import OnPolicySettings
from rlspo.common.compilation import mark_static
from rlspo.common.errors import check_count, check_fraction, check_number
from rlspo.common.settings import check_flag, check_limit, check_positive, fixed_setting, setting
from rlspo.common.update import Minibatch, Parameters
from rlspo.policies.actor_critic import adopted_policy_class
from rlspo.spo import losses
from rlspo.spo.policies import (
    MoeSPOCnnPolicy,
    MoeSPOMlpPolicy,
    MoeSPOMultiInputPolicy,
    SPOCnnPolicy,
    SPOMlpPolicy,
    SPOMultiInputPolicy,
    SPOPolicy,
)
from rlspo.spo.resampling import check_resampling
from rlspo.spo.search import SearchSettings, check_period, check_share
from rlspo.spo.searched_rollouts import SearchedRollouts
from rlspo.spo.temperature import check_divergence, check_temperature, temperature_for
from rlspo.spo.update import TargetUpdate

Tensor = torch.Tensor


class SPO(SearchedRollouts):
    """Sequential Monte Carlo policy optimisation, for environments that can be simulated.

    At each step N particles follow the policy for a few steps in copies of the environment (:mod:`rlspo.spo.search`). Their
    remaining first actions are a sample of a better policy q. The action is drawn from it, and the actor is fitted to it:

    ::

        E-step  q(a|s) ~ pi(a|s) exp(A(s, a) / eta),   eta = argmin eta (e_q + E_s log E_pi exp(A / eta))       (eq. 6, 7)
        M-step  max E_s sum_n w_n log pi(a_n|s)   s.t.   E_s KL(pi'(.|s) || pi(.|s)) < e_pi                    (eq. 11, 12)
        critic  min 1/2 E_s (V(s) - G)^2,   G the TD(lambda) return by V'

    with pi' and V' slowly moving averages of actor and critic. For Gaussians, mean and spread have separate bounds in each
    dimension. ``predict`` acts by the policy alone, :meth:`plan` by search.

    :param policy: ``"MlpPolicy"``, ``"CnnPolicy"``, ``"MultiInputPolicy"``, their mixtures of experts ``"MoeMlpPolicy"``,
        ``"MoeCnnPolicy"`` and ``"MoeMultiInputPolicy"``, or a subclass of :class:`rlspo.spo.SPOPolicy`
    :param env: as for :class:`rlspo.PPO`, and supported by :func:`rlspo.simulators.simulator_for`
    :param learning_rate: of Adam, or a function of the remaining progress (1e-4 to 1e-3)
    :param n_steps: steps per environment between updates (16 to 256)
    :param batch_size: states in a minibatch (64 to 1024)
    :param gradient_steps: minibatches after each rollout; more learns more from it (``gradient_steps * batch_size`` is 2 to
        32 times a rollout)
    :param replay_rollouts: number of rollouts that minibatches are drawn from; more gives less noise and older data (1 to 8)
    :param gamma: discount factor
    :param gae_lambda: of the critic's returns (0.9 to 1)
    :param n_particles: N at each step; more improves the policy more, at proportional cost (8 to 64)
    :param depth: steps that a search looks ahead (2 to 16)
    :param resample_period: see :class:`rlspo.spo.SearchSettings`, as are the next three. At ``depth`` or above there is no
        resampling within a search, as with the defaults of both. 2 drops bad paths half-way and needs more particles
    :param ess_threshold: instead of ``resample_period``, which must be None then
    :param resampling: the method; without effect where nothing is resampled
    :param as_published: resample after the last step, too
    :param root_noise: share of first actions that are drawn from noise, corrected for (0 to 0.25)
    :param root_alpha: of that noise, for discrete actions (0.03 to 1)
    :param temperature: eta, in units of V; ``"auto"`` learns it for ``search_kl``, which has no effect otherwise
    :param search_kl: e_q, bound on the divergence of a search from the policy, in nats, below log N; more is greedier (0.1 to
        1)
    :param policy_kl: e_pi, bound on the divergence of the actor from its average, in nats: of the whole distribution, or for
        Gaussians of the means in each dimension; None: 0.05 for Gaussians, 0.01 otherwise
    :param spread_kl: the same for the spread of Gaussians, in each dimension (1e-4 to 1e-2)
    :param dual_learning_rate: of the multipliers of the bounds (1e-3 to 1e-1)
    :param tau: step of the averages towards actor and critic at each gradient step (0.001 to 0.05)
    :param vf_coef: weight of the critic's loss (its gradients are clipped together with the actor's)
    :param max_grad_norm: limit on the norm of the gradient; the multipliers' gradient has the same limit separately
    :raises ValueError: for values out of range
    :raises NotSimulatableError: for an environment that cannot be simulated; the message lists what can

    >>> from rlspo import SPO
    >>> model = SPO("MlpPolicy", "CartPole-v1", n_steps=16, batch_size=16, gradient_steps=4, seed=0).learn(32)
    >>> action, _ = model.predict(model.env.reset(), deterministic=True)
    >>> action, search = model.plan(model.env, model.env.reset(), n_particles=8, depth=2)
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": SPOMlpPolicy,
        "CnnPolicy": SPOCnnPolicy,
        "MultiInputPolicy": SPOMultiInputPolicy,
        "MoeMlpPolicy": MoeSPOMlpPolicy,
        "MoeCnnPolicy": MoeSPOCnnPolicy,
        "MoeMultiInputPolicy": MoeSPOMultiInputPolicy,
    }
    saved_settings: ClassVar[set[str]] = {"n_particles", "batch_size"}
    coefficients: ClassVar[tuple[str, ...]] = ("vf_coef", "tau")
    gradient_steps = setting(check_count)
    depth = setting(check_count, then="_check_search")
    resample_period = setting(check_period, then="_check_search")
    ess_threshold = setting(check_share, then="_check_search")
    resampling = setting(check_resampling, then="_check_search")
    as_published = setting(check_flag, then="_check_search")
    temperature = setting(check_temperature, then="_check_search")
    search_kl = setting(check_positive, then="_check_search")
    policy_kl = setting(check_limit, then="_set_bounds")
    spread_kl = setting(check_positive, then="_set_bounds")
    tau = setting(check_fraction)
    n_particles = fixed_setting(check_count)
    replay_rollouts = fixed_setting(check_count)
    root_noise = fixed_setting()
    root_alpha = fixed_setting(check_positive)
    dual_learning_rate = fixed_setting(check_positive)

    def __init__(
        self,
        policy: str | type[SPOPolicy],
        env: Any,
        learning_rate: float | Schedule = 3e-4,
        n_steps: int = 128,
        batch_size: int = 256,
        gradient_steps: int = 16,
        replay_rollouts: int = 2,
        gamma: float = 0.99,
        gae_lambda: float = 0.95,
        n_particles: int = 16,
        depth: int = 4,
        resample_period: int | None = 4,
        ess_threshold: float | None = None,
        resampling: str = "systematic",
        as_published: bool = False,
        root_noise: float = 0.0,
        root_alpha: float = 0.3,
        temperature: str | float = "auto",
        search_kl: float = 0.5,
        policy_kl: float | None = None,
        spread_kl: float = 5e-4,
        dual_learning_rate: float = 1e-2,
        tau: float = 0.02,
        vf_coef: float = 1.0,
        max_grad_norm: float = 0.5,
        *,
        _init_setup_model: bool = True,
        **settings: Unpack[OnPolicySettings],
    ) -> None:
        if "dual_lr_scale" in (settings.get("policy_kwargs") or {}):
            raise TypeError(
                "policy_kwargs has 'dual_lr_scale', which SPO sets itself. Give the learning rate of the multipliers as "
                "SPO(dual_learning_rate=...), such as 1e-2."
            )
        self.gradient_steps, self.replay_rollouts = gradient_steps, replay_rollouts
        self.n_particles, self.depth = n_particles, depth
        self.resample_period, self.ess_threshold = resample_period, ess_threshold
        self.resampling, self.as_published = resampling, as_published
        self.root_noise, self.root_alpha = root_noise, root_alpha
        check_number("root_noise", root_noise, maximum=0.99)
        self.temperature, self.search_kl = temperature, search_kl
        if temperature == "auto":
            check_divergence(search_kl, n_particles)
        self.policy_kl, self.spread_kl = policy_kl, spread_kl
        self.dual_learning_rate, self.tau = dual_learning_rate, tau
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            n_steps=n_steps,
            batch_size=batch_size,
            n_epochs=1,
            gamma=gamma,
            gae_lambda=gae_lambda,
            ent_coef=0.0,
            vf_coef=vf_coef,
            max_grad_norm=max_grad_norm,
            target_kl=None,
            use_sde=False,
            sde_sample_freq=-1,
            **settings,
            supported_action_spaces=(spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary),
        )
        if _init_setup_model:
            self._setup_model()

    # The paper.

    def loss(self, parameters: Parameters, batch: Minibatch) -> tuple[Tensor, dict[str, Tensor]]:
        inputs = self.policy.preprocess(batch.observations)
        actor, values = self.evaluate(parameters, batch)
        average = self.policy.action_distribution(self.update.target_parameters(), inputs).detach()
        likelihood, divergences = self.m_step(actor, average, batch.extra["root_actions"], batch.extra["root_weights"])
        raw = parameters.get("raw_multipliers", self.policy.raw_multipliers)  # an optimiser may not contain them
        price, multiplier_loss = losses.penalties(divergences, raw, self.bounds)
        value_loss = (values - batch.returns).square().mean()
        loss = price - likelihood + multiplier_loss + 0.5 * batch.scalars["vf_coef"] * value_loss
        return loss, {"policy_loss": -likelihood, "value_loss": value_loss, **self.divergence_stats(divergences)}

    def e_step(self) -> float:
        """eta at the minimum of its dual, from the advantages in the replay."""
        rows = {name: torch.from_numpy(self.replay.flat(name)[self.replay.flat("valid")]) for name in self.extra_fields}
        return temperature_for(rows["root_advantages"], self.search_kl, rows.get("root_corrections", 0.0))

    def m_step(self, actor: Any, average: Any, actions: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """The weighted likelihood of the actions, and the bounded quantities: mean divergences of the average from the
        actor."""
        if not self.policy.bounds_spread:
            return losses.log_likelihood(actor, actions, weights), average.kl(actor).mean().reshape(1)
        moved, spread = losses.gaussian_divergences(average, actor)
        divergences = torch.cat([moved.mean(dim=0), spread.mean(dim=0)])
        return losses.decoupled_likelihood(actor, average, actions, weights), divergences

    def divergence_stats(self, divergences: Tensor) -> dict[str, Tensor]:
        """The divergences of the actor from its average, with their bounds."""
        if not self.policy.bounds_spread:
            return {"policy_kl": divergences.sum()}
        moved, spread = divergences.chunk(2)
        return {"policy_kl": moved.mean(), "spread_kl": spread.mean()}

    # Construction.

    def _setup_model(self) -> None:
        self.policy_class = adopted_policy_class(self.policy_class, self.policy_aliases)
        if not issubclass(self.policy_class, SPOPolicy):
            raise TypeError(
                f"policy is {self.policy_class!r}; it must be one of {', '.join(self.policy_aliases)}, or a subclass of SB3's "
                "ActorCriticPolicy or of rlspo.spo.SPOPolicy."
            )
        given = self.policy_kwargs
        self.policy_kwargs = {**given, "dual_lr_scale": self.dual_learning_rate / self._highest_learning_rate()}
        super()._setup_model()
        vars(self)["policy_kwargs"] = given

    def _highest_learning_rate(self) -> float:
        """The highest of the whole schedule, because a warm-up begins near 0."""
        rate = self.learning_rate
        highest = max(float(rate(float(left))) for left in np.linspace(1.0, 0.0, 101)) if callable(rate) else float(rate)
        if highest <= 0.0:
            raise ValueError(f"learning_rate is at most {highest}; the multipliers' rate is in its units. Give more than 0.")
        return highest

    def _check_search(self) -> None:
        """Check combinations of search settings.

        :raises ValueError: naming settings that exclude each other
        """
        SearchSettings(**self.search_settings())
        if self.temperature == "auto":
            check_divergence(self.search_kl, self.n_particles)

    def _apply_given(self, given: Mapping[str, Any]) -> None:
        """The saved optimiser has the multipliers' rate in units of the saved learning rate."""
        super()._apply_given(given)
        if given.keys() & {"learning_rate", "dual_learning_rate"}:
            self.policy.optimizer.param_groups[-1]["lr_scale"] = self.policy.dual_lr_scale

    def _set_bounds(self) -> None:
        """Set the bounds on the divergences between policy and average."""
        apart = bool(self.policy.bounds_spread)
        bound = self.policy_kl or (0.05 if apart else 0.01)
        per_part = len(self.policy.raw_multipliers) // (1 + apart)
        self.bounds = torch.tensor([bound] * per_part + [self.spread_kl] * (per_part * apart), device=self.device)

    def _new_update(self, compiled: bool = False) -> TargetUpdate:
        policy = self.policy
        policy.make_functional()
        self._set_bounds()
        update = TargetUpdate(
            self._whole_loss if policy.has_auxiliary_loss else self.loss,
            policy,
            policy.optimizer,
            self.max_grad_norm,
            target=policy.target,
            tau=self.tau,
            before=getattr(self, "update", None),
        )
        if len(policy.target) != len(update.vector.weights):  # layers were frozen or replaced: their average starts anew
            policy.target = update.target = mark_static(update.vector.weights.clone())
        update.use_compiled(compiled, or_eager=self.compile == "auto")
        return update
