"""Check of the post-decision interface of an environment."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import data_equivalence

from rlspo.envs.post_decision import OBSERVATION_KEY, REWARD_KEY, SPACE, is_number, offered, post_decision_space
from rlspo.envs.transforming import check_wrappers

ADVICE = (
    "step() must put info['post_decision_obs'] (what is seen after the decision and before chance) and "
    "info['post_decision_reward'] (the part of the reward that the decision fixes) into its info, or the environment be "
    "wrapped: rlspo.envs.PostDecision(env, lambda observation, action: (post_decision_observation, reward))."
)


def check_post_decision_env(env: gym.Env, n_steps: int = 200, seed: int = 0) -> None:
    """Play at random and check everything that can be checked from outside.

    The keys exist after every step, including the last of an episode. Observations are elements of the declared space, rewards
    finite numbers. The decision is deterministic: the same seed and actions give the same results, and other random numbers of
    the environment (``np_random``) in a step do not change s^x and r^x of that step. If the environment has
    ``post_decision(action)``, calling it for any action any number of times changes nothing, and its result is what ``step``
    then reports.

    Two things cannot be checked from outside: that the rest of the step depends on state and action only through s^x, and
    random numbers drawn before the step or elsewhere.

    :param env: a single environment, not a vectorised one
    :param n_steps: number of steps; enough for some episodes to end
    :param seed: of the environment and of the actions
    :raises TypeError: for a vectorised environment, and for wrappers of rewards around what offers the interface
    :raises ValueError: for a violation, with the remedy

    >>> import gymnasium, rlspo
    >>> check_post_decision_env(gymnasium.make("rlspo/LotSizing-v0", instance="2x1"))
    """
    if not isinstance(env, gym.Env):
        raise TypeError(f"env is {env!r}; check a single gymnasium environment.")
    check_wrappers(env)
    with _still(env):
        plain = _play(env, n_steps, seed, ask=False)
        asks = offered(env, "post_decision") is not None
        words = "post_decision(action) changes the environment" if asks else "The environment does not repeat itself"
        _compare(plain, _play(env, n_steps, seed, ask=asks), f"{words}: the same seed and ")
        _check_free_of_chance(env, plain, seed)


@contextlib.contextmanager
def _still(env: gym.Env) -> Iterator[None]:
    """Freeze running statistics of gymnasium's wrappers: they continue over episodes, whatever the seed."""
    moving: list[Any] = []
    while isinstance(env, gym.Wrapper):
        if getattr(env, "update_running_mean", False):
            moving.append(env)
        env = env.env
    for wrapper in moving:
        wrapper.update_running_mean = False
    try:
        yield
    finally:
        for wrapper in moving:
            wrapper.update_running_mean = True


def _check_free_of_chance(env: gym.Env, plain: list[tuple[Any, ...]], seed: int) -> None:
    """Repeat some of the first steps with other random numbers."""
    for step in range(min(len(plain), 10)):
        *_, observation, reward = _play(env, step + 1, seed, ask=False, stir=True)[-1]
        *_, expected, expected_reward = plain[step]
        for name, was, now in ((OBSERVATION_KEY, expected, observation), (REWARD_KEY, expected_reward, reward)):
            if not data_equivalence(was, now):
                raise ValueError(
                    f"Step {step}: with other random numbers in the step, info[{name!r}] was {was} and then {now}. Both keys "
                    "are to tell what the decision alone leads to: take them before the step draws random numbers."
                )


