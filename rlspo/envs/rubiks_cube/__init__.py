"""``rlspo/RubiksCube-v0``: the 3x3x3 cube with scrambles of any depth."""

from rlspo.envs.rubiks_cube.env import RubiksCubeEnv, RubiksCubeVectorEnv
from rlspo.envs.rubiks_cube.geometry import COLOURS, FACES, MOVES
from rlspo.envs.rubiks_cube.rules import Cube

__all__ = ["COLOURS", "FACES", "MOVES", "Cube", "RubiksCubeEnv", "RubiksCubeVectorEnv"]
