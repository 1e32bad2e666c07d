"""An agent to an exported folder, and back: a registered class, its settings, spaces and weights; no pickle, no imports."""

from __future__ import annotations

import contextlib
import importlib.metadata
import pathlib
import platform
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import check_for_correct_spaces
from torch import nn

from rlspo.common.errors import IncompatibleModelError, NotExportableError, did_you_mean, shown
from rlspo.common.expansion import Counter, ExpansionError
from rlspo.common.exports.described_spaces import described, space_of
from rlspo.common.exports.folder import check_place, read_description, read_tensors, write_folder
from rlspo.common.exports.lookup import find_export
from rlspo.common.exports.statistics import PREFIX, described_statistics, statistics_alone, with_statistics
from rlspo.common.exports.values import PARTS, class_named, decoded, encoded, name_of
from rlspo.common.files import whole_folder
from rlspo.common.randomness import Randomness
from rlspo.common.registry import agent_class, agent_names
from rlspo.common.signatures import signature_of

#: Constructor arguments that say how an agent was trained and reported, and not what it is; ``load`` takes them.
LEFT_OUT = frozenset(
    {
        "policy",
        "env",
        "device",
        "verbose",
        "tensorboard_log",
        "stats_window_size",
        "action_noise",
        "replay_buffer_class",
        "replay_buffer_kwargs",
        "rollout_buffer_class",
        "rollout_buffer_kwargs",
        "optimize_memory_usage",
        "_init_setup_model",
    }
)
_ENVIRONMENT: dict[str, Any] = {"env_kwargs": {}, "gym_packages": [], "wrapping": {}}
_MOST_ENVS = 2**16
#: Values in the settings, mostly layers: larger networks would take minutes to build.
_MOST_VALUES = 2_000
#: Parts of a policy may be built and then replaced, so more numbers are allowed on the way than the weights have.
_MOST_GROWTH, _ALWAYS = 8, 2**20
_PACKAGES = ("rlspo", "stable-baselines3", "gymnasium", "torch", "numpy")
_building = threading.local()


class Exportable(BaseAlgorithm):
    """What an agent of rlspo adds to SB3's: :meth:`export`."""

    policy: Any

    def export(
        self,
        path: str | pathlib.Path,
        *,
        environment: Mapping[str, Any] | None = None,
        provenance: Mapping[str, Any] | None = None,
        **replaced: Any,
    ) -> pathlib.Path:
        """Write the agent to a folder that :func:`rlspo.load` reads without running anything from it.

        ``agent.json`` names the agent and the policy and holds their settings, the spaces, the settings of a
        ``VecNormalize`` and check sums; ``weights.safetensors`` holds the numbers, running statistics included. The
        loaded agent acts exactly as this one, and may go on learning with a new optimiser. For an exact continuation,
        optimiser state and random streams included, there is :meth:`save`.

        The folder appears whole or not at all. An exported agent that is there is replaced; anything else never is, nor an
        agent with its evaluation beside it.

        :param path: of the folder; folders above it are made
        :param environment: how its environment is made, for the command line: ``{"id": "Hopper-v5"}``, and ``env_kwargs``,
            ``gym_packages`` and ``wrapping`` as ``rlspo evaluate`` takes them
        :param provenance: plain data to be kept in the file: where the agent comes from
        :param replaced: settings to write in place of the agent's, where these are functions: ``learning_rate=3e-4``
        :return: the folder
        :raises rlspo.common.errors.NotExportableError: for what a file without code cannot hold, with what to do
        :raises FileExistsError: for a place that holds something else
        :raises ValueError: for an ``environment`` of another form
        :raises TypeError: for an ``environment`` or ``provenance`` that is no mapping
        """
        folder = pathlib.Path(path)
        check_place(folder)
        for name, said in (("environment", environment), ("provenance", provenance)):
            if said is not None and not isinstance(said, Mapping):
                raise TypeError(f"{name} is {said!r}; it must be a mapping, such as {{'id': 'Hopper-v5'}}.")
        if environment is not None:
            check_environment({**_ENVIRONMENT, **environment}, "environment")
        data, tensors = _described(self, replaced, environment, provenance or {})
        with whole_folder(folder) as partial:
            write_folder(partial, data, tensors)
        return folder

    def exported_state(self) -> dict[str, Any]:
        """Plain data that the agent has learned besides its weights."""
        return {}

    def adopt_state(self, state: Mapping[str, Any]) -> None:
        """Take what :meth:`exported_state` gave; called before the policy is built. Extensions take theirs out of it first.

        :raises ValueError: for values that it does not give
        """
        if state:
            raise ValueError(f"its state has {shown(next(iter(state)))}, which this agent does not have")


