"""Whether a saved agent fits an environment, whose spaces may be declared differently than in training."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from rlspo.common.checkpoints import read_settings
from rlspo.common.trust import safe_objects

#: Bounds from here on count as infinite: environments used the largest float32 where they now use infinity.
_NO_BOUND = 1e38


def misfit(saved: spaces.Space, here: spaces.Space, actions: bool) -> str | None:
    """Why an agent of one space cannot be used in another, or None where it can.

    Bounds of observations do not matter to an agent, unless they mark an array as an image. Bounds of actions do: outputs of
    the network are scaled to them.

    :param saved: of the agent
    :param here: of the environment
    :param actions: whether they are action spaces
    """
    if isinstance(saved, spaces.Dict) and isinstance(here, spaces.Dict) and set(saved.spaces) == set(here.spaces):
        found = (misfit(saved[key], here[key], actions) for key in saved.spaces)
        return next((why for why in found if why is not None), None)
    if isinstance(saved, spaces.Box) and isinstance(here, spaces.Box) and saved.shape == here.shape:
        floats = all(np.issubdtype(space.dtype, np.floating) for space in (saved, here))
        bounds_agree = (floats and not actions) or np.allclose(_bounds(saved), _bounds(here), rtol=1e-4)
        if (floats or saved.dtype == here.dtype) and bounds_agree:
            return None
    elif saved == here:
        return None
    what = "Action" if actions else "Observation"
    return f"{what} spaces do not match: {saved} != {here}"


def _bounds(space: spaces.Box) -> np.ndarray:
    """Lower and upper bounds, infinite where they count as unbounded."""
    bounds = np.stack([space.low, space.high]).astype(float)
    return np.where(np.abs(bounds) >= _NO_BOUND, np.copysign(np.inf, bounds), bounds)


def fitted_spaces(model_file: Path, env: VecEnv) -> dict[str, Any]:
    """The spaces of an environment, for an agent that fits it: ``custom_objects`` of ``load``, which wants equal ones.

    :return: empty where they do not fit, or cannot be read without running code; ``load`` raises the error then
    """
    fitting = {}
    with contextlib.suppress(Exception):  # load reports whatever is wrong with the file
        objects, _ = safe_objects(read_settings(model_file), model_file)
        for name, actions in (("observation_space", False), ("action_space", True)):
            here = getattr(env, name)
            if misfit(objects[name], here, actions) is None:
                fitting[name] = here
    return fitting
