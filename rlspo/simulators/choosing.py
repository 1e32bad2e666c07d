"""Choosing the simulator for an environment."""

from __future__ import annotations

import importlib
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv, VectorEnv
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvWrapper

from rlspo.common.errors import NotSimulatableError
from rlspo.common.vector_env import ARRAY_SPACES, GymnasiumVecEnv
from rlspo.simulators.alike import difference
from rlspo.simulators.arrays import ArrayCore
from rlspo.simulators.atari import AtariCore
from rlspo.simulators.base import Core, Layer, Simulator
from rlspo.simulators.classic_control import classic_form
from rlspo.simulators.copies import CopyCore
from rlspo.simulators.following import COMMON, layer_for, vec_layer_for
from rlspo.simulators.vectors import GymnasiumVecEnvLayer, VecEnvLayer, VectorEnvLayer, ended_in
from rlspo.simulators.whole import RULES, UNKNOWN, may_be_rule, speaks_for


@dataclass
class Peeled:
    """An environment split into core and wrappers.

    :param inner: what the core captures: one environment per root, or a single one with all roots
    :param wrappers: of each layer, from the innermost to the outermost: one per root, or a single one around all roots
    :param ended: whether the episode is over, ``(n,)``
    """

    inner: list[Any]
    wrappers: list[list[Any]]
    ended: np.ndarray


@dataclass
class Roots:
    """The environments inside a vectorised one, or a single environment.

    :param envs: gymnasium's environments with their wrappers, or a single vectorised one with an array form
    :param around: the vectorised environment and the wrappers around it, from the innermost to the outermost
    """

    envs: list[Any]
    around: list[Any]
    ended: np.ndarray


def simulator_for(env: Any, device: torch.device | str | None = None) -> Simulator:
    """A simulator for ``env``: its states can be captured, branched, stepped in parallel and restored.

    Tried in this order: the environment's own ``array_form()``, MuJoCo, Atari games, deep copies.

    :param env: a gymnasium environment, with any of the wrappers known here; or vectorised: SB3's ``DummyVecEnv`` with
        wrappers around it, gymnasium's ``SyncVectorEnv``, a ``VectorEnv`` that has ``array_form()``, or rlspo's
        ``GymnasiumVecEnv`` around these two. It is neither reset nor changed
    :param device: device of array forms in torch; None: the environment's. Other simulators run on the CPU
    :raises NotSimulatableError: naming what cannot be simulated, the reason and the remedy

    >>> import gymnasium
    >>> env = gymnasium.make("CartPole-v1")
    >>> _ = env.reset(seed=0)
    >>> simulator = simulator_for(env)
    >>> states = simulator.replicate(simulator.capture(env), 3)
    >>> simulator.step(states, [0, 1, 1]).rewards
    array([1., 1., 1.])
    """
    roots = _roots(env)
    _check_methods(roots.envs, lambda _, method: method == "step")
    core = _core(roots.envs[0], device)
    if not core.takes_wrappers:
        _check_methods(roots.envs, _is_rule)  # a core with the rules of the class ignores them
    layers = [] if core.takes_wrappers else [layer_for(one) for one in _wrappers(roots.envs[0])]
    layers += [_layer_around(one) for one in roots.around]
    peel = Peel(core.takes_wrappers)
    _check_alike(roots.envs, core)
    peel.kinds = peel.kinds_of(env)
    peel.settings = _wrapper_settings(roots.envs[0])
    peel.alike.update(roots.envs)
    return Simulator(core, layers, peel)


