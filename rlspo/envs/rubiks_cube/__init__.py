"""``rlspo/RubiksCube-v0``: the 3x3x3 cube with scrambles of any depth."""

from rlspo.envs.rubiks_cube.env import RubiksCubeEnv, RubiksCubeVectorEnv
from rlspo.envs.rubiks_cube.geometry import COLOURS as COLOURS
from rlspo.envs.rubiks_cube.geometry import FACES as FACES
from rlspo.envs.rubiks_cube.geometry import MOVES as MOVES
from rlspo.envs.rubiks_cube.rules import Cube as Cube

__all__ = ["RubiksCubeEnv", "RubiksCubeVectorEnv"]
