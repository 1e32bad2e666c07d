"""Sequential Monte Carlo policy optimisation (Macfarlane et al. 2024, arXiv 2402.07963)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.vec_env import VecEnv

from rlspo.common.collector import Actor, TimeLimits
from rlspo.common.errors import check_count, check_fraction, check_number
from rlspo.common.on_policy import OnPolicyAgent
from rlspo.common.rollout_buffer import Field, RolloutBuffer, action_field
from rlspo.common.trees import tree_map
from rlspo.common.update import MINIBATCH_FIELDS, Minibatch, Parameters
from rlspo.spo import losses
from rlspo.spo.exploration import RootNoise
from rlspo.spo.planning import Planner
from rlspo.spo.policies import (
    MoeSPOCnnPolicy,
    MoeSPOMlpPolicy,
    MoeSPOMultiInputPolicy,
    SPOCnnPolicy,
    SPOMlpPolicy,
    SPOMultiInputPolicy,
    SPOPolicy,
)
from rlspo.spo.replay import Ending, Replay
from rlspo.spo.search import Search, search_divergence
from rlspo.spo.temperature import check_divergence, temperature_for
from rlspo.spo.update import TargetUpdate

Tensor = torch.Tensor


class SPO(OnPolicyAgent):
    """Sequential Monte Carlo policy optimisation, for environments that can be simulated.

    At each step N particles follow the policy for a few steps in copies of the environment (:mod:`rlspo.spo.search`). What is
    left of their first actions is a sample of a better policy q, from which the action is drawn, and towards which the actor
    goes:

    ::

        E-step  q(a|s) ~ pi(a|s) exp(A(s, a) / eta),   eta = argmin eta (e_q + E_s log E_pi exp(A / eta))       (eq. 6, 7)
        M-step  max E_s sum_n w_n log pi(a_n|s)   s.t.   E_s KL(pi'(.|s) || pi(.|s)) < e_pi                    (eq. 11, 12)
        critic  min 1/2 E_s (V(s) - G)^2,   G the TD(lambda) return by V'

    with pi' and V' slowly following averages of actor and critic. Of Gaussians mean and spread are bounded apart, in each
    dimension by itself. ``predict`` acts by the policy alone, :meth:`plan` by search.

    :param policy: ``"MlpPolicy"``, ``"CnnPolicy"``, ``"MultiInputPolicy"``, their mixtures of experts ``"MoeMlpPolicy"``,
        ``"MoeCnnPolicy"`` and ``"MoeMultiInputPolicy"``, or a subclass of :class:`rlspo.spo.SPOPolicy`
    :param env: as for :class:`rlspo.PPO`, of which :func:`rlspo.simulators.simulator_for` makes a simulator
    :param learning_rate: of Adam, or a function of the remaining progress (1e-4 to 1e-3)
    :param n_steps: steps per environment between updates (16 to 256)
    :param batch_size: states in a minibatch (64 to 1024)
    :param gradient_steps: minibatches after each rollout; more learns more from it (``gradient_steps * batch_size`` is 2 to
        16 times a rollout)
    :param replay_rollouts: how many rollouts minibatches are drawn from; more is steadier and staler (1 to 8)
    :param gamma: discount factor
    :param gae_lambda: of the critic's returns (0.9 to 1)
    :param n_particles: N at each step; more improves the policy more and costs as much more (8 to 64)
    :param depth: steps that a search looks ahead (2 to 16)
    :param resample_period: see :class:`rlspo.spo.SearchSettings`, as are the next three
    :param ess_threshold: instead of ``resample_period``
    :param resampling: how
    :param as_published: resample after the last step, too
    :param root_noise: share of first actions that are drawn from noise, corrected for (0 to 0.25)
    :param root_alpha: of that noise, where actions are choices (0.03 to 1)
    :param temperature: eta, in units of V; ``"auto"`` learns it for ``search_kl``
    :param search_kl: e_q, how far a search may stray from the policy, in nats, below log N; more is greedier (0.1 to 1)
    :param policy_kl: e_pi, how far the actor may go from its average, in nats: of all together, or of Gaussians' means in each
        dimension; None: 0.05 for these, 0.01 otherwise
    :param spread_kl: the same for the spread of Gaussians, in each dimension (1e-4 to 1e-2)
    :param dual_learning_rate: of the multipliers of the bounds (1e-3 to 1e-1)
    :param tau: how far the averages go towards actor and critic at a gradient step (0.001 to 0.05)
    :param vf_coef: weight of the critic's loss (its gradients are clipped together with the actor's)
    :param max_grad_norm: limit on the norm of the gradient; that of the multipliers has the same for itself
    :param stats_window_size: the remaining arguments are those of :class:`rlspo.PPO`
    :raises ValueError: for values out of range
    :raises NotSimulatableError: for an environment that cannot be simulated, with what can

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
    update: TargetUpdate
    replay: Replay
    planner: Planner | None = None

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
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        normalize_observations: bool = False,
        normalize_rewards: bool = False,
        compile: str | bool = "auto",
        precision: str = "float32",
        _init_setup_model: bool = True,
    ) -> None:
        for name, value in (("dual_learning_rate", dual_learning_rate), ("search_kl", search_kl), ("spread_kl", spread_kl)):
            check_number(name, value, positive=True)
        if policy_kl is not None:
            check_number("policy_kl", policy_kl, positive=True)
        if temperature != "auto":
            check_number("temperature", temperature, positive=True)
        self.gradient_steps = check_count("gradient_steps", gradient_steps)
        self.replay_rollouts = check_count("replay_rollouts", replay_rollouts)
        self.n_particles, self.depth = check_count("n_particles", n_particles), check_count("depth", depth)
        self.resample_period, self.ess_threshold = resample_period, ess_threshold
        if temperature == "auto":
            check_divergence(search_kl, n_particles)
        self.resampling, self.as_published = resampling, as_published
        self.root_noise, self.root_alpha = root_noise, check_number("root_alpha", root_alpha, positive=True)
        check_number("root_noise", root_noise, maximum=0.99)
        self.temperature, self.search_kl = temperature, search_kl
        self.policy_kl, self.spread_kl = policy_kl, spread_kl
        self.dual_learning_rate, self.tau = dual_learning_rate, check_fraction("tau", tau)
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
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            normalize_observations=normalize_observations,
            normalize_rewards=normalize_rewards,
            compile=compile,
            precision=precision,
            supported_action_spaces=(spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary),
        )
        if _init_setup_model:
            self._setup_model()

    # The paper.

    def loss(self, parameters: Parameters, batch: Minibatch) -> tuple[Tensor, dict[str, Tensor]]:
        inputs = self.policy.preprocess(batch.observations)
        actor, values = self.policy.evaluate(parameters, inputs)
        average = self.policy.action_distribution(self.update.target_parameters(), inputs).detach()
        likelihood, divergences = self.m_step(actor, average, batch.extra["root_actions"], batch.extra["root_weights"])
        price, multiplier_loss = losses.penalties(divergences, parameters["raw_multipliers"], self.bounds)
        value_loss = (values - batch.returns).square().mean()
        loss = price - likelihood + multiplier_loss + 0.5 * self.vf_coef * value_loss
        return loss, {"policy_loss": -likelihood, "value_loss": value_loss, **self.divergence_stats(divergences)}

    def e_step(self) -> float:
        """eta at the minimum of its dual, by the advantages in the replay."""
        rows = {name: torch.from_numpy(self.replay.flat(name)[self.replay.flat("valid")]) for name in self.extra_fields}
        return temperature_for(rows["root_advantages"], self.search_kl, rows.get("root_corrections", 0.0))

    def m_step(self, actor: Any, average: Any, actions: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """The weighted likelihood of the actions, and what is bounded: mean divergences of the average from the actor."""
        if not self.policy.bounds_spread:
            return losses.log_likelihood(actor, actions, weights), average.kl(actor).mean().reshape(1)
        moved, spread = losses.gaussian_divergences(average, actor)
        divergences = torch.cat([moved.mean(dim=0), spread.mean(dim=0)])
        return losses.decoupled_likelihood(actor, average, actions, weights), divergences

    def divergence_stats(self, divergences: Tensor) -> dict[str, Tensor]:
        """How far the actor is from its average, beside what it may be."""
        if not self.policy.bounds_spread:
            return {"policy_kl": divergences.sum()}
        moved, spread = divergences.chunk(2)
        return {"policy_kl": moved.mean(), "spread_kl": spread.mean()}

    # Construction.

    def _setup_model(self) -> None:
        if not issubclass(self.policy_class, SPOPolicy):
            raise TypeError(
                f"policy is {self.policy_class!r}; it must be one of {', '.join(self.policy_aliases)}, or a subclass of "
                "rlspo.spo.SPOPolicy."
            )
        self.policy_kwargs = {**self.policy_kwargs, "dual_lr_scale": self.dual_learning_rate / self._first_learning_rate()}
        rows = (self.n_particles,)
        self.extra_fields = {
            "root_actions": Field((*rows, *action_field(self.action_space).shape), action_field(self.action_space).dtype),
            "root_weights": Field(rows),
            "root_advantages": Field(rows),
        }
        self.noise = None
        if self.root_noise > 0.0:
            self.noise = RootNoise(self.root_noise, self.root_alpha, self.action_space)
            self.extra_fields["root_corrections"] = Field(rows)
        super()._setup_model()
        self.policy.target.copy_(self.update.flat.values)
        self.replay = Replay(self.rollout_buffer, self.replay_rollouts)
        if self.env is not None:
            self.planner = self._new_planner(self.env)

    def _first_learning_rate(self) -> float:
        rate = self.learning_rate
        return float(rate(1.0) if callable(rate) else rate)

    def _new_planner(self, env: Any) -> Planner:
        return Planner(
            self,
            env,
            search_kl=self.search_kl,
            root_noise=self.noise,
            generator=self.randomness.torch,
            **self.search_settings(),
        )

    def search_settings(self) -> dict[str, Any]:
        """How searches are done in training."""
        names = ("n_particles", "depth", "gamma", "resample_period", "ess_threshold", "resampling", "as_published")
        return {name: getattr(self, name) for name in names}

    def set_env(self, env: Any, force_reset: bool = True) -> None:
        """As SB3's.

        :raises NotSimulatableError: for an environment that cannot be simulated
        """
        env = self._wrap_env(env, self.verbose)
        self.planner = self._new_planner(env)
        super().set_env(env, force_reset)

    def _new_update(self, compiled: bool = False) -> TargetUpdate:
        policy = self.policy
        apart = bool(policy.bounds_spread)
        bound = self.policy_kl or (0.05 if apart else 0.01)
        per_part = len(policy.raw_multipliers) // (1 + apart)
        self.bounds = torch.tensor([bound] * per_part + [self.spread_kl] * (per_part * apart), device=self.device)
        update = TargetUpdate(
            self._whole_loss, policy, policy.optimizer, self.max_grad_norm, target=policy.target, tau=self.tau
        )
        update.use_compiled(compiled, or_eager=self.compile == "auto")
        return update

    # Collecting.

    def make_actor(self) -> Actor:
        assert self.planner is not None and self.env is not None
        env, planner = self.env, self.planner
        planner.temperature, planner.generator = self.search_temperature(), self.randomness.torch
        planner.model_steps, planner.seconds = 0.0, 0.0
        self._diagnostics: dict[str, Tensor] = {}

        def act(observations: Any) -> tuple[np.ndarray, None, None]:
            self._found = found = planner.search(env, observations)
            for name, by_depth in found.diagnostics.items():
                self._diagnostics[name] = self._diagnostics.get(name, 0.0) + by_depth / self.n_steps
            return found.draw(self.randomness.torch).cpu().numpy(), None, None

        return act

    def search_temperature(self) -> float | None:
        """eta now, in units of V; None before anything was searched, where the planner finds one."""
        return self._temperature if self.temperature == "auto" else float(self.temperature)

    _temperature: float | None = None

    def step_fields(self, infos: list[dict[str, Any]]) -> dict[str, Any]:
        found = self._found
        fields = {"root_actions": found.actions, "root_weights": found.weights, "root_advantages": found.advantages}
        if self.noise is not None:
            fields["root_corrections"] = found.corrections
        return {name: tensor.cpu().numpy() for name, tensor in fields.items()}

    def _evaluate_rollout(
        self, buffer: RolloutBuffer, time_limits: TimeLimits, last_obs: Any, dones: np.ndarray, acted_by_torch: bool
    ) -> None:
        super()._evaluate_rollout(buffer, time_limits, last_obs, dones, acted_by_torch)
        self.replay.keep(buffer, Ending(time_limits, tree_map(np.array, last_obs), np.array(dones)))
        self._temperature = self.e_step()
        self._record_search()

    def _record_search(self) -> None:
        assert self.planner is not None
        for name, by_depth in self._diagnostics.items():
            for depth, value in enumerate(by_depth.tolist(), start=1):
                self.logger.record(f"search/{name}_{depth}", value, exclude=("stdout",))
        advantages = torch.from_numpy(self.replay.flat("root_advantages")[self.replay.flat("valid")])
        temperature = self.search_temperature()
        assert temperature is not None
        self.logger.record("search/search_kl", float(search_divergence(advantages, temperature).mean()))
        self.logger.record("search/temperature", temperature)
        self._model_steps += self.planner.model_steps
        self.logger.record("search/model_steps", self._model_steps)
        self.logger.record("search/model_steps_per_second", self.planner.model_steps / self.planner.seconds)

    _model_steps = 0.0

    # Learning.

    def learning_data(self) -> dict[str, Any]:
        """All rows of the replay, with returns by the averaged critic as it is now."""
        scale = (lambda rewards: rewards) if self.reward_scaler is None else self.reward_scaler
        self.replay.form_returns(AveragedCritic(self.policy, self.update), scale)
        return self.replay.tensors((*MINIBATCH_FIELDS.values(), *self.extra_fields))

    def minibatches(self) -> np.ndarray:
        """Rows of the replay, drawn anew for each minibatch, ``(gradient_steps, batch_size)``."""
        rows = np.flatnonzero(self.replay.flat("valid"))
        return self.randomness.numpy.choice(rows, (self.gradient_steps, self.batch_size))

    def updates_per_rollout(self) -> int:
        return self.gradient_steps

    # Acting by search.

    def plan(
        self,
        env: Any,
        observation: Any,
        *,
        n_particles: int | None = None,
        depth: int | None = None,
        deterministic: bool = True,
        **settings: Any,
    ) -> tuple[np.ndarray, Search]:
        """Act by search; :meth:`predict` acts by the policy alone.

        :param env: that ``observation`` is of; it stays as it is. A gymnasium environment, or a vectorised one
        :param observation: of all environments in it
        :param n_particles: None: as in training; may be any other number, as may ``depth``
        :param deterministic: see :meth:`~rlspo.spo.Planner.act`
        :param settings: see :class:`~rlspo.spo.Planner`
        :return: actions as the environment takes them, ``(n_envs, *action_shape)`` or, of a gymnasium environment,
            ``action_shape``; and what the search found
        """
        given = {"n_particles": n_particles, "depth": depth}
        settings = {**self.search_settings(), "temperature": self.search_temperature(), **settings}
        settings |= {name: value for name, value in given.items() if value is not None}
        planner = Planner(self, env, generator=self.randomness.predict, **settings)
        single = not isinstance(env, VecEnv | VectorEnv)
        observations = tree_map(lambda leaf: np.asarray(leaf)[None], observation) if single else observation
        actions, found = planner.act(env, observations, deterministic)
        return (actions[0] if single else actions), found

    # Saving.

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "replay", "planner", "noise", "bounds", "_found", "_diagnostics"]


class AveragedCritic:
    """V' in the shape of a policy.

    :param policy: whose networks are used
    :param update: whose average of the parameters is used
    """

    def __init__(self, policy: SPOPolicy, update: TargetUpdate) -> None:
        self.policy, self.parameters = policy, update.target_parameters()
        self.device, self.preprocess = policy.device, policy.preprocess

    def values_of(self, inputs: Any) -> Tensor:
        """V'(inputs), ``(B,)``."""
        return self.policy.values(self.parameters, inputs)
