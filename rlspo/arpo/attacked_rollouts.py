"""Collecting rollouts under attack: the policy acts on what the adversary shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from rlspo.adversary import Perturbation
from rlspo.common.collector import Actor
from rlspo.common.env_memory import EnvMemory
from rlspo.common.trees import to_tensor

Tensor = torch.Tensor


def attacked_actor(
    policy: Any,
    perturb: Perturbation,
    search: Callable[[Any, Tensor, Any], Any],
    radius: Tensor,
    generator: torch.Generator,
    memory: EnvMemory | None,
    starts: Callable[[], Any],
) -> Actor:
    """Actions and their log-probabilities from the perturbed observation, values from the true one.

    The importance ratio of the update is then pi(a|x) / pi_old(a|nu(s)), with nu(s) what the agent saw. An actor with memory
    remembers what it was shown, a critic with a memory of its own what is true.

    :param perturb: draws the noise of the search
    :param search: from inputs, radius and noise to perturbed inputs
    :param radius: of the ball, a scalar
    :param generator: of that noise and of the actions
    :param memory: of a policy with memory
    :param starts: tells which environments begin an episode
    """

    @torch.no_grad()
    def act(observations: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        seen = observations if memory is None else memory.seen(observations, starts())
        inputs = policy.preprocess(to_tensor(seen, policy.device))
        shown = search(inputs, radius, perturb.draw(inputs, generator))
        distribution = policy.distribution_of(shown)
        actions = distribution.sample(generator)
        log_probs = distribution.log_prob(actions)
        if memory is not None:
            memory.after = policy.memory_after(shown, seen_by_critic=inputs).cpu().numpy()
        return actions.cpu().numpy(), policy.values_of(inputs).cpu().numpy(), log_probs.cpu().numpy()

    return act
