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
    gym.register(
        id="rlspo/FrozenLakePostDecision-v0",
        entry_point="rlspo.envs.frozen_lake:FrozenLakePostDecisionEnv",
        max_episode_steps=100,
    )
    gym.register(
        id="rlspo/AdmissionControl-v0",
        entry_point="rlspo.envs.admission_control:AdmissionControlEnv",
        max_episode_steps=200,
    )
    gym.register(id="rlspo/MultiGoal-v0", entry_point="rlspo.envs.multi_goal:MultiGoalEnv", max_episode_steps=30)
    gym.register(
        id="rlspo/RubiksCube-v0",
        entry_point="rlspo.envs.rubiks_cube:RubiksCubeEnv",
        vector_entry_point="rlspo.envs.rubiks_cube:RubiksCubeVectorEnv",
        max_episode_steps=20,
    )
    gym.register(
        id="rlspo/Sokoban-v0",
        entry_point="rlspo.envs.sokoban:SokobanEnv",
        vector_entry_point="rlspo.envs.sokoban:SokobanVectorEnv",
        max_episode_steps=120,
    )
