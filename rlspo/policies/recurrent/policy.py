"""Actors and critics with memory ("MlpLstmPolicy"): recurrent layers between the features and the hidden layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import MlpExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from rlspo.common.collector import env_actions
from rlspo.common.errors import check_choice, check_count
from rlspo.common.gradients import stop_gradient
from rlspo.common.sequences import (
    BEFORE,
    EXISTS,
    MEMORY,
    MEMORY_BEFORE,
    OBSERVATION,
    STARTS,
    STARTS_BEFORE,
    with_memory,
)
from rlspo.common.settings import check_flag
from rlspo.policies.actor_critic import ActorCriticCnnPolicy, ActorCriticPolicy, MultiInputActorCriticPolicy
from rlspo.policies.distributions import Distribution
from rlspo.policies.preprocessing import Preprocessing
from rlspo.policies.recurrent.as_contrib import AsContrib
from rlspo.policies.recurrent.layers import Memory

Tensor = torch.Tensor

#: Those that a file of sb3-contrib may name, and their values here.
_OPTIONS_OF_LSTM = {"bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False, "proj_size": 0}


class PreprocessingWithMemory(Preprocessing):
    """Preprocesses the observations of :func:`~rlspo.common.sequences.with_memory` and leaves what is beside them.

    Observations alone are those of first steps.
    """

    keyed = True

    def forward(self, observations: Any) -> Any:
        named = observations if isinstance(observations, dict) else {OBSERVATION: observations}
        inputs = {key: part(named[key]) for key, part in self.parts.items()}
        if EXISTS in named:
            before = {f"{BEFORE}{key}": part(named[f"{BEFORE}{key}"]) for key, part in self.parts.items()}
            inputs |= {**before, **{key: named[key] for key in (STARTS_BEFORE, MEMORY_BEFORE, EXISTS)}}
        if MEMORY in named:
            return {**inputs, MEMORY: named[MEMORY], STARTS: named[STARTS]}
        first = next(iter(inputs.values()))
        return {**inputs, MEMORY: first.new_zeros(first.shape[0], 0), STARTS: first.new_ones(first.shape[0])}


class Recurrent(AsContrib, ActorCriticPolicy):
    """Stands before an actor-critic policy and gives it a memory, for what a single observation does not show.

    ::

        features -> memory -> hidden layers -> action, value

    The networks and the names of their weights are those of sb3-contrib's recurrent policies. All arguments of the policy it
    stands before, and:

    :param lstm_hidden_size: width of the memory; 0: none, and the policy is the one without it. More remembers more and costs
        in proportion to its square (64 to 512)
    :param n_lstm_layers: recurrent layers, one after the other
    :param shared_lstm: the critic sees the actor's memory, which it does not shape
    :param enable_critic_lstm: the critic has a memory of its own; without it, and without a shared one, it has none
    :param memory: ``"lstm"``, or ``"gru"``, which has fewer weights
    :param lstm_kwargs: as in sb3-contrib's files; only the defaults of ``torch.nn.LSTM`` are to be had
    :raises ValueError: for a critic with a shared memory and one of its own, and for options of ``torch.nn.LSTM``
    """

    preprocessing_class: ClassVar[type[Preprocessing]] = PreprocessingWithMemory

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *args: Any,
        lstm_hidden_size: int = 256,
        n_lstm_layers: int = 1,
        shared_lstm: bool = False,
        enable_critic_lstm: bool = True,
        memory: str = "lstm",
        lstm_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if any(_OPTIONS_OF_LSTM.get(name) != value for name, value in (lstm_kwargs or {}).items()):
            raise ValueError(
                f"lstm_kwargs is {lstm_kwargs}; options of torch.nn.LSTM, such as dropout and bias, are not to be had here. "
                "Leave it out. An agent of sb3-contrib that was trained with them cannot be taken over."
            )
        none = lstm_hidden_size == 0 and not isinstance(lstm_hidden_size, bool)
        self.lstm_hidden_size = 0 if none else check_count("lstm_hidden_size", lstm_hidden_size)
        self.n_lstm_layers = check_count("n_lstm_layers", n_lstm_layers)
        check_flag("shared_lstm", shared_lstm)
        check_flag("enable_critic_lstm", enable_critic_lstm)
        self.shared_lstm, self.enable_critic_lstm = shared_lstm, enable_critic_lstm
        self.memory_kind = check_choice("memory", memory, ("lstm", "gru"))
        if shared_lstm and enable_critic_lstm:
            raise ValueError(
                "shared_lstm and enable_critic_lstm are both True; the critic sees the actor's memory or has its own. Set one "
                "of them to False."
            )
        if shared_lstm and not kwargs.get("share_features_extractor", True):
            raise ValueError("shared_lstm is True and share_features_extractor False; a shared memory needs shared features.")
        keys = observation_space.keys() if isinstance(observation_space, spaces.Dict) else ()
        taken = [key for key in keys if key in (MEMORY, STARTS) or key.startswith(BEFORE)]
        if taken:
            raise ValueError(
                f"The observation has the keys {taken}, which a policy with memory keeps for itself. Rename them."
            )
        super().__init__(observation_space, action_space, lr_schedule, *args, **kwargs)

    def make_functional(self) -> None:
        """As the base's.

        :raises TypeError: where a class that this stands before computes pi or V in methods that are replaced here
        """
        super().make_functional()
        behind = type(self).__mro__[type(self).__mro__.index(Recurrent) + 1 :]
        for one in behind:
            replaced = sorted({"distribution_of", "values_of", "evaluation_of"} & set(vars(one)))
            if replaced and not one.__module__.startswith(("rlspo.", "stable_baselines3.")):
                raise TypeError(
                    f"{one.__name__} defines {' and '.join(replaced)}, which a memory before it replaces. Define "
                    "_distribution_at, _distribution or _values, which it calls, or put these methods into the class that "
                    "comes first."
                )

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            **super()._get_constructor_parameters(),
            "lstm_hidden_size": self.lstm_hidden_size,
            "n_lstm_layers": self.n_lstm_layers,
            "shared_lstm": self.shared_lstm,
            "enable_critic_lstm": self.enable_critic_lstm,
            "memory": self.memory_kind,
        }

    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = MlpExtractor(self.n_features, self.net_arch, self.activation_fn, self.device)

    def _add_parts(self) -> None:
        # Before other parts, in the order in which sb3-contrib makes them, so that both begin alike from one seed.
        self.lstm_actor: Memory | None = None
        self.lstm_critic: Memory | None = None
        self.critic: nn.Linear | None = None
        if self.lstm_hidden_size:
            shape = (self.memory_kind, self.features_dim, self.lstm_hidden_size, self.n_lstm_layers)
            self.lstm_actor = Memory(*shape)
            if self.enable_critic_lstm:
                self.lstm_critic = Memory(*shape)
            elif not self.shared_lstm:
                self.critic = nn.Linear(self.features_dim, self.lstm_hidden_size)
        super()._add_parts()

    @property
    def n_features(self) -> int:
        return self.lstm_hidden_size or self.features_dim

    @property
    def memory_size(self) -> int:  # type: ignore[override]
        """Numbers that are remembered of an episode from step to step: those of the actor, then those of the critic."""
        return sum(part.size for part in (self.lstm_actor, self.lstm_critic) if part is not None)

    # What they compute.

    def distribution_of(self, inputs: Any) -> Distribution:
        seen, _ = self._actor_sees(self._burned_in(inputs))
        return self._distribution_at(self.mlp_extractor.forward_actor(seen), seen)

    def values_of(self, inputs: Any) -> Tensor:
        seen, _ = self._critic_sees(self._burned_in(inputs))
        return self._values(self.mlp_extractor.forward_critic(seen))

    def evaluation_of(self, inputs: Any) -> tuple[Distribution, Tensor]:
        _, distribution, values, _ = self._step(self._burned_in(inputs))
        return distribution, values

    def _burned_in(self, inputs: Any) -> Any:
        """``inputs`` with the memory that the steps before lead to now, where there are some; without gradient."""
        if EXISTS not in inputs:
            return inputs
        own = {key: part for key, part in inputs.items() if not key.startswith(BEFORE)}
        before = {key: inputs[f"{BEFORE}{key}"] for key in own if key not in (MEMORY, STARTS)}
        seen = {**before, MEMORY: inputs[MEMORY_BEFORE], STARTS: inputs[STARTS_BEFORE]}
        memory = torch.where(inputs[EXISTS][:, None], self.memory_after(seen).detach(), inputs[MEMORY])
        return {**own, MEMORY: memory}

    def act(self, inputs: Any, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Sampled actions, values ``(B,)``, log-probabilities ``(B,)``, and what is remembered after the step."""
        latent, distribution, values, memory = self._step(inputs)
        actions = self._explored(latent) if self.use_sde else distribution.sample(generator)
        return actions, values, distribution.log_prob(actions), memory

    def _step(self, inputs: Any) -> tuple[Tensor, Distribution, Tensor, Tensor]:
        """The actor's last hidden layer, pi, V, and what is remembered after the last step."""
        actor, critic, memory = self._both_see(inputs)
        latent = self.mlp_extractor.forward_actor(actor)
        values = self._values(self.mlp_extractor.forward_critic(critic))
        return latent, self._distribution_at(latent, actor), values, memory

    def _both_see(self, inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
        features = self._features(inputs, self.pi_features_extractor)
        actor, actor_memory = self._actor_sees(inputs, features)
        if self.shared_lstm:
            return actor, stop_gradient(actor), actor_memory
        critic, critic_memory = self._critic_sees(inputs, features if self.share_features_extractor else None)
        return actor, critic, torch.cat([actor_memory, critic_memory], dim=-1)

    def _actor_sees(self, inputs: Any, features: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What the actor's hidden layers see, and what it remembers after the last step."""
        if features is None:
            features = self._features(inputs, self.pi_features_extractor)
        if self.lstm_actor is None:
            return features, _nothing(inputs)
        return _through(self.lstm_actor, features, inputs, 0)

    def _critic_sees(self, inputs: Any, features: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if self.shared_lstm:
            actor, _ = self._actor_sees(inputs)
            return stop_gradient(actor), _nothing(inputs)
        if features is None:
            features = self._features(inputs, self.vf_features_extractor)
        if self.lstm_critic is not None:
            assert self.lstm_actor is not None
            return _through(self.lstm_critic, features, inputs, self.lstm_actor.size)
        return (features if self.critic is None else self.critic(features)), _nothing(inputs)

    def _features(self, inputs: Any, extractor: nn.Module) -> Tensor:
        if not isinstance(inputs, dict) or MEMORY not in inputs:
            return super()._features(inputs, extractor)
        seen = {key: part for key, part in inputs.items() if key not in (MEMORY, STARTS)}
        return super()._features(seen if self.preprocess.nested else seen[OBSERVATION], extractor)

    # Acting, with sb3-contrib's arguments.

    def predict(
        self,
        observation: Any,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Actions, and what the actor remembers after this step; hand it back at the next one.

        :param observation: one, or ``(n_envs, *obs_shape)``
        :param state: h and, of an LSTM, c, each ``(n_layers, n_envs, H)``; None at the first step of all
        :param episode_start: where an episode begins, so that its state is left, ``(n_envs,)``; None: nowhere
        :param deterministic: the mode of the policy, not a sample
        """
        self.set_training_mode(False)
        observations, vectorized = self.obs_to_tensor(observation)
        n_envs = len(next(iter(observations.values())) if isinstance(observations, dict) else observations)
        starts = np.asarray(0 if episode_start is None else episode_start, np.float32)
        if starts.shape not in ((), (n_envs,)):
            raise ValueError(
                f"episode_start is of {starts.shape}; it must be one truth value for each of {n_envs} observations."
            )
        with torch.no_grad():
            begins = torch.as_tensor(np.broadcast_to(starts, n_envs).copy(), device=self.device)
            memory = self.packed(state, n_envs)
            memory[begins != 0] = 0  # also what is not a number, which the layers would multiply by 0
            inputs = self.preprocess(with_memory(observations, memory, begins))
            seen, after = self._actor_sees(inputs)
            latent = self.mlp_extractor.forward_actor(seen)
            if self.use_sde and not deterministic:
                chosen = self._explored(latent)
            else:
                chosen = self._choose(self._distribution_at(latent, seen), deterministic)
        actions = env_actions(chosen.cpu().numpy(), self, self.action_space).reshape(-1, *(self.action_space.shape or ()))
        remembered = None if self.lstm_actor is None else self.lstm_actor.states(after.cpu().numpy())
        return (actions if vectorized else actions.squeeze(axis=0)), remembered

    @property
    def state_size(self) -> int:
        """Numbers that the actor remembers."""
        return 0 if self.lstm_actor is None else self.lstm_actor.size

    def mode_after(self, observations: Any, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """One deterministic step as a pure function: the action before it is clipped or scaled, and what the actor remembers.

        :param observations: ``(B, *obs_shape)``, or a dictionary of such
        :param state: what the actor remembers before, ``(B, state_size)``
        :param starts: 1 where an episode begins, ``(B,)``
        """
        assert self.lstm_actor is not None
        inputs = self.preprocess(with_memory(observations, state, starts))
        features = self._features(inputs, self.pi_features_extractor)
        seen, after = self.lstm_actor.one_step(features, 1.0 - starts, state)
        return self._distribution_at(self.mlp_extractor.forward_actor(seen), seen).mode(), after

    def memory_after(self, inputs: Any, seen_by_critic: Any = None) -> Tensor:
        """What actor and critic remember after the last step, ``(S, memory_size)``.

        :param seen_by_critic: inputs of a critic with a memory of its own, where it sees others
        """
        if seen_by_critic is None:
            return self._both_see(inputs)[2]
        return torch.cat([self._actor_sees(inputs)[1], self._critic_sees(seen_by_critic)[1]], dim=-1)

    def packed(self, state: tuple[Any, ...] | None, n_envs: int) -> Tensor:
        """What the actor remembers as rows, ``(n_envs, memory_size)``, the critic's part empty."""
        memory = torch.zeros(n_envs, self.memory_size, device=self.device)
        if state is not None and self.lstm_actor is not None:
            rows = self.lstm_actor.rows(state, memory)
            if len(rows) != n_envs:
                raise ValueError(f"state is that of {len(rows)} environments, the observations are of {n_envs}.")
            memory[:, : self.lstm_actor.size] = rows
        return memory

    def fast_actor(self, generator: np.random.Generator) -> Callable[[np.ndarray], np.ndarray] | None:
        return None  # what is remembered is carried by EnvMemory


def _through(layers: Memory, features: Tensor, inputs: Any, first: int) -> tuple[Tensor, Tensor]:
    """Through ``layers``, whose numbers begin at column ``first`` of the memory."""
    memory, starts = inputs[MEMORY], inputs[STARTS]
    keep = (1.0 - starts).reshape(-1, len(memory))
    if memory.shape[-1] == 0:  # of first steps
        return layers(features, keep, features.new_zeros(len(memory), layers.size))
    return layers(features, keep, memory[:, first : first + layers.size])


def _nothing(inputs: Any) -> Tensor:
    return inputs[MEMORY][:, :0]


class RecurrentActorCriticPolicy(Recurrent):
    """Memory for vectors ("MlpLstmPolicy")."""


class RecurrentActorCriticCnnPolicy(Recurrent, ActorCriticCnnPolicy):
    """Memory for images ("CnnLstmPolicy")."""


class RecurrentMultiInputActorCriticPolicy(Recurrent, MultiInputActorCriticPolicy):
    """Memory for Dict observations ("MultiInputLstmPolicy")."""
