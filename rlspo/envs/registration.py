"""The ids of rlspo's environments: registered when ``rlspo`` is imported, made by ``gymnasium.make``."""

from __future__ import annotations

import gymnasium as gym


def register_envs() -> None:
    """Tell gymnasium of the environments; each is imported when it is made."""
    gym.register(
        id="rlspo/LotSizing-v0",
        entry_point="rlspo.envs.lot_sizing:LotSizingEnv",
        vector_entry_point="rlspo.envs.lot_sizing:LotSizingVectorEnv",
    )