def check_exportable(agent: Exportable) -> None:
    """
    :raises NotExportableError: for an agent that :meth:`Exportable.export` would refuse
    """
    _described(agent, {})


def check_environment(said: Mapping[str, Any], where: str) -> None:
    """Check the form of what an export says about its environment.

    :raises ValueError: naming what is missing, of another type, or too much
    """
    kinds = {"id": str, "env_kwargs": dict, "gym_packages": list, "wrapping": dict}
    wrong = [key for key in {*kinds, *said} if key not in kinds or not isinstance(said.get(key), kinds[key])]
    if wrong:
        raise ValueError(f"{where} has no proper {min(wrong)!r}; it has {', '.join(kinds)}.")


def _described(
    agent: Exportable,
    replaced: Mapping[str, Any],
    environment: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    cls = type(agent)
    settings = {**_settings_of(agent), **replaced}
    unknown = sorted(set(replaced) - set(_names(cls)))
    if unknown:
        raise TypeError(f"{cls.__name__}.export has no setting {unknown[0]!r}. {did_you_mean(unknown[0], _names(cls))}")
    fixed = sorted(set(replaced) & {"policy_kwargs", "use_sde", "normalize_observations"})
    if fixed:
        raise TypeError(f"{fixed[0]} cannot be replaced: the weights are those of the agent's own.")
    tensors = {f"policy.{name}": tensor for name, tensor in _own_tensors(agent.policy).items()}
    tensors |= {name: getattr(agent, name) for name in agent._get_torch_save_params()[1]}
    normalize: Any = agent.get_vec_normalize_env()
    data: dict[str, Any] = {
        "agent": _registered_name(cls),
        "policy": _policy_name(agent),
        "observation_space": described(agent.observation_space, "The observation space"),
        "action_space": described(agent.action_space, "The action space"),
        "n_envs": agent.n_envs,
        "num_timesteps": agent.num_timesteps,
        "settings": {name: encoded(settings[name], name) for name in sorted(settings)},
        "state": encoded(agent.exported_state(), "state"),
        "normalize": None,
        "environment": None if environment is None else encoded({**_ENVIRONMENT, **environment}, "environment"),
        "provenance": {"versions": _versions(), **encoded(provenance or {}, "provenance")},
    }
    if normalize is not None:
        data["normalize"], more = described_statistics(normalize)
        tensors |= more
    return data, tensors


def _settings_of(agent: Exportable) -> dict[str, Any]:
    """The constructor's arguments, as they are now."""
    own = vars(agent)
    return {name: own[name] for name in _names(type(agent)) if name in own}


def _names(cls: type) -> list[str]:
    return [name for name in signature_of(cls).parameters if name not in LEFT_OUT]


def _registered_name(cls: type) -> str:
    for name in sorted(
        agent_names(), key=lambda each: each != cls.__name__.lower()
    ):  # the likely one first: others need importing
        if agent_class(name) is cls:
            return name
    raise NotExportableError(
        f"{cls.__module__}.{cls.__name__} is no registered agent, so a file without code cannot name it. Declare it in the "
        f"metadata of your package, entry_points={{'rlspo.agents': ['my-agent={cls.__module__}:{cls.__name__}']}}, "
        "or save the agent with model.save."
    )


def _policy_name(agent: Exportable) -> str:
    for name, known in agent.policy_aliases.items():
        if known is agent.policy_class:
            return name
    declared = name_of(agent.policy_class)
    if declared is not None:
        return declared
    path = f"{agent.policy_class.__module__}:{agent.policy_class.__qualname__}"
    raise NotExportableError(
        f"The policy is of the class {path.replace(':', '.')}, which a file without code cannot name. Declare it in the "
        f"metadata of your package, entry_points={{{PARTS!r}: ['my-policy={path}']}}, or save the agent with model.save."
    )


def _own_tensors(policy: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers, each under its first name only."""
    names = _first_names(policy)
    return {name: tensor.detach() for name, tensor in policy.state_dict(keep_vars=True).items() if names[name] == name}


def _first_names(policy: nn.Module) -> dict[str, str]:
    """From all names of parameters and buffers, of which several layers may share one, to the first name of the same."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in policy.state_dict(keep_vars=True).items()}


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in _PACKAGES}}


