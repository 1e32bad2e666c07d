"""``rlspo/FrozenLakePostDecision-v0``: a frozen lake where the agent moves first and slips afterwards (arXiv 2504.05150)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
from gymnasium import spaces

from rlspo.envs.arguments import cpu_only, discrete_action
from rlspo.envs.drawing import check_render_mode, no_render_mode
from rlspo.envs.frozen_lake_model import N_ACTIONS, Lake, Outcome, random_map
from rlspo.envs.frozen_lake_picture import Track, draw_lake, lake_text
from rlspo.envs.post_decision import OBSERVATION_KEY, REWARD_KEY
from rlspo.envs.tabular import TabularModel
from rlspo.envs.tabular_arrays import LAKE_ACTIONS, LakeForm


class FrozenLakePostDecisionEnv(gym.Env[Any, Any]):
    """Cross a frozen lake: the decided move happens, then the agent may slip one tile further.

    A step moves to the intended cell c (not beyond the border) and pays r^x = r(c), with

    ::

        r(c) = 1 / (1 + Manhattan distance from c to the goal) - [c is a hole] / (rows + columns)

    Then, with ``slip_probability``, it moves once more, in a direction drawn from c's own distribution, and pays r^w = r of
    the new cell; otherwise r^w = 0. Being at the goal terminates (at c: before any slip). A hole does not end the episode, but
    any action taken in one does, with reward 0. Every step near the goal pays, so good policies stay there.

    On stock FrozenLake the slip replaces the decided move, so the intended cell is not a post-decision state; here it is.
    The released code of the paper counts a hole's penalty out of r^x, though it is known with the decision; here it is in.

    :param size: rows and columns of a random map, at least 2
    :param map_seed: of the random map: each tile is ice with probability 0.8, start top left, goal bottom right, drawn again
        until the goal can be reached over ice
    :param desc: your own map instead: rows of S, F, H and G
    :param slip_probability: in [0, 1]; more makes it harder to distinguish a good decision from luck
    :param slip_seed: of the tiles' distributions of directions, Dirichlet(1, 1, 1, 1) each
    :param render_mode: ``"rgb_array"``, ``"ansi"`` or None
    :raises ValueError: for an invalid map, and for numbers out of range

    Actions: left, down, right, up. Observations: the cell, numbered row by row. Post-decision observations: the intended
    cell, or ``n_cells`` ("over") for an action that was taken in a hole.

    >>> env = FrozenLakePostDecisionEnv(desc=["SF", "HG"])
    >>> _ = env.reset(seed=0)
    >>> env.post_decision(1)
    (2, 0.25)
    """

    metadata = {"render_modes": ["rgb_array", "ansi"], "render_fps": 4}  # noqa: RUF012 (gymnasium declares it so)
    action_space: spaces.Discrete

    def __init__(
        self,
        size: int = 10,
        map_seed: int = 0,
        desc: Sequence[str] | None = None,
        slip_probability: float = 0.5,
        slip_seed: int = 42,
        render_mode: str | None = None,
    ) -> None:
        check_render_mode(render_mode, "rgb_array", "ansi")
        self.lake = Lake(random_map(size, map_seed) if desc is None else desc, slip_probability, slip_seed)
        self.render_mode = render_mode
        self.observation_space = spaces.Discrete(self.lake.n_cells)
        self.action_space = spaces.Discrete(N_ACTIONS)
        self.post_decision_space = spaces.Discrete(self.lake.n_cells + 1)
        self._cell: int | None = None
        self._track = Track()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """Go to the start; there are no options."""
        super().reset(seed=seed)
        self._cell, self._track = self.lake.start, Track()
        return self._cell, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Move, then perhaps slip."""
        before = self._standing("step()")
        choice = discrete_action(action, self.action_space, LAKE_ACTIONS)
        post, decided, outcomes = self.lake.transitions(before, choice)
        which = int(self.np_random.choice(len(outcomes), p=[probability for probability, *_ in outcomes]))
        _, self._cell, by_chance, terminated = outcomes[which]
        reward = decided + by_chance
        self._track = self._track.after(before, post, reward, terminated)
        return self._cell, reward, terminated, False, {OBSERVATION_KEY: post, REWARD_KEY: decided}

    def post_decision(self, action: int) -> tuple[int, float]:
        """The intended cell (or "over") and r^x, if ``action`` were taken now; nothing changes."""
        cell = self._standing("post_decision(action)")
        return self.lake.decide(cell, discrete_action(action, self.action_space, LAKE_ACTIONS))

    def transitions(self, cell: int, action: int) -> tuple[int, float, list[Outcome]]:
        """All possible results of one step from ``cell``, see :meth:`~rlspo.envs.frozen_lake_model.Lake.transitions`."""
        return self.lake.transitions(cell, action)

    def model(self) -> TabularModel:
        """The lake as arrays, for exact dynamic programming: a state's number is its observation, also after the decision."""
        return self.lake.model

    def array_form(self, device: Any = None) -> LakeForm:
        """The rules for many states at once, in NumPy, see :mod:`rlspo.simulators.arrays`."""
        cpu_only(device)
        return LakeForm(self.lake)

    @property
    def cell(self) -> int:
        """The agent's cell."""
        return self._standing("asking for the cell")

    def put(self, cell: int) -> None:
        """Set the agent's cell."""
        self._cell, self._track = cell, Track()

    def render(self) -> Any:
        """The lake with the last decision and the slip after it: ``(height, width, 3)`` bytes, or text."""
        if self.render_mode is None:
            return no_render_mode("rgb_array", "ansi")
        draw = draw_lake if self.render_mode == "rgb_array" else lake_text
        return draw(self.lake, self._standing("render()"), self._track)

    def _standing(self, call: str) -> int:
        if self._cell is None:
            raise gym.error.ResetNeeded(f"Call reset() before {call}.")
        return self._cell
