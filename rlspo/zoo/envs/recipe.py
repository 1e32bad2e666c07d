"""Environments by id: finding them, checking what they are given, and building them vectorised and wrapped."""

from __future__ import annotations

import contextlib
import datetime
import functools
import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.wrappers import NormalizeObservation
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.vec_env import (
    VecEnv,
    VecEnvWrapper,
    VecFrameStack,
    VecNormalize,
    VecTransposeImage,
    is_vecenv_wrapped,
)

from rlspo.common.checked_env import CheckedDummyVecEnv
from rlspo.common.errors import nearest
from rlspo.common.normalizers import bound
from rlspo.common.randomness import fresh_state, restore_globals
from rlspo.common.registry import is_module_name
from rlspo.common.signatures import signature_of
from rlspo.zoo.config.allowed import check_kind
from rlspo.zoo.config.convert import arguments, imported
from rlspo.zoo.config.schema import Pieces, Settings
from rlspo.zoo.config.signatures import check_names
from rlspo.zoo.envs.native import check_native, in_batches, make_native, plays_atari
from rlspo.zoo.envs.patient_monitor import be_patient
from rlspo.zoo.envs.processes import ProcessVecEnv
from rlspo.zoo.errors import UserError

#: Allowed classes under a key.
_KINDS = {"env_wrapper": (gym.Wrapper,), "vec_env_wrapper": (VecEnvWrapper,), "callback": (BaseCallback,)}
#: Wrapper classes and their arguments after the wrapped object.
Layers = tuple[tuple[Any, dict[str, Any]], ...]


def find_spec(env_id: str, gym_packages: Sequence[str] = ()) -> EnvSpec:
    """The registered environment of this id.

    :param env_id: such as ``Hopper-v5``, ``ALE/Pong-v5`` or ``my_package:MyEnv-v0``
    :param gym_packages: modules to import first, because they register environments
    :raises UserError: if no such environment is registered, with the nearest id that is
    """
    register(env_id, gym_packages)
    name = env_id.rpartition(":")[2]
    try:
        return gym.spec(name)
    except gym.error.Error as error:
        guess = nearest(name, gym.registry)
        hint = f"Did you mean {guess!r}? " if guess else ""
        raise UserError(
            f"--env: there is no environment {name!r}. {hint}"
            "If it is your own, name the module that registers it: --gym-packages my_package"
            + (" (Atari games need: pip install ale-py)" if name.startswith("ALE/") else "")
            + f"\nGymnasium: {error}"
        ) from error


def register(env_id: str, gym_packages: Sequence[str] = ()) -> None:
    """Import the modules that register the environment; those of Atari games by themselves, where installed."""
    prefix, _, name = env_id.rpartition(":")
    for package in [*gym_packages, *([prefix] if prefix else [])]:
        if not is_module_name(package):
            raise UserError(f"--gym-packages: {package!r} is not the name of a module. Write it as for import: my_package")
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise UserError(f"--gym-packages: cannot import {package!r}: {error}.") from error
    if name not in gym.registry:
        with contextlib.suppress(ImportError):
            importlib.import_module("ale_py")


def is_atari(spec: EnvSpec) -> bool:
    """Whether the environment is a game of the Arcade Learning Environment, perturbed or not."""
    return isinstance(spec.entry_point, str) and spec.entry_point.startswith(("ale_py.", "rlspo.envs.stori:"))


def families(spec: EnvSpec) -> list[str]:
    """Blocks of settings that serve an environment without a block of its own, the nearest first.

    A perturbed task takes the settings of the unperturbed one. Games of STORI have another frame skip than those of the ALE,
    and share no block with them.
    """
    if not spec.id.startswith("STORI/"):
        return ["atari"] if is_atari(spec) else []
    return ["stori"] if is_atari(spec) else [f"{spec.name}-v5"]


