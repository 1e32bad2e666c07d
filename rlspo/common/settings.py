"""The settings that all on-policy agents share, checked at construction: before an environment has taken a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlspo.common.errors import check_count, check_fraction, check_number


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
    if not callable(ent_coef):
        check_number("ent_coef", ent_coef)
    check_number("max_grad_norm", max_grad_norm, positive=True)
    if target_kl is not None:
        check_number("target_kl", target_kl, positive=True)


def check_batch_size(batch_size: int, n_steps: int, n_envs: int) -> None:
    """Refuse a minibatch that does not divide the rollout: the compiled update has one shape.

    :raises ValueError: with the nearest sizes that do
    """
    rollout = n_steps * n_envs
    if rollout % batch_size == 0:
        return
    divisors = [size for size in range(2, rollout + 1) if rollout % size == 0]
    nearest = sorted(sorted(divisors, key=lambda size: abs(size - batch_size))[:3])
    raise ValueError(
        f"batch_size is {batch_size}, which does not divide the rollout of n_steps * n_envs = {n_steps} * {n_envs} = "
        f"{rollout} into whole minibatches (the compiled update has one shape). The nearest that do: "
        f"{', '.join(map(str, nearest))}. Choose one of these, or change n_steps."
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
