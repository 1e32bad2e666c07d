"""The engine of off-policy agents: SB3's contract outside, acting and a replay buffer on the device inside."""

from __future__ import annotations

import pathlib
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer
from stable_baselines3.common.buffers import ReplayBuffer as SB3ReplayBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import MaybeCallback, RolloutReturn

from rlspo.common.agent import Agent
from rlspo.common.errors import IncompatibleModelError
from rlspo.common.files import place_for, whole
from rlspo.common.randomness import Randomness
from rlspo.common.replay_buffer import ReplayBuffer
from rlspo.common.settings import as_steps
from rlspo.common.trees import to_tensor, tree_map
from rlspo.common.trust import read_pickle
from rlspo.common.vector_env import only_reset

Tensor = torch.Tensor
SelfAgent = TypeVar("SelfAgent", bound="OffPolicyAgent")


class OffPolicyAgent(Agent, OffPolicyAlgorithm):
    """Act, record, draw minibatches: what is around the update of an agent that learns from a replay buffer."""

    learns_from_ends = True
    left_by_failure: ClassVar[str] = "The replay buffer has the steps before it"
    replay_buffer_class: Any

    def _setup_model(self) -> None:
        _check_replay_buffer(self.replay_buffer_class, self.observation_space)
        usual = self.n_steps == 1 and not self.optimize_memory_usage
        given = self.replay_buffer_class
        # SB3's files name SB3's own classes.
        ours = usual and given in (None, SB3ReplayBuffer, DictReplayBuffer, ReplayBuffer)
        if ours:
            self.replay_buffer_class = ReplayBuffer
        with Randomness.fork(self.seed):
            super()._setup_model()
        if ours:  # files name no buffer of ours, so that SB3's agents can go on from them
            self.replay_buffer_class = None
        self.policy.generator = self.randomness.predict

    @classmethod
    def _given(
        cls, given: Mapping[str, Any], replaced: Mapping[str, Any], stored: Mapping[str, Any], device: Any
    ) -> dict[str, Any]:
        """SB3 keeps in the file which buffer it chose for ``n_steps``, and would go on with that."""
        attributes = super()._given(given, replaced, stored, device)
        chosen = stored.get("n_steps", 1) > 1 and stored.get("replay_buffer_class") is NStepReplayBuffer
        if chosen and "n_steps" in attributes:
            attributes.setdefault("replay_buffer_class", None)
            kwargs = stored.get("replay_buffer_kwargs") or {}
            others = {name: value for name, value in kwargs.items() if name not in ("n_steps", "gamma")}
            attributes.setdefault("replay_buffer_kwargs", others)
        return attributes

    def save_replay_buffer(self, path: Any) -> None:
        """As SB3's; a file of that name is replaced in one step, once the new one is on the disk."""
        if not isinstance(path, str | pathlib.Path):
            super().save_replay_buffer(path)
            return
        with whole(place_for(path, "pkl")) as partial:
            super().save_replay_buffer(partial)

    # Collecting.

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> RolloutReturn:
        """As SB3's; the exploration matrices of gSDE come from the agent's own generators."""
        self.keep_statistics()
        found = self._collected(*args, **kwargs)
        if not found.continue_training:  # the last step is not stored, so that learning can only go on from a reset
            self._last_obs = None
        return found

    def _collected(self, *args: Any, **kwargs: Any) -> RolloutReturn:
        if not self.use_sde:
            return super().collect_rollouts(*args, **kwargs)
        with Randomness.fork(int(self.randomness.numpy.integers(2**31)), self.device):
            try:
                return super().collect_rollouts(*args, **kwargs)
            except ValueError:  # of torch, which draws no matrices from a spread that is NaN or infinite
                self.check_policy()
                raise

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        warming_up = self.num_timesteps < learning_starts and not (self.use_sde and self.use_sde_at_warmup)
        if warming_up or self.use_sde or getattr(self.policy, "acts_as_written", False):
            with self.randomness.lend_numpy():
                return super()._sample_action(learning_starts, action_noise, n_envs)
        observations: Any = self._last_obs
        fast = self.policy.fast_actor(self.randomness.numpy)
        if fast is not None:
            actions = fast(observations)
        else:
            with torch.inference_mode():
                inputs = self.policy.preprocess(to_tensor(observations, self.device))
                actions = self.policy.distribution_of(inputs).sample(self.randomness.torch).cpu().numpy()
        actions = actions.reshape(n_envs, *(self.action_space.shape or ()))
        if action_noise is not None:
            with self.randomness.lend_numpy():
                actions = np.clip(actions + action_noise(), -1, 1)
        return self.policy.unscale_action(actions), actions

    def _store_transition(
        self, replay_buffer: Any, buffer_action: np.ndarray, new_obs: Any, reward: np.ndarray, dones: np.ndarray, infos: Any
    ) -> None:
        step = self.num_timesteps // len(dones) - 1
        if any(map(only_reset, infos)) and not isinstance(replay_buffer, ReplayBuffer):
            raise ValueError(
                f"The environments reset in a step of their own, which {type(replay_buffer).__name__} would keep as a "
                "transition. Make them with autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP, or leave the buffer to "
                "rlspo."
            )
        self.check_step(new_obs, reward, dones, infos, step)
        normalizer: Any = self._vec_normalize_env
        # A copy, because a VecEnv may write its next step into the same array.
        new_obs = tree_map(np.array, new_obs)
        if not self._stores_as_seen:
            super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)
            return
        self._vec_normalize_env = None
        try:
            super()._store_transition(replay_buffer, buffer_action, new_obs, normalizer.get_original_reward(), dones, infos)
        finally:
            self._vec_normalize_env = normalizer

    @property
    def _stores_as_seen(self) -> bool:
        """Whether wrappers around a VecNormalize, which stack frames or turn images, give observations another form than it
        knows: then they are stored as the agent saw them, and not, as else, as they came into it.

        :raises ValueError: for a buffer of SB3's, which knows one way only
        """
        normalizer = self._vec_normalize_env
        if normalizer is None or _shapes(normalizer.observation_space) == _shapes(self.observation_space):
            return False
        if not isinstance(self.replay_buffer, ReplayBuffer):
            raise ValueError(
                f"{type(self.replay_buffer).__name__} keeps observations as they come into VecNormalize, which here is inside "
                "of wrappers that give them another shape. Put VecNormalize outermost, or leave the buffer to rlspo."
            )
        return True

    # Learning.

    def _minibatch(self, batch_size: int) -> tuple[dict[str, Any], Tensor]:
        """Fields, and the numbers of the rows to learn from."""
        buffer: Any = self.replay_buffer
        if isinstance(buffer, ReplayBuffer) and buffer.samples_rows:
            rows = buffer.rows(batch_size, self.randomness.torch)
            if self._vec_normalize_env is None:
                return buffer.data, rows
            samples = buffer._get_samples(rows.cpu().numpy(), self._vec_normalize_env, self._stores_as_seen)
        else:
            with self.randomness.lend_numpy():
                samples = buffer.sample(batch_size, env=self._vec_normalize_env)
        data = {
            "observations": samples.observations,
            "next_observations": samples.next_observations,
            "actions": samples.actions,
            "rewards": samples.rewards.reshape(-1).float(),
            "dones": samples.dones.reshape(-1).float(),
        }
        if samples.discounts is not None:
            data["discounts"] = samples.discounts.reshape(-1).float()
        return data, torch.arange(batch_size, device=self.device)

    def learn(
        self: SelfAgent,
        total_timesteps: float,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfAgent:
        """Train for ``total_timesteps`` environment steps, over all environments. Arguments as in SB3."""
        total = as_steps(total_timesteps)
        if reset_num_timesteps:
            _check_length(total_timesteps, self.learning_starts)
        steps = max(total - self.learning_starts, 0) // self.n_envs
        train_freq: Any = self.train_freq
        unit = 1 if train_freq.unit.value == "step" else 1000  # steps; how long episodes are nobody knows yet
        per_training = train_freq.frequency * unit
        taken = self.gradient_steps if self.gradient_steps >= 0 else per_training * self.n_envs
        self.decide_on_compiling(steps * taken // per_training)
        name = tb_log_name or type(self).__name__
        with self.learning():
            learned = super().learn(total, callback, log_interval, name, reset_num_timesteps, progress_bar)
        self.update.publish_steps()
        return learned

    # Loading.

    def load_replay_buffer(self, path: Any, truncate_last_traj: bool = True, *, trust: bool = False) -> None:
        """As SB3's, also from another device; rlspo's own buffer also for another number of environments.

        :param path: of the file, or an open one
        :param truncate_last_traj: of a ``HerReplayBuffer``: end the trajectory that was under way
        :param trust: True: run whatever code is in the file, as SB3 does; by default only data is read
        :raises UntrustedFileError: for a file that holds more than data
        :raises IncompatibleModelError: for a file that is damaged or holds no replay buffer, and for a buffer of other spaces,
            of another ``n_steps`` or, but for rlspo's own, for another number of environments
        """
        buffer = read_pickle(path, trust)
        if not isinstance(buffer, SB3ReplayBuffer):
            raise IncompatibleModelError(f"{path} holds a {type(buffer).__name__} and no replay buffer.")
        if not hasattr(buffer, "handle_timeout_termination"):  # written before SB3 2.1
            buffer.handle_timeout_termination = False
            buffer.timeouts = np.zeros_like(buffer.dones)
        if isinstance(buffer, HerReplayBuffer):
            if self.env is None:
                raise ValueError("A HerReplayBuffer asks the environment for rewards: load the agent with env=... first.")
            buffer.set_env(self.env)
            if truncate_last_traj:
                buffer.truncate_last_trajectory()
        _check_fits(buffer, self)
        self.replay_buffer = buffer
        if isinstance(buffer, ReplayBuffer):
            buffer.to(self.device)
            buffer.n_envs = self.n_envs
        else:
            buffer.device = self.device
        tell_discount(buffer, self.gamma)


def _shapes(space: spaces.Space) -> Any:
    return {key: part.shape for key, part in space.spaces.items()} if isinstance(space, spaces.Dict) else space.shape


def tell_discount(buffer: Any, gamma: float) -> None:
    """Pass on the agent's discount to a buffer of returns over several steps; others have none."""
    if hasattr(buffer, "gamma"):
        buffer.gamma = gamma


def _check_fits(buffer: SB3ReplayBuffer, agent: OffPolicyAlgorithm) -> None:
    """
    :raises IncompatibleModelError: for a buffer from which the agent would learn something else, or nothing
    """
    found: dict[str, tuple[Any, Any]] = {
        "It is of observations {}": (_shapes(buffer.observation_space), _shapes(agent.observation_space)),
        "It is of actions {}": (_shapes(buffer.action_space), _shapes(agent.action_space)),
        "It is of n_steps {}": (getattr(buffer, "n_steps", 1), agent.n_steps),
    }
    if not isinstance(buffer, ReplayBuffer):  # SB3's have a place for each environment
        found["It is of {} environments side by side"] = (buffer.n_envs, agent.n_envs)
    for text, (stored, own) in found.items():
        if stored != own:
            raise IncompatibleModelError(
                f"The replay buffer does not fit this agent. {text.format(stored)}, not of {own}. Load an agent with the "
                "same, or begin with an empty buffer."
            )


def _check_length(total_timesteps: float, learning_starts: int) -> None:
    """Warn of a run that is over before learning starts."""
    if total_timesteps <= learning_starts:
        warnings.warn(
            f"Nothing is learned in {total_timesteps} steps: learning_starts={learning_starts} come first, with uniform "
            "actions. Train for longer, or let learning start sooner.",
            stacklevel=3,
        )


def _check_replay_buffer(buffer: Any, observation_space: spaces.Space) -> None:
    """Refuse what is no buffer, and hindsight where there are no goals.

    :param buffer: class, or None
    :raises TypeError: for something else than a class of buffers
    :raises ValueError: for hindsight without goals
    """
    if buffer is None:
        return
    if not (isinstance(buffer, type) and issubclass(buffer, SB3ReplayBuffer)):
        raise TypeError(
            f"replay_buffer_class is {buffer!r}; it must be a class of replay buffers, such as "
            "stable_baselines3.HerReplayBuffer, or None."
        )
    goals = {"observation", "achieved_goal", "desired_goal"}
    if issubclass(buffer, HerReplayBuffer) and not (
        isinstance(observation_space, spaces.Dict) and goals <= set(observation_space.spaces)
    ):
        raise ValueError(
            f"HerReplayBuffer learns from goals in hindsight, so observations must be a Dict with {', '.join(sorted(goals))}; "
            f"the environment's are {observation_space}. Leave replay_buffer_class out for other environments."
        )
