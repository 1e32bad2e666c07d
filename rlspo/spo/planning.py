"""Acting by search with the policy and value of any agent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm

from rlspo.common.collector import env_actions
from rlspo.common.trees import to_tensor, tree_map
from rlspo.simulators import simulator_for
from rlspo.spo.search import Search, SearchSettings, search
from rlspo.spo.temperature import best_temperature

Tensor = torch.Tensor


def proposals(policy: Any, generator: torch.Generator | None) -> Callable[[Any], Tensor]:
    """Draws of an agent's policy, ``(K, *action_shape)``, as the policy sees actions.

    :param policy: of an agent of rlspo, or an actor-critic policy or SAC's of SB3
    """
    if hasattr(policy, "distribution_of"):
        return lambda seen: policy.distribution_of(policy.preprocess(seen)).sample(generator)
    raise TypeError(f"{type(policy).__name__} does not give action distributions that can be searched with.")
