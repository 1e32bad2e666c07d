"""A puzzle as an environment: one copy of it, or many that step as arrays."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from rlspo.envs.arguments import discrete_action, discrete_actions, whole
from rlspo.envs.drawing import check_render_mode, no_render_mode
from rlspo.envs.puzzle import Puzzle, PuzzleForm, Tensors

Array = np.ndarray


class PuzzleEnv(gym.Env[Array, Any]):
    """One copy of a puzzle; ``info["is_success"]`` says whether it is solved.

    :param puzzle: its rules
    :param render_mode: ``"rgb_array"``, ``"ansi"`` or None
    """

    metadata = {"render_modes": ["rgb_array", "ansi"], "render_fps": 4}  # noqa: RUF012 (gymnasium declares it so)

    def __init__(self, puzzle: Puzzle, render_mode: str | None = None) -> None:
        check_render_mode(render_mode, "rgb_array", "ansi")
        self.puzzle, self.render_mode = puzzle, render_mode
        self.observation_space, self.action_space = puzzle.observation_space, puzzle.action_space
        self._form = PuzzleForm(puzzle)
        self._states: Tensors | None = None

    @property
    def states(self) -> Tensors:
        """The state as a batch of one, in array form. It is replaced at each step and never written to."""
        if self._states is None:
            raise gym.error.ResetNeeded("Call reset() first: there is no state yet.")
        return self._states

    @states.setter
    def states(self, states: Tensors) -> None:
        self._states = states

    def array_form(self, device: torch.device | str | None = None) -> PuzzleForm:
        """The rules for many states at once, see :mod:`rlspo.simulators.arrays`.

        :param device: of the states; None for the CPU
        """
        return PuzzleForm(self.puzzle, device)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Draw a puzzle, or use the one described by ``options``."""
        super().reset(seed=seed)
        self._states, infos = self.puzzle.begin(self.np_random, 1, options or {})
        return self._observe(), {name: values[0].item() for name, values in infos.items()}

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """One action, see the class of the puzzle."""
        action = discrete_action(action, self.puzzle.action_space, self.puzzle.meaning)
        self._states, _, rewards, solved, _ = self._form.step(self.states, torch.tensor([action]))
        over = bool(solved)
        return self._observe(), float(rewards), over, False, {"is_success": over}

    def _observe(self) -> Array:
        return self.puzzle.observe(self.states)[0].numpy().copy()

    def render(self) -> Any:
        """The current state: ``(height, width, 3)`` bytes, or text."""
        if self.render_mode is None:
            return no_render_mode("rgb_array", "ansi")
        return (self.puzzle.draw if self.render_mode == "rgb_array" else self.puzzle.text)(self.states)


class PuzzleVectorEnv(VectorEnv[Array, Array, Array]):
    """``num_envs`` copies of a puzzle. After an episode's end the next one begins in the same step; the last observation and
    info are in ``info["final_obs"]`` and ``info["final_info"]``.

    :param puzzle: its rules
    :param num_envs: number of copies
    :param max_episode_steps: the time limit of an episode; None for no limit
    :param render_mode: ``"rgb_array"``, ``"ansi"`` or None
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": ["rgb_array", "ansi"],
        "render_fps": 4,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self, puzzle: Puzzle, num_envs: int = 1, max_episode_steps: int | None = None, render_mode: str | None = None
    ) -> None:
        check_render_mode(render_mode, "rgb_array", "ansi")
        self.num_envs = whole("num_envs", num_envs, 1)
        self.max_episode_steps = (
            max_episode_steps if max_episode_steps is None else whole("max_episode_steps", max_episode_steps, 1)
        )
        self.puzzle, self.render_mode = puzzle, render_mode
        self.single_observation_space, self.single_action_space = puzzle.observation_space, puzzle.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._form = self.array_form()
        self._states: Tensors | None = None

    @property
    def states(self) -> Tensors:
        """The states of all copies, ``elapsed`` steps included where there is a time limit."""
        if self._states is None:
            raise gym.error.ResetNeeded("Call reset() first: there are no states yet.")
        return self._states

    @states.setter
    def states(self, states: Tensors) -> None:
        self._states = states

    def array_form(self, device: torch.device | str | None = None) -> PuzzleForm:
        """The rules for many states at once, time limit included, see :mod:`rlspo.simulators.arrays`.

        :param device: of the states; None for the CPU
        """
        return PuzzleForm(self.puzzle, device, self.max_episode_steps)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start episodes in all copies, or in those of ``options["reset_mask"]``.

        :param seed: one number; the copies share a generator
        :param options: as for the scalar environment, for all copies that are reset
        """
        if isinstance(seed, list | tuple):
            raise ValueError(f"seed is {seed}; the copies share one generator: give one number.")
        super().reset(seed=seed)
        options = dict(options or {})
        mask = np.asarray(options.pop("reset_mask", np.ones(self.num_envs, bool)), bool)
        if self._states is None and not mask.all():
            raise gym.error.ResetNeeded("The first reset must be of all copies: leave reset_mask out.")
        infos = self._begin(mask, options)
        return self._observe(), infos

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """One action in each copy, ``(num_envs,)``."""
        checked = discrete_actions(actions, self.num_envs, self.puzzle.action_space, self.puzzle.meaning)
        self._states, _, rewards, solved, cut = self._form.step(self.states, torch.from_numpy(checked))
        observation, terminated, truncated = self._observe(), solved.numpy(), cut.numpy()
        info: dict[str, Any] = {"is_success": terminated}
        over = terminated | truncated
        if over.any():
            info.update(self._begin_again(observation, info, over))
            observation = self._observe()
        return observation, rewards.numpy(), terminated, truncated, info

    def _begin_again(self, observation: Array, info: dict[str, Any], over: Array) -> dict[str, Any]:
        final = np.full(self.num_envs, None, dtype=object)
        for i in np.flatnonzero(over):
            final[i] = observation[i]
        final_info = {**info, **{f"_{key}": over for key in info}}
        going_on = {f"_{key}": ~over for key in info}
        ended = {"final_obs": final, "_final_obs": over, "final_info": final_info, "_final_info": over}
        return {**going_on, **ended, **self._begin(over, {})}

    def _begin(self, mask: Array, options: dict[str, Any]) -> dict[str, Any]:
        """Start new puzzles in the copies of ``mask`` and return their infos."""
        rows = np.flatnonzero(mask)
        if not len(rows):
            return {}
        fresh, infos = self.puzzle.begin(self.np_random, len(rows), options)
        if self.max_episode_steps is not None:
            fresh["elapsed"] = torch.zeros(len(rows), dtype=torch.int64)
        if len(rows) == self.num_envs:
            self._states = fresh
        else:
            index = torch.from_numpy(rows)
            self._states = {name: old.index_copy(0, index, fresh[name]) for name, old in self.states.items()}
        told: dict[str, Any] = {}
        for name, values in infos.items():
            told[name], told[f"_{name}"] = np.zeros(self.num_envs, values.dtype), mask
            told[name][mask] = values
        return told

    def _observe(self) -> Array:
        return self.puzzle.observe(self.states).numpy().copy()

    def render(self) -> Any:
        """The current state of each copy: pictures, or texts."""
        if self.render_mode is None:
            return no_render_mode("rgb_array", "ansi")
        show = self.puzzle.draw if self.render_mode == "rgb_array" else self.puzzle.text
        return tuple(show({name: tensor[i : i + 1] for name, tensor in self.states.items()}) for i in range(self.num_envs))