def load(path: str | pathlib.Path, env: Any = None, device: Any = "auto", **settings: Any) -> Any:
    """An agent from the folder that :meth:`export` wrote, or by the name of a trained agent, such as ``"ppo/CartPole-v1"``.

    Nothing in the folder is executed: classes are looked up by name among those of rlspo, stable-baselines3, PyTorch and of
    installed packages that declare some, and everything else is numbers and text.

    An agent that was trained in a ``VecNormalize`` wants normalised observations. With ``env`` it gets them:
    ``model.get_env()`` is in a ``VecNormalize`` with the exported statistics, which goes on as in training. Without,
    ``model.get_vec_normalize_env().normalize_obs(observation)`` normalises as in training.

    :param path: a folder, or ``AGENT/ENV``. See :func:`rlspo.common.exports.lookup.find_export`
    :param env: to go on learning in; None: the agent acts
    :param device: of the networks
    :param settings: of the constructor, in place of those in the file
    :return: an agent of the class that was exported
    :raises FileNotFoundError: for a folder or a name that is not there
    :raises rlspo.common.errors.IncompatibleModelError: for a folder that is changed, damaged, of a newer version, or
        names what is not installed

    >>> import rlspo, tempfile
    >>> model = rlspo.PPO("MlpPolicy", "CartPole-v1", n_steps=64, seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     loaded = rlspo.load(model.export(folder + "/agent"))
    >>> type(loaded).__name__
    'PPO'
    """
    folder = find_export(path)
    data = read_description(folder)
    tensors = read_tensors(folder, data)
    try:
        with _limited(sum(tensor.numel() for tensor in tensors.values())):
            return _built(folder, data, tensors, env, device, settings)
    except (IncompatibleModelError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # constructors may raise anything for settings that nobody has checked
        if settings or env is not None:
            raise  # as the constructor says it
        raise IncompatibleModelError(f"{folder} could not be loaded: {type(error).__name__}: {error}") from error


def _built(
    folder: pathlib.Path, data: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], env: Any, device: Any, given: Any
) -> Any:
    cls, policy = _classes(data, folder)
    seen, acted = (space_of(data.get(name), f"{folder}: {name}") for name in ("observation_space", "action_space"))
    _check_size(data, folder)
    settings = decoded(data["settings"], f"{folder}: settings")
    names = _names(cls)
    unknown = sorted(set(settings) - set(names))
    if unknown:
        raise IncompatibleModelError(f"{folder} has the setting {shown(unknown[0])}, which {cls.__name__} does not have.")
    build = {"device": device, "_init_setup_model": False, **settings, **given}
    if env is not None:
        env = cls._wrap_env(env, build.get("verbose", 0))
        if data["normalize"] is not None:
            env = with_statistics(env, data["normalize"], tensors)
        check_for_correct_spaces(env, seen, acted)
    model: Any = cls(policy, env, **build)
    model._foreign = True
    _adopt(model, data, folder, seen, acted)
    if "ent_coef" in given:
        agent: Any = cls
        agent._given({"ent_coef": given["ent_coef"]}, {}, settings, device)  # refuses what the weights do not fit
    model._setup_model()
    _fill(model, tensors, folder)
    model._apply_given({name: settings[name] for name in ("ent_coef",) if name in settings} | given)
    if "seed" not in given:
        model.go_on_from(model.num_timesteps)
    if data["normalize"] is not None and env is None:
        model._vec_normalize_env = statistics_alone(data["normalize"], tensors, acted)
    return model


