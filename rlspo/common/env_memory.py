"""What a policy with memory remembers of each environment while it acts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from rlspo.common.processor import tiny_is_zero
from rlspo.common.sequences import with_memory
from rlspo.common.trees import to_tensor


class EnvMemory:
    """What a policy remembers of each environment between steps.

    :param n_envs: parallel environments
    :param size: numbers for each
    """

    def __init__(self, n_envs: int, size: int) -> None:
        self.shape = (n_envs, size)
        self.clear()

    def clear(self) -> None:
        """Remember nothing."""
        #: Before the coming step, ``(n_envs, size)``; and after it, once the policy has acted.
        self.now = self.after = np.zeros(self.shape, np.float32)

    def move_on(self) -> None:
        """The step was taken, and counts."""
        self.now = self.after

    def after_each(self, before: np.ndarray) -> np.ndarray:
        """What was remembered after each step of a rollout that was just collected, ``(n_steps * n_envs, size)``.

        :param before: the same before each step, ``(n_steps, n_envs, size)``
        """
        return np.concatenate([before[1:], self.now[None]]).reshape(-1, self.shape[1])

    def seen(self, observations: Any, starts: Any) -> dict[str, Any]:
        """The coming observations with what is remembered.

        :param starts: which of them begin an episode, ``(n_envs,)``
        """
        begins = np.asarray(starts, np.float32)
        # Not by the policy alone, which multiplies by 0: that leaves NaN.
        return with_memory(observations, np.where(begins[:, None] > 0, np.float32(0), self.now), begins)

    def seen_by(self, index: int, observation: Any) -> dict[str, Any]:
        """A single observation that follows the coming step of environment ``index`` in the same episode."""
        return with_memory(observation, self.after[index], np.float32(0))

    def actor(self, policy: Any, generator: torch.Generator, starts: Callable[[], Any]) -> Callable[[Any], Any]:
        """Acts, and remembers; see :data:`~rlspo.common.collector.Actor`.

        :param starts: tells which environments begin an episode
        """

        @torch.inference_mode()
        def act(observations: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            inputs = policy.preprocess(to_tensor(self.seen(observations, starts()), policy.device))
            with tiny_is_zero():
                actions, values, log_probs, after = policy.act(inputs, generator)
            self.after = after.cpu().numpy()
            return actions.cpu().numpy(), values.cpu().numpy(), log_probs.cpu().numpy()

        return act
