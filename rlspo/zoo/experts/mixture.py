"""What commands need of mixtures of experts: a check that an agent has experts, and their colours."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm

from rlspo.zoo.errors import UserError


def check_mixture(model: BaseAlgorithm) -> None:
    """Refuse an agent that has no experts.

    :raises UserError: if so
    """
    policy: Any = model.policy
    if getattr(policy, "n_experts", 1) < 2:
        raise UserError(
            f"this agent's policy is a {type(policy).__name__} and has no experts; train one with policy: MoeMlpPolicy."
        )


def expert_colours(n_experts: int) -> list[str]:
    """The colour of each expert, as ``#rrggbb``, in maps and in videos, all different."""
    import matplotlib
    from matplotlib.colors import to_hex

    from rlspo.zoo.plot import style

    if n_experts <= len(style.COLOURS):
        return list(style.COLOURS[:n_experts])
    return [to_hex(colour) for colour in matplotlib.colormaps["turbo"](np.linspace(0.02, 0.98, n_experts))]
