"""Agents as rl-baselines3-zoo published them over the years.

Files of stable-baselines3 1.x with the spaces of gym, schedules of modules that are not installed here, statistics of before
Dict observations, and records in YAML that names Python objects.
"""

from __future__ import annotations

import base64
import contextlib
import json
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
import yaml
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize

#: In place of infinity, in the bounds of old environments.
HUGE = float(np.finfo(np.float32).max)
#: Settings that came to off-policy agents later.
LATER = ("replay_buffer_class", "replay_buffer_kwargs", "optimize_memory_usage", "n_steps")


@contextlib.contextmanager
def module(name: str, **contents: Any) -> Iterator[types.ModuleType]:
    """A module that is gone afterwards, as those of a package that is not installed."""
    made = []
    for end in [place for place, letter in enumerate(f"{name}.") if letter == "."]:
        part = name[:end]
        if part not in sys.modules:
            sys.modules[part] = types.ModuleType(part)
            made.append(part)
    vars(sys.modules[name]).update(contents)
    try:
        yield sys.modules[name]
    finally:
        for part in made:
            del sys.modules[part]


@contextlib.contextmanager
def spaces_of_gym() -> Iterator[Callable[[gym.Space], Any]]:
    """Makes the same spaces as gym 0.21 had them; to be pickled here and now."""
    classes = {kind: type(kind, (), {"__module__": f"gym.spaces.{kind.lower()}"}) for kind in ("Box", "Discrete")}

    def old(space: gym.Space) -> Any:
        made = classes[type(space).__name__]()
        vars(made).update({"_shape": space.shape, "dtype": space.dtype, "_np_random": None})
        if isinstance(space, gym.spaces.Box):
            low, high = np.maximum(space.low, -HUGE), np.minimum(space.high, HUGE)
            vars(made).update({"low": low, "high": high, "bounded_below": low > -np.inf, "bounded_above": high < np.inf})
        else:
            vars(made).update({"n": int(space.n)})
        return made

    with module("gym.spaces.box", Box=classes["Box"]), module("gym.spaces.discrete", Discrete=classes["Discrete"]):
        yield old


def schedule_of_zoo(value: float) -> bytes:
    """A pickle of a schedule whose class lies in rl_zoo3."""
    cls = type("SimpleLinearSchedule", (), {"__module__": "rl_zoo3.utils"})
    with module("rl_zoo3.utils", SimpleLinearSchedule=cls):
        made = cls()
        vars(made)["initial_value"] = value
        return pickle.dumps(made)


def linear_schedule(value: float) -> Callable[[float], float]:
    """As it was in ``utils.utils`` for years: a function inside a function, which is pickled as its code."""

    def func(progress_remaining: float) -> float:
        return progress_remaining * value

    func.__module__ = "utils.utils"
    return func


def code_of_zoo(value: float) -> bytes:
    """A pickle of a schedule that is a function."""
    with module("utils.utils"):
        return cloudpickle.dumps(linear_schedule(value))


def age(file: Path, without: Collection[str] = (), pickled: Mapping[str, bytes] | None = None) -> None:
    """Rewrite a model file.

    :param without: settings that it loses
    :param pickled: settings and the pickles that stand there
    """
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    data = {key: value for key, value in json.loads(parts["data"]).items() if key not in without}
    for key, value in (pickled or {}).items():
        data[key] = {":type:": "<class 'object'>", ":serialized:": base64.b64encode(value).decode()}
    parts["data"] = json.dumps(data).encode()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def spaces_of(model: BaseAlgorithm) -> dict[str, bytes]:
    """Pickles of the spaces of an agent, old."""
    with spaces_of_gym() as old:
        return {name: pickle.dumps(old(getattr(model, name))) for name in ("observation_space", "action_space")}


def old_statistics(normalize: VecNormalize) -> bytes:
    """A pickle of ``VecNormalize`` from before it knew which keys of a Dict it normalises, with the spaces of gym."""
    with spaces_of_gym() as old:
        copied = VecNormalize.__new__(VecNormalize)
        vars(copied).update({key: value for key, value in vars(normalize).items() if key != "norm_obs_keys"})
        copied.observation_space, copied.action_space = old(normalize.observation_space), old(normalize.action_space)
        return pickle.dumps(copied)


def run_of_zoo(
    model: BaseAlgorithm,
    algo: str,
    env: str,
    statistics: bytes | None = None,
    folder: Path = Path("rl-trained-agents"),
    **config: Any,
) -> Path:
    """A folder of a run, with the model as ``ENV.zip``.

    :param config: of its ``config.yml``
    """
    run = folder / algo / f"{env}_1"
    record = run / env
    record.mkdir(parents=True)
    model.save(run / f"{env}.zip")
    args = {"algo": algo, "env": env, "env_kwargs": None, "gym_packages": [], "n_timesteps": -1}
    for name, data in (("config", config), ("args", args)):
        (record / f"{name}.yml").write_text(yaml.dump(OrderedDict(data)))
    if statistics is not None:
        (record / "vecnormalize.pkl").write_bytes(statistics)
    return run
