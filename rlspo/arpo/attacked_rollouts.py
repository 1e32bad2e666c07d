"""Collecting rollouts under attack: the policy acts on what the adversary shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from rlspo.adversary import Perturbation
from rlspo.common.collector import Actor
from rlspo.common.trees import to_tensor
from rlspo.policies import ActorCriticPolicy

Tensor = torch.Tensor


def attacked_actor(
    policy: ActorCriticPolicy,
    perturb: Perturbation,
    search: Callable[[Any, Tensor, Any], Any],
    radius: Tensor,
    generator: torch.Generator,
) -> Actor:
    """Actions and their log-probabilities from the perturbed observation, values from the true one.

    The importance ratio of the update is then pi(a|x) / pi_old(a|nu(s)), with nu(s) what the agent saw.

    :param perturb: draws the noise of the search
    :param search: from inputs, radius and noise to perturbed inputs
    :param radius: of the ball, a scalar
    :param generator: of that noise and of the actions
    """

    @torch.no_grad()
    def act(observations: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        inputs = policy.preprocess(to_tensor(observations, policy.device))
        shown = search(inputs, radius, perturb.draw(inputs, generator))
        distribution = policy.distribution_of(shown)
        actions = distribution.sample(generator)
        log_probs = distribution.log_prob(actions)
        return actions.cpu().numpy(), policy.values_of(inputs).cpu().numpy(), log_probs.cpu().numpy()

    return act
