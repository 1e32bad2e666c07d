"""Settings of an agent as JSON, and back: plain values, schedules by their numbers, and classes by the names of a list.

What is not plain is a mapping of a single key that begins with ``$``::

    {"$linear": [0.0003, 0.0, 1.0]}         stable-baselines3's LinearSchedule: start, end, end_fraction
    {"$class": "torch.nn.Tanh"}             a class of :func:`named_classes`
    {"$space": {"kind": "Discrete", ...}}   a space, see :mod:`rlspo.common.exports.described_spaces`

Nothing in a file is imported or called: a name is looked up in a list that is made here.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN
from stable_baselines3.common.type_aliases import TrainFreq
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule
from torch import nn

from rlspo.common.errors import IncompatibleModelError, NotExportableError, did_you_mean, shown
from rlspo.common.exports.described_spaces import described, space_of

#: Entry points by which a package names classes of its own: policies, features extractors, activations, optimisers.
PARTS = "rlspo.parts"


@functools.cache
def _built_in() -> dict[str, type]:
    activations = {f"torch.nn.{name}": getattr(nn, name) for name in nn.modules.activation.__all__}
    optimizers = {
        f"torch.optim.{name}": found
        for name, found in vars(torch.optim).items()
        if isinstance(found, type) and issubclass(found, torch.optim.Optimizer) and found is not torch.optim.Optimizer
    }
    of_sb3 = {
        f"stable_baselines3.{cls.__name__}": cls for cls in (CombinedExtractor, FlattenExtractor, NatureCNN, RMSpropTFLike)
    }
    return {**activations, **optimizers, **of_sb3}


def named_classes() -> dict[str, Callable[[], type]]:
    """From the names that a file may hold to functions that give the class: those of PyTorch and stable-baselines3, and what
    installed packages declare under ``rlspo.parts``. A package is imported only when a class of it is asked for.

    >>> named_classes()["torch.nn.Tanh"]()
    <class 'torch.nn.modules.activation.Tanh'>
    """
    known: dict[str, Callable[[], type]] = {name: functools.partial(_same, cls) for name, cls in _built_in().items()}
    return {**{entry.name: entry.load for entry in entry_points(group=PARTS)}, **known}


def _same(cls: type) -> type:
    return cls


def name_of(cls: type) -> str | None:
    """The name under which a class may stand in a file; None if there is none."""
    for name, known in _built_in().items():
        if known is cls:
            return name
    declared = f"{cls.__module__}:{cls.__qualname__}"
    for entry in entry_points(group=PARTS):
        if entry.value == declared or (entry.module.split(".")[0] == cls.__module__.split(".")[0] and entry.load() is cls):
            return entry.name
    return None


def class_named(name: Any, where: str) -> type:
    """The class of a name in a file.

    :raises IncompatibleModelError: for a name that is not listed
    """
    known = named_classes()
    if not isinstance(name, str) or name not in known:
        raise IncompatibleModelError(
            f"{where} names the class {shown(name)}, which is not known here. {did_you_mean(str(name), known)} Install the "
            f"package that declares it under {PARTS!r}; nothing else is imported for a file."
        )
    return known[name]()


def encoded(value: Any, where: str) -> Any:
    """A value as JSON.

    :param where: its name, for the message
    :raises NotExportableError: for code and for objects that are not listed
    """
    if isinstance(value, FloatSchedule):
        value = value.value_schedule
    if isinstance(value, ConstantSchedule):
        value = value.val
    if isinstance(value, TrainFreq):
        return [value.frequency, value.unit.value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise NotExportableError(f"{where} is {value}, which is no number in JSON. Set a finite one.")
        return value
    if isinstance(value, list | tuple):
        return [encoded(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        bad = [key for key in value if not isinstance(key, str) or key.startswith("$")]
        if bad:
            raise NotExportableError(f"{where} has the key {shown(bad[0])}; keys must be text that does not begin with '$'.")
        return {key: encoded(item, f"{where}[{key!r}]") for key, item in value.items()}
    return _encoded_object(value, where)


def _encoded_object(value: Any, where: str) -> dict[str, Any]:
    if isinstance(value, LinearSchedule):
        return {"$linear": [float(value.start), float(value.end), float(value.end_fraction)]}
    if isinstance(value, spaces.Space):
        return {"$space": described(value, where)}
    if isinstance(value, type):
        name = name_of(value)
        if name is not None:
            return {"$class": name}
        raise NotExportableError(
            f"{where} is the class {value.__module__}.{value.__qualname__}, which a file without code cannot name. Declare "
            "it in the metadata of your package, "
            f"entry_points={{{PARTS!r}: ['my-name={value.__module__}:{value.__qualname__}']}}, "
            "or save the agent with model.save, which pickles it."
        )
    what = "a function" if callable(value) else f"a {type(value).__name__}"
    key = where.partition("[")[0]
    raise NotExportableError(
        f"{where} is {what}, and a file without code holds numbers, text and schedules of stable-baselines3 "
        f"(ConstantSchedule, LinearSchedule). Say what is to stand in the file, export(path, {key}=...), or save the agent "
        "with model.save, which pickles it."
    )


def decoded(value: Any, where: str) -> Any:
    """The inverse of :func:`encoded`; sequences become lists.

    :raises IncompatibleModelError: for what :func:`encoded` does not write
    """
    if isinstance(value, list):
        return [decoded(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    special = [key for key in value if key.startswith("$")]
    if not special:
        return {key: decoded(item, f"{where}[{key!r}]") for key, item in value.items()}
    (key, content), *others = value.items()
    if others or key not in _SPECIAL:
        raise IncompatibleModelError(f"{where} is {shown(value)}, which this version of rlspo does not know.")
    return _SPECIAL[key](content, where)


def _linear(content: Any, where: str) -> LinearSchedule:
    if not (isinstance(content, list) and len(content) == 3 and all(isinstance(part, int | float) for part in content)):
        raise IncompatibleModelError(
            f"{where} is a linear schedule of {shown(content)}; it must be start, end and end_fraction."
        )
    start, end, fraction = map(float, content)
    if not 0 < fraction <= 1:
        raise IncompatibleModelError(
            f"{where} is a linear schedule that ends after {fraction} of training; at most 1 is allowed."
        )
    return LinearSchedule(start, end, fraction)


_SPECIAL: dict[str, Callable[[Any, str], Any]] = {"$linear": _linear, "$class": class_named, "$space": space_of}
