"""The statistics of a ``VecNormalize`` in an exported agent: numbers in the file of weights, settings beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_normalize

from rlspo.common.errors import IncompatibleModelError
from rlspo.common.exports.described_spaces import described, space_of
from rlspo.common.normalizers import bound

#: Before the names of its tensors.
PREFIX = "vecnormalize."
_SETTINGS: dict[str, type | tuple[type, ...]] = {
    "norm_obs": bool,
    "norm_reward": bool,
    "clip_obs": (int, float),
    "clip_reward": (int, float),
    "gamma": (int, float),
    "epsilon": (int, float),
    "norm_obs_keys": (list, type(None)),
}


def described_statistics(normalize: VecNormalize) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The settings as plain data, and the numbers by name."""
    data = {name: getattr(normalize, name) for name in _SETTINGS if name != "norm_obs_keys"}
    keys = getattr(normalize, "norm_obs_keys", None)
    data |= {"norm_obs_keys": None if keys is None else list(keys)}
    data = {name: value.item() if isinstance(value, np.generic) else value for name, value in data.items()}
    named = {"ret_rms": normalize.ret_rms, **_of_observations(normalize)}
    tensors = {
        f"{PREFIX}{name}.{part}": torch.as_tensor(np.array(getattr(statistics, part), np.float64))
        for name, statistics in named.items()
        for part in ("mean", "var", "count")
    }
    return {**data, "observation_space": described(normalize.venv.observation_space)}, tensors


def _of_observations(normalize: VecNormalize) -> dict[str, RunningMeanStd]:
    if not normalize.norm_obs:
        return {}
    found = normalize.obs_rms
    return {f"obs_rms/{key}": part for key, part in found.items()} if isinstance(found, dict) else {"obs_rms": found}


def with_statistics(env: VecEnv, data: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> VecEnv:
    """Environments in a ``VecNormalize`` with exported statistics; one that is around them already is filled.

    :param data: of :func:`described_statistics`
    :param tensors: the same
    :raises IncompatibleModelError: for statistics of other observations, or of other parts of them
    """
    settings: dict[str, Any] = {name: data.get(name) for name in _SETTINGS}
    for name, kind in _SETTINGS.items():
        if not isinstance(settings[name], kind):
            raise IncompatibleModelError(f"The exported VecNormalize has {name} = {settings[name]!r}.")
    normalize = unwrap_vec_normalize(env)
    if normalize is None:
        env = normalize = VecNormalize(env, **settings)
    else:
        _check_alike(normalize, settings)
        if not normalize.training:  # for evaluation: what is done to rewards is the user's choice
            settings["norm_reward"] = normalize.norm_reward
        for name, value in settings.items():
            setattr(normalize, name, value)
    named = {"ret_rms": normalize.ret_rms, **_of_observations(normalize)}
    for name, statistics in named.items():
        for part in ("mean", "var", "count"):
            _fill(statistics, part, tensors, f"{PREFIX}{name}.{part}")
    bound(normalize)
    return env


def _check_alike(normalize: VecNormalize, settings: Mapping[str, Any]) -> None:
    """
    :raises IncompatibleModelError: for one that normalises other parts of the observation than the exported one
    """
    for name in ("norm_obs", "norm_obs_keys"):
        both = getattr(normalize, name, None), settings[name]
        given, own = (sorted(one) if isinstance(one, list) else one for one in both)
        if given != own:
            raise IncompatibleModelError(
                f"The environment's VecNormalize has {name}={given!r}, the agent's had {own!r}. Make it with {name}={own!r}, "
                "or give the environment without one: the agent brings its own."
            )


def _fill(statistics: RunningMeanStd, part: str, tensors: Mapping[str, torch.Tensor], name: str) -> None:
    shape = np.shape(getattr(statistics, part))
    found = tensors.get(name)
    if found is None or tuple(found.shape) != shape or found.dtype != torch.float64:
        there = "is missing" if found is None else f"has the shape {tuple(found.shape)}"
        raise IncompatibleModelError(
            f"The statistics {name} of the exported VecNormalize {there}; the environments need {shape}. Give environments "
            "that are wrapped as those of the training."
        )
    setattr(statistics, part, found.item() if shape == () and part == "count" else found.numpy().copy())


class Nowhere(VecEnv):
    """Stands for the environments of an agent that only acts, so that ``VecNormalize`` has something to be around."""

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space) -> None:
        super().__init__(1, observation_space, action_space)

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise ValueError("This agent was loaded to act, without an environment. Load it with one: rlspo.load(path, env=env).")

    reset = step_async = step_wait = set_attr = env_method = _refuse

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """None for everything."""
        return [None]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """In nothing."""
        return [False]

    def close(self) -> None:
        """There is nothing to close."""


def statistics_alone(data: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], action_space: spaces.Space) -> VecNormalize:
    """A frozen ``VecNormalize`` without environments, for its ``normalize_obs``."""
    space = space_of(data.get("observation_space"), "normalize: observation_space")
    env = with_statistics(Nowhere(space, action_space), data, tensors)
    assert isinstance(env, VecNormalize)
    env.training = False
    return env
