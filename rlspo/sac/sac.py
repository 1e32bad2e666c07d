"""Soft actor-critic (Haarnoja et al. 2018, arXiv 1812.05905): SB3's SAC with the compiled update."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, ClassVar, Unpack

import numpy as np
import torch
from stable_baselines3 import SAC as SB3SAC
from stable_baselines3.common.buffers import ReplayBuffer as SB3ReplayBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.vec_env import VecEnv

from rlspo.common.arguments import AgentSettings
from rlspo.common.errors import IncompatibleModelError, check_choice, check_count, check_fraction, check_number
from rlspo.common.off_policy import OffPolicyAgent, tell_discount
from rlspo.common.precision import PRECISIONS, bfloat16_is_fast
from rlspo.common.processor import tiny_is_zero
from rlspo.common.settings import check_flag, check_rows_suffice, check_steps, check_values, fixed_setting, setting
from rlspo.sac import losses
from rlspo.sac.moe import MoeSACCnnPolicy, MoeSACMultiInputPolicy, MoeSACPolicy
from rlspo.sac.policies import SACCnnPolicy, SACMultiInputPolicy, SACPolicy, functional_sac_policy_class
from rlspo.sac.settings import (
    check_action_noise,
    check_actions,
    check_ent_coef,
    check_target_entropy,
    check_train_freq,
    ent_coef_cannot_change,
    warn_of_interval,
)
from rlspo.sac.update import Parameters, SACUpdate, Temperature, Transitions

Tensor = torch.Tensor


class SAC(OffPolicyAgent, SB3SAC):
    """Soft actor-critic: off-policy, with a learned entropy coefficient.

    ::

        y     = r + gamma (1 - done) [ min_i Q'_i(s', a') - alpha log pi(a'|s') ],   a' ~ pi(.|s')
        L_Q   = 1/2 sum_i E[ (Q_i(s, a) - y)^2 ]
        L_pi  = E[ alpha log pi(a|s) - min_i Q_i(s, a) ],   a ~ pi(.|s), reparameterised
        alpha follows -log alpha (log pi(a|s) + target entropy);   Q' <- (1 - tau) Q' + tau Q  (arXiv 1812.05905, eq. 5, 7, 18)

    Same arguments, defaults, logs and numbers as SB3's SAC; a gradient step is one compiled function.

    :param policy: ``"MlpPolicy"`` (vectors), ``"CnnPolicy"`` (images), ``"MultiInputPolicy"`` (Dict observations), their
        mixtures of experts ``"MoeMlpPolicy"``, ``"MoeCnnPolicy"`` and ``"MoeMultiInputPolicy"``
        (:class:`rlspo.sac.moe.MoeSACPolicy`), or a subclass of SB3's ``SACPolicy`` or of
        :class:`rlspo.sac.policies.SACPolicy`
    :param env: environment id, gymnasium environment, SB3 VecEnv or gymnasium VectorEnv; its actions are a Box
    :param learning_rate: of all Adam optimisers, or a function of the remaining progress; usual range 1e-4 to 1e-3
    :param buffer_size: transitions kept (1e5 to 1e6; images need less)
    :param learning_starts: steps with uniform actions before learning (100 to 1e4)
    :param batch_size: minibatch size (64 to 1024)
    :param tau: how far the target critics go towards the critics at an update; 1 copies (0.001 to 0.02)
    :param gamma: discount factor (0.95 to 0.9999)
    :param train_freq: steps per environment between trainings, or ``(n, "episode")``
    :param gradient_steps: minibatches for each training; -1: as many as steps were collected
    :param action_noise: added to the actions taken, beyond the policy's own
    :param replay_buffer_class: ``HerReplayBuffer``, another class that extends SB3's, or a subclass of
        :class:`rlspo.common.replay_buffer.ReplayBuffer`, which lives on the device, is the default and stands in for SB3's
        ``ReplayBuffer`` and ``DictReplayBuffer``
    :param replay_buffer_kwargs: for it
    :param optimize_memory_usage: keep observations once, in SB3's ``ReplayBuffer``
    :param n_steps: of returns before bootstrapping (1 to 10); beyond 1 with SB3's ``NStepReplayBuffer``
    :param ent_coef: weight of the entropy; ``"auto"`` learns it from 1 on, ``"auto_0.1"`` from 0.1 on
    :param target_update_interval: minibatches between updates of the target critics, counted anew in each training as in SB3,
        so that more than ``gradient_steps`` is no more
    :param target_entropy: in nats, for the learned weight; ``"auto"``: minus the number of action dimensions
    :param use_sde: state-dependent exploration (gSDE, arXiv 2005.05719)
    :param sde_sample_freq: steps between new exploration matrices; -1: once per collection
    :param use_sde_at_warmup: use it before ``learning_starts``, too
    :param precision: of hidden layers while learning: ``"float32"``, ``"bfloat16"``, or ``"auto"`` (bfloat16 where the
        hardware has it); output layers, weights and optimisers stay float32
    :raises ValueError: for values out of range
    :raises TypeError: for a policy class that losses cannot use

    >>> from rlspo import SAC
    >>> model = SAC("MlpPolicy", "Pendulum-v1", learning_starts=20, batch_size=16, seed=0).learn(40)
    >>> action, _ = model.predict(model.env.reset(), deterministic=True)
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": SACPolicy,
        "CnnPolicy": SACCnnPolicy,
        "MultiInputPolicy": SACMultiInputPolicy,
        "MoeMlpPolicy": MoeSACPolicy,
        "MoeCnnPolicy": MoeSACCnnPolicy,
        "MoeMultiInputPolicy": MoeSACMultiInputPolicy,
    }
    policy: SACPolicy
    log_ent_coef: Any  # SB3's type is a tensor; it is a parameter here
    update: SACUpdate
    saved_settings: ClassVar[set[str]] = {"target_entropy", "tau"}
    shown_metric: ClassVar[str] = "train/critic_loss"
    gain_of_compiling: ClassVar[float] = 2.5

    batch_size = setting(check_count, then="check_minibatches")
    tau = setting(check_fraction)
    gamma = setting(check_fraction, then="_tell_buffer")
    learning_starts = setting(check_number)
    gradient_steps = setting(check_steps)
    action_noise = setting(check_action_noise)
    target_update_interval = setting(check_count)
    train_freq = setting(check_train_freq, then="_convert_train_freq")
    ent_coef = setting(check_ent_coef, then="_set_ent_coef")
    target_entropy = setting(check_target_entropy, then="_set_target_entropy")
    buffer_size = fixed_setting(check_count)
    n_steps = fixed_setting(check_count)
    use_sde = fixed_setting(check_flag, in_weights=True)
    precision = fixed_setting()

    def __init__(
        self,
        policy: str | type[SACPolicy],
        env: Any,
        learning_rate: float | Schedule = 3e-4,
        buffer_size: int = 1_000_000,
        learning_starts: int = 100,
        batch_size: int = 256,
        tau: float = 0.005,
        gamma: float = 0.99,
        train_freq: int | tuple[int, str] = 1,
        gradient_steps: int = 1,
        action_noise: ActionNoise | None = None,
        replay_buffer_class: type[SB3ReplayBuffer] | None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        optimize_memory_usage: bool = False,
        n_steps: int = 1,
        ent_coef: str | float = "auto",
        target_update_interval: int = 1,
        target_entropy: str | float = "auto",
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        use_sde_at_warmup: bool = False,
        *,
        compile: str | bool = "auto",
        precision: str = "float32",
        **settings: Unpack[AgentSettings],
    ) -> None:
        own: dict[str, Any] = {
            "buffer_size": buffer_size,
            "learning_starts": learning_starts,
            "batch_size": batch_size,
            "tau": tau,
            "gamma": gamma,
            "train_freq": train_freq,
            "gradient_steps": gradient_steps,
            "action_noise": action_noise,
            "replay_buffer_class": replay_buffer_class,
            "replay_buffer_kwargs": replay_buffer_kwargs,
            "optimize_memory_usage": optimize_memory_usage,
            "n_steps": n_steps,
            "ent_coef": ent_coef,
            "target_update_interval": target_update_interval,
            "target_entropy": target_entropy,
            "use_sde": use_sde,
            "sde_sample_freq": sde_sample_freq,
            "use_sde_at_warmup": use_sde_at_warmup,
        }
        check_values(type(self), own)
        self.set_up_compiling(compile)
        self.precision = check_choice("precision", precision, PRECISIONS)
        own["train_freq"] = tuple(train_freq) if isinstance(train_freq, list) else train_freq
        warn_of_interval(target_update_interval, gradient_steps)
        super().__init__(policy, env, learning_rate=learning_rate, **own, **settings)

    # The paper.

    def critic_loss(self, parameters: Parameters, batch: Transitions) -> Tensor:
        """L_Q above."""
        policy = self.policy
        inputs, next_inputs = policy.preprocess(batch.observations), policy.preprocess(batch.next_observations)
        next_actions, next_log_prob = policy.sample(parameters, next_inputs, batch.noise["next"])
        next_q = policy.target_q_values(parameters, next_inputs, next_actions)
        target = losses.critic_target(batch.rewards, batch.dones, batch.discounts, next_q, next_log_prob, batch.ent_coef)
        return losses.critic_loss(policy.q_values(parameters, inputs, batch.actions), target)

    def actor_loss(self, parameters: Parameters, batch: Transitions) -> tuple[Tensor, tuple[Tensor, dict[str, Tensor]]]:
        """L_pi above; a mixture of experts has its own."""
        inputs = self.policy.preprocess(batch.observations)

        def soft_q(actions: Tensor) -> Tensor:
            return self.policy.q_values(parameters, inputs, actions).amin(dim=0)

        # What the actor's layers see here, SB3 lets them see before the critics learn: see_observations has done so.
        actor = dict(parameters)
        loss, log_prob, stats = self.policy.actor_loss(actor, inputs, batch.noise["now"], batch.ent_coef, soft_q)
        return loss, (log_prob, stats)

    def see_observations(self, parameters: Parameters, batch: Transitions) -> None:
        """Let the running statistics of the actor's layers see the observations."""
        self.policy.sample(parameters, self.policy.preprocess(batch.observations), batch.noise["now"])

    # Construction.

    @staticmethod
    def _wrap_env(env: Any, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        wrapped = OffPolicyAgent._wrap_env(env, verbose, monitor_wrapper)
        check_actions(wrapped.action_space)
        return wrapped

    def _setup_model(self) -> None:
        self.policy_class = functional_sac_policy_class(self.policy_class, self.policy_aliases)
        super()._setup_model()
        low = self.precision == "bfloat16" or (self.precision == "auto" and bfloat16_is_fast(self.device))
        self.policy.matmul_dtype = torch.bfloat16 if low else None
        self.check_minibatches()
        self.update = self._new_update()
        #: Statistics that nobody has read yet, and updates until then. Reading them waits for the device.
        self.reports: list[tuple[int, Tensor]] = []
        self.reports_kept = 1 if self.device.type == "cpu" else 100

    def _new_update(self, compiled: bool = False) -> SACUpdate:
        temperature = None
        if self.ent_coef_optimizer is not None and self.log_ent_coef is not None:
            temperature = Temperature(self.log_ent_coef, self.ent_coef_optimizer)
            self.log_ent_coef = temperature.log_ent_coef
        self.policy.make_functional()
        update = SACUpdate(
            self.policy,
            temperature,
            self.ent_coef_optimizer,
            self.critic_loss,
            self.actor_loss,
            self.see_observations,
            before=getattr(self, "update", None),
        )
        update.use_compiled(compiled, or_eager=self.compile == "auto")
        return update

    # Settings changed later.

    def check_minibatches(self) -> None:
        """
        :raises ValueError: for a single row where layers need more
        """
        check_rows_suffice(self.policy, self.batch_size, "a minibatch")

    def _tell_buffer(self) -> None:
        tell_discount(self.replay_buffer, self.gamma)

    @classmethod
    def _given(
        cls, given: Mapping[str, Any], replaced: Mapping[str, Any], stored: Mapping[str, Any], device: Any
    ) -> dict[str, Any]:
        attributes = super()._given(given, replaced, stored, device)
        before, after = stored["ent_coef"], {**replaced, **given}.get("ent_coef", stored["ent_coef"])
        if after != before and (isinstance(before, str) or isinstance(after, str)):
            raise IncompatibleModelError(ent_coef_cannot_change(after, learned=isinstance(before, str)))
        return attributes

    def _set_ent_coef(self) -> None:
        """A fixed coefficient may be another one."""
        if self.ent_coef_optimizer is not None or isinstance(self.ent_coef, str):
            raise ValueError(ent_coef_cannot_change(self.ent_coef, learned=self.ent_coef_optimizer is not None))
        self.ent_coef_tensor = torch.tensor(float(self.ent_coef), device=self.device)

    def _set_target_entropy(self) -> None:
        if self.target_entropy == "auto":
            vars(self)["target_entropy"] = -float(np.prod(self.action_space.shape or ()))

    # Learning.

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Take ``gradient_steps`` steps on minibatches of ``batch_size`` transitions.

        :raises DivergedError: where a loss or weights become NaN or infinite
        """
        if gradient_steps == 0:
            return
        self._update_learning_rate(self._optimizers())
        if not self.update.holds() or (self.ent_coef_optimizer is not None and not self._holds_temperature()):
            self.update.publish_steps()
            self.update = self._new_update(self.update.compiled)
        scalars = self.scalars()
        never = torch.zeros_like(scalars["follow"])
        self.policy.set_training_mode(True)
        reports = []
        self.update.use_size(batch_size)
        self.update.refresh()
        # Copies are dear where a training is one step: they are made in one of a hundred.
        now_and_then = self._n_updates // 100 != (self._n_updates + gradient_steps) // 100
        now_and_then |= self.update.last_good.holds_nothing()
        if now_and_then:
            self._read_reports()
            self.update.last_good.note()
        before: Any = None
        with tiny_is_zero(), ExitStack() as after_the_first:
            for step in range(gradient_steps):
                if step == gradient_steps - 1 and now_and_then:
                    before = self.update.before_step()
                data, rows = self._minibatch(batch_size)
                follow = step % self.target_update_interval == 0
                noise = {when: self.policy.draw_noise(batch_size, self.randomness.torch) for when in ("now", "next")}
                if self.use_sde:
                    noise["next"] = noise["now"]  # one exploration matrix for both, as in SB3
                reports.append(self.update(data, rows, scalars if follow else {**scalars, "follow": never}, noise))
                if step == 0 and gradient_steps > 1:
                    after_the_first.enter_context(self.update.skip_guards())
        if before is not None:
            self.update.show_gradients(before)
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.reports.append((self._n_updates, reports[0] if gradient_steps == 1 else torch.stack(reports).mean(dim=0)))
        if len(self.reports) >= self.reports_kept:
            self._read_reports()

    def _read_reports(self) -> None:
        """Log the latest training's statistics.

        :raises DivergedError: where a loss or weights of any training since were NaN or infinite
        """
        if not self.reports:
            return
        numbers, rows = zip(*self.reports, strict=True)
        self.reports.clear()
        read = torch.stack(rows).tolist() if len(rows) > 1 else [rows[0].tolist()]
        for n_updates, (*means, weights) in zip(numbers, read, strict=True):
            found = dict(zip(self.update.stat_names, means, strict=True))
            losses_found = [value for name, value in found.items() if "loss" in name or name == "ent_coef"]
            if not all(map(math.isfinite, [weights, *losses_found])):
                self._stop(f"at update {n_updates}", found)
        self.update.last_good.trust()
        for name, value in found.items():
            self.logger.record(name if "/" in name else f"train/{name}", value)

    def dump_logs(self) -> None:
        """As SB3's."""
        self._read_reports()
        super().dump_logs()

    def check_policy(self) -> None:
        self._read_reports()
        super().check_policy()

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        optimizers = [self.actor.optimizer, self.critic.optimizer]
        return optimizers if self.ent_coef_optimizer is None else [*optimizers, self.ent_coef_optimizer]

    def _probe(self, inputs: Any) -> list[Tensor]:
        actions = self.policy.distribution_of(inputs).mode()
        spread = [self.actor.get_std()] if self.use_sde else []
        return [actions, self.policy.q_values_of((inputs, actions)), *spread]

    def _sample_action(self, *args: Any, **kwargs: Any) -> tuple[np.ndarray, np.ndarray]:
        try:
            actions, buffer_actions = super()._sample_action(*args, **kwargs)
        except Exception:
            self.check_policy()
            raise
        if not np.isfinite(buffer_actions).all():
            self._stop(f"at update {self._n_updates}: the policy's actions are NaN or infinite", {})
        return actions, buffer_actions

    def scalars(self) -> dict[str, Tensor]:
        """Scalars of the update that may change during training."""
        optimizers = self.update.optimizers.items()
        numbers = {f"learning_rate of the {name}": one.param_groups[0]["lr"] for name, one in optimizers}
        numbers |= {"gamma": self.gamma, "tau": self.tau, "follow": 1.0}
        if self.ent_coef_optimizer is None:
            numbers["ent_coef"] = float(self.ent_coef_tensor)
        else:
            numbers["target_entropy"] = float(self.target_entropy)
        return self.update.tensors_of(numbers)

    def _holds_temperature(self) -> bool:
        return self.update.parts["temperature"].holds_all([self.log_ent_coef])

    # Saving and loading.

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "reports", "reports_kept"]

    def get_parameters(self) -> dict[str, dict[str, Any]]:
        """State dicts of policy and optimisers, in SB3's form."""
        self._read_reports()
        self.update.publish_steps()
        return super().get_parameters()

    def set_parameters(self, load_path_or_dict: Any, exact_match: bool = True, device: Any = "auto") -> None:
        """As SB3's; weights and optimiser states are copied into the update's vectors."""
        super().set_parameters(load_path_or_dict, exact_match, device)
        self.reports.clear()  # of weights that are gone
        self.update.adopt_optimizer_state()
        self.update.last_good.forget()