def check_env_kwargs(spec: EnvSpec, env_kwargs: dict[str, Any], where: str) -> None:
    """Refuse arguments that the environment does not know, where its constructor can be read, and what a record cannot hold.

    :raises UserError: naming the nearest argument that exists, or what was given
    """
    _check_plain(env_kwargs, where)
    try:
        creator = load_env_creator(spec.entry_point) if isinstance(spec.entry_point, str) else spec.entry_point
    except (ImportError, AttributeError, gym.error.Error):
        return  # making the environment reports what is missing
    if creator is None:
        return
    known = signature_of(creator)
    if not known.open_ended:
        of_make = signature_of(gym.make).without(["id"]).parameters
        check_names(env_kwargs, [*known.parameters, *of_make, "render_mode"], functools.partial(_always, where))


def _check_plain(value: Any, where: str) -> None:
    """Refuse what comes back from the record of a run as something else: keys that are no text, and dates."""
    if isinstance(value, dict):
        for key, inside in value.items():
            if not isinstance(key, str):
                raise UserError(f"{where}: {key!r} is a key and must be text, which the record of a run can hold.")
            _check_plain(inside, f"{where}: {key}")
    elif isinstance(value, list | tuple):
        for inside in value:
            _check_plain(inside, where)
    elif isinstance(value, datetime.date | datetime.time):
        raise UserError(f"{where}: {value} is read as a date. Write text: '\"{value}\"', in quotes of its own.")


def layers(pieces: Pieces | None, key: str, around: str, where: str) -> Layers:
    """Read a list of classes with arguments, as ``env_wrapper`` and ``callback`` hold it.

    :param key: the key it stands under
    :param around: name of the parameter that each class fills itself, such as ``env``; empty for none
    :raises UserError: for a path that cannot be imported or an argument that does not exist or is of the wrong type
    """
    listed = [] if pieces is None else pieces if isinstance(pieces, list) else [pieces]
    found = []
    for piece in listed:
        for path, given in piece.items() if isinstance(piece, dict) else [(piece, {})]:
            cls = imported(path, f"{where}: {key}")
            check_kind(path, cls, f"{where}: {key}", _KINDS[key])
            inside = f"{where}: {key}: {path}"
            signature = signature_of(cls).without([around])
            converted = arguments(given or {}, signature, functools.partial(_always, inside))
            missing = [name for name in signature.required if name not in converted]
            if missing:
                raise UserError(f"{inside} also needs {', '.join(missing)}: {key}: {{{path}: {{{missing[0]}: ...}}}}")
            found.append((cls, converted))
    return tuple(found)


def _always(text: str, key: str) -> str:
    """The same text for every key."""
    return text


@dataclass(frozen=True)
class _Maker:
    """Makes one environment, in this process or in a worker."""

    env_id: str
    gym_packages: tuple[str, ...]

    def __call__(self, **env_kwargs: Any) -> gym.Env:
        register(self.env_id, self.gym_packages)
        return gym.make(self.env_id.rpartition(":")[2], **env_kwargs)


@dataclass(frozen=True)
class _Worker:
    """Makes one environment in a process of its own, with seeded global generators, which some environments draw from.

    :param seed: of the generators; None for fresh entropy
    """

    make: Callable[[], gym.Env]
    seed: int | None

    def __call__(self) -> gym.Env:
        restore_globals(fresh_state(self.seed))
        return self.make()


def _in_processes(makers: list[Callable[[], gym.Env]], seed: int | None) -> VecEnv:
    return ProcessVecEnv([_Worker(make, None if seed is None else seed + rank) for rank, make in enumerate(makers)])


@dataclass(frozen=True)
class _Wrap:
    """Puts wrappers around one environment in its ``Monitor``, innermost first."""

    wrappers: Layers

    def __call__(self, env: gym.Env) -> gym.Env:
        be_patient(env)
        for cls, given in self.wrappers:
            env = cls(env, **given)
        return env


