"""The settings of agents: checked when they are set, by the constructor or later on the model."""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule
from torch import nn

from rlspo.common.errors import check_count, check_number, shown

Check = Callable[[str, Any], Any]


class _Setting:
    """Descriptor that checks what is assigned to an attribute of an agent.

    The value is stored in the agent's ``__dict__``, so that files, copies and ``vars`` contain it, and reading it has no
    overhead.
    """

    def __init__(
        self,
        check: Check | None,
        fixed: bool,
        then: str | None = None,
        kept_as: Callable[[Any], Any] | None = None,
        in_weights: bool = False,
    ) -> None:
        self.check, self.fixed, self.then, self.kept_as, self.in_weights = check, fixed, then, kept_as, in_weights

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __set__(self, agent: Any, value: Any) -> None:
        name, own = self.name, vars(agent)
        made = "update" in own
        if made and self.fixed and name in own:
            if own[name] is value or own[name] == value:
                return
            kind = type(agent).__name__
            new = shown(value)
            remedy = f"Save the agent and load it with the new value, {kind}.load(path, env=env, {name}={new}), or make one."
            raise ValueError(
                f"{name} is {shown(own[name])} since this {kind} was made, and what was built for it cannot change to {new}. "
                + (weights_belong(kind, name, value) if self.in_weights else remedy)
            )
        if self.check is not None:
            self.check(name, value)
        before = own.get(name)
        own[name] = value if self.kept_as is None else self.kept_as(value)
        if made and self.then is not None:
            try:
                getattr(agent, self.then)()
            except Exception:
                own[name] = before
                raise


def setting(check: Check | None = None, then: str | None = None, kept_as: Callable[[Any], Any] | None = None) -> Any:
    """A setting that may change at any time.

    :param check: called with name and value; raises for an invalid value
    :param then: method of the agent, called after a new value is set; if it raises, the old value is restored
    :param kept_as: from the given to the stored value
    """
    return _Setting(check, fixed=False, then=then, kept_as=kept_as)


def fixed_setting(check: Check | None = None, in_weights: bool = False) -> Any:
    """A setting that an agent is built for: changing it afterwards raises.

    :param in_weights: whether weights learned with one value are useless with another, so that ``load`` rejects a change too
    """
    return _Setting(check, fixed=True, in_weights=in_weights)


def weights_belong(kind: str, name: str, value: Any) -> str:
    """A sentence on what to do if the weights do not fit another value.

    :param kind: of agent
    """
    return f"Its weights belong to the old value: make a new agent, {kind}(..., {name}={shown(value)}), and train it."


def of_class(cls: type, name: str) -> _Setting | None:
    """The setting of an agent's class by that name, if there is one."""
    found = inspect.getattr_static(cls, name, None)
    return found if isinstance(found, _Setting) else None


def check_values(agent: type, given: Mapping[str, Any]) -> None:
    """Check values without an agent, as setting them would; names that are not settings are ignored.

    :param agent: the agent's class
    :param given: by name
    """
    for name, value in given.items():
        found = getattr(agent, name, None)
        if isinstance(found, _Setting) and found.check is not None:
            found.check(name, value)


def check_positive(name: str, value: Any) -> None:
    """Check that ``value`` is a finite number above 0."""
    check_number(name, value, positive=True)


def check_limit(name: str, value: Any) -> None:
    """Check that ``value`` is a finite number above 0, or None."""
    if value is not None:
        check_positive(name, value)


