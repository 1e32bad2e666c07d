"""Apply gymnasium's observation and reward wrappers to post-decision observations and rewards."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import (
    AddRenderObservation,
    AtariPreprocessing,
    DelayObservation,
    FrameStackObservation,
    MaxAndSkipObservation,
    NormalizeObservation,
    NormalizeReward,
    RepeatAction,
    StickyAction,
    TimeAwareObservation,
)

from rlspo.envs.post_decision import OBSERVATION_KEY, REWARD_KEY, SPACE, LookingAhead, offered, post_decision_space

Array = np.ndarray
#: Wrappers that take several steps as one, or other actions: their infos belong to another decision.
OTHER_DECISIONS = (AtariPreprocessing, MaxAndSkipObservation, RepeatAction, StickyAction)
#: Wrappers whose observation() tells of the moment at which it is asked, so that it is not to be asked of s^x.
OTHER_MOMENTS = (AddRenderObservation, DelayObservation, TimeAwareObservation)


class TransformPostDecision(LookingAhead):
    """Put this around wrappers that change observations or rewards: it changes the post-decision ones in the same way.

    Wrappers between this one and the environment that offers the interface may be gymnasium's observation wrappers
    (``FlattenObservation``, ``RescaleObservation``, ...), ``NormalizeObservation``, ``FrameStackObservation`` (the
    post-decision observation becomes the newest frame), ``NormalizeReward``, and any that change neither. While one of them
    updates running statistics, ``post_decision`` is not available: the step itself would change the normalisation.

    :param env: the wrapped environment
    :raises TypeError: for a wrapper that takes several steps or other actions, changes rewards in another way, or observes the
        moment (``DelayObservation``); and for observation wrappers around an environment whose post-decision observations are
        of another kind than its observations

    >>> import gymnasium, rlspo
    >>> env = gymnasium.wrappers.FrameStackObservation(gymnasium.make("rlspo/LotSizing-v0", instance="2x1"), 3)
    >>> env = TransformPostDecision(env)
    >>> env.post_decision_space.shape == env.observation_space.shape
    True
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self._observers: list[gym.Wrapper] = []
        self._scalers: list[NormalizeReward] = []
        self._frames: dict[int, list[Any]] = {}
        self._shape: tuple[int, ...] = ()
        core, wrappers = _inside_out(env)
        for wrapper in wrappers:
            self._add(wrapper)
        space = post_decision_space(core)
        seen = core.observation_space
        made_for = self._observers if space.shape != seen.shape else _functions_among(self._observers)
        if made_for and _kind(space) != _kind(seen):
            raise TypeError(
                f"{type(made_for[0]).__name__} is made for observations of {seen}, and post-decision ones are of {space}. Put "
                "it inside of what offers the post-decision interface, or leave it to the agent's networks."
            )
        if self._observers:
            example = np.asarray(self._observed(space.sample()))
            whole = np.iinfo(example.dtype) if example.dtype.kind in "ui" else None
            low, high = (-np.inf, np.inf) if whole is None else (whole.min, whole.max)
            dtype: Any = np.float32 if whole is None else example.dtype
            space = spaces.Box(low, high, example.shape, dtype)
        self.post_decision_space = space
        moving = any(getattr(wrapper, "update_running_mean", False) for wrapper in (*self._observers, *self._scalers))
        if moving or offered(env, "post_decision") is None:
            self.post_decision = self.post_decisions = None  # type: ignore[assignment, method-assign]

    def _add(self, wrapper: gym.Wrapper) -> None:
        rewards = isinstance(wrapper, gym.RewardWrapper) and not isinstance(wrapper, NormalizeReward)
        if isinstance(wrapper, OTHER_DECISIONS) or rewards:
            why = (
                "changes rewards, and a part of a reward not in the same way"
                if rewards
                else "takes other steps than the one given"
            )
            raise TypeError(f"{type(wrapper).__name__} {why}; put it inside of what offers the post-decision interface.")
        if isinstance(wrapper, OTHER_MOMENTS):
            raise TypeError(
                f"{type(wrapper).__name__} observes the moment at which it is asked, and a post-decision state is of another; "
                "put it inside of what offers the post-decision interface."
            )
        if isinstance(wrapper, NormalizeReward):
            self._scalers.append(wrapper)
        elif isinstance(wrapper, gym.ObservationWrapper | NormalizeObservation | FrameStackObservation):
            self._observers.append(wrapper)
        elif wrapper.observation_space != wrapper.env.observation_space:
            raise TypeError(
                f"{type(wrapper).__name__} changes observations in a way that is not known here; make it a "
                "gymnasium.ObservationWrapper, whose method observation() can be applied to any of them."
            )

    def _remember(self) -> None:
        """Store the frames to which a step adds the newest."""
        self._frames = {id(w): list(w.obs_queue) for w in self._observers if isinstance(w, FrameStackObservation)}

    def _observed(self, observation: Any) -> Any:
        for wrapper in self._observers:
            if isinstance(wrapper, FrameStackObservation):
                frames = self._frames.get(id(wrapper), list(wrapper.obs_queue))
                observation = np.stack([*frames[1:], observation])
            elif isinstance(wrapper, NormalizeObservation):
                rms = wrapper.obs_rms
                observation = ((observation - rms.mean) / np.sqrt(rms.var + wrapper.epsilon)).astype(np.float32)
            elif isinstance(wrapper, gym.ObservationWrapper):
                observation = wrapper.observation(observation)
        return observation

    def _scaled(self, reward: float) -> float:
        for wrapper in self._scalers:
            reward /= float(np.sqrt(wrapper.return_rms.var + wrapper.epsilon))
        return reward

    def post_decision(self, action: Any) -> tuple[Any, float]:
        """s^x and r^x if ``action`` were taken now, if the environment has ``post_decision``."""
        self._remember()
        observation, reward = self.env.get_wrapper_attr("post_decision")(action)
        return self._observed(observation), self._scaled(reward)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the environment's, with the two keys changed."""
        self._remember()
        observation, reward, terminated, truncated, info = self.env.step(action)
        if OBSERVATION_KEY in info and REWARD_KEY in info:
            changed = {
                OBSERVATION_KEY: self._observed(info[OBSERVATION_KEY]),
                REWARD_KEY: self._scaled(float(info[REWARD_KEY])),
            }
            info = {**info, **changed}
        return observation, reward, terminated, truncated, info


