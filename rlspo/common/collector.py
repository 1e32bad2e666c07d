"""Collecting a rollout: act, step, record; then evaluate all of it in one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from rlspo.common.env_memory import EnvMemory
from rlspo.common.spaces import as_env_numbers
from rlspo.common.trees import ArrayTree, to_tensor, tree_leaves, tree_map

#: Observations evaluated in one forward pass; bounds the memory for images.
EVALUATION_CHUNK = 8192
IMAGE_EVALUATION_CHUNK = 256

#: From observations to actions, and to values and log-probabilities if the actor computes them anyway.
Actor = Callable[[Any], tuple[np.ndarray, np.ndarray | None, np.ndarray | None]]


def torch_actor(policy: Any, generator: torch.Generator) -> Actor:
    """Act with any policy on any device: one forward pass gives actions, values and log-probabilities."""

    @torch.inference_mode()
    def act(observations: ArrayTree) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        tensors = to_tensor(observations, policy.device)
        if policy.use_sde:  # the exploration matrices are in SB3's distribution object
            actions, values, log_probs = policy(tensors)
            actions = actions.reshape(len(actions), -1)
        else:
            distribution, values = policy.evaluation_of(policy.preprocess(tensors))
            actions = distribution.sample(generator)
            log_probs = distribution.log_prob(actions)
        return actions.cpu().numpy(), values.reshape(-1).cpu().numpy(), log_probs.cpu().numpy()

    return act


def env_actions(actions: np.ndarray, policy: Any, space: spaces.Space) -> np.ndarray:
    """From a sampled action to the environment's: discrete actions in its own numbering; a Box action unsquashed or clipped to
    the bounds, and in its shape."""
    if not isinstance(space, spaces.Box):
        return as_env_numbers(actions.astype(space.dtype, copy=False), space)
    actions = actions.reshape(-1, *space.shape)
    if policy.squash_output:
        return policy.unscale_action(actions)
    # np.clip is three times slower on a few numbers
    return np.minimum(np.maximum(actions, space.low), space.high)


@torch.inference_mode()
def in_batches(function: Callable[..., tuple[torch.Tensor, ...]], device: torch.device, *trees: Any) -> list[np.ndarray]:
    """Apply ``function`` to many rows, a bounded number at a time.

    :param function: of tensors on ``device``, in the nesting of ``trees``, to tensors with as many rows
    :param trees: arrays ``(N, ...)``, or dictionaries of such arrays
    :return: its results, each ``(N, ...)``
    """
    leaves = [leaf for tree in trees for leaf in tree_leaves(tree)]
    chunk = IMAGE_EVALUATION_CHUNK if any(leaf.ndim > 3 for leaf in leaves) else EVALUATION_CHUNK
    results = []
    for start in range(0, len(leaves[0]), chunk):
        part = slice(start, start + chunk)
        rows = [to_tensor(tree_map(lambda leaf, part=part: leaf[part], tree), device) for tree in trees]
        results.append([result.cpu().numpy() for result in function(*rows)])
    return [np.concatenate(column) for column in zip(*results, strict=True)]


def evaluate_in_batches(policy: Any, observations: Any, actions: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """V, and log pi of ``actions`` where given, for many observations.

    :param policy: with its current weights and observation statistics
    :param observations: ``(N, *obs_shape)``, or a dictionary of such arrays
    :param actions: ``(N, *action_shape)`` or None
    :return: two arrays ``(N,)``; the second is None without actions
    """
    if actions is None:
        return in_batches(lambda seen: (policy.values_of(policy.preprocess(seen)),), policy.device, observations)[0], None
    found = evaluated_fields(policy, observations, actions, ("values", "log_probs"))
    return found["values"], found["log_probs"]


#: The rollout fields that a policy gives for observations and actions; log pi of each of K components is ``(N, K)``.
EVALUATED: dict[str, Callable[[Any, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "values": lambda distribution, values, actions: values,
    "log_probs": lambda distribution, values, actions: distribution.log_prob(actions),
    "component_log_probs": lambda distribution, values, actions: distribution.log_probs(actions),
}


def evaluated_fields(policy: Any, observations: Any, actions: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Those of :data:`EVALUATED` that ``names`` lists, for many observations and actions, in one pass of the policy."""

    def evaluate(seen: Any, taken: torch.Tensor) -> tuple[torch.Tensor, ...]:
        distribution, values = policy.evaluation_of(policy.preprocess(seen))
        return tuple(EVALUATED[name](distribution, values, taken) for name in names)

    return dict(zip(names, in_batches(evaluate, policy.device, observations, actions), strict=True))


def stack_observations(observations: list[Any]) -> Any:
    """Single observations to a batch."""
    if isinstance(observations[0], dict):
        return {key: np.stack([observation[key] for observation in observations]) for key in observations[0]}
    return np.stack([np.asarray(observation) for observation in observations])


class TimeLimits:
    """The observations at which time limits cut episodes, to be bootstrapped in one batch (Pardo et al. 2018).

    :param memory: what the policy remembers of each environment, after the step; None for one without memory
    """

    def __init__(self, memory: EnvMemory | None = None) -> None:
        self.memory = memory
        self.where: list[tuple[int, int]] = []
        self.observations: list[Any] = []

    def note(self, step: int, dones: np.ndarray, infos: list[dict[str, Any]]) -> None:
        """Record time limits among the episodes that ended at ``step`` of the rollout."""
        for index in np.flatnonzero(dones):
            info = infos[index]
            if info.get("TimeLimit.truncated", False) and info.get("terminal_observation") is not None:
                self.where.append((step, int(index)))
                # A copy, because the environment may write the end of its next episode into the same array.
                last = tree_map(np.array, info["terminal_observation"])
                self.observations.append(last if self.memory is None else self.memory.seen_by(int(index), last))

    def mask(self, shape: tuple[int, ...]) -> np.ndarray:
        """Where time limits cut episodes, ``(n_steps, n_envs)``."""
        mask = np.zeros(shape, np.bool_)
        if self.where:
            mask[tuple(np.array(self.where).T)] = True
        return mask

    def bootstrap(self, rewards: np.ndarray, gamma: float, policy: Any) -> np.ndarray:
        """Rewards with ``gamma * V(terminal observation)`` added where a time limit cut the episode."""
        if not self.where:
            return rewards
        rewards = rewards.copy()
        values, _ = evaluate_in_batches(policy, stack_observations(self.observations), None)
        rewards[tuple(np.array(self.where).T)] += gamma * values
        return rewards
