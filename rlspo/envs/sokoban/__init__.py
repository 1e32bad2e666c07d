"""``rlspo/Sokoban-v0``: push boxes onto targets, in random levels that have a solution."""

from rlspo.envs.sokoban.env import SokobanEnv, SokobanVectorEnv
from rlspo.envs.sokoban.generate import random_level
from rlspo.envs.sokoban.level import level_text, parse_level
from rlspo.envs.sokoban.rules import Sokoban as Sokoban
from rlspo.envs.sokoban.solver import solve

__all__ = ["SokobanEnv", "SokobanVectorEnv", "level_text", "parse_level", "random_level", "solve"]
