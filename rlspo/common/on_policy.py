"""The engine of on-policy agents: SB3's contract outside, batched collection and a whole-update function inside."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import torch
from stable_baselines3.common.buffers import RolloutBuffer as SB3RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.vec_env import VecEnv

from rlspo.common.acting import CopyOnCpu, pays
from rlspo.common.agent import TOO_LARGE
from rlspo.common.callback_locals import LATER, show_locals
from rlspo.common.collector import (
    Actor,
    TimeLimits,
    env_actions,
    evaluate_in_batches,
    torch_actor,
)
from rlspo.common.env_memory import EnvMemory
from rlspo.common.errors import check_count, check_fraction, check_number
from rlspo.common.on_policy_learner import OnPolicyLearner
from rlspo.common.precision import convolution_dtype
from rlspo.common.randomness import Randomness
from rlspo.common.reward_scaling import RewardScaler
from rlspo.common.rollout_buffer import Field, RolloutBuffer, observation_fields
from rlspo.common.sb3_rollouts import adopted_buffer
from rlspo.common.sequences import MEMORY, Sequences, warn_without_memory
from rlspo.common.settings import (
    as_steps,
    check_batch_size,
    check_flag,
    check_limit,
    check_positive,
    check_rows_suffice,
    check_schedule,
    check_values,
    fixed_setting,
    setting,
)
from rlspo.common.trees import tree_map
from rlspo.common.vector_env import ONLY_RESET, check_resets, only_reset
from rlspo.common.weights_in_use import WeightsInUse

if TYPE_CHECKING:  # policies stand on this package, not the other way round
    from rlspo.policies import ActorCriticPolicy

Tensor = torch.Tensor
SelfAgent = TypeVar("SelfAgent", bound="OnPolicyAgent")


class OnPolicyAgent(OnPolicyLearner):
    """Collect, estimate advantages, update: the loop around :meth:`loss`.

    A subclass gives the loss and may override the other hooks in the section "What an agent may change"; it copies
    neither :meth:`train` nor :meth:`collect_rollouts`. The arguments are SB3's, documented at :class:`rlspo.PPO`, and:

    :param normalize_observations: keep running mean and variance of the observations inside the policy (saved with it,
        updated once per rollout, frozen in ``predict``)
    :param normalize_rewards: learn from rewards divided by the running standard deviation of the discounted return
    :param precision: of convolutions: ``"float32"``, ``"bfloat16"``, or ``"auto"`` (bfloat16 where the hardware has it)
    """

    rollout_buffer_class: Any
    saved_settings: ClassVar[set[str]] = {"n_epochs", "batch_size"}
    shown_metric: ClassVar[str] = "train/value_loss"

    n_steps = fixed_setting(check_count)
    batch_size = setting(check_count, then="check_minibatches")
    n_epochs = setting(check_count)
    gamma = setting(check_fraction, then="_tell_buffers")
    gae_lambda = setting(check_fraction, then="_tell_buffers")
    ent_coef = setting(check_schedule)
    vf_coef = setting(check_number)
    max_grad_norm = setting(check_positive)
    target_kl = setting(check_limit)
    use_sde = fixed_setting(check_flag, in_weights=True)
    normalize_observations = fixed_setting(check_flag, in_weights=True)
    normalize_rewards = fixed_setting(check_flag)
    precision = fixed_setting()

    def __init__(
        self,
        *args: Any,
        batch_size: int,
        n_epochs: int,
        target_kl: float | None,
        normalize_observations: bool = False,
        normalize_rewards: bool = False,
        compile: str | bool = "auto",
        precision: str = "float32",
        policy_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        own = {
            "batch_size": batch_size,
            "n_epochs": n_epochs,
            "target_kl": target_kl,
            "normalize_observations": normalize_observations,
            "normalize_rewards": normalize_rewards,
        }
        check_values(type(self), {**kwargs, **own})
        if "extra_fields" in (kwargs.get("rollout_buffer_kwargs") or {}):
            raise ValueError("rollout_buffer_kwargs has extra_fields, which agents declare: set extra_fields in your class.")
        if normalize_observations:
            policy_kwargs = {**(policy_kwargs or {}), "normalize_observations": True}
        super().__init__(*args, **{**kwargs, "policy_kwargs": policy_kwargs, "_init_setup_model": False})
        self.batch_size = batch_size
        self.n_epochs = n_epochs
        self.target_kl = target_kl
        self.normalize_observations = normalize_observations
        self.normalize_rewards = normalize_rewards
        self.set_up_compiling(compile)
        self.precision = precision
        self.reward_scaler: RewardScaler | None = None
        if self.env is not None:
            observation_fields(self.observation_space)
            self.warn_of_a_rest()

    def _tell_buffers(self) -> None:
        """What the discount and lambda of the coming rollouts are."""
        self.rollout_buffer.gamma, self.rollout_buffer.gae_lambda = self.gamma, self.gae_lambda
        if self.reward_scaler is not None:
            self.reward_scaler.gamma = self.gamma

    def warn_of_a_rest(self) -> None:
        """Of a last minibatch that is smaller than the others."""
        if self.smallest_minibatch < self.batch_size:
            check_batch_size(self.batch_size, self.n_steps, self.n_envs)

    def check_minibatches(self) -> None:
        """What a new ``batch_size`` means for the minibatches of a rollout.

        :raises ValueError: for a single row where layers need more
        """
        self.warn_of_a_rest()
        check_rows_suffice(self.policy, self.smallest_minibatch, "the last minibatch of an epoch")
        self._cut_rollouts()

    # What an agent may change.

    def make_actor(self) -> Actor:
        """What chooses the actions of the coming rollout."""
        if self._env_memory is not None:
            return self._env_memory.actor(self.policy, self.randomness.torch, lambda: self._last_episode_starts)
        fast = self._acting_policy().fast_actor(self.randomness.numpy)
        if fast is None:
            return torch_actor(self.policy, self.randomness.torch)
        return lambda observations: (fast(observations), None, None)

    def _acting_policy(self) -> ActorCriticPolicy:
        if self.acting_device == "policy" or not pays(self.policy, self.n_envs):
            return self.policy
        if self._copy_on_cpu is None or not self._copy_on_cpu.is_current:
            self._copy_on_cpu = CopyOnCpu(self.policy)
        return self._copy_on_cpu.follow(self.policy)

    def step_fields(self, infos: list[dict[str, Any]]) -> dict[str, Any]:
        """Values of the extra fields that the environments' infos hold, each ``(n_envs, *field.shape)``; once per step."""
        return {}

    def estimate_advantages(
        self, buffer: RolloutBuffer, rewards: np.ndarray, last_values: np.ndarray, dones: np.ndarray, cut: np.ndarray
    ) -> None:
        """Fill ``advantages`` and ``returns`` of a full rollout.

        :param rewards: scaled, with the value after a time limit in them, ``(n_steps, n_envs)``
        :param last_values: V of the observation after the last step, ``(n_envs,)``
        :param dones: whether the last step ended the episode, ``(n_envs,)``
        :param cut: where a time limit ended the episode, ``(n_steps, n_envs)``
        """
        buffer.compute_returns_and_advantage(last_values, dones, rewards)

    # Construction.

    def _setup_model(self) -> None:
        given = self.rollout_buffer_class
        forms_advantages = type(self).estimate_advantages is OnPolicyAgent.estimate_advantages
        buffer_class = adopted_buffer(RolloutBuffer if given is None else given, RolloutBuffer, forms_advantages)
        self.rollout_buffer_class = buffer_class
        # Old files have the agent's own fields there.
        self.rollout_buffer_kwargs = {
            name: value for name, value in self.rollout_buffer_kwargs.items() if name != "extra_fields"
        }
        with Randomness.fork(self.seed):
            super()._setup_model()
        self.rollout_buffer.declare(self.extra_fields)
        self._copy_on_cpu = None
        self._set_up_memory()
        # Files name no buffer of ours, so that SB3's agents, which have their own, can go on from them.
        self.rollout_buffer_class = None if buffer_class is RolloutBuffer else given
        self.policy.generator = self.randomness.predict
        self.policy.convolution_dtype = convolution_dtype(self.precision, self.policy, self.device)
        if not self.normalize_rewards:  # a file may be loaded without those that it has
            self.reward_scaler = None
        elif self.reward_scaler is None:
            self.reward_scaler = RewardScaler(self.gamma, self.n_envs)
        check_rows_suffice(self.policy, self.smallest_minibatch, "the last minibatch of an epoch")
        self.update = self._new_update()

    def _set_up_memory(self) -> None:
        size = self.policy.memory_size
        if size:
            check_resets(self.env)
        self._env_memory = EnvMemory(self.n_envs, size) if size else None
        self._sequences = None
        self._cut_rollouts()
        if self._env_memory is not None:
            self.rollout_buffer.declare({MEMORY: Field((size,))})
            last = self._last_memory
            if last is not None and np.shape(last) == self._env_memory.shape:
                self._env_memory.now = np.asarray(last, np.float32)
            elif self._last_episode_starts is not None:  # what the episodes under way remembered is not known
                self._last_episode_starts = np.ones_like(self._last_episode_starts)

    def _cut_rollouts(self) -> None:
        """Decide on sequences, where there are environments to learn in."""
        if self._env_memory is None:
            warn_without_memory(self)
        elif self.env is not None:
            self._sequences = Sequences(self.sequence_length, self.n_steps, self.n_envs, self.batch_size)
            self._sequences.check_burn_in(self.burn_in, self.policy)

    def set_env(self, env: Any, force_reset: bool = True) -> None:
        """As SB3's.

        :raises ValueError: for environments that reset in a step of their own, where the policy has a memory
        """
        env = self._wrap_env(env, self.verbose)
        if self._env_memory is not None:
            check_resets(env)
        super().set_env(env, force_reset)
        self._cut_rollouts()

    # Collecting.

    def _step_env(self, env: VecEnv, actions: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        new_obs: Any
        new_obs, rewards, dones, infos = env.step(actions)
        self.check_step(new_obs, rewards, dones, infos, self.num_timesteps // env.num_envs)
        return new_obs, rewards, dones, infos

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: SB3RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """Fill the buffer with ``n_rollout_steps`` steps per environment and their advantages.

        :return: False where a callback asked to stop; the rollout is then incomplete
        """
        self.keep_statistics()
        buffer: Any = rollout_buffer
        self.policy.set_training_mode(False)
        buffer.reset()
        if self.use_sde:
            self._reset_noise(env.num_envs)
        show_locals(callback, self.policy)
        callback.on_rollout_start()
        self._own_last_obs()  # a callback may have reset the environments
        observations: Any = self._last_obs
        episode_starts: Any = self._last_episode_starts
        self.hold_parameters()
        act, weights = self.make_actor(), WeightsInUse(self.policy, self.update.vector.weights, callback)
        time_limits = TimeLimits(self._env_memory)
        obs_tensor = values = log_probs = LATER  # for callbacks
        rollout_ended = False

        for n_steps in range(n_rollout_steps):
            if self.use_sde and self.sde_sample_freq > 0 and n_steps % self.sde_sample_freq == 0:
                self._reset_noise(env.num_envs)
            acted_on = observations
            try:
                actions, acted_values, acted_log_probs = act(observations)
                clipped_actions = env_actions(actions, self.policy, self.action_space)
                new_obs, rewards, dones, infos = self._step_env(env, clipped_actions)
                self.num_timesteps += env.num_envs
                more_fields = self.step_fields(infos)
            except Exception:
                self.check_policy()
                raise
            callback.update_locals(locals())
            goes_on = callback.on_step()
            self._update_info_buffer(infos, dones)
            if not goes_on:
                self._drop(buffer, n_steps, rewards, episode_starts)
                self._stand_at(new_obs, dones)
                return False
            time_limits.note(n_steps, dones, infos)
            fields = {"observations": observations, "actions": actions, "rewards": rewards, "episode_starts": episode_starts}
            if acted_values is not None:
                fields |= {"values": acted_values, "log_probs": acted_log_probs}
            if self._env_memory is not None:
                fields[MEMORY] = self._env_memory.now
            buffer.add(**fields, **more_fields)
            for index, info in enumerate(infos):
                if ONLY_RESET in info and only_reset(info):
                    buffer.data["valid"][n_steps, index] = False
            if acted_values is None and weights.changed():
                weights.evaluate_until(n_steps + 1, buffer)
                self.hold_parameters()
                weights.look(self.update.vector.weights)
                act = self.make_actor()
            observations, episode_starts = self._stand_at(new_obs, dones)

        try:
            weights.evaluate_until(n_rollout_steps, buffer, () if acted_values is None else ("values", "log_probs"))
            last_values = self._evaluate_rollout(buffer, time_limits, observations, dones)
        except Exception:
            self.check_policy()
            raise
        n_steps, rollout_ended = n_rollout_steps, True
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _drop(self, buffer: RolloutBuffer, n_steps: int, rewards: np.ndarray, episode_starts: np.ndarray) -> None:
        """Leave a rollout, whose last step is not recorded; returns of the episodes under way go on from there."""
        if self.reward_scaler is not None:
            recorded = (buffer.data[name][:n_steps] for name in ("rewards", "episode_starts"))
            self.reward_scaler.follow(*map(np.vstack, zip(recorded, (rewards, episode_starts), strict=True)))

    def _stand_at(self, new_obs: Any, dones: np.ndarray) -> tuple[Any, np.ndarray]:
        """After a step: what to act on, and which environments begin an episode. Copies, because a VecEnv may write its next
        step into the same arrays."""
        self._last_obs = new_obs.copy() if isinstance(new_obs, np.ndarray) else tree_map(np.array, new_obs)
        self._last_episode_starts = np.array(dones)
        if self._env_memory is not None:
            self._env_memory.move_on()
        return self._last_obs, self._last_episode_starts

    def _evaluate_rollout(
        self, buffer: RolloutBuffer, time_limits: TimeLimits, last_obs: Any, dones: np.ndarray
    ) -> np.ndarray:
        """Scaled rewards, time limits and advantages of a full buffer; returns V(last_obs)."""
        if not np.abs(buffer.data["values"]).max() < TOO_LARGE:
            self._stop(f"at update {self._n_updates}: the policy's values are NaN, infinite or absurd", {})
        rewards = buffer.data["rewards"]
        self._scaler_before = copy.deepcopy(self.reward_scaler)
        if self.reward_scaler is not None:
            self.reward_scaler.update(rewards, buffer.data["episode_starts"], buffer.data["valid"])
            rewards = self.reward_scaler(rewards)
        rewards = time_limits.bootstrap(rewards, self.gamma, self.policy)
        last = last_obs if self._env_memory is None else self._env_memory.seen(last_obs, dones)
        last_values, _ = evaluate_in_batches(self.policy, last, None)
        self.estimate_advantages(buffer, rewards, last_values, dones, time_limits.mask(rewards.shape))
        return last_values

    def learn(
        self: SelfAgent,
        total_timesteps: float,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfAgent:
        """Train for ``total_timesteps`` steps, over all environments, in whole rollouts. Arguments as in SB3."""
        rollout = self.n_steps * self.n_envs
        steps = as_steps(total_timesteps)
        self.decide_on_compiling(-(-steps // rollout) * self.updates_per_rollout())
        name = tb_log_name or type(self).__name__
        with self.learning():
            return super().learn(steps, callback, log_interval, name, reset_num_timesteps, progress_bar)

    # Saving and loading.

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_copy_on_cpu", "_env_memory", "_sequences"]

    def exported_state(self) -> dict[str, Any]:
        """The scale of the rewards, where they are scaled."""
        scaler = self.reward_scaler
        return super().exported_state() | ({} if scaler is None else {"reward_scaler": scaler.as_numbers()})

    def adopt_state(self, state: Mapping[str, Any]) -> None:
        super().adopt_state({key: value for key, value in state.items() if key != "reward_scaler"})
        if self.normalize_rewards and "reward_scaler" in state:
            self.reward_scaler = RewardScaler.of_numbers(self.gamma, self.n_envs, **state["reward_scaler"])

    def save(self, path: Any, exclude: Iterable[str] | None = None, include: Iterable[str] | None = None) -> None:
        self._last_memory = None if self._env_memory is None else self._env_memory.now  # beside _last_obs
        super().save(path, exclude, include)

    def get_parameters(self) -> dict[str, dict[str, Any]]:
        """State dicts of policy and optimiser, in SB3's form."""
        self.update.vector.publish_steps()
        return super().get_parameters()

    def set_parameters(self, load_path_or_dict: Any, exact_match: bool = True, device: Any = "auto") -> None:
        """As SB3's; weights and optimiser state are copied into the update's vectors."""
        super().set_parameters(load_path_or_dict, exact_match, device)
        self.update.vector.adopt_optimizer_state()
        self.update.last_good.forget()
