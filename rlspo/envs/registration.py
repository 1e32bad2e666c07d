"""The ids of rlspo's environments: registered when ``rlspo`` is imported, made by ``gymnasium.make``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import gymnasium as gym


def register_envs() -> None:
    """Register the environments; each is imported when it is made."""
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
    _register_stori()
    _register_stochastic()


def _register_stori() -> None:
    for game in _atari_games():
        name = game.title().replace("_", "")
        gym.register(
            id=f"STORI/{name}-v0",
            entry_point="rlspo.envs.stori:make_game",
            vector_entry_point="rlspo.envs.stori:make_games",
            kwargs={"game": game},
        )


def _atari_games() -> list[str]:
    """Games of ``ale_py`` in snake case, without importing it; the four of the benchmark where it is not installed."""
    found = importlib.util.find_spec("ale_py")
    folders = [] if found is None else [Path(place) / "roms" for place in found.submodule_search_locations or []]
    games = sorted(file.stem for folder in folders for file in folder.glob("*.bin"))
    return games or ["bank_heist", "boxing", "breakout", "gopher"]


#: The tasks of MuJoCo that gymnasium has.
MUJOCO_TASKS = (
    "Ant",
    "HalfCheetah",
    "Hopper",
    "Humanoid",
    "HumanoidStandup",
    "InvertedDoublePendulum",
    "InvertedPendulum",
    "Pusher",
    "Reacher",
    "Swimmer",
    "Walker2d",
)


def _register_stochastic() -> None:
    for name in MUJOCO_TASKS:
        plain = gym.spec(f"{name}-v5")
        gym.register(
            id=f"STORI/{name}-v0",
            entry_point="rlspo.envs.stochastic:make_task",
            kwargs={"task": plain.id},
            max_episode_steps=plain.max_episode_steps,
            reward_threshold=plain.reward_threshold,
        )