def _classes(data: Mapping[str, Any], folder: pathlib.Path) -> tuple[type[Exportable], Any]:
    name = data.get("agent")
    if not isinstance(name, str) or name not in agent_names():
        raise IncompatibleModelError(
            f"{folder} is an agent of {shown(name)}, which is not registered here. {did_you_mean(str(name), agent_names())} "
            "Install the package that declares it under 'rlspo.agents'."
        )
    cls: Any = agent_class(name)
    policy = data.get("policy")
    if isinstance(policy, str) and policy in cls.policy_aliases:
        return cls, policy
    return cls, class_named(policy, f"{folder}: policy")


def _check_size(data: Mapping[str, Any], folder: pathlib.Path) -> None:
    """Refuse numbers and lists that no real agent has."""
    try:
        Counter(_MOST_VALUES, _MOST_VALUES)([data["settings"], data["state"]])
    except ExpansionError:
        raise IncompatibleModelError(f"{folder} has more than {_MOST_VALUES:,} values in its settings.") from None
    for name, most in (("n_envs", _MOST_ENVS), ("num_timesteps", 2**63)):
        value = data.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < most:
            raise IncompatibleModelError(f"{folder} has {name} = {shown(value)}.")


def _adopt(model: Any, data: Mapping[str, Any], folder: pathlib.Path, seen: spaces.Space, acted: spaces.Space) -> None:
    """Everything but the weights."""
    if model.env is None:
        model.observation_space, model.action_space, model.n_envs = seen, acted, max(1, data["n_envs"])
    model.num_timesteps = data["num_timesteps"]
    model.adopt_state(decoded(data["state"], f"{folder}: state"))


def _fill(model: Any, tensors: Mapping[str, torch.Tensor], folder: pathlib.Path) -> None:
    """Copy the weights into the agent that was built for them."""
    policy = {f"policy.{name}": tensor for name, tensor in _own_tensors(model.policy).items()}
    others = {name: getattr(model, name) for name in model._get_torch_save_params()[1]}
    expected = {**policy, **others}
    found = {name: tensor for name, tensor in tensors.items() if not name.startswith(PREFIX)}
    wrong = sorted(
        name
        for name in expected.keys() | found.keys()
        if name not in expected
        or name not in found
        or (expected[name].shape, expected[name].dtype) != (found[name].shape, found[name].dtype)
    )
    if wrong:
        raise IncompatibleModelError(
            f"{folder} has weights that do not fit its settings, such as {shown(wrong[0])}. It was not written by "
            "model.export(), or a setting was given that its weights do not fit."
        )
    state = {name: found[f"policy.{first}"] for name, first in _first_names(model.policy).items()}
    model.set_parameters({"policy": state}, exact_match=False, device=model.device)
    for name, tensor in others.items():
        with torch.no_grad():
            tensor.copy_(found[name])
    if getattr(model, "use_sde", False):  # its noise was drawn with the spread of an untrained policy
        with Randomness.fork(int(model.randomness.numpy.integers(2**31)), model.device):
            model.policy.reset_noise()


@contextlib.contextmanager
def _limited(n_numbers: int) -> Iterator[None]:
    """Refuse to build networks that are far larger than the weights in the file: before their memory is written to."""
    _building.left = _MOST_GROWTH * n_numbers + _ALWAYS
    hook = nn.modules.module.register_module_parameter_registration_hook(_count)
    try:
        yield
    finally:
        hook.remove()
        del _building.left


def _count(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
    if not hasattr(_building, "left"):  # another thread is loading
        return
    _building.left -= parameter.numel()
    if _building.left < 0:
        raise IncompatibleModelError("The settings in the file describe a network that is far larger than its weights.")
