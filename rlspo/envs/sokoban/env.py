"""``rlspo/Sokoban-v0``: one level at a time, or many that step as arrays."""

from __future__ import annotations

from collections.abc import Sequence

from rlspo.envs.puzzle_env import PuzzleEnv, PuzzleVectorEnv
from rlspo.envs.sokoban.rules import Sokoban


class SokobanEnv(PuzzleEnv):
    """Push all boxes onto targets. A push cannot be undone, and a box in a corner stays there.

    Each episode has a new solvable level, generated from the environment's seed, see
    :func:`~rlspo.envs.sokoban.generate.random_level`.

    :param size: rows and columns of the level, or one number for both, at least 5; including the outer walls
    :param n_boxes: boxes of the level, from 1 to a quarter of the cells inside; more is harder
    :param levels: texts of levels instead, in the usual characters (``#`` wall, ``.`` target, ``$`` box, ``*`` box on a
        target, ``@`` player, ``+`` player on a target); each episode draws one. They then determine ``size`` and ``n_boxes``
    :param render_mode: ``"rgb_array"``, ``"ansi"`` or None
    :raises ValueError: for arguments out of range, and for an invalid level

    Actions: up, down, left, right; a blocked step does nothing. Rewards, as in gym-sokoban and Boxoban:
    -0.1 for a step, +1 for a box moved onto a target, -1 for one moved off a target, +10 for solving the level, which
    terminates. Observations: ``(4, rows, columns)`` zeros and ones, planes for walls, targets, boxes and the player.

    ``reset`` takes the option ``level``: its rows or text, no larger than ``size``.

    >>> env = SokobanEnv(size=5, n_boxes=1)
    >>> _ = env.reset(options={"level": ["#####", "#@$.#", "#####"]})
    >>> env.step(3)[1:3]
    (10.9, True)
    """

    def __init__(
        self,
        size: int | Sequence[int] = 7,
        n_boxes: int = 2,
        levels: Sequence[str] | None = None,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(Sokoban(size, n_boxes, levels), render_mode)


class SokobanVectorEnv(PuzzleVectorEnv):
    """``num_envs`` independent levels, see :class:`SokobanEnv`; what ``gymnasium.make_vec`` makes.

    :param num_envs: number of levels
    :param size: see :class:`SokobanEnv`
    :param n_boxes: see :class:`SokobanEnv`
    :param levels: see :class:`SokobanEnv`
    :param max_episode_steps: after so many steps an episode is truncated; None: never
    :param render_mode: see :class:`SokobanEnv`
    """

    def __init__(
        self,
        num_envs: int = 1,
        size: int | Sequence[int] = 7,
        n_boxes: int = 2,
        levels: Sequence[str] | None = None,
        max_episode_steps: int | None = 120,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(Sokoban(size, n_boxes, levels), num_envs, max_episode_steps, render_mode)
