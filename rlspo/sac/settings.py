"""The settings of SAC, checked at construction: before an environment has taken a step."""

from __future__ import annotations

import warnings
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.type_aliases import TrainFreq

from rlspo.common.errors import check_count, check_number


def check_actions(space: spaces.Space) -> None:
    """Refuse actions that are no Box.

    :raises ValueError: for others, with an agent that takes them where there is one
    """
    if not isinstance(space, spaces.Box):
        others = " PPO takes them." if isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary) else ""
        raise ValueError(f"SAC takes actions of a Box, and the environment's are {space}.{others}")


def warn_of_interval(target_update_interval: int, gradient_steps: int) -> None:
    """Warn of an interval that a training is too short for."""
    if 0 < gradient_steps < target_update_interval:
        warnings.warn(
            f"target_update_interval is {target_update_interval} and gradient_steps {gradient_steps}: minibatches are counted "
            "anew in each training, as in SB3, so the target critics move once in each.",
            stacklevel=3,
        )


def check_action_noise(name: str, value: Any) -> None:
    """SB3's, or None."""
    if value is not None and not isinstance(value, ActionNoise):
        raise TypeError(
            f"{name} is {value!r}; it must be None or an ActionNoise, such as "
            "stable_baselines3.common.noise.NormalActionNoise(mean, sigma)."
        )


def check_ent_coef(name: str, value: Any) -> None:
    """``"auto"``, ``"auto_0.1"`` or a number."""
    _check_entropy(name, value, minimum=0.0)


def check_target_entropy(name: str, value: Any) -> None:
    """``"auto"`` or a number of nats."""
    _check_entropy(name, value, minimum=float("-inf"))


def check_train_freq(name: str, value: Any) -> None:
    """A number of steps, or a pair of a number and its unit."""
    if isinstance(value, TrainFreq):
        return
    if isinstance(value, list | tuple):
        if len(value) != 2 or value[1] not in ("step", "episode"):
            raise ValueError(f"{name} is {value!r}; it must be a number of steps or a pair, such as (1, 'episode').")
        value = value[0]
    check_count(name, value)


def _check_entropy(name: str, value: Any, minimum: float) -> None:
    """``"auto"``, for the coefficient also ``"auto_0.1"``, or a number."""
    words = value.split("_") if isinstance(value, str) else []
    if words[:1] == ["auto"] and (len(words) == 1 or (name == "ent_coef" and len(words) == 2)):
        value = _number(words[1]) if len(words) == 2 else 1.0
        if value == 0.0:
            raise ValueError(f"{name} is 'auto_{words[1]}'; a coefficient that is learned must begin above 0.")
    if isinstance(value, str):
        raise ValueError(f"{name} is {value!r}; it must be 'auto'{', auto_0.1' * (name == 'ent_coef')} or a number.")
    check_number(name, value, minimum)


def _number(word: str) -> float | str:
    try:
        return float(word)
    except ValueError:
        return f"auto_{word}"


def ent_coef_cannot_change(value: Any, learned: bool) -> str:
    """Why a coefficient cannot become another one, and what to do."""
    return (
        f"ent_coef cannot change to {value!r}: it {'is learned' if learned else 'is fixed'} since this SAC was made, and only "
        f"a fixed number can become another. Make a new agent, new = SAC(..., ent_coef={value!r}), and give it the weights: "
        "new.policy.load_state_dict(model.policy.state_dict()). To put a learned one elsewhere, set model.log_ent_coef.data."
    )