@dataclass(frozen=True)
class EnvRecipe:
    """How the environments of a run are built: the same for training, evaluation, attacks and video.

    :param env_kwargs: arguments of the environment
    :param vec_env: ``"dummy"``: in this process, one after the other; ``"subproc"``: one process each; ``"native"``: all
        at once, where the environment has a vectorised form; ``"auto"``: see :meth:`decided`
    :param normalize: arguments of ``VecNormalize``, None for none
    """

    env_id: str
    gym_packages: tuple[str, ...] = ()
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    monitor_kwargs: dict[str, Any] = field(default_factory=dict)
    env_wrappers: Layers = ()
    vec_env_wrappers: Layers = ()
    normalize: dict[str, Any] | None = None
    frame_stack: int | None = None
    vec_env: str = "dummy"

    @classmethod
    def from_settings(cls, settings: Settings, env_id: str, where: Callable[[str], str], **others: Any) -> EnvRecipe:
        """Read the settings of environments in a block.

        :param where: from a key to its source, for messages
        :param others: ``gym_packages``, ``env_kwargs`` and ``vec_env``
        :raises UserError: for wrappers or arguments that do not exist
        """

        normalize = settings.normalize if isinstance(settings.normalize, dict) else {} if settings.normalize else None
        if normalize is not None:
            known = signature_of(VecNormalize).without(["venv", "training"])
            normalize = arguments(normalize, known, functools.partial(_always, f"{where('normalize')}: normalize"))
        env_wrappers = layers(settings.env_wrapper, "env_wrapper", "env", where("env_wrapper"))
        vec_env_wrappers = layers(settings.vec_env_wrapper, "vec_env_wrapper", "venv", where("vec_env_wrapper"))
        for key, wrappers in (("env_wrapper", env_wrappers), ("vec_env_wrapper", vec_env_wrappers)):
            for one, _ in wrappers:
                if isinstance(one, type) and issubclass(one, VecNormalize | NormalizeObservation):
                    raise UserError(
                        f"{where(key)}: {one.__name__} as a wrapper has statistics that are not saved with the agent, and "
                        "evaluations would go by others. Give normalize: true or normalize: {norm_reward: false}."
                    )
        return cls(
            env_id=env_id,
            monitor_kwargs=arguments(
                settings.monitor_kwargs,
                signature_of(Monitor).without(["env", "filename"]),
                functools.partial(_always, f"{where('monitor_kwargs')}: monitor_kwargs"),
            ),
            env_wrappers=env_wrappers,
            vec_env_wrappers=vec_env_wrappers,
            normalize=normalize,
            frame_stack=settings.frame_stack,
            **others,
        )

    def build(
        self, n_envs: int, seed: int | None, training: bool, monitor_folder: Path | None = None, **env_kwargs: Any
    ) -> VecEnv:
        """Make the environments.

        :param seed: of the first one; the others count up from it
        :param training: False freezes the statistics of ``VecNormalize`` and leaves rewards as they are
        :param monitor_folder: where ``k.monitor.csv`` of each environment goes; None for nowhere
        :param env_kwargs: further arguments of the environment, over those of the recipe
        """
        together = self._native if self.vec_env == "native" and n_envs > 1 else self._one_by_one
        env = together(n_envs, seed, monitor_folder, {**self.env_kwargs, **env_kwargs})
        for cls, given in self.vec_env_wrappers:
            env = cls(env, **given)
        if self.normalize is not None:
            frozen = {} if training else {"training": False, "norm_reward": False}
            env = VecNormalize(env, **{**self.normalize, **frozen})
            bound(env)
        if self.frame_stack is not None and self.frame_stack > 1:
            env = VecFrameStack(env, self.frame_stack)
        # As the agents do, so that the environments of training and of evaluation are wrapped alike.
        space = env.observation_space
        parts = space.spaces.values() if isinstance(space, gym.spaces.Dict) else [space]
        images = [part for part in parts if isinstance(part, gym.spaces.Box) and is_image_space(part)]
        transpose = any(not is_image_space_channels_first(image) for image in images)
        return VecTransposeImage(env) if transpose and not is_vecenv_wrapped(env, VecTransposeImage) else env

    def _one_by_one(self, n_envs: int, seed: int | None, folder: Path | None, env_kwargs: dict[str, Any]) -> VecEnv:
        in_processes = self.vec_env == "subproc" and n_envs > 1
        together: Any = functools.partial(_in_processes, seed=seed) if in_processes else CheckedDummyVecEnv
        return make_vec_env(
            _Maker(self.env_id, self.gym_packages),
            n_envs=n_envs,
            seed=seed,
            monitor_dir=None if folder is None else str(folder),
            wrapper_class=_Wrap(self.env_wrappers),
            env_kwargs=env_kwargs,
            vec_env_cls=together,
            monitor_kwargs=self.monitor_kwargs,
        )

    def _native(self, n_envs: int, seed: int | None, folder: Path | None, env_kwargs: dict[str, Any]) -> VecEnv:
        spec = find_spec(self.env_id, self.gym_packages)
        check_native(spec, env_kwargs, self.env_wrappers, self.monitor_kwargs)
        if self._before_stacking and plays_atari(spec, env_kwargs, self.env_wrappers):
            raise UserError(
                "--vec-env native: Atari games that are played together give images with the channel first, others with the "
                "channel last, and normalize or vec_env_wrapper would see both. Use dummy or subproc."
            )
        return make_native(spec.id, n_envs, seed, folder, env_kwargs, self.env_wrappers, _Wrap(self.env_wrappers))

    @property
    def _before_stacking(self) -> bool:
        """Whether anything stands between the environments and the stacking of frames."""
        return bool(self.vec_env_wrappers) or self.normalize is not None

    def decided(self, n_envs: int) -> EnvRecipe:
        """The recipe with ``vec_env`` decided where it is ``"auto"``: Atari games in SB3's wrapper are played together."""
        if self.vec_env != "auto":
            return self
        spec, single = find_spec(self.env_id, self.gym_packages), n_envs == 1 or self.monitor_kwargs or self._before_stacking
        together = not single and plays_atari(spec, self.env_kwargs, self.env_wrappers)
        return replace(self, vec_env="native" if together else "dummy")

    def stepped_together(self) -> EnvRecipe:
        """The recipe with copies stepped together, where the episodes are the very same: MuJoCo's tasks without wrappers."""
        bare = self.vec_env == "dummy" and not (self.env_wrappers or self.vec_env_wrappers or self.monitor_kwargs)
        if bare and in_batches(find_spec(self.env_id, self.gym_packages)):
            return replace(self, vec_env="native")
        return self

    def has_its_own_episodes(self, n_envs: int) -> bool:
        """Whether its episodes are not those of single environments with the same seeds."""
        return (
            self.vec_env == "native" and n_envs > 1 and replace(self, vec_env="dummy").stepped_together().vec_env != "native"
        )

    def probe(self) -> None:
        """Make a minimal environment and close it, so that errors show before anything is written.

        :raises UserError: with the environment's error, and what to install if that names it
        """
        try:
            self.build(n_envs=2 if self.vec_env == "native" else 1, seed=None, training=False).close()
        except UserError:
            raise
        except gym.error.DependencyNotInstalled as error:
            raise UserError(f"--env {self.env_id} needs something that is not installed. {error}") from error
        except Exception as error:  # a user's environment may raise anything
            text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            given = f" with env_kwargs {self.env_kwargs}" if self.env_kwargs else ""
            renderer = os.environ.get("MUJOCO_GL")
            hint = f"\nMUJOCO_GL is set to {renderer!r}; unset it if that renderer is not there." if renderer else ""
            raise UserError(f"--env {self.env_id} cannot be made{given}. {text}{hint}") from error
