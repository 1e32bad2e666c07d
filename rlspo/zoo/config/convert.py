"""Converting plain data of YAML files and flags to arguments of agents and environments, and back."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import stable_baselines3
from stable_baselines3.common.utils import LinearSchedule
from torch import nn

from rlspo.common.errors import did_you_mean
from rlspo.common.registry import is_module_name
from rlspo.common.signatures import Signature
from rlspo.zoo.config import literals
from rlspo.zoo.config.signatures import admits, check_names, check_value
from rlspo.zoo.errors import UserError

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "leaky_relu": nn.LeakyReLU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}
_LINEAR = "lin_"
_SCHEDULES = (_LINEAR, "linear_")


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes``; mappings inside are merged key by key, anything else is replaced.

    >>> merged({"gamma": 0.9, "env_kwargs": {"g": 10, "mass": 1}}, {"env_kwargs": {"g": 5}})
    {'gamma': 0.9, 'env_kwargs': {'g': 5, 'mass': 1}}
    """
    result = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def arguments(values: Mapping[str, Any], signature: Signature, where: Callable[[str], str]) -> dict[str, Any]:
    """Arguments for a call, from plain data: names checked, types checked, schedules and classes built.

    :param signature: of what will be called
    :param where: from a key to its source, for messages: ``"file F, block B"`` or ``"-params"``
    :raises UserError: for a name that does not exist or a value of the wrong type
    """
    if not signature.open_ended:
        check_names(values, signature.parameters, where)
    converted = {}
    for key, value in values.items():
        annotation = signature.parameters[key].annotation if key in signature.parameters else Any
        read = literal(key, value, annotation, where(key))
        converted[key] = check_value(key, _convert(key, read, annotation, where(key)), annotation, where(key))
    return converted


def literal(key: str, value: Any, annotation: Any, where: str) -> Any:
    """The data in text that is a Python mapping or list, as rl-baselines3-zoo writes them; any other value as it is.

    >>> literal("policy_kwargs", "dict(net_arch=[400, 300])", dict | None, "here")
    {'net_arch': [400, 300]}

    :param annotation: the wanted type; where that includes text, text stays text
    :param where: source of the value, for messages
    :raises UserError: if it is Python that would have to be run
    """
    if not literals.looks_like_literal(value) or admits(annotation, str):
        return value
    try:
        return literals.read(value)
    except ValueError as error:
        raise UserError(
            f"{where}: {key} is {value!r}. Of Python only literals are read, and nothing is run: {error}. Write a YAML "
            "mapping or list instead, with classes by their dotted paths."
        ) from error


def _convert(key: str, value: Any, annotation: Any, where: str) -> Any:
    """Build what YAML cannot hold: schedules, classes and tuples."""
    if isinstance(value, str) and admits(annotation, Callable):
        return linear_schedule(key, value, where) if value.startswith(_SCHEDULES) else value
    if isinstance(value, str) and admits(annotation, type) and not admits(annotation, str):
        return _class(key, value, where)
    if isinstance(value, list) and admits(annotation, tuple) and not admits(annotation, list):
        return tuple(value)
    if key == "net_arch" and isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        return value[0]  # the form of SB3 before 1.8
    return value


def linear_schedule(key: str, text: str, where: str) -> LinearSchedule:
    """``lin_3e-4``: falling from 3e-4 to 0 over training, in a straight line; ``lin_3e-4@0.6``: over 60 % of it.

    ``linear_3e-4`` is the same.
    """
    start, _, fraction = text.partition("_")[2].partition("@")
    try:
        schedule = LinearSchedule(float(start), 0.0, float(fraction or 1.0))
        if not 0 < schedule.end_fraction <= 1:
            raise ValueError("a fraction of training is above 0 and at most 1")
        return schedule
    except ValueError as error:
        raise UserError(
            f"{where}: {key} is {text!r}; a schedule is lin_ and a number, such as 'lin_3e-4', or with the fraction of "
            "training after which it is 0, 'lin_3e-4@0.6'."
        ) from error


def _class(key: str, text: str, where: str) -> Any:
    """A class by its short name (activation functions) or dotted path."""
    path = literals.class_path(text) or text
    if "." in path:
        return imported(path, f"{where}: {key}")
    if key == "activation_fn":
        if text.lower() not in ACTIVATIONS:
            raise UserError(f"{where}: activation_fn is {text!r}. {did_you_mean(text, ACTIVATIONS)}")
        return ACTIVATIONS[text.lower()]
    if isinstance(getattr(stable_baselines3, text, None), type):  # such as HerReplayBuffer
        return getattr(stable_baselines3, text)
    raise UserError(f"{where}: {key} is {text!r}, but must be the dotted path of a class, such as 'package.module.Class'.")


def imported(path: str, where: str) -> Any:
    """The object that a dotted path names.

    >>> imported("stable_baselines3.common.atari_wrappers.AtariWrapper", "here").__name__
    'AtariWrapper'

    :raises UserError: if it cannot be imported
    """
    module_name, _, name = path.rpartition(".")
    if not is_module_name(path) or not module_name:
        raise UserError(f"{where}: {path!r} is not a dotted path; write it as 'package.module.Name'.")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UserError(f"{where}: cannot import {module_name!r}: {error}.") from error
    if not hasattr(module, name):
        raise UserError(f"{where}: module {module_name!r} has no {name!r}. {did_you_mean(name, vars(module))}")
    return getattr(module, name)


def plain(value: Any) -> Any:
    """The nearest plain data to a value, for the record that a run keeps of its settings.

    >>> plain({"net_arch": (64, 64), "activation_fn": nn.Tanh})
    {'net_arch': [64, 64], 'activation_fn': 'torch.nn.modules.activation.Tanh'}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, LinearSchedule) and value.end == 0.0:
        return f"{_LINEAR}{value.start}" + ("" if value.end_fraction == 1.0 else f"@{value.end_fraction}")
    if inspect.isclass(value) or inspect.isroutine(value):
        return f"{value.__module__}.{value.__qualname__}"
    return str(value)
