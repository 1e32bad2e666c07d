"""Arguments of an environment with others over them, as an evaluation gives them over those of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, load_env_creator

from rlspo.zoo.config.convert import merged
from rlspo.zoo.config.signatures import signature_of
from rlspo.zoo.envs.recipe import find_spec

#: Each names all that perturbs an environment, so one that is given comes in place of whatever was given before.
NOISE = ("type", "profile")


def overlaid(env_id: str, gym_packages: Sequence[str], below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """``below`` with ``above`` over it, mappings inside merged.

    Of a perturbed environment (``STORI/...``), a ``type`` or ``profile`` in ``above`` replaces the noise of ``below``, with
    all settings of that: an agent trained with ``type: "1", probability: 0.5`` is evaluated under the profile
    ``breakout-3.2A`` as that is.

    :param env_id: of the environment
    :param gym_packages: modules that register environments
    """
    if any(name in above for name in NOISE):
        spec = find_spec(env_id, gym_packages)
        names = _taken(spec)
        if all(name in names for name in NOISE):
            below = {name: value for name, value in below.items() if name in names and name not in NOISE}
    return merged(below, above)


def _taken(spec: EnvSpec) -> set[str]:
    """Names that the environment takes itself, and the task that it is made of, where it is."""
    creator = load_env_creator(spec.entry_point) if isinstance(spec.entry_point, str) else spec.entry_point
    names = set() if creator is None else set(signature_of(creator).parameters)
    return names | _taken(gym.spec(spec.kwargs["task"])) if "task" in spec.kwargs else names
