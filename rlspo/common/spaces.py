"""The spaces that agents support, and the numbering of discrete actions and observations.

Public interfaces use elements of the space: actions of ``predict``, of a policy's ``forward`` and ``evaluate_actions``, of
``rollout_buffer.actions``, ``get()`` and SB3's ``add(...)``, of callbacks' ``locals``, and of environments. Internally,
choices are numbered from 0: in distributions (``distribution_of``, ``get_distribution``), losses and the fields of buffers
(``buffer.data``). :func:`as_env_numbers` and :func:`from_env_numbers` convert.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space


def has_images(space: spaces.Space) -> bool:
    """Whether an observation is an image, or a dictionary that holds one."""
    if isinstance(space, spaces.Dict):
        return any(has_images(part) for part in space.values())
    return isinstance(space, spaces.Box) and is_image_space(space)


def start_of(space: spaces.Space) -> Any:
    """The first choice of a Discrete space, or those of a MultiDiscrete one; 0 for spaces without choices.

    >>> int(start_of(spaces.Discrete(3, start=-1)))
    -1
    """
    return getattr(space, "start", 0)


def as_env_numbers(choices: Any, space: spaces.Space) -> Any:
    """Choices numbered from 0 to elements of ``space``; anything else is returned unchanged.

    :param choices: array or tensor ``(..., *space.shape)``

    >>> as_env_numbers(np.array([0, 2]), spaces.Discrete(3, start=-1)).tolist()
    [-1, 1]
    """
    if not _starts_elsewhere(space):
        return choices
    if isinstance(choices, torch.Tensor):
        return choices + torch.as_tensor(start_of(space), dtype=choices.dtype, device=choices.device)
    return np.asarray(choices + start_of(space), choices.dtype)


def from_env_numbers(elements: Any, space: spaces.Space) -> Any:
    """Elements of ``space`` to choices numbered from 0; those of a space without choices are returned unchanged.

    :param elements: array or tensor ``(..., *space.shape)``; also ``(..., 1)`` of a Discrete space
    :raises ValueError: for numbers that are not choices

    >>> from_env_numbers(np.array([-1, 1]), spaces.Discrete(3, start=-1)).tolist()
    [0, 2]
    """
    if not isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return elements
    start, sizes = start_of(space), getattr(space, "nvec", getattr(space, "n", 0))
    if isinstance(elements, torch.Tensor):
        start, sizes = (torch.as_tensor(part, dtype=torch.int64, device=elements.device) for part in (start, sizes))
    choices = elements - start if _starts_elsewhere(space) else elements
    if not bool(((choices >= 0) & (choices < sizes)).all()):
        raise ValueError(
            f"The actions lie between {elements.min()} and {elements.max()}; they must be elements of {space}, as predict "
            "gives them."
        )
    return choices


def _starts_elsewhere(space: spaces.Space) -> bool:
    """Whether the space has choices that do not start at 0."""
    return isinstance(space, spaces.Discrete | spaces.MultiDiscrete) and bool(np.any(space.start))


#: Images smaller than this on a side are too small for the convolutions of "CnnPolicy" (Mnih et al. 2015).
SMALLEST_IMAGE = 36
_KINDS = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def check_observation_space(space: spaces.Space) -> None:
    """
    :raises ValueError: for an unsupported space, with a remedy
    """
    nested = isinstance(space, spaces.Dict)
    parts: list[tuple[str, Any]] = [*space.spaces.items()] if isinstance(space, spaces.Dict) else [("", space)]
    for key, part in parts:
        what = f"The observation space has {key!r}, {part}," if nested else f"The observation space is {part},"
        if not isinstance(part, _KINDS):
            remedy = "leave such keys out (gymnasium.wrappers.FilterObservation) or turn" if nested else "turn"
            raise ValueError(
                f"{what} which is not supported: it must be Box, Discrete, MultiDiscrete, MultiBinary, or a Dict of these "
                f"without nesting. In a wrapper {remedy} observations into these: gymnasium.wrappers.FlattenObservation "
                "(Tuple and nested Dict spaces) or gymnasium.wrappers.TransformObservation (text)."
            )
        if (isinstance(part, spaces.Box) and not part.shape) or 0 in (part.shape or ()):
            raise ValueError(
                f"{what} of shape {part.shape}; it must hold at least one number in at least one axis, such as shape (1,). "
                "Wrap the environment: gymnasium.wrappers.ReshapeObservation(env, (1,))."
            )
        axes = np.ndim(getattr(part, "nvec", ()))
        if axes > 1:
            raise ValueError(
                f"{what} with {axes} axes; MultiDiscrete observations must have one. Wrap the environment: "
                "gymnasium.wrappers.FlattenObservation(env), which also makes them one-hot."
            )
    if not parts:
        raise ValueError(f"The observation space is {space}, a Dict without keys; it must have at least one.")


def check_action_space(space: spaces.Space) -> None:
    """
    :raises ValueError: for an unsupported space, with a remedy
    """
    if not isinstance(space, _KINDS):
        raise ValueError(
            f"The action space is {space}, which is not supported: it must be Box, Discrete, MultiDiscrete or MultiBinary. "
            "Wrap the environment: gymnasium.wrappers.TransformAction(env, from one of these to the environment's own, "
            "a space of these)."
        )
    if isinstance(space, spaces.Box) and not np.issubdtype(space.dtype, np.floating):
        raise ValueError(
            f"The action space is {space}, a Box of {space.dtype}; agents act in a Box with fractions. Declare whole numbers "
            "as MultiDiscrete(sizes, start=lowest), or let the environment declare a Box of float32 and round."
        )
    axes = np.ndim(space.nvec) if isinstance(space, spaces.MultiDiscrete) else len(space.shape or ())
    if isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary) and axes > 1:
        raise ValueError(
            f"The action space is {space}, with {axes} axes; {type(space).__name__} actions must have one. Wrap the "
            "environment: gymnasium.wrappers.TransformAction(env, lambda action: action.reshape(shape), a flat space)."
        )


def check_image_sizes(space: spaces.Space, error: Exception) -> None:
    """Explain an error in building a policy if images are too small for its convolutions.

    :param space: of observations, images channel-first
    :raises ValueError: if there are such images
    """
    parts: list[Any] = [*space.spaces.values()] if isinstance(space, spaces.Dict) else [space]
    small = [part for part in parts if isinstance(part, spaces.Box) and len(part.shape) == 3]
    small = [part for part in small if min(part.shape[1:]) < SMALLEST_IMAGE]
    if small:
        height, width = small[0].shape[1:]
        raise ValueError(
            f"The observations are images of {height} by {width}, too small for the policy's convolutions: those of "
            f"'CnnPolicy' and 'MultiInputPolicy' need {SMALLEST_IMAGE} by {SMALLEST_IMAGE}. Enlarge them "
            "(gymnasium.wrappers.ResizeObservation), flatten them (gymnasium.wrappers.FlattenObservation and 'MlpPolicy'), or "
            "give a smaller network: policy_kwargs={'features_extractor_class': ...}."
        ) from error
