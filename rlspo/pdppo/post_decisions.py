"""Reading post-decision states from infos, in the form in which the agent sees observations and rewards.

An environment puts them into its infos as they are (:mod:`rlspo.envs.post_decision`), and SB3's wrappers around vectorised
environments change observations and rewards, not infos. What they do to these is done here to the post-decision ones.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorRewardWrapper, VectorWrapper
from gymnasium.wrappers.vector import NormalizeReward
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv, VecFrameStack, VecNormalize, VecTransposeImage
from stable_baselines3.common.vec_env.base_vec_env import VecEnvWrapper
from stable_baselines3.common.vec_env.stacked_observations import StackedObservations

from rlspo.common.collector import stack_observations
from rlspo.common.errors import MissingPostDecisionError
from rlspo.common.trees import tree_map
from rlspo.common.vector_env import GymnasiumVecEnv, only_reset
from rlspo.envs.post_decision import OBSERVATION_KEY, REWARD_KEY, SPACE, is_number
from rlspo.envs.transforming import check_wrappers

Array = np.ndarray
Observe = Callable[[Any], Any]


class PostDecisions:
    """Reads one environment's post-decision observations and rewards.

    :param env: vectorised, with SB3's wrappers around it or not
    :raises TypeError: for a wrapper that changes observations in a way that is not known here
    """

    def __init__(self, env: VecEnv) -> None:
        self.env = env
        base, wrappers = env, []
        while isinstance(base, VecEnvWrapper):
            wrappers.append(base)
            base = base.venv
        _check_wrappers(base)
        self.raw_space: spaces.Space = base.get_attr(SPACE, 0)[0] if base.has_attr(SPACE) else base.observation_space
        self.space = self.raw_space
        self._observe: list[Observe] = []
        self._stacks: list[_Stack] = []
        self._normalizers = [w for w in wrappers if isinstance(w, VecNormalize)]
        for wrapper in reversed(wrappers):
            self._add(wrapper)
        self._put_channels_first()
        self._shapes = tree_map(lambda part: tuple(part.shape or ()), _parts(self.raw_space))
        self._many = _look_ahead_of(base, self.raw_space)
        self._foreseen: tuple[Any, Array] = ({}, np.zeros(0))

    def _add(self, wrapper: VecEnvWrapper) -> None:
        """Do to post-decision observations what ``wrapper`` does to observations."""
        seen = wrapper.venv.observation_space
        if isinstance(wrapper, VecNormalize):
            if _same_shape(self.space, seen):
                self.space = wrapper.observation_space
                self._observe.append(wrapper.normalize_obs)
            elif wrapper.norm_obs:
                warnings.warn(
                    f"VecNormalize has statistics of observations, {seen}, and none of post-decision observations, "
                    f"{self.space}: these stay as they are. The agent's own normalize_observations=True normalises both.",
                    stacklevel=2,
                )
        elif isinstance(wrapper, VecFrameStack):
            if _same_shape(self.space, seen):
                self.space = wrapper.observation_space
                self._stacks.append(_Stack(wrapper))
                self._observe.append(self._stacks[-1])
        elif isinstance(wrapper, VecTransposeImage):
            if _same_shape(self.space, seen):
                self.space = wrapper.observation_space
                self._observe.append(wrapper.transpose_observations)
        elif wrapper.observation_space != seen:
            raise TypeError(
                f"{type(wrapper).__name__} changes observations, and how to change post-decision observations in the same way "
                "is not known. Change them inside the environment, or around each one: rlspo.envs.TransformPostDecision."
            )

    def _put_channels_first(self) -> None:
        """In images that no wrapper has turned: SB3 turns them where there are images among the observations."""
        images = tree_map(lambda part: is_image_space(part) and not is_image_space_channels_first(part), _parts(self.space))
        if images is True or (isinstance(images, dict) and any(images.values())):
            turn_space, turn = _where(VecTransposeImage.transpose_space), _where(VecTransposeImage.transpose_image)
            parts = tree_map(turn_space, _parts(self.space), images)
            self.space = spaces.Dict(parts) if isinstance(parts, dict) else parts
            self._observe.append(lambda observations: tree_map(turn, observations, images))

    def before_step(self) -> None:
        """Keep what the step will overwrite."""
        for stack in self._stacks:
            stack.remember()

    def read(self, infos: list[dict[str, Any]], step: int) -> tuple[Any, Array]:
        """The post-decision observations ``(n_envs, *shape)`` and rewards ``(n_envs,)`` of the step just taken.

        Where an environment only reset, there was no decision: both are zeros.

        :param infos: of all environments
        :param step: environment steps that each has taken, for messages
        :raises MissingPostDecisionError: where an info lacks them, or they are not elements of the declared space
        """
        decided = [index for index, info in enumerate(infos) if not only_reset(info)]
        for index in decided:
            missing = [key for key in (OBSERVATION_KEY, REWARD_KEY) if key not in infos[index]]
            if missing:
                raise MissingPostDecisionError(index, step, missing)
        if not decided:
            return _blank(self.space, len(infos))
        for index in decided:
            self._check(infos[index][OBSERVATION_KEY], index, step)
        example = infos[decided[0]][OBSERVATION_KEY]
        observations = [info[OBSERVATION_KEY] if not only_reset(info) else example for info in infos]
        rewards = np.array([_number(info.get(REWARD_KEY, 0.0), index, step) for index, info in enumerate(infos)])
        return self._seen(stack_observations(observations)), self._scaled(rewards)

    def _seen(self, observations: Any) -> Any:
        for observe in self._observe:
            observations = observe(observations)
        return observations

    def _scaled(self, rewards: Array) -> Array:
        for normalizer in self._normalizers:
            if normalizer.norm_reward:
                scaled = rewards / np.sqrt(normalizer.ret_rms.var + normalizer.epsilon)
                rewards = np.clip(scaled, -normalizer.clip_reward, normalizer.clip_reward)
        return rewards

    def check_foreseen(self, infos: list[dict[str, Any]], step: int) -> None:
        """What :meth:`look_ahead` saw of the last of its actions, the one then taken, must be what the step reports.

        :raises ValueError: where it is not
        """
        observations, rewards = self._foreseen
        for index, info in enumerate(infos):
            if only_reset(info):
                continue
            seen = tree_map(lambda part, index=index: part[index], observations)
            for what, told, foreseen in (("r^x", info[REWARD_KEY], rewards[index]), ("s^x", info[OBSERVATION_KEY], seen)):
                if not _alike(told, foreseen):
                    raise ValueError(
                        f"Environment {index} looked ahead to another post-decision state than the one that step {step} "
                        f"reports: {what} {foreseen} and {told}. A wrapper changes actions on their way to the environment, "
                        "or its post_decision(action) is wrong (rlspo.envs.check_post_decision_env tells). Put the wrapper "
                        "inside of what offers the interface, or take credit='joint'."
                    )

    @property
    def can_look_ahead(self) -> bool:
        """Whether the environment says where an action would lead that is not taken."""
        return self._many is not None

    def look_ahead(self, actions: Array) -> tuple[Any, Array]:
        """Where other actions would lead from here: for each what :meth:`read` would give.

        :param actions: M for each environment, ``(n_envs, M, *action_shape)``
        :return: observations ``(n_envs, M, *shape)`` and rewards ``(n_envs, M)``
        """
        assert self._many is not None
        observations, rewards = self._many(actions)
        # As the environments gave them; copies, since the step may write into the same arrays.
        self._foreseen = tree_map(lambda part: np.array(part[:, -1]), observations), np.array(rewards[:, -1])
        if self._observe:
            self.before_step()
            columns = [self._seen(tree_map(lambda part, m=m: part[:, m], observations)) for m in range(actions.shape[1])]
            stacked = tree_map(lambda *parts: np.stack(parts, axis=1), *columns)
            return stacked, self._scaled(rewards)
        return observations, self._scaled(rewards)

    def _check(self, observation: Any, index: int, step: int) -> None:
        """Does the environment give what it declares?"""
        shapes = tree_map(np.shape, observation)
        if shapes != self._shapes:
            raise ValueError(
                f"info[{OBSERVATION_KEY!r}] of environment {index} has the shape {shapes} at step {step}, but post-decision "
                f"observations are declared as {self.raw_space}. Give the environment an attribute {SPACE!r} that says what "
                "they are (without one it is its observation space); a wrapper that changes observations leaves infos alone, "
                "and rlspo.envs.TransformPostDecision around it changes them too."
            )


def _check_wrappers(base: VecEnv) -> None:
    """Refuse wrappers that infos do not follow. Environments in other processes are not seen.

    :raises TypeError: for such a wrapper
    """
    inner: Any = base
    if isinstance(base, GymnasiumVecEnv):
        inner = base.env
        while isinstance(inner, VectorWrapper):
            if isinstance(inner, VectorRewardWrapper | NormalizeReward):
                raise TypeError(
                    f"{type(inner).__name__} changes rewards, and the part of them that the decision fixes stays as it was. "
                    "Leave it out: PDPPO scales rewards by itself (normalize_rewards)."
                )
            inner = inner.env
    for env in getattr(inner, "envs", []):
        check_wrappers(env)


def _look_ahead_of(base: VecEnv, space: spaces.Space) -> Callable[[Array], tuple[Any, Array]] | None:
    """The method by which an environment without wrappers looks ahead, for all environments; None where it has none."""
    if isinstance(base, GymnasiumVecEnv) and isinstance(base.env.unwrapped, AsyncVectorEnv):
        return None  # it asks all of its environments the same
    if isinstance(base, GymnasiumVecEnv) and not isinstance(base.env.unwrapped, SyncVectorEnv):
        return getattr(base.env.unwrapped, "post_decisions", None)
    at_once = _offers(base, "post_decisions")
    if not (at_once or _offers(base, "post_decision")):
        return None

    def look_ahead(actions: Array) -> tuple[Any, Array]:
        found: list[Any] = []
        for index, mine in enumerate(actions):
            if isinstance(base, GymnasiumVecEnv) and base.resets_next[index]:
                found.append(None)  # its episode is over, and the step to come makes no decision
            elif at_once:
                found.append(base.env_method("post_decisions", mine, indices=index)[0])
            else:
                singles = [base.env_method("post_decision", action, indices=index)[0] for action in mine]
                found.append((stack_observations([seen for seen, _ in singles]), np.array([reward for _, reward in singles])))
        blank = next((one for one in found if one is not None), _blank(space, actions.shape[1]))
        found = [blank if one is None else one for one in found]
        return stack_observations([seen for seen, _ in found]), np.stack([np.asarray(rewards) for _, rewards in found])

    return look_ahead


def _number(value: Any, index: int, step: int) -> float:
    """``value`` as a reward."""
    if not is_number(value):
        raise ValueError(f"info[{REWARD_KEY!r}] of environment {index} is {value!r} at step {step}; it must be a number.")
    return float(value)


def _blank(space: spaces.Space, count: int) -> tuple[Any, Array]:
    """What stands for ``count`` post-decision states, and their rewards, where there was no decision."""
    return tree_map(lambda part: np.zeros((count, *part.shape)), _parts(space)), np.zeros(count)


def _offers(base: VecEnv, method: str) -> bool:
    """Whether the environments have a method; None in its place takes it away."""
    if not base.has_attr(method):
        return False
    if isinstance(base, SubprocVecEnv):  # a method would bring its environment with it, which may not be such as can be sent
        return not base.has_attr("looks_ahead") or bool(base.get_attr("looks_ahead", 0)[0])
    return base.get_attr(method, 0)[0] is not None


class _Stack:
    """The post-decision observation as the newest of the frames that the agent sees."""

    def __init__(self, wrapper: VecFrameStack) -> None:
        self.wrapper = wrapper
        self._before: Any = None

    def remember(self) -> None:
        # No copy: a step puts a new array in its place.
        stacked = self.wrapper.stacked_obs
        self._before = (
            {key: part.stacked_obs for key, part in stacked.sub_stacked_observations.items()}
            if isinstance(stacked.observation_space, spaces.Dict)
            else stacked.stacked_obs
        )

    def __call__(self, frames: Any) -> Any:
        stacked = self.wrapper.stacked_obs
        if isinstance(frames, dict):
            parts = stacked.sub_stacked_observations
            return {key: _newest(parts[key], self._before[key], frame) for key, frame in frames.items()}
        return _newest(stacked, self._before, frames)


def _newest(stack: StackedObservations, before: Array, frame: Array) -> Array:
    """``before`` moved on by one frame, the new one being ``frame``."""
    axis = stack.stack_dimension
    older = np.split(before, [frame.shape[axis]], axis=axis)[1]
    return np.concatenate([older, frame], axis=axis)


def _where(function: Callable[[Any], Any]) -> Callable[[Any, bool], Any]:
    """``function`` where the second argument is True, and nothing elsewhere."""
    return lambda part, yes: function(part) if yes else part


def _parts(space: spaces.Space) -> Any:
    return dict(space.spaces) if isinstance(space, spaces.Dict) else space


def _alike(one: Any, other: Any) -> bool:
    """Whether two observations, or two numbers, are the same but for rounding."""
    if isinstance(one, dict):
        return all(_alike(one[key], other[key]) for key in one)
    return bool(np.allclose(one, other, rtol=1e-4, atol=1e-5))


def _same_shape(one: spaces.Space, other: spaces.Space) -> bool:
    """Whether what is done to elements of one can be done to those of the other."""
    return bool(tree_map(lambda part: part.shape, _parts(one)) == tree_map(lambda part: part.shape, _parts(other)))