def _functions_among(wrappers: list[gym.Wrapper]) -> list[gym.Wrapper]:
    """Those that compute something from each observation by itself."""
    return [one for one in wrappers if isinstance(one, gym.ObservationWrapper)]


def _kind(space: spaces.Space) -> Any:
    """What a function of observations depends on; bounds of boxes do not matter."""
    return type(space), space.shape, np.asarray(getattr(space, "nvec", getattr(space, "n", 0))).tolist()


def check_wrappers(env: gym.Env) -> None:
    """Check for wrappers around the interface that change rewards or steps, because infos do not change with them.

    :raises TypeError: for such a wrapper
    """
    while isinstance(env, gym.Wrapper) and not isinstance(env, LookingAhead) and SPACE not in vars(env):
        if isinstance(env, gym.RewardWrapper | NormalizeReward):
            raise TypeError(
                f"{type(env).__name__} changes rewards, and the part of them that the decision fixes stays as it was. "
                "For NormalizeReward put rlspo.envs.TransformPostDecision around it; others go inside of what offers the "
                "post-decision interface. PDPPO scales rewards by itself (normalize_rewards)."
            )
        if isinstance(env, OTHER_DECISIONS):
            raise TypeError(
                f"{type(env).__name__} takes other steps than the one given, and its info tells of the last of them; put it "
                "inside of what offers the post-decision interface."
            )
        env = env.env


def _inside_out(env: gym.Env) -> tuple[gym.Env, list[gym.Wrapper]]:
    """The environment with the interface, and the wrappers around it, innermost first."""
    wrappers: list[gym.Wrapper] = []
    while isinstance(env, gym.Wrapper) and SPACE not in vars(env):
        wrappers.append(env)
        env = env.env
    return env, wrappers[::-1]
