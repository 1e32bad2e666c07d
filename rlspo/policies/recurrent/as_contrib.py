"""What code written for sb3-contrib's recurrent policies calls, with its arguments.

Rows are those of sb3-contrib here: ``(S * L, ...)``, all steps of the first sequence first. States are ``(n_layers, S, H)``.
"""

from __future__ import annotations

from typing import Any

import torch
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.common.recurrent.type_aliases import RNNStates

from rlspo.common.sequences import with_memory
from rlspo.common.spaces import as_env_numbers, from_env_numbers
from rlspo.common.trees import tree_map
from rlspo.policies.mixtures import Mixture
from rlspo.policies.moe.sb3_distribution import SB3Mixture

Tensor = torch.Tensor


def constructor_arguments(policy: Any) -> dict[str, Any]:
    """What builds a policy of SB3 or sb3-contrib again, with what their own lists leave out."""
    found = {**policy._get_constructor_parameters(), "share_features_extractor": policy.share_features_extractor}
    if isinstance(policy, RecurrentActorCriticPolicy):
        found |= {"lstm_hidden_size": policy.lstm_actor.hidden_size, "n_lstm_layers": policy.lstm_actor.num_layers}
        found |= {name: getattr(policy, name) for name in ("shared_lstm", "enable_critic_lstm", "lstm_kwargs")}
    return found


class _AsContrib:
    """Stands before :class:`~rlspo.policies.recurrent.Recurrent`'s bases; the functional methods are its own."""

    def forward(
        self: Any, obs: Any, lstm_states: RNNStates, episode_starts: Tensor, deterministic: bool = False
    ) -> tuple[Tensor, Tensor, Tensor, RNNStates]:
        """Actions, values ``(B, 1)``, log-probabilities ``(B,)``, and the states after the last step."""
        latent, distribution, values, memory = self._judged(obs, lstm_states, episode_starts)
        explores = self.use_sde and not deterministic
        actions = self._explored(latent) if explores else self._choose(distribution, deterministic)
        log_probs, count = distribution.log_prob(actions), len(memory)
        actions = as_env_numbers(actions.reshape(-1, *(self.action_space.shape or ())), self.action_space)
        return _rows(actions, count), _rows(values[:, None], count), _rows(log_probs, count), self._states(memory)

    def evaluate_actions(
        self: Any, obs: Any, actions: Tensor, lstm_states: RNNStates, episode_starts: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Values ``(B, 1)``, log-probabilities ``(B,)`` and entropy ``(B,)``."""
        _, distribution, values, memory = self._judged(obs, lstm_states, episode_starts)
        count = len(memory)
        log_probs = distribution.log_prob(_steps(from_env_numbers(actions, self.action_space), count))
        entropy = distribution.entropy()
        found = None if entropy is None else _rows(entropy, count)
        return _rows(values[:, None], count), _rows(log_probs, count), found

    def get_distribution(
        self: Any, obs: Any, lstm_states: tuple[Tensor, ...], episode_starts: Tensor
    ) -> tuple[Any, tuple[Tensor, ...]]:
        """SB3's distribution object at ``obs``, a step of each sequence, and the actor's states after it."""
        latent, distribution, _, memory = self._judged(obs, RNNStates(lstm_states, ()), episode_starts)
        if isinstance(distribution, Mixture):
            return SB3Mixture(distribution, self.generator), self._states(memory).pi
        return self._get_action_dist_from_latent(latent), self._states(memory).pi

    def predict_values(self: Any, obs: Any, lstm_states: tuple[Tensor, ...], episode_starts: Tensor) -> Tensor:
        """V at ``obs``, ``(B, 1)``, from the critic's states, or from the actor's where they share them."""
        states = RNNStates(lstm_states, ()) if self.shared_lstm else RNNStates((), lstm_states)
        _, _, values, memory = self._judged(obs, states, episode_starts)
        return _rows(values[:, None], len(memory))

    def _predict(
        self: Any, observation: Any, lstm_states: tuple[Tensor, ...], episode_starts: Tensor, deterministic: bool = False
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Actions at ``observation``, a step of each sequence, and the actor's states after it."""
        actions, _, _, states = self.forward(observation, RNNStates(lstm_states, ()), episode_starts, deterministic)
        return actions, states.pi

    def _judged(self: Any, obs: Any, states: RNNStates, starts: Tensor) -> tuple[Tensor, Any, Tensor, Tensor]:
        """The actor's last hidden layer, pi, V and memory, the first step of all sequences first."""
        like = self.action_net.weight
        layers = [layer for layer in (self.lstm_actor, self.lstm_critic) if layer is not None]
        parts = [layer.rows(part, like) if part else None for layer, part in zip(layers, states, strict=False)]
        counts = {len(part) for part in parts if part is not None} or {len(starts)}
        count = min(counts)
        if len(counts) > 1 or len(starts) % count:
            raise ValueError(
                f"There are {len(starts)} observations and states of {' and '.join(map(str, sorted(counts)))} sequences; each "
                "sequence has one state, and all have equally many steps."
            )
        rows = [like.new_zeros(count, layer.size) if part is None else part for layer, part in zip(layers, parts, strict=True)]
        memory = torch.cat(rows, dim=-1) if rows else like.new_zeros(count, 0)
        seen = with_memory(tree_map(lambda leaf: _steps(leaf, count), obs), memory, _steps(starts.float(), count))
        return self._step(self.preprocess(seen))

    def _states(self: Any, memory: Tensor) -> RNNStates:
        if self.lstm_actor is None:
            return RNNStates((), ())
        actor = self.lstm_actor.states(memory[:, : self.lstm_actor.size])
        return RNNStates(
            actor, actor if self.lstm_critic is None else self.lstm_critic.states(memory[:, self.lstm_actor.size :])
        )


#: Of no type: arguments differ from those of policies without memory, for which it stands.
AsContrib: Any = _AsContrib


def _steps(rows: Tensor, count: int) -> Tensor:
    """From all steps of the first of ``count`` sequences first, to the first step of all."""
    return rows.unflatten(0, (count, -1)).transpose(0, 1).flatten(0, 1)


def _rows(steps: Tensor, count: int) -> Tensor:
    return steps.unflatten(0, (-1, count)).transpose(0, 1).flatten(0, 1)