def _play(env: gym.Env, n_steps: int, seed: int, ask: bool, stir: bool = False) -> list[tuple[Any, ...]]:
    """Random play; with ``ask``, also call ``post_decision`` before steps, including other actions.

    :param stir: the last step uses other random numbers
    """
    space = post_decision_space(env)
    # Not the environment's seed: from one seed both would draw the same numbers.
    env.action_space.seed(seed + 1)
    actions = [env.action_space.sample() for _ in range(n_steps)]
    env.reset(seed=seed)
    seen = []
    for step, action in enumerate(actions):
        said = None
        if ask:
            method = offered(env, "post_decision")
            assert method is not None
            other, said = method(actions[step - 1]), method(action)
            for asked, answer in ((actions[step - 1], other), (action, said)):
                _check_pair(answer, space, f"Step {step}: post_decision({asked})")
            _check_several(env, [actions[step - 1], action], [other, said])
        if stir and step == n_steps - 1:
            env.unwrapped.np_random.random(7)
        observation, reward, terminated, truncated, info = env.step(action)
        _check_info(info, space, step)
        told = (info[OBSERVATION_KEY], float(info[REWARD_KEY]))
        if said is not None and not (_close(said[0], told[0]) and np.isclose(said[1], told[1], rtol=1e-5, atol=1e-6)):
            raise ValueError(
                f"Step {step}: post_decision({action}) said {said}, but step({action}) reports {told}. Both must come from "
                "the state before the step."
            )
        seen.append((observation, reward, terminated, truncated, *told))
        if terminated or truncated:
            env.reset()
    return seen


def _check_several(env: gym.Env, actions: list[Any], said: list[tuple[Any, float]]) -> None:
    """If there is ``post_decisions``, check that it agrees with ``post_decision`` for each action."""
    at_once = offered(env, "post_decisions")
    if at_once is None:
        return
    answer = at_once(np.stack(actions))
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise ValueError(f"post_decisions({actions}) says {answer!r}; it must be a pair: observations and rewards.")
    observations, rewards = answer
    if np.shape(rewards) != (len(actions),):
        raise ValueError(f"post_decisions({actions}) says rewards of shape {np.shape(rewards)}; it must be ({len(actions)},).")
    for row, (observation, reward) in enumerate(said):
        mine = {key: part[row] for key, part in observations.items()} if isinstance(observations, dict) else observations[row]
        if not (_close(mine, observation) and np.isclose(rewards[row], reward, rtol=1e-5, atol=1e-6)):
            raise ValueError(
                f"post_decisions({actions}) says {(mine, rewards[row])} of action {row}, but post_decision says "
                f"{(observation, reward)} of it alone. Both must be the same; leave out post_decisions if it is not needed."
            )


def _check_pair(said: Any, space: gym.spaces.Space, name: str) -> None:
    """Check that ``post_decision`` says s^x and r^x."""
    if not isinstance(said, tuple | list) or len(said) != 2 or not is_number(said[1]):
        raise ValueError(f"{name} said {said!r}; it must be a pair: an element of {space}, and a number, r^x.")


def _check_info(info: dict[str, Any], space: gym.spaces.Space, step: int) -> None:
    missing = [key for key in (OBSERVATION_KEY, REWARD_KEY) if key not in info]
    if missing:
        raise ValueError(f"Step {step}: the info has no {' and no '.join(map(repr, missing))}. {ADVICE}")
    observation, part = info[OBSERVATION_KEY], info[REWARD_KEY]
    if not space.contains(observation):
        raise ValueError(
            f"Step {step}: info[{OBSERVATION_KEY!r}] is {observation!r}, which is no element of {space}. Give the environment "
            f"an attribute {SPACE!r} that holds every post-decision observation (without one it is the observation space), "
            "and give arrays its dtype."
        )
    if not is_number(part) or not np.isfinite(part):
        raise ValueError(f"Step {step}: info[{REWARD_KEY!r}] is {part!r}; it must be a finite number.")


def _close(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return set(one) == set(other) and all(_close(one[key], other[key]) for key in one)
    return np.shape(one) == np.shape(other) and bool(np.allclose(one, other, rtol=1e-5, atol=1e-6))


def _compare(first: list[tuple[Any, ...]], second: list[tuple[Any, ...]], words: str) -> None:
    names = ("the observation", "the reward", "terminated", "truncated", "the post-decision observation", "r^x")
    for step, (one, other) in enumerate(zip(first, second, strict=True)):
        for name, a, b in zip(names, one, other, strict=True):
            if not data_equivalence(a, b):
                raise ValueError(
                    f"{words}actions gave another result at step {step}: {name} was {a} and then {b}. A post-decision "
                    "state is free of chance, and evaluating it must leave state and random numbers alone."
                )
