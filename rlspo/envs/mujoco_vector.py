"""Gymnasium's MuJoCo environments as one vectorised environment that steps all copies together, on native threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from gymnasium.wrappers import OrderEnforcing, TimeLimit

from rlspo.common.errors import check_count
from rlspo.envs.together import StepsTogether

if TYPE_CHECKING:
    from rlspo.simulators.mujoco import MujocoStates


class MujocoVectorEnv(StepsTogether):
    """Copies of a ``-v5`` task, stepped together: MuJoCo on several threads, observations and rewards as arrays.

    Trajectories are those of ``SyncVectorEnv(..., autoreset_mode=AutoresetMode.SAME_STEP)`` from the same seeds: observations,
    ends, infos and ``final_obs`` to the last bit, rewards to 1e-9. Seeds, options and spaces are gymnasium's too.

    >>> env = MujocoVectorEnv("HalfCheetah-v5", num_envs=4, threads=2)
    >>> observations, infos = env.reset(seed=0)
    >>> observations, rewards, terminated, truncated, infos = env.step(env.action_space.sample())
    >>> observations.shape, rewards.shape
    ((4, 17), (4,))

    :param env_id: one of :data:`rlspo.simulators.mujoco.SIMULATED`
    :param num_envs: number of copies
    :param threads: largest number that MuJoCo uses; None: the number of cores
    :param max_episode_steps: steps after which an episode is truncated; None: the task's own limit; -1: no limit
    :param render_mode: as gymnasium's; :meth:`render` gives a frame of each copy
    :param kwargs: arguments of the task, as for ``gymnasium.make``
    :raises TypeError: for an environment whose rules are not known, or one with wrappers of its own
    :raises ValueError: for ``num_envs`` or ``threads`` below 1, and for ``render_mode="human"``
    """

    def __init__(
        self,
        env_id: str,
        num_envs: int = 1,
        threads: int | None = None,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        **kwargs: Any,
    ) -> None:
        check_count("num_envs", num_envs)
        if render_mode == "human":
            raise ValueError("render_mode is 'human', but there is no window for many copies; it may be 'rgb_array'.")
        outer = [
            gym.make(env_id, max_episode_steps, render_mode=render_mode, **{"disable_env_checker": True, **kwargs})
            for _ in range(num_envs)
        ]
        self.num_envs, self.spec, self.render_mode = num_envs, outer[0].spec, render_mode
        self.time_limit = _time_limit(outer[0])
        self._copies = [env.unwrapped for env in outer]
        from rlspo.simulators.mujoco import MujocoCore  # MuJoCo is an extra, and installed where its environments were made

        self._core = MujocoCore(self._copies[0], threads, whole_info=True)
        self._states: MujocoStates | None = None
        self._steps = np.zeros(num_envs, np.int64)
        self.metadata = {**self._copies[0].metadata, "autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space = self._copies[0].observation_space
        self.single_action_space = self._copies[0].action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._everyone = np.ones(num_envs, bool)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Reset all copies.

        :param seed: of the first copy, the others count up; or one for each; None: they go on with their generators
        :param options: as gymnasium's; ``{"reset_mask": mask}`` resets only some copies and goes on with the others
        """
        seeds = self.seeds(seed)
        options = dict(options or {})
        mask = self._mask(options.pop("reset_mask", None))
        infos: dict[str, Any] = {}
        for index in map(int, np.flatnonzero(mask)):
            infos = self._add_info(infos, self._reset_copy(index, seeds[index], options or None), index)
        return self._observations.copy(), infos

    def _mask(self, given: Any) -> np.ndarray:
        """Which copies to reset."""
        if self._states is None or given is None:
            parts = [self._core.capture(copy) for copy in self._copies]
            self._states = self._core.join(parts)
            self._observations = np.zeros(self.observation_space.shape or (), self.observation_space.dtype)
        if given is None:
            return self._everyone
        mask = np.asarray(given)
        if mask.dtype != np.bool_ or mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(f"reset_mask is {given!r}; it must be {self.num_envs} booleans, with at least one True.")
        return mask

    def _reset_copy(self, index: int, seed: int | None, options: dict[str, Any] | None) -> dict[str, Any]:
        """Gymnasium's own reset of a copy, taken over. Returns its info."""
        states, copy = self._started(), self._copies[index]
        self._observations[index], info = copy.reset(seed=seed, options=options)
        fresh = self._core.capture(copy)
        states.rows[index] = fresh.rows[0]
        for name, values in fresh.lagging.items():
            states.lagging[name][index] = values[0]
        self._steps[index] = 0
        return dict(info)

    def _started(self) -> MujocoStates:
        if self._states is None:
            raise gym.error.ResetNeeded("Call reset() before anything that needs a state.")
        return self._states

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step all copies; those whose episodes end are reset in the same step.

        :param actions: ``(num_envs, n_actions)``
        :raises ValueError: for another shape
        """
        outcome, values = self._core.step_with_terms(self._started(), np.asarray(actions), self._everyone)
        values = {name: value if value.base is None else value.copy() for name, value in values.items()}
        self._states, self._observations = outcome.states, outcome.observations
        self._steps += 1
        terminated, truncated = outcome.terminated, self._steps >= self.time_limit
        ended = np.flatnonzero(terminated | truncated)
        if len(ended):
            infos = self._infos(values, ended)
        else:
            everyone = self._everyone.copy()
            infos = {**values, **{f"_{name}": everyone for name in values}}
        return self._observations.copy(), outcome.rewards, terminated, truncated, infos

    def _infos(self, values: dict[str, np.ndarray], ended: np.ndarray) -> dict[str, Any]:
        """The infos of a step in which episodes ended, whose copies are reset here."""
        infos: dict[str, Any] = {}
        for index in range(self.num_envs):
            info = {name: of_all[index] for name, of_all in values.items()}
            if index in ended:
                last = {"final_obs": self._observations[index].copy(), "final_info": info}
                infos = self._add_info(infos, last, index)
                info = self._reset_copy(index, None, None)
            infos = self._add_info(infos, info, index)
        return infos

    @property
    def envs(self) -> list[Any]:
        """The copies as gymnasium's environments, in their present states. Changes of their models take effect, changes of
        their states and settings do not."""
        if self._states is not None:
            for index, copy in enumerate(self._copies):
                self._core.show(copy, self._states, index)
        return self._copies

    def render(self) -> tuple[Any, ...]:
        """A frame of each copy."""
        return tuple(copy.render() for copy in self.envs)

    def close_extras(self, **kwargs: Any) -> None:
        """Close the copies."""
        for copy in self._copies:
            copy.close()


def _time_limit(env: gym.Env) -> float:
    """The steps after which episodes are truncated; infinity if never."""
    limit = np.inf
    while isinstance(env, gym.Wrapper):
        if isinstance(env, TimeLimit):
            limit = env._max_episode_steps
        elif not isinstance(env, OrderEnforcing):
            raise TypeError(
                f"{env} is made with the wrapper {type(env).__name__}, which copies stepped together would leave out. "
                "Use SyncVectorEnv, or SB3's DummyVecEnv."
            )
        env = env.env
    return limit