def check_flag(name: str, value: Any) -> None:
    """Check that ``value`` is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} is {value!r} of type {type(value).__name__}; it must be True or False.")


def check_steps(name: str, value: Any) -> None:
    """Check that ``value`` is a whole number of at least -1."""
    if isinstance(value, bool) or value not in (-1, 0):
        check_count(name, value)


def as_steps(total_timesteps: Any) -> int:
    """The length of a run, for which a float may be given (``1e6``)."""
    if not isinstance(total_timesteps, str | bytes | bool):
        with contextlib.suppress(TypeError, ValueError, OverflowError):  # None, NaN, infinity
            return int(total_timesteps)
    raise TypeError(
        f"total_timesteps is {shown(total_timesteps)} of type {type(total_timesteps).__name__}; it must be a finite number of "
        "steps, such as 100_000 or 1e6."
    )


def check_compile(name: str, value: Any) -> None:
    """Check that ``value`` is ``"auto"``, True or False."""
    if value not in ("auto", True, False):
        raise ValueError(f"{name} is {value!r}; it must be 'auto', True or False.")


def check_schedule(name: str, value: Any) -> None:
    """Check that ``value`` is a finite number of at least 0, or a function of the remaining progress."""
    value = _number_or_function(value)
    if not _is_function(value):
        check_number(name, value)


def check_positive_schedule(name: str, value: Any) -> None:
    """Check that ``value`` is a finite number above 0, or a function of the remaining progress."""
    value = _number_or_function(value)
    if not _is_function(value):
        check_positive(name, value)


def check_limit_schedule(name: str, value: Any) -> None:
    """As :func:`check_positive_schedule`, or None."""
    if value is not None:
        check_positive_schedule(name, value)


def as_schedule(value: Any) -> FloatSchedule | None:
    """A number or function as an SB3 schedule, a function of the remaining progress; None for None."""
    return None if value is None else FloatSchedule(value if callable(value) else float(value))


def _is_function(value: Any) -> bool:
    return callable(value) and not isinstance(value, type)


def _number_or_function(value: Any) -> Any:
    """The number in SB3's constant schedules; other functions unchanged."""
    inside = value.value_schedule if isinstance(value, FloatSchedule) else value
    return inside.val if isinstance(inside, ConstantSchedule) else inside


def scheduled(name: str, value: Any, remaining: float) -> float:
    """The current value of a schedule, or the number itself.

    :param value: a number, or a function of the remaining progress
    :param remaining: progress, from 1 at the start of training to 0 at its end
    :raises ValueError: for NaN, infinity or a negative number
    """
    number = float(value(remaining)) if callable(value) else value
    if isinstance(number, str) or number is None:
        check_schedule(name, value)
    if not 0.0 <= number < float("inf"):
        check_schedule(name, value)
        raise ValueError(
            f"{name} is a schedule that returned {number} at remaining progress {remaining:.4g} (1 at the start, 0 at the "
            f"end); it must return a finite number of at least 0. Fix the function that was given as {name}."
        )
    return float(number)


def needs_two_rows(policy: nn.Module) -> bool:
    """Whether layers compute statistics over the rows of a minibatch, which needs at least two."""
    return any(isinstance(layer, nn.BatchNorm1d) for layer in policy.modules())


def check_rows_suffice(policy: nn.Module, rows: int, what: str) -> None:
    """
    :param rows: of the smallest minibatch
    :param what: the origin of this minibatch, in words
    :raises ValueError: for a single row if layers need more
    """
    if rows == 1 and needs_two_rows(policy):
        raise ValueError(
            f"batch_size is such that {what} has a single row, of which batch normalisation cannot form statistics. Give "
            "another batch_size."
        )


def check_batch_size(batch_size: int, n_steps: int, n_envs: int) -> None:
    """Warn, in SB3's words, of minibatches that do not divide the rollout."""
    rollout = n_steps * n_envs
    rest = rollout % batch_size
    if rest:
        warnings.warn(
            f"You have specified a mini-batch size of {batch_size}, but because the `RolloutBuffer` is of size "
            f"`n_steps * n_envs = {rollout}`, after every {rollout // batch_size} untruncated mini-batches, there will be a "
            f"truncated mini-batch of size {rest}\nWe recommend using a `batch_size` that is a factor of `n_steps * n_envs`.\n"
            f"Info: (n_steps={n_steps} and n_envs={n_envs})",
            stacklevel=2,
        )


def shown_settings(attributes: Mapping[str, Any]) -> dict[str, bool | float | str]:
    """The attributes of an agent that TensorBoard's HParams can show: scalars unchanged, schedules as text."""
    hidden = {"verbose", "num_timesteps", "n_envs", "start_time", "tensorboard_log"}
    as_text = {"learning_rate", "clip_range", "clip_range_vf", "ent_coef", "policy_kwargs"}
    shown: dict[str, bool | float | str] = {}
    for name, value in attributes.items():
        if name in hidden or name.startswith("_"):
            continue
        if isinstance(value, bool | int | float | str):
            shown[name] = value
        elif name in as_text:
            shown[name] = str(value)
    return shown
