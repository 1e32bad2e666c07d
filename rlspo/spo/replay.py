"""A replay of the last few rollouts. Their returns are computed anew as the target critic changes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rlspo.common.advantages import generalized_advantages
from rlspo.common.collector import TimeLimits, evaluate_in_batches
from rlspo.common.rollout_buffer import RolloutBuffer
from rlspo.common.trees import tree_map


class Ending(NamedTuple):
    """Data beyond a rollout's rows that its returns depend on.

    :param time_limits: steps at which they cut episodes, and the observations there
    :param last_observations: after the last step, ``(n_envs, *obs_shape)``
    :param dones: whether the last step ended the episode, ``(n_envs,)``
    """

    time_limits: TimeLimits
    last_observations: Any
    dones: np.ndarray


class Replay(RolloutBuffer):
    """A ring of rollouts in the arrays of one buffer, so that the update always sees the same shapes.

    :param rollout: the buffer whose rollouts are copied
    :param size: number of rollouts
    """

    def __init__(self, rollout: RolloutBuffer, size: int) -> None:
        super().__init__(
            rollout.buffer_size * size,
            rollout.observation_space,
            rollout.action_space,
            rollout.device,
            rollout.gae_lambda,
            rollout.gamma,
            rollout.n_envs,
            extra_fields=rollout.fields,
        )
        self.size_of_one, self.n_slots = rollout.buffer_size, size
        self.endings: list[Ending] = []
        self._next = 0
        self.data["valid"][:] = False

    def keep(self, rollout: RolloutBuffer, ending: Ending) -> None:
        """Copy a full rollout over the oldest one."""
        rows, slot = self._rows(self._next), self._next
        for name, store in self.data.items():
            tree_map(lambda array, new: array.__setitem__(rows, new), store, rollout.data[name])
        self.endings[slot : slot + 1] = [ending]
        self._next = (slot + 1) % self.n_slots

    def _rows(self, slot: int) -> slice:
        return slice(slot * self.size_of_one, (slot + 1) * self.size_of_one)

    def form_returns(self, critic: Any, scale_rewards: Any) -> None:
        """Fill ``returns`` with the TD(lambda) targets of ``critic``.

        :param critic: with ``preprocess``, ``values_of`` and ``device``, like a policy
        :param scale_rewards: from rewards of the environment to the units of the value
        """
        for slot, ending in enumerate(self.endings):
            rows = self._rows(slot)
            seen = tree_map(lambda array, rows=rows: array[rows].reshape(-1, *array.shape[2:]), self.data["observations"])
            values = evaluate_in_batches(critic, seen, None)[0].reshape(self.size_of_one, self.n_envs)
            rewards = ending.time_limits.bootstrap(scale_rewards(self.data["rewards"][rows]), self.gamma, critic)
            starts = np.concatenate([self.data["episode_starts"][rows][1:], np.asarray(ending.dones, np.float32)[None]])
            last_values, _ = evaluate_in_batches(critic, ending.last_observations, None)
            advantages = generalized_advantages(rewards, values, last_values, 1.0 - starts, self.gamma, self.gae_lambda)
            self.data["returns"][rows] = advantages + values
