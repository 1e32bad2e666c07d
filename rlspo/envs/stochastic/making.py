"""Making perturbed tasks, from an id or from a user's own environment."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator

from rlspo.envs.profiles import Profile
from rlspo.envs.stochastic.wrapper import Stochastic


def wrap(
    env: gym.Env, profile: str | Path | Mapping[str, Any] | Profile | None = None, type: Any = None, **changes: Any
) -> Stochastic:
    """Perturb an environment.

    :param env: any environment; effects that need vector actions or observations, or MuJoCo, check this
    :param profile: a name, file, mapping or :class:`~rlspo.envs.profiles.Profile`; None: that of ``type``
    :param type: of the taxonomy; None where ``profile`` is given, else ``"3.1"``
    :param changes: keys that override those of the profile

    >>> env = wrap(gym.make("Pendulum-v1"), type="1", probability=0.5)
    >>> env.profile.concept.effect
    'replace'
    """
    return Stochastic(env, profile, type=type, **changes)


def make_task(
    task: str,
    profile: str | Path | Mapping[str, Any] | Profile | None = None,
    type: Any = None,
    **settings: Any,
) -> Stochastic:
    """One of MuJoCo's tasks, perturbed: what ``gymnasium.make("STORI/HalfCheetah-v0", ...)`` calls.

    :param task: its id in gymnasium, such as ``"HalfCheetah-v5"``
    :param profile: see :func:`wrap`
    :param type: see :func:`wrap`
    :param settings: arguments of the task (``render_mode``, ``reset_noise_scale``, ...) are passed to it, all others change
        the profile
    """
    spec = gym.spec(task)
    assert isinstance(spec.entry_point, str), task
    creator: Any = load_env_creator(spec.entry_point)
    known = {name for kind in creator.__mro__ for name in inspect.signature(kind.__init__).parameters}
    own = {name: value for name, value in settings.items() if name in known}
    changes = {name: value for name, value in settings.items() if name not in known}
    return Stochastic(creator(**{**spec.kwargs, **own}), profile, type=type, **changes)


# Gymnasium reads this before it makes an environment.
make_task.metadata = {"render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"]}  # type: ignore[attr-defined]
