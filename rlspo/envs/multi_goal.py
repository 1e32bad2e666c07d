"""``rlspo/MultiGoal-v0``: a plane with several goals, all equally good (after arXiv 1702.08165, section 5.1)."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlspo.envs.arguments import number, whole
from rlspo.envs.drawing import check_render_mode, no_render_mode
from rlspo.envs.multi_goal_picture import draw_plane

Array = np.ndarray


class MultiGoalEnv(gym.Env[Array, Array]):
    """Walk from the middle of a plane to one of several goals at equal distances.

    ::

        p' = clip(p + a + noise, -7, 7)      reward = -|a|^2 - distance of p' to the nearest goal / 5   [+ 10 at a goal]

    Being within 1 of a goal terminates. In the middle all goals are equally near, so the best policies are multimodal there. A
    normal distribution stands still between the goals or learns only one of them.

    :param n_goals: at least 2; the first lies to the right
    :param radius: distance of the goals from the middle, 2 to 6
    :param start_spread: standard deviation of the start position; 0 for the middle itself, where only the policy decides on a
        goal. Above 0 the position determines the nearest goal
    :param noise: standard deviation of the noise added to each step
    :param render_mode: ``"rgb_array"`` or None
    :raises ValueError: for numbers out of range

    Actions: a step in the plane, in [-1, 1] in both directions. Observations: the position. At the end ``info["goal"]`` is the
    number of the goal reached.

    >>> env = MultiGoalEnv()
    >>> _ = env.reset(seed=0)
    >>> (env.goals.round(1) + 0.0).tolist()
    [[5.0, 0.0], [0.0, 5.0], [-5.0, 0.0], [0.0, -5.0]]
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 8}  # noqa: RUF012 (gymnasium declares it so)

    #: Half the width of the plane.
    HALF_WIDTH = 7.0
    #: Distance at which a goal is reached.
    REACH = 1.0
    #: Reward for reaching a goal.
    PRIZE = 10.0

    def __init__(
        self,
        n_goals: int = 4,
        radius: float = 5.0,
        start_spread: float = 0.1,
        noise: float = 0.0,
        render_mode: str | None = None,
    ) -> None:
        check_render_mode(render_mode, "rgb_array")
        count = whole("n_goals", n_goals, 2)
        angles = 2 * math.pi * np.arange(count) / count
        self.goals: Array = number("radius", radius, 2, 6) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        self.start_spread = number("start_spread", start_spread, 0)
        self.noise = number("noise", noise, 0)
        self.render_mode = render_mode
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = spaces.Box(-self.HALF_WIDTH, self.HALF_WIDTH, (2,), np.float32)
        self._path: list[Array] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Go to the middle; there are no options."""
        super().reset(seed=seed)
        self._path = [np.clip(self.np_random.normal(0.0, self.start_spread, 2), -self.HALF_WIDTH, self.HALF_WIDTH)]
        return self._seen(), {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Move, see :class:`MultiGoalEnv`."""
        if not self._path:
            raise gym.error.ResetNeeded("step() before reset(): call env.reset() first.")
        step = np.asarray(action, np.float64)
        if step.shape != (2,) or not np.isfinite(step).all():
            raise ValueError(f"action is {action!r}; it must be two finite numbers, a step in the plane.")
        step = np.clip(step, -1.0, 1.0)
        place = self._path[-1] + step + self.np_random.normal(0.0, 1.0, 2) * self.noise
        self._path.append(np.clip(place, -self.HALF_WIDTH, self.HALF_WIDTH))
        distances = np.linalg.norm(self.goals - self._path[-1], axis=1)
        goal = int(distances.argmin())
        reached = bool(distances[goal] <= self.REACH)
        reward = -float(step @ step) - float(distances[goal]) / 5 + self.PRIZE * reached
        return self._seen(), reward, reached, False, {"goal": goal} if reached else {}

    def _seen(self) -> Array:
        return self._path[-1].astype(np.float32)

    def render(self) -> Array | None:
        """The plane, its goals and the path so far."""
        if self.render_mode is None:
            no_render_mode("rgb_array")
            return None
        return draw_plane(self.goals, [np.asarray(self._path)], self.HALF_WIDTH, self.REACH)
