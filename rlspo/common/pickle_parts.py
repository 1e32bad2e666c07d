"""The allowed contents of a pickle that is read as data: classes by name, makers of plain values, and ways to fill objects.

:mod:`rlspo.common.safe_pickle` looks up every name in a pickle here. Nothing here has an effect outside the object that it
makes.
"""

from __future__ import annotations

import functools
import importlib
import io
import math
import pathlib
import pickle
import re
import sys
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common import utils
from stable_baselines3.common.buffers import BaseBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.vec_env import VecNormalize
from stable_baselines3.her import GoalSelectionStrategy
from torch import nn

from rlspo.common.errors import shown
from rlspo.common.withheld import Withheld

#: Classes that may be named anywhere: a policy, a network, an optimiser, a buffer, an activation function.
_NAMED = (nn.Module, torch.optim.Optimizer, BaseBuffer, gym.Space, ActionNoise)
#: Classes whose objects may be made and filled.
_MADE = (
    BaseBuffer,
    gym.Space,
    ActionNoise,
    VecNormalize,
    RunningMeanStd,
    utils.FloatSchedule,
    utils.ConstantSchedule,
    utils.LinearSchedule,
    TrainFreq,
)
_CHOICES = (TrainFrequencyUnit, GoalSelectionStrategy)
#: Classes of rlspo that the files of its agents name and, as users extend them, their subclasses.
_OWN = {
    "rlspo.adversary.solvers.Solver",
    "rlspo.common.reward_scaling.RewardScaler",
    "rlspo.common.rollout_buffer.Field",
}
#: Packages whose modules are imported to find a class; for all others only modules that are imported already.
_PACKAGES = ("stable_baselines3", "sb3_contrib", "rlspo", "gymnasium", "torch.nn", "torch.optim")
_NOT_IMPORTED = ("rlspo.zoo", "rlspo.envs")
_PLAIN_TYPES = (bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, type(None), object)
_BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
_NUMPY_RANDOM = (np.random.BitGenerator, np.random.Generator, np.random.RandomState, np.random.SeedSequence)
_DTYPE = re.compile(r"[|<=]?(?:[?bhilqBHILQefdgFDG]|[biufcSUOV]\d{1,9}|O)")

# Old names of modules and classes that were moved.
_MOVED_MODULES = {
    "numpy.core": "numpy._core",
    "gym.spaces": "gymnasium.spaces",
}


# Makers: each checks the arguments from the pickle.


def _array(cls: Any, shape: Any, kind: Any) -> np.ndarray:
    if cls is not np.ndarray or tuple(shape) != (0,):
        raise pickle.UnpicklingError("it makes an array in another way than NumPy does")
    return np.ndarray((0,), "b")


