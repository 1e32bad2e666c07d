"""Overriding arguments of an environment, as an evaluation does with those of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, load_env_creator

from rlspo.common.signatures import signature_of
from rlspo.zoo.config.convert import merged
from rlspo.zoo.envs.recipe import find_spec

#: Each describes the whole perturbation of an environment, so a new one replaces the old.
NOISE = ("type", "profile")


def overlaid(env_id: str, gym_packages: Sequence[str], below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """``below`` with ``above`` over it, mappings inside merged.

    Of a perturbed environment (``STORI/...``), a ``type`` or ``profile`` in ``above`` replaces the noise of ``below`` and
    all its settings: an agent trained with ``type: "1", probability: 0.5`` is evaluated under the profile
    ``breakout-3.2A`` unchanged.

    :param env_id: of the environment
    :param gym_packages: modules that register environments
    """
    if any(name in above for name in NOISE):
        spec = find_spec(env_id, gym_packages)
        names = _accepted(spec)
        if all(name in names for name in NOISE):
            below = {name: value for name, value in below.items() if name in names and name not in NOISE}
    return merged(below, above)


def _accepted(spec: EnvSpec) -> set[str]:
    """Arguments of the environment, and of the task inside a perturbed one."""
    creator = load_env_creator(spec.entry_point) if isinstance(spec.entry_point, str) else spec.entry_point
    names = set() if creator is None else set(signature_of(creator).parameters)
    task = spec.kwargs.get("task")  # an argument of this name may also be something else
    inner = gym.registry.get(task.rpartition(":")[2]) if isinstance(task, str) else None
    return names | _accepted(inner) if inner is not None else names
