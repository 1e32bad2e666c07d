"""The settings of agents: checked in the moment they are set, by the constructor or later on the model."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from rlspo.common.errors import check_count, check_fraction, check_number, shown

Check = Callable[[str, Any], Any]


class _Setting:
    """Stands before an attribute of an agent and checks what is assigned to it.

    The value is kept among the agent's own attributes, where files, copies and ``vars`` find it; reading it costs nothing.
    """

    def __init__(self, check: Check | None, fixed: bool, then: str | None, in_weights: bool = False) -> None:
        self.check, self.fixed, self.then, self.in_weights = check, fixed, then, in_weights

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
        own[name] = value
        if made and self.then is not None:
            try:
                getattr(agent, self.then)()
            except Exception:
                own[name] = before
                raise


def setting(check: Check | None = None, then: str | None = None) -> Any:
    """A setting that may change at any time.

    :param check: raises for a name and a value that cannot be meant
    :param then: method of the agent to be called once a new value is there; what it refuses is taken back
    """
    return _Setting(check, fixed=False, then=then)


def fixed_setting(check: Check | None = None, in_weights: bool = False) -> Any:
    """A setting that an agent is built for: to change it afterwards is refused.

    :param in_weights: whether weights that were learned with one value are of no use with another, so that ``load`` refuses
        another one, too
    """
    return _Setting(check, fixed=True, then=None, in_weights=in_weights)


def weights_belong(kind: str, name: str, value: Any) -> str:
    """A sentence on what to do where weights do not fit another value.

    :param kind: of agent
    """
    return f"Its weights belong to the old value: make a new agent, {kind}(..., {name}={shown(value)}), and train it."


def of_class(cls: type, name: str) -> _Setting | None:
    """The setting of an agent's class by that name, if there is one."""
    found = inspect.getattr_static(cls, name, None)
    return found if isinstance(found, _Setting) else None


def check_positive(name: str, value: Any) -> None:
    """A finite number above 0."""
    check_number(name, value, positive=True)


def check_limit(name: str, value: Any) -> None:
    """A finite number above 0, or None."""
    if value is not None:
        check_positive(name, value)


def check_schedule(name: str, value: Any) -> None:
    """A finite number of at least 0, or a function of the remaining progress."""
    if not callable(value):
        check_number(name, value)


def check_positive_schedule(name: str, value: Any) -> None:
    """A finite number above 0, a function of the remaining progress, or None."""
    if not callable(value):
        check_limit(name, value)


def scheduled(name: str, value: Any, remaining: float) -> float:
    """What a schedule says now, or the number that it is.

    :param value: a number, or a function of the remaining progress
    :param remaining: progress, from 1 at the start of training to 0 at its end
    :raises ValueError: for NaN, infinity or a negative number
    """
    number = float(value(remaining)) if callable(value) else value
    if not 0.0 <= number < float("inf"):
        raise ValueError(
            f"{name} is a schedule that returned {number} at remaining progress {remaining:.4g} (1 at the start, 0 at the "
            f"end); it must return a finite number of at least 0. Mend the function that was given as {name}."
        )
    return float(number)


def check_settings(
    *,
    n_steps: Any,
    batch_size: Any,
    n_epochs: Any,
    gamma: Any,
    gae_lambda: Any,
    ent_coef: Any,
    vf_coef: Any,
    max_grad_norm: Any,
    target_kl: Any,
) -> None:
    """Refuse what cannot be meant; the arguments are those of :class:`rlspo.PPO`.

    :raises TypeError: for something that is no number where one is needed
    :raises ValueError: for a number out of range, or an unknown choice
    """
    for name, count in (("n_steps", n_steps), ("batch_size", batch_size), ("n_epochs", n_epochs)):
        check_count(name, count)
    for name, fraction in (("gamma", gamma), ("gae_lambda", gae_lambda)):
        check_fraction(name, fraction)
    check_number("vf_coef", vf_coef)
    check_schedule("ent_coef", ent_coef)
    check_positive("max_grad_norm", max_grad_norm)
    check_limit("target_kl", target_kl)


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
    """Those attributes of an agent that TensorBoard's HParams can show: scalars as they are, schedules as text."""
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