def _array_of_bytes(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    return np.frombuffer(data, dtype=_checked_dtype(dtype)).reshape(shape, order=order)


def _scalar(dtype: Any, data: Any) -> Any:
    if not isinstance(data, bytes | str):
        raise pickle.UnpicklingError("a number is not made of bytes")
    raw = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(raw, dtype=_checked_dtype(dtype), count=1)[0]


def _dtype(text: Any, align: Any = False, copy: Any = False) -> np.dtype:
    if isinstance(text, type) and issubclass(text, np.generic):
        return np.dtype(text)
    if not isinstance(text, str) or not _DTYPE.fullmatch(text):
        raise pickle.UnpicklingError(f"it holds an array of an unusual type, {shown(text):.40}")
    return np.dtype(text)


def _checked_dtype(dtype: Any) -> np.dtype:
    if not isinstance(dtype, np.dtype) or dtype.kind not in "biufcSU":
        raise pickle.UnpicklingError("it holds an array of an unusual type")
    return dtype


def _bit_generator(kind: Any = "MT19937") -> np.random.BitGenerator:
    name = kind.__name__ if isinstance(kind, type) else kind
    if name not in _BIT_GENERATORS:
        raise pickle.UnpicklingError("it holds an unknown random generator")
    made: np.random.BitGenerator = getattr(np.random, name)()
    return made


def _generator(bits: Any = "MT19937", *_: Any) -> np.random.Generator:
    return np.random.Generator(bits if isinstance(bits, np.random.BitGenerator) else _bit_generator(bits))


def _random_state(bits: Any = "MT19937", *_: Any) -> np.random.RandomState:
    return np.random.RandomState(bits if isinstance(bits, np.random.BitGenerator) else _bit_generator(bits))


def _seed_sequence(cls: Any, checksum: Any, state: Any) -> Any:
    if cls is not np.random.SeedSequence:
        raise pickle.UnpicklingError("it holds an unknown sequence of seeds")
    rebuild = np.random.bit_generator.__dict__["__pyx_unpickle_SeedSequence"]
    return rebuild(cls, checksum, state)


def _storage(data: bytes) -> Any:
    if data[:2] == b"PK":
        raise pickle.UnpicklingError("a tensor is packed in an unusual way")
    return torch.load(io.BytesIO(data), weights_only=True, map_location=None if torch.cuda.is_available() else "cpu")


def _tensor(storage: Any, offset: int, size: Any, stride: Any, requires_grad: bool, *_: Any) -> torch.Tensor:
    rebuild = torch._utils._rebuild_tensor_v2
    made: torch.Tensor = rebuild(storage, offset, size, stride, bool(requires_grad), OrderedDict())
    return made


def _parameter(data: torch.Tensor, requires_grad: bool, *_: Any) -> nn.Parameter:
    return nn.Parameter(data, bool(requires_grad))


def _reconstructed(cls: Any, base: Any, state: Any) -> Any:
    if base is not object or not (isinstance(cls, type) and has_instances(cls)):
        raise pickle.UnpicklingError("it makes an object in an unusual way")
    return object.__new__(cls)


def _encoded(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("it holds bytes in an unusual way")
    return text.encode("latin1")


def _partial(function: Any) -> functools.partial[Any]:
    if not (isinstance(function, type) and issubclass(function, _NAMED)):
        raise pickle.UnpicklingError("it holds a function with arguments")
    return functools.partial(function)


def _pairs(items: Any = ()) -> OrderedDict[Any, Any]:
    return OrderedDict((checked_key(key), value) for key, value in items)


def _queue(items: Any = (), maxlen: int | None = None) -> deque[Any]:
    return deque(_listed(items), maxlen)


def _set(items: Any = ()) -> set[Any]:
    return set(map(checked_key, _listed(items)))


def _frozen(items: Any = ()) -> frozenset[Any]:
    return frozenset(map(checked_key, _listed(items)))


def _byte_array(data: Any = b"", *encoding: Any) -> bytearray:
    return bytearray(data.encode("latin1") if isinstance(data, str) else _typed(data, bytes | bytearray))


def _complex(real: Any, imaginary: Any) -> complex:
    return complex(_typed(real, float | int), _typed(imaginary, float | int))


def _slice(*ends: Any) -> slice:
    return slice(*(_typed(end, int | None) for end in ends))


def _path(*parts: Any) -> pathlib.Path:
    return pathlib.Path(*(_typed(part, str) for part in parts))


def _device(kind: Any, index: Any = None) -> torch.device:
    return torch.device(_typed(kind, str)) if index is None else torch.device(_typed(kind, str), _typed(index, int))


def _unit(value: Any) -> TrainFrequencyUnit:
    return TrainFrequencyUnit(_typed(value, str))


def _goal_selection(value: Any) -> GoalSelectionStrategy:
    return GoalSelectionStrategy(_typed(value, int))


def _type_of_none(value: Any) -> type:
    if value is not None:
        raise pickle.UnpicklingError("it asks for the type of something")
    return type(None)


def _typed(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind):
        raise pickle.UnpicklingError(f"{type(value).__name__} stands in a wrong place")
    return value


def _listed(items: Any) -> Any:
    return _typed(items, list | tuple)


#: Replacements of functions, by their names in a pickle.
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "numpy._core.multiarray._reconstruct": _array,
    "numpy._core.numeric._frombuffer": _array_of_bytes,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy.random._pickle.__bit_generator_ctor": _bit_generator,
    "numpy.random._pickle.__generator_ctor": _generator,
    "numpy.random._pickle.__randomstate_ctor": _random_state,
    "numpy.random.bit_generator.__pyx_unpickle_SeedSequence": _seed_sequence,
    "gym.utils.seeding.RandomNumberGenerator._generator_ctor": _generator,
    "torch.storage._load_from_bytes": _storage,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "copyreg._reconstructor": _reconstructed,
    "_codecs.encode": _encoded,
    "builtins.type": _type_of_none,
    "pathlib.PosixPath": _path,
    "pathlib.WindowsPath": _path,
}
#: Replacements of classes that are called.
_MAKERS: dict[Any, Callable[..., Any]] = {
    np.dtype: _dtype,
    OrderedDict: _pairs,
    deque: _queue,
    set: _set,
    frozenset: _frozen,
    bytearray: _byte_array,
    complex: _complex,
    slice: _slice,
    functools.partial: _partial,
    torch.device: _device,
    torch.Size: torch.Size,
    TrainFrequencyUnit: _unit,
    GoalSelectionStrategy: _goal_selection,
    TrainFreq: TrainFreq,
    Withheld: Withheld,
    **{function: function for function in _FUNCTIONS.values()},
}
_VALUES: dict[str, Any] = {
    **_FUNCTIONS,
    **{f"builtins.{cls.__name__}": cls for cls in (*_PLAIN_TYPES, slice)},
    "types.NoneType": type(None),
    "collections.OrderedDict": OrderedDict,
    "collections.deque": deque,
    "functools.partial": functools.partial,
    "rlspo.common.withheld.Withheld": Withheld,
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    "numpy.random.bit_generator.SeedSequence": np.random.SeedSequence,
    "numpy.random._bit_generator.SeedSequence": np.random.SeedSequence,
    **{f"numpy.random._{name.lower()}.{name}": getattr(np.random, name) for name in _BIT_GENERATORS},
    "torch.device": torch.device,
    "torch.Size": torch.Size,
    **{f"torch.{name}": value for name, value in vars(torch).items() if isinstance(value, torch.dtype)},
    **{f"{cls.__module__}.{cls.__qualname__}": cls for cls in (*_MADE, *_CHOICES, BaseModel) if cls is not gym.Space},
}


def find(module: str, name: str) -> Any:
    """The object of a name in a pickle, or None if the name is not allowed.

    Classes of known packages are imported if settings may name them. Classes of others are used only if the program has
    imported their module: no name in a file decides what is imported.
    """
    for old, new in _MOVED_MODULES.items():
        if module == old or module.startswith(f"{old}."):
            module = new + module.removeprefix(old)
    known = _VALUES.get(f"{module}.{name}")
    if known is not None:
        return known
    if module == "numpy":
        scalar = vars(np).get(name)
        return scalar if isinstance(scalar, type) and issubclass(scalar, np.generic) else None
    found = _named(_module(module, name), name)
    if isinstance(found, type) and (issubclass(found, (*_NAMED, VecNormalize, RunningMeanStd)) or _is_own(found)):
        return found
    return None


def _module(module: str, name: str) -> types.ModuleType | None:
    ours = any(module == each or module.startswith(f"{each}.") for each in _PACKAGES)
    closed = any(module == each or module.startswith(f"{each}.") for each in _NOT_IMPORTED)
    if ours and not closed and not module.endswith("__main__") and re.fullmatch(r"[\w.]+", module):
        try:
            return importlib.import_module(module)
        except ImportError:
            return None
    if module.startswith("torch.") or module == "torch":
        return None
    return sys.modules.get(module)


def _named(found: Any, name: str) -> Any:
    """An attribute of a module, or of a class in it, without running their code."""
    for part in name.split("."):
        names = getattr(found, "__dict__", {}) if isinstance(found, types.ModuleType | type) else {}
        found = names.get(part)
    return found


def maker_of(target: Any) -> Callable[..., Any] | None:
    """The function to call instead of ``target``, or None if the call is not allowed."""
    try:
        return _MAKERS.get(target)
    except TypeError:  # an unhashable object
        return None


def has_instances(cls: type) -> bool:
    """Whether empty objects of a class may be made and then filled."""
    return issubclass(cls, _MADE) or _is_own(cls)


def _is_own(cls: type) -> bool:
    # By name, because their modules stand above this one.
    return any(path_of(base) in _OWN for base in cls.__mro__)


def path_of(value: Any) -> str:
    """A dotted path for messages."""
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__name__)}"


