"""The post-decision interface: how an environment reports the state between a decision and the random events after it.

One step of a decision process is a decision and then chance,

::

    s^x = f(s, a)          the post-decision state, known with the action
    s'  = g(s^x, w)        w is drawn by the environment and depends on (s, a) only through s^x
    r   = r^x(s, a) + r^w(s^x, w)

(Powell's post-decision state, Sutton and Barto's afterstate). An environment provides it like this:

``info["post_decision_obs"]``
    after ``step``: the observation of s^x, an element of ``post_decision_space``
``info["post_decision_reward"]``
    after ``step``: r^x of the action just taken; the reward that ``step`` returns is r, the sum
``post_decision_space``
    attribute; optional if it is the ``observation_space``
``post_decision(action) -> (observation, reward)``
    optional method: s^x and r^x if ``action`` were taken now. It changes nothing and draws no random numbers
``post_decisions(actions) -> (observations, rewards)``
    optional method: the same for several actions at once, along a first axis; only for speed

Both keys belong to the step that was taken, even if it ended an episode. :class:`PostDecision` adds them to an existing
environment, :func:`check_post_decision_env` finds missing or wrong parts.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlspo.common.trees import tree_map
from rlspo.simulators.base import Layer, Outcome
from rlspo.simulators.layers import flat, row, unflat

OBSERVATION_KEY = "post_decision_obs"
REWARD_KEY = "post_decision_reward"
SPACE = "post_decision_space"


def post_decision_space(env: gym.Env) -> spaces.Space:
    """The space that an environment declares for its post-decision observations: its observation space by default."""
    return env.get_wrapper_attr(SPACE) if env.has_wrapper_attr(SPACE) else env.observation_space


def offered(env: gym.Env, method: str) -> Callable[..., Any] | None:
    """``post_decision`` or ``post_decisions`` of an environment, None where it has none; a wrapper may set it to None to hide
    it."""
    return env.get_wrapper_attr(method) if env.has_wrapper_attr(method) else None


def is_number(reward: Any) -> bool:
    """Whether a reward is a single number, or an array without dimensions of any library."""
    return np.ndim(reward) == 0 and np.asarray(reward).dtype.kind in "biuf"


class LookingAhead(gym.Wrapper):
    """A wrapper with its own ``post_decision``; ``post_decisions`` calls that and not the wrapped environment's."""

    @property
    def looks_ahead(self) -> bool:
        """Whether it says where actions lead; an answer that can be sent from another process."""
        return self.post_decision is not None

    def post_decisions(self, actions: Any) -> tuple[Any, Any]:
        """Post-decision observations and rewards of several actions, along a first axis."""
        found = [self.post_decision(action) for action in actions]
        observations = [observation for observation, _ in found]
        stacked = (
            {key: np.stack([observation[key] for observation in observations]) for key in observations[0]}
            if isinstance(observations[0], dict)
            else np.stack(observations)
        )
        return stacked, np.array([reward for _, reward in found])

    def post_decision(self, action: Any) -> tuple[Any, float]:
        """s^x and r^x if ``action`` were taken now."""
        raise TypeError(f"{type(self).__name__} does not say where actions lead.")

    def simulated_layer(self) -> Layer:
        """In a simulation, which has no infos, this wrapper has no effect."""
        return Layer(self)


class _LastLayer(Layer):
    """Stores the last observation, the argument of ``fn`` in :class:`PostDecision`."""

    def capture(self, wrapper: Any) -> dict[str, np.ndarray]:
        if wrapper._observation is None:
            raise gym.error.ResetNeeded("The environment has no state before reset(); call reset() before capture(env).")
        return flat("last", tree_map(row, wrapper._observation))

    def restore(self, wrapper: Any, memory: dict[str, np.ndarray]) -> None:
        wrapper._observation = tree_map(lambda array: array[0].copy(), unflat("last", memory))

    def after(self, memory: dict[str, Any], outcome: Outcome) -> tuple[dict[str, Any], Outcome]:
        return flat("last", outcome.observations), outcome


class PostDecision(LookingAhead):
    """Add the post-decision interface to an existing environment.

    :param env: any environment
    :param fn: ``(observation, action) -> (post-decision observation, r^x)``: f and r^x as a pure function of the agent's
        observation
    :param space: of the post-decision observation; None for the observation space

    >>> env = PostDecision(gym.make("CartPole-v1"), lambda observation, action: (observation, 0.0))
    >>> _ = env.reset(seed=0)
    >>> sorted(env.step(0)[4])
    ['post_decision_obs', 'post_decision_reward']
    """

    def __init__(self, env: gym.Env, fn: Callable[[Any, Any], tuple[Any, float]], space: spaces.Space | None = None) -> None:
        super().__init__(env)
        if not callable(fn):
            raise TypeError(f"fn is {fn!r}; it must be a function (observation, action) -> (observation, reward).")
        self.fn = fn
        self.post_decision_space = env.observation_space if space is None else space
        self._observation: Any = None

    def simulated_layer(self) -> Layer:
        """The layer that stores the last observation."""
        return _LastLayer(self)

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Reset the environment and store the observation."""
        self._observation, info = self.env.reset(**kwargs)
        return self._observation, info

    def post_decision(self, action: Any) -> tuple[Any, float]:
        """s^x and r^x if ``action`` were taken now."""
        if self._observation is None:
            raise gym.error.ResetNeeded("Call reset() before post_decision(action).")
        found = self.fn(self._observation, action)
        if not isinstance(found, tuple) or len(found) != 2:
            raise TypeError(f"fn returned {found!r}; it must return a pair: (post-decision observation, r^x).")
        return found

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the environment's, with the two keys in its info."""
        observation, reward = copy.deepcopy(self.post_decision(action))  # the step may write into what fn passed on
        self._observation, total, terminated, truncated, info = self.env.step(action)
        return self._observation, total, terminated, truncated, {**info, OBSERVATION_KEY: observation, REWARD_KEY: reward}
