"""Letting any agent act: with memory, with masked actions, and with generators that are seeded and restored."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from rlspo.common.randomness import generators_seeded


class Actor:
    """An agent acting in vectorised environments, through its own ``predict``.

    The state of recurrent agents is carried from step to step and reset where an episode begins; agents that take
    ``action_masks`` (sb3-contrib's MaskablePPO) are given those of the environments, where there are any.

    :param env: the environments that it will act in
    :param deterministic: take the mode of the policy, not a sample
    """

    def __init__(self, model: BaseAlgorithm, env: VecEnv, deterministic: bool = True) -> None:
        self.model = model
        self.env = env
        self.deterministic = deterministic
        self._memory: Any = None
        self._masked = "action_masks" in inspect.signature(model.predict).parameters and env.has_attr("action_masks")
        # gSDE draws its noise ahead of the steps.
        self._noisy: Any = getattr(model, "actor", model.policy) if model.use_sde and not deterministic else None
        self._steps = 0

    def __call__(self, observations: Any, starts: np.ndarray) -> np.ndarray:
        """Choose actions.

        :param observations: ``(n_envs, *obs_shape)``
        :param starts: which of them begin an episode, ``(n_envs,)``
        :return: ``(n_envs, *action_shape)``
        """
        if self._noisy is not None:
            every = self.model.sde_sample_freq
            if starts.any() or (every > 0 and self._steps % every == 0):
                self._noisy.reset_noise(self.env.num_envs)
            self._steps += 1
        masks: dict[str, Any] = {"action_masks": np.stack(self.env.env_method("action_masks"))} if self._masked else {}
        actions, self._memory = self.model.predict(
            observations, state=self._memory, episode_start=starts, deterministic=self.deterministic, **masks
        )
        return actions


@contextlib.contextmanager
def own_randomness(model: BaseAlgorithm, seed: int) -> Iterator[None]:
    """Seed all generators that an agent and its environments draw from, and restore them afterwards.

    The agents of rlspo have a generator of their own; those of stable-baselines3 draw from torch's and, for DQN, NumPy's. Some
    environments draw from these or from Python's.
    """
    generator = getattr(model.policy, "generator", None)
    own = generator if isinstance(generator, torch.Generator) else None
    before, of_actions = None if own is None else own.get_state(), model.action_space.np_random.bit_generator.state
    with generators_seeded(seed):
        torch.manual_seed(seed)
        np.random.seed(seed)
        model.action_space.seed(seed)
        if own is not None:
            own.manual_seed(seed)
        try:
            yield
        finally:
            model.action_space.np_random.bit_generator.state = of_actions
            if own is not None and before is not None:
                own.set_state(before)