class Peel:
    """Splits an environment into core and wrappers, in the same way each time.

    :param whole: whether the core captures wrapped environments
    """

    def __init__(self, whole: bool) -> None:
        self.whole = whole
        self.kinds: list[str] = []
        self.settings: dict[str, Any] = {}
        self.alike: weakref.WeakSet[Any] = weakref.WeakSet()

    def kinds_of(self, env: Any) -> list[str]:
        """Names of the innermost environment's class and of all layers'."""
        peeled = self._apart(env)
        return [type(one).__name__ for one in [peeled.inner[0], *(wrappers[0] for wrappers in peeled.wrappers)]]

    def __call__(self, env: Any) -> Peeled:
        """
        :raises ValueError: for an environment that is made or wrapped differently than the simulator's
        """
        kinds = self.kinds_of(env)
        if kinds != self.kinds:
            raise ValueError(
                f"This simulator was made for {' in '.join(self.kinds)}, and this is {' in '.join(kinds)}; make another with "
                "simulator_for(env)."
            )
        for one in [] if self.whole else _roots(env).envs:
            if one not in self.alike:
                where = difference(self.settings, _wrapper_settings(one))
                if where:
                    raise ValueError(
                        f"This simulator was made for an environment with other wrappers than {one}: they differ in {where}; "
                        "make another with simulator_for(env)."
                    )
                self.alike.add(one)
        return self._apart(env)

    def _apart(self, env: Any) -> Peeled:
        roots = _roots(env)
        inner = roots.envs if self.whole else [one.unwrapped if isinstance(one, gym.Env) else one for one in roots.envs]
        rows = [] if self.whole else [*zip(*(_wrappers(one) for one in roots.envs), strict=True)]
        wrappers: list[list[Any]] = [[*layer] for layer in rows]
        return Peeled(inner, [*wrappers, *([one] for one in roots.around)], roots.ended)


def _wrappers(env: Any) -> list[gym.Wrapper]:
    """From the innermost to the outermost."""
    found: list[gym.Wrapper] = []
    while isinstance(env, gym.Wrapper):
        found.append(env)
        env = env.env
    return found[::-1]


def _roots(env: Any) -> Roots:
    if isinstance(env, gym.Env):
        return Roots([env], [], np.zeros(1, bool))
    around: list[Any] = []
    while isinstance(env, VecEnvWrapper):
        around.append(env)
        env = env.venv
    around.append(env)
    around.reverse()
    if isinstance(env, DummyVecEnv):
        return Roots([*env.envs], around, np.zeros(env.num_envs, bool))
    if isinstance(env, GymnasiumVecEnv):
        return Roots(_vector_envs(env.env), around, env.resets_next.copy())
    if isinstance(env, VectorEnv):
        return Roots(_vector_envs(env), around, ended_in(env))
    name = type(env).__name__
    if isinstance(env, SubprocVecEnv):
        raise NotSimulatableError(
            name, "its environments live in other processes; put them in a DummyVecEnv, the search itself steps many at once"
        )
    raise NotSimulatableError(name, "it is no gymnasium environment, and no vectorised one that is known here")


def _vector_envs(env: VectorEnv) -> list[Any]:
    """The environments inside gymnasium's vectorised environment."""
    if type(env) is SyncVectorEnv:
        return [*env.envs]
    if callable(getattr(env, "array_form", None)):
        return [env]
    raise NotSimulatableError(
        type(env).__name__,
        "of gymnasium's vectorised environments only SyncVectorEnv, and those with a method array_form(), can be looked into; "
        'use gymnasium.make_vec(..., vectorization_mode="sync") and wrap each environment rather than the vector of them',
    )


def _core(env: Any, device: torch.device | str | None) -> Core:
    """
    :param env: of gymnasium, with its wrappers, or vectorised with an array form
    """
    base = env.unwrapped
    if callable(getattr(base, "array_form", None)) and speaks_for(base, "array_form"):
        form = base.array_form()
        in_torch = form.device is not None
        return ArrayCore(base.array_form(device) if in_torch and device is not None else form, base)
    if isinstance(base, VectorEnv):
        raise NotSimulatableError(type(base).__name__, UNKNOWN.format("array_form"))
    classic = classic_form(base)
    if classic is not None:
        return ArrayCore(classic, base)
    if all(hasattr(base, name) for name in ("model", "data", "frame_skip")):
        return _mujoco_core(base)
    if any(kind.__module__.partition(".")[0] == "ale_py" for kind in type(base).__mro__):
        return AtariCore(_with_array_observations(env))
    return CopyCore(_with_array_observations(env))


