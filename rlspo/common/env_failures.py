"""Exceptions of environments: they reach the caller unchanged, with a note on which environment raised them."""

from __future__ import annotations

import itertools
import traceback
from typing import Any

from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from rlspo.common.rollout_buffer import Field, check_rows, observation_fields
from rlspo.common.trees import tree_leaves

#: Functions that call the environments in training: of this package, and of SB3's base classes.
_STEPPING = ("_step_env", "collect_rollouts", "_setup_learn")
#: Methods that call several environments one by one, and the local variable that counts these.
_COUNTERS = {
    ("step_wait", DummyVecEnv): "env_idx",
    ("reset", DummyVecEnv): "env_idx",
    ("step", SyncVectorEnv): "i",
    ("reset", SyncVectorEnv): "i",
    ("_raise_if_errors", AsyncVectorEnv): "index",
}


def note_env_failure(error: Exception, step: int, left: str) -> None:
    """Add a note to an exception raised by an environment: which one, and at which step. Other exceptions are not changed.

    :param error: its type and message stay the same
    :param step: environment steps that each environment had taken
    :param left: what happened to these steps, a sentence without its full stop
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    calls = itertools.pairwise(frames)
    if not any(caller.f_code.co_name in _STEPPING and isinstance(of.f_locals.get("self"), VecEnv) for caller, of in calls):
        return
    index = _failing_env_index(frames)
    where = "An environment" if index is None else f"Environment {index}"
    error.add_note(f"{where} raised this at step {step}. {left}, and the weights are as they were after the last update.")


def last_step(error: Exception, agent: Any) -> dict[str, Any] | None:
    """The environments' last results before an error ended training, by their names in ``collect_rollouts``.

    :param agent: its local variables are read
    :return: ``new_obs``, ``rewards``, ``dones`` and ``infos``; None if they had not returned anything
    """
    names = {"new_obs", "rewards", "dones", "infos"}
    frames = [frame.f_locals for frame, _ in traceback.walk_tb(error.__traceback__)]
    steps = [seen for seen in frames if seen.get("self") is agent and names <= seen.keys()]
    return steps[-1] if steps else None


def check_last_step(error: Exception, agent: Any) -> None:
    """Raise a clearer error if training failed because a step had another form than the first one. Forms are not checked at
    every step.

    :param error: that ended training
    :param agent: that was learning
    :raises ValueError: instead of ``error``, naming step and shape
    """
    found = last_step(error, agent)
    if found is None:
        return
    observations = observation_fields(agent.observation_space)
    try:
        for name, field in (("new_obs", observations), ("rewards", Field()), ("dones", Field())):
            what = f"At step {agent.num_timesteps // agent.n_envs}, the array of {name.replace('new_obs', 'observations')}"
            if any(not hasattr(leaf, "dtype") for leaf in tree_leaves(found[name])):
                raise ValueError(f"{what} is {found[name]!r:.80}; a VecEnv gives NumPy arrays.")
            check_rows(what, found[name], field, agent.n_envs)
        if len(found["infos"]) != agent.n_envs:
            count = len(found["infos"])
            raise ValueError(f"{what.rsplit(',', 1)[0]}, there are {count} infos for {agent.n_envs} environments.")
    except ValueError as better:
        raise better from error


def _failing_env_index(frames: list[Any]) -> int | None:
    for frame in frames:
        for (function, cls), counter in _COUNTERS.items():
            # A subclass may call it in a method of the same name, without a counter.
            counts = frame.f_code.co_name == function and isinstance(frame.f_locals.get("self"), cls)
            if counts and counter in frame.f_locals:
                return int(frame.f_locals[counter])
    return None


def in_one_line(error: BaseException) -> str:
    """An exception with its notes in one line."""
    notes = " ".join(getattr(error, "__notes__", ()))
    return f"{type(error).__name__}: {error}".strip(": ") + (f" ({notes})" if notes else "")
