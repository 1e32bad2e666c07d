"""Post-decision states by simulation: the step without the noise that a wrapper adds."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import gymnasium as gym
from gymnasium.wrappers import (
    ClipAction,
    DelayObservation,
    FrameStackObservation,
    NormalizeObservation,
    NormalizeReward,
    OrderEnforcing,
    PassiveEnvChecker,
    RecordEpisodeStatistics,
    RescaleAction,
    StickyAction,
    TimeAwareObservation,
    TimeLimit,
    TransformReward,
)
from stable_baselines3.common.monitor import Monitor

from rlspo.envs.post_decision import OBSERVATION_KEY, REWARD_KEY, LookingAhead
from rlspo.envs.transforming import OTHER_DECISIONS
from rlspo.simulators.chance import GlobalGenerators
from rlspo.simulators.copies import true_copy
from rlspo.simulators.whole import watches

#: Wrappers that remember steps: one that is only tried out would change what they remember, or miss it.
_REMEMBER = (
    DelayObservation,
    FrameStackObservation,
    NormalizeObservation,
    NormalizeReward,
    TimeAwareObservation,
    *OTHER_DECISIONS,
)
#: Wrappers that give rewards in another unit, or for several steps.
_OTHER_REWARDS = (NormalizeReward, TransformReward, *(kind for kind in OTHER_DECISIONS if kind is not StickyAction))
#: Wrappers whose step changes neither actions nor observations nor rewards.
_COUNT = (Monitor, OrderEnforcing, PassiveEnvChecker, RecordEpisodeStatistics, TimeLimit)
_STYLES = (gym.ActionWrapper, gym.ObservationWrapper, gym.RewardWrapper)
#: From environment and action to the step's observation and reward, without changing the environment.
Peek = Callable[[gym.Env, Any], tuple[Any, float]]


def peek_copy(env: gym.Env, action: Any) -> tuple[Any, float]:
    """Step a deep copy, for environments in plain Python and NumPy.

    :raises NotSimulatableError: for one that cannot be copied truly
    :raises ValueError: for one that draws noise itself in that step, from any generator inside it, or from NumPy's or Python's
        global one. Noise drawn earlier cannot be detected
    """
    twin, generators, _ = true_copy(env)
    before = pickle.dumps(generators)
    with GlobalGenerators() as watched:
        observation, reward, *_ = twin.step(action)
    if watched.drawn or pickle.dumps(generators) != before:
        # The copy draws what the environment itself will draw: its step would predict the noise.
        raise ValueError(
            f"{env.unwrapped} draws random numbers in its own step, so that step is not free of noise. Give "
            "SimulatedPostDecision a function peek=(core, action) -> (observation, reward) that leaves them out."
        )
    return observation, float(reward)


class PeekMujoco:
    """Step a captured state of a MuJoCo environment or, if no simulator has its rules, step the environment itself and undo
    it.

    Wrappers around it that change actions, observations or rewards are applied (:class:`SimulatedPostDecision` refuses those
    of gymnasium that remember earlier steps, and those with a step of their own); those that count steps do not count this
    one.
    """

    def __init__(self) -> None:
        self._step: Callable[[Any, Any], tuple[Any, Any]] | None = None

    def __call__(self, env: gym.Env, action: Any) -> tuple[Any, float]:
        from rlspo.simulators.mujoco import StepAndUndo, StepState, can_simulate

        base: Any = env.unwrapped
        wrappers = _layers(env)[:-1]
        for wrapper in wrappers:
            if isinstance(wrapper, gym.ActionWrapper):
                action = wrapper.action(action)
        if self._step is None:
            self._step = StepState(base) if can_simulate(base) else StepAndUndo(base)
        observation, reward = self._step(base, action)
        for wrapper in reversed(wrappers):
            if isinstance(wrapper, gym.ObservationWrapper):
                observation = wrapper.observation(observation)
            elif isinstance(wrapper, gym.RewardWrapper):
                reward = wrapper.reward(reward)
        return observation, float(reward)


class SimulatedPostDecision(LookingAhead):
    """The post-decision interface for an environment whose noise is added to noise-free steps.

    s^x is the result of the step without noise and r^x its reward. The noise is added between ``core`` and ``env``, or left
    out by ``peek``. ::

        core = gymnasium.make("Hopper-v5")
        env = SimulatedPostDecision(MyNoise(core), core=core)

    The cost is a second simulation of every step. Wrappers of the noise-free environment (``RescaleAction``) are part of
    ``core``. Between it and ``env``, ``RescaleAction`` and ``ClipAction`` are applied; any other change of actions counts as
    noise.

    :param env: the environment with noise
    :param core: the environment inside it with noise-free steps; None: ``env.unwrapped``
    :param peek: ``(core, action) -> (observation, reward)`` of the noise-free step, without changing ``core``; None:
        :class:`PeekMujoco` for MuJoCo's environments, :func:`peek_copy` for all others. An environment that draws noise itself
        needs a function that leaves it out
    :raises ValueError: for a ``core`` that is not inside ``env``
    :raises TypeError: without a ``peek`` of yours: for wrappers between ``core`` and ``env`` that rescale rewards or take
        several steps as one, and for wrappers inside of ``core`` that remember earlier steps or, around MuJoCo's environments,
        have a step of their own
    """

    def __init__(self, env: gym.Env, core: gym.Env | None = None, peek: Peek | None = None) -> None:
        super().__init__(env)
        self.core = env.unwrapped if core is None else core
        layers = _layers(env)
        if not any(layer is self.core for layer in layers):
            raise ValueError(
                f"core is {self.core}, which is not inside env {env}; give the environment that env is wrapped around."
            )
        remembers = next((layer for layer in _layers(self.core) if isinstance(layer, _REMEMBER)), None)
        if peek is None and remembers is not None:
            raise TypeError(
                f"{type(remembers).__name__} inside of core remembers earlier steps, and a step that is only tried out "
                "would change that. Put it around SimulatedPostDecision, with rlspo.envs.TransformPostDecision around it, or "
                "give a peek."
            )
        if peek is None and _is_mujoco(self.core):
            own = next((layer for layer in _layers(self.core)[:-1] if _has_own_step(layer)), None)
            if own is not None:
                raise TypeError(
                    f"{type(own).__name__} inside of core has a step of its own, which a step of the physics that is only "
                    "tried out would leave out. Make it an ActionWrapper, ObservationWrapper or RewardWrapper, put it around "
                    "core, or give a peek."
                )
        between = layers[: next(depth for depth, layer in enumerate(layers) if layer is self.core)]
        other = next((layer for layer in between if isinstance(layer, _OTHER_REWARDS)), None)
        if peek is None and other is not None:
            raise TypeError(
                f"{type(other).__name__} between core and env changes what a step earns, and the step without noise, taken in "
                "core, would not follow. Make it a part of core: SimulatedPostDecision(noise(core), core=core), with the "
                "wrapper around core."
            )
        self._followed = [layer for layer in between if isinstance(layer, ClipAction | RescaleAction)]
        self.peek = peek or (PeekMujoco() if _is_mujoco(self.core) else peek_copy)
        self.post_decision_space = self.core.observation_space

    def post_decision(self, action: Any) -> tuple[Any, float]:
        """s^x and r^x if ``action`` were taken now."""
        for wrapper in self._followed:
            action = wrapper.action(action)
        return self.peek(self.core, action)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the environment's, with the two keys in its info."""
        post_observation, post_reward = self.post_decision(action)
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated, truncated, {**info, OBSERVATION_KEY: post_observation, REWARD_KEY: post_reward}


def _layers(env: gym.Env) -> list[gym.Env]:
    layers = [env]
    while isinstance(env, gym.Wrapper):
        env = env.env
        layers.append(env)
    return layers


def _has_own_step(layer: Any) -> bool:
    """Whether a wrapper does something in its step that looking ahead in the physics would miss."""
    if isinstance(layer, _COUNT) or watches(layer):
        return False
    plain = {gym.Wrapper.step, *(style.step for style in _STYLES)}
    return type(layer).step not in plain


def _is_mujoco(env: gym.Env) -> bool:
    return all(hasattr(env.unwrapped, name) for name in ("model", "data", "frame_skip"))
