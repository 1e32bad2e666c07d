"""Noise on the actions of off-policy agents, as ``noise_type`` and ``noise_std`` of a block ask for it."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import ActionNoise, NormalActionNoise, OrnsteinUhlenbeckActionNoise

from rlspo.common.signatures import signature_of
from rlspo.zoo.config.schema import Settings
from rlspo.zoo.errors import UserError

_KINDS = {"normal": NormalActionNoise, "ornstein-uhlenbeck": OrnsteinUhlenbeckActionNoise}


def check_noise(settings: Settings, cls: type[BaseAlgorithm], place: str) -> None:
    """Refuse noise without its type or standard deviation, and for an agent that adds none.

    :param place: source of the block, for messages
    :raises UserError: with what to change
    """
    if (settings.noise_type is None) != (settings.noise_std is None):
        given, missing = ("noise_std", "noise_type") if settings.noise_type is None else ("noise_type", "noise_std")
        example = {"noise_type": "'normal' or 'ornstein-uhlenbeck'", "noise_std": "such as 0.1"}[missing]
        raise UserError(f"{place}: {given} also needs {missing}, {example}.")
    if settings.noise_type is not None and "action_noise" not in signature_of(cls).parameters:
        raise UserError(f"{place}: noise_type: {cls.__name__} takes no action noise; leave noise_type and noise_std out.")


def action_noise(settings: Settings, space: spaces.Space) -> ActionNoise | None:
    """The noise, with mean 0, independent in every component of an action; None where a block has none.

    :param space: of one action
    :raises UserError: for actions that are not continuous
    """
    if settings.noise_type is None:
        return None
    if not isinstance(space, spaces.Box):
        raise UserError(f"noise_type: noise can be added to numbers, and the actions are {space}; leave it out.")
    size = np.ones(space.shape, np.float32)
    return _KINDS[settings.noise_type](mean=0.0 * size, sigma=float(settings.noise_std or 0.0) * size)
