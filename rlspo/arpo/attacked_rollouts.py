"""Collecting rollouts under attack: the policy acts on what the adversary shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rlspo.common.collector import Actor
from rlspo.common.compilation import compile_whole
from rlspo.common.trees import to_tensor

if TYPE_CHECKING:
    from rlspo.arpo.arpo import ARPO

Tensor = torch.Tensor


def attacked_actor(agent: ARPO) -> Actor:
    """Actions and their log-probabilities from the perturbed observation, values from the true one.

    The importance ratio of the update is then pi(a|x) / pi_old(a|nu(s)), with nu(s) what the agent saw.

    :param agent: its ``rollout_objective`` is maximised; compiled where the agent's update is
    """
    policy, perturb, flat = agent.policy, agent.perturb, agent.update.flat
    assert perturb is not None

    def search(values: Tensor, inputs: Any, radius: Tensor, noise: Any) -> Any:
        parameters = flat.named(values)
        objective = agent.rollout_objective(parameters, policy.action_distribution(parameters, inputs))
        return perturb(objective, inputs, radius, noise)

    if agent.update.compiled:
        if agent.compiled_search is None:
            agent.compiled_search = compile_whole(search, agent.device, or_eager=agent.compile == "auto")
        search = agent.compiled_search
    radius = torch.tensor(agent.hyper()["epsilon"], device=agent.device)

    @torch.no_grad()
    def act(observations: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        inputs = policy.preprocess(to_tensor(observations, agent.device))
        noise = perturb.draw(inputs, agent.randomness.torch)
        shown = search(flat.values, inputs, radius, noise)
        distribution = policy.distribution_of(shown)
        actions = distribution.sample(agent.randomness.torch)
        log_probs = distribution.log_prob(actions)
        return actions.cpu().numpy(), policy.values_of(inputs).cpu().numpy(), log_probs.cpu().numpy()

    return act
