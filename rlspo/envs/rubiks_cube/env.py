"""``rlspo/RubiksCube-v0``: one cube, or many that step as arrays."""

from __future__ import annotations

from rlspo.envs.puzzle_env import PuzzleEnv, PuzzleVectorEnv
from rlspo.envs.rubiks_cube.rules import Cube


class RubiksCubeEnv(PuzzleEnv):
    """Solve a 3x3x3 cube that was scrambled by a few random turns.

    A reward of 1 for solving it, which terminates, and 0 otherwise: with more than a few turns random exploration hardly ever
    gets it, while search does. Moves are counted in the half-turn metric: a half turn is one move.

    :param scramble_depth: turns of the scramble, at least 1: a number, or a range (lowest, highest) drawn from for each
        episode. No face is turned twice in a row and the cube never starts solved; the shortest solution may have fewer turns
    :param render_mode: ``"rgb_array"`` (the unfolded cube), ``"ansi"`` or None
    :raises ValueError: for arguments out of range

    Actions: 0 to 17, ``U U2 U' R R2 R' F F2 F' D D2 D' L L2 L' B B2 B'``. Observations: the colours of 54 stickers, face by
    face (U, R, F, D, L, B), row by row. The centres of the faces never move.

    ``reset`` takes one of three options, for one episode: ``scramble_depth``, for a curriculum; ``moves`` as the scramble,
    such as ``"R U2 F'"`` or a list; ``stickers``, which must be reachable. ``info["scramble_depth"]`` is the number of turns.

    >>> env = RubiksCubeEnv()
    >>> _ = env.reset(seed=0, options={"moves": "R U"})
    >>> [env.step(action)[1:3] for action in (2, 5)]
    [(0.0, False), (1.0, True)]
    """

    def __init__(self, scramble_depth: int | tuple[int, int] = (3, 7), render_mode: str | None = None) -> None:
        super().__init__(Cube(scramble_depth), render_mode)


class RubiksCubeVectorEnv(PuzzleVectorEnv):
    """``num_envs`` independent cubes, see :class:`RubiksCubeEnv`; what ``gymnasium.make_vec`` makes.

    :param num_envs: number of cubes
    :param scramble_depth: see :class:`RubiksCubeEnv`
    :param max_episode_steps: after so many moves an episode is truncated; None: never
    :param render_mode: see :class:`RubiksCubeEnv`
    """

    def __init__(
        self,
        num_envs: int = 1,
        scramble_depth: int | tuple[int, int] = (3, 7),
        max_episode_steps: int | None = 20,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(Cube(scramble_depth), num_envs, max_episode_steps, render_mode)