def fill(target: Any, state: Any) -> None:
    """Set the contents of an object.

    :raises pickle.UnpicklingError: for an object without contents, or contents of another form
    """
    whole: Any = target  # type checkers do not know its ``__setstate__``
    if isinstance(target, np.ndarray):
        _fill_array(target, state)
    elif isinstance(target, np.dtype):
        _check_dtype(state)
    elif isinstance(target, functools.partial):
        function, args, keywords, others = state
        whole.__setstate__((_partial(function).func, _typed(args, tuple), _typed(keywords, dict), others or {}))
    elif isinstance(target, _NUMPY_RANDOM):
        whole.__setstate__(state)  # NumPy checks it
    elif isinstance(target, type) or not has_instances(type(target)):
        raise pickle.UnpicklingError(f"it changes {path_of(target)}")
    elif hasattr(type(target), "__setstate__"):
        whole.__setstate__(_typed(state, Mapping | tuple))
    else:
        contents = _typed(state, dict)
        if not all(isinstance(key, str) and not key.startswith("__") for key in contents):
            raise pickle.UnpicklingError("an attribute has no proper name")
        vars(target).update(contents)


def _fill_array(target: np.ndarray, state: Any) -> None:
    """As NumPy's own, for arrays whose shape and contents agree."""
    shape, dtype, _, data = state[-4:]
    count = math.prod(_typed(size, int) for size in shape)
    if isinstance(dtype, np.dtype) and dtype.kind == "O":
        agrees = isinstance(data, list) and len(data) == count
    else:
        agrees = isinstance(data, bytes | str | bytearray) and len(data) == count * _checked_dtype(dtype).itemsize
    if not agrees or min(shape, default=0) < 0:
        raise pickle.UnpicklingError("an array has another size than its contents")
    target.__setstate__(state)


def _check_dtype(state: Any) -> None:
    """Check that a dtype is plain: native byte order, no fields."""
    if str(state[1]) not in ("<", "|", "=") or any(part is not None for part in state[2:5]):
        raise pickle.UnpicklingError("it holds an array of an unusual type")


def checked_key(key: Any) -> Any:
    """Check that a key is not nested deeply enough to break hashing."""
    flat = key if isinstance(key, tuple) else (key,)
    if not all(isinstance(part, str | int | float | bytes | None | type | np.generic) for part in flat):
        raise pickle.UnpicklingError("a key is neither text nor a number")
    return key