def _with_array_observations(env: gym.Env) -> gym.Env:
    space = env.observation_space
    leaves = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
    if all(isinstance(leaf, ARRAY_SPACES) for leaf in leaves):
        return env
    raise NotSimulatableError(
        str(env),
        f"its observation space {space} is no Box, Discrete, MultiDiscrete, MultiBinary, or Dict of these; "
        "gymnasium.wrappers.FlattenObservation makes a Box of it",
    )


def _mujoco_core(base: Any) -> Core:
    # MuJoCo need not be installed.
    core = importlib.import_module("rlspo.simulators.mujoco").MujocoCore
    try:
        return core(base)
    except NotSimulatableError:
        raise
    except TypeError as error:
        raise NotSimulatableError(str(base), str(error)) from error


def _layer_around(env: Any) -> Layer:
    if isinstance(env, GymnasiumVecEnv):
        return GymnasiumVecEnvLayer(env)
    if isinstance(env, VectorEnv):
        return VectorEnvLayer(env)
    return VecEnvLayer(env) if isinstance(env, DummyVecEnv) else vec_layer_for(env)


def _settings(env: Any) -> dict[str, Any]:
    """The arguments of an environment, as far as it records them, without those of rendering."""
    base = env.unwrapped
    spec, given = base.spec, getattr(base, "_ezpickle_kwargs", {})
    named = [
        {name: value for name, value in kwargs.items() if name != "render_mode"}
        for kwargs in (spec.kwargs if spec else {}, given)
    ]
    return {"class": type(base), "id": spec and spec.id, "arguments": (*named, getattr(base, "_ezpickle_args", ()))}


def _wrapper_settings(env: Any) -> dict[str, Any]:
    """The settings of an environment's wrappers: their arguments, and all attributes that are not declared as memory."""
    found = {}
    for depth, one in enumerate(_wrappers(env)):
        kept = {"arguments": getattr(one, "_saved_kwargs", None)}
        remembered = getattr(type(one), "simulated_state", None)
        # A wrapper with its own layer is determined by its arguments.
        if remembered is not None and not hasattr(one, "simulated_layer"):
            kept |= {name: value for name, value in vars(one).items() if name not in COMMON | {*remembered}}
        found[f"{type(one).__name__}, wrapper {depth}"] = kept
    return found


def _check_methods(envs: Sequence[Any], replaced: Callable[[Any, str], bool]) -> None:
    """
    :param replaced: whether a branch would miss a method, by its name, that is assigned to an object
    :raises NotSimulatableError: for such a method
    """
    for env in envs:
        for one in [env.unwrapped, *_wrappers(env)]:
            for name, value in vars(one).items():
                if callable(value) and replaced(one, name) and callable(getattr(type(one), name, None)):
                    raise NotSimulatableError(
                        type(one).__name__,
                        f"its {name}() was replaced in the object itself; write a subclass or a wrapper with the new one",
                    )


def _is_rule(one: Any, method: str) -> bool:
    return method in RULES if isinstance(one, gym.Wrapper) else may_be_rule(method)


def _check_alike(envs: Sequence[Any], core: Core) -> None:
    """Check that all environments of a vector can share one simulator.

    :raises NotSimulatableError: for one that differs from the first
    """

    def made(env: Any) -> Any:
        return _settings(env), _wrapper_settings(env)

    for index, env in enumerate(envs[1:], 1):
        where = difference(made(envs[0]), made(env))
        if not where and isinstance(core, ArrayCore):
            where = core.unlike(env.unwrapped)
        if where:
            raise NotSimulatableError(
                f"Environment {index} of the vectorised environment",
                f"it and environment 0 differ in {where}; all must be alike",
            )
