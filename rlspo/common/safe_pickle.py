"""Pickles read as data: arrays, spaces, statistics and classes by name are restored, and nothing in them is called.

A pickle is a program: it can import any module and call any function. What stable-baselines3, gymnasium, NumPy, PyTorch and
rlspo write needs little of that, so only this little is supported. Anything else that a pickle names is neither imported nor
called: it is recorded, and the pickle is rejected with the names of what it would have run.
"""

from __future__ import annotations

import _compat_pickle
import io
import os
import pickle
import sys
from collections import OrderedDict, deque
from typing import Any, BinaryIO

import numpy as np

from rlspo.common import pickle_parts
from rlspo.common.errors import printable
from rlspo.common.expansion import Counter, ExpansionError
from rlspo.common.pickled_schedules import Foreign, understood

# The unpickler in Python, whose instructions can be overridden; those of the one in C cannot.
_Unpickler: Any = getattr(pickle, "_Unpickler")  # noqa: B009 - it has no type

#: Instructions and items that any pickle may have, read in about a second; and bytes per further instruction. The largest
#: pickles, replay buffers, consist of arrays.
_STEPS = 400_000
_BYTES_PER_STEP = 20
#: Limit on copied bytes, as a multiple of the file size: a pickle can refer to the same bytes many times at no cost.
_MOST_COPIES = 4
_ALWAYS = 64 * 2**20
#: Limit on the size with every reference expanded, as a multiple of the instructions. A pickle of 100 bytes can nest the same
#: tuple twice in a tuple, and so on; showing, hashing or comparing that would never end.
_MOST_EXPANDED = 4
_LOOKS = 10


class UnsafePickleError(pickle.UnpicklingError):
    """A pickle contains more than data.

    :param names: dotted paths of the functions and classes that it would have called
    :param labels: their descriptions, if the pickle contains some
    """

    def __init__(self, names: list[str], labels: list[str]) -> None:
        shown = list(map(printable, labels or names))
        super().__init__(f"it would run {', '.join(shown[:3])}" + (f" and {len(shown) - 3} more" if len(shown) > 3 else ""))
        self.names = names

    @property
    def missing(self) -> list[str]:
        """Modules among these that are not imported."""
        modules = [name.rpartition(".")[0] for name in self.names]
        return [module for module in modules if module not in sys.modules]


class _Reader(_Unpickler):
    """Reads one pickle.

    :param file: open, at the pickle's first byte
    :param size: bytes that it may have
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        super().__init__(_Bounded(file, size), encoding="latin1")
        self.dispatch = _Counted(self)
        self.size = size
        self.foreign: list[str] = []
        self.labels: list[str] = []
        self.steps_left = max(_STEPS, size // _BYTES_PER_STEP)
        self.copies_left = _MOST_COPIES * size + _ALWAYS
        self.counter = Counter(_MOST_EXPANDED * self.steps_left, _LOOKS * self.steps_left)

    def find_class(self, module: str, name: str) -> Any:
        if self.proto < 3:  # names as Python 2 had them
            module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
            module = _compat_pickle.IMPORT_MAPPING.get(module, module)
        found = pickle_parts.find(module, name)
        if found is not None:
            return found
        return self.noted(Foreign(f"{module}.{name}"))

    def noted(self, thing: Foreign) -> Foreign:
        """Record a foreign object."""
        if thing.name not in self.foreign:
            self.foreign.append(thing.name)
        if thing.label is not None and thing.label not in self.labels:
            self.labels.append(thing.label)
        return thing

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to something outside of it")

    def get_extension(self, code: int) -> None:
        raise pickle.UnpicklingError("it names things by number")

    def made(self, target: Any, args: Any, keywords: dict[str, Any] | None = None) -> Any:
        """The result of a call: only known makers are called."""
        if isinstance(target, Foreign):
            return self.noted(Foreign(target.name, args))
        maker = pickle_parts.maker_of(target)
        if maker is None or keywords:
            return self.noted(Foreign(pickle_parts.path_of(target), args))
        self.steps_left -= sum(len(each) for each in args if isinstance(each, list | tuple | dict))
        self.copies_left -= sum(len(each) for each in args if isinstance(each, bytes | bytearray))
        self.check()
        self.bound(args)
        try:
            return maker(*args)
        except Exception:
            if not self.foreign:
                raise
            return Foreign(pickle_parts.path_of(target), args)  # an argument was foreign

    def check(self) -> None:
        """Raise if a pickle takes more work than its size justifies."""
        if self.steps_left < 0 or self.copies_left < 0:
            raise pickle.UnpicklingError("it is made to take more time or memory than any real one")

    def bound(self, value: Any) -> None:
        """Raise before using an object that is small in the file and huge with its references expanded."""
        try:
            self.counter(value)
        except ExpansionError:
            raise pickle.UnpicklingError("it is made to take more time or memory than any real one") from None

    def load_reduce(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = self.made(self.stack[-1], tuple(args))

    def load_newobj(self) -> None:
        args = self.stack.pop()
        self.stack.append(self.new(self.stack.pop(), args))

    def load_newobj_ex(self) -> None:
        keywords = self.stack.pop()
        args = self.stack.pop()
        target = self.stack.pop()
        self.stack.append(self.made(target, args, keywords) if keywords else self.new(target, args))

    def new(self, cls: Any, args: Any) -> Any:
        """An empty object of a class; its contents follow."""
        if isinstance(cls, type) and pickle_parts.has_instances(cls):
            return cls.__new__(cls, *args)
        return self.made(cls, args)

    def _instantiate(self, cls: Any, args: Any) -> None:
        self.append(self.new(cls, tuple(args)) if not args else self.made(cls, tuple(args)))

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Foreign):
            return
        if isinstance(target, np.ndarray):
            self.copies_left -= len(state[-1])
            self.check()
        self.bound(state)
        try:
            pickle_parts.fill(target, state)
        except Exception:
            if not self.foreign:
                raise

    def load_append(self) -> None:
        value = self.stack.pop()
        self.extend(self.stack[-1], [value])

    def load_appends(self) -> None:
        items = self.pop_mark()
        self.extend(self.stack[-1], items)

    def extend(self, target: Any, items: list[Any]) -> None:
        if isinstance(target, list | deque):
            target.extend(items)
        elif not isinstance(target, Foreign):
            raise pickle.UnpicklingError(f"it appends to {type(target).__name__}")

    def load_setitem(self) -> None:
        value = self.stack.pop()
        key = self.stack.pop()
        self.put(self.stack[-1], [key, value])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self.put(self.stack[-1], items)

    def put(self, target: Any, items: list[Any]) -> None:
        if isinstance(target, Foreign):
            return
        if type(target) not in (dict, OrderedDict):
            raise pickle.UnpicklingError(f"it puts items into {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[pickle_parts.checked_key(key)] = value

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self.put(self.stack[-1], items)

    def load_additems(self) -> None:
        items = self.pop_mark()
        if type(self.stack[-1]) is not set:
            raise pickle.UnpicklingError(f"it adds to {type(self.stack[-1]).__name__}")
        self.stack[-1].update(map(pickle_parts.checked_key, items))

    def load_frozenset(self) -> None:
        items = self.pop_mark()
        self.append(frozenset(map(pickle_parts.checked_key, items)))

    def load_bytearray8(self) -> None:
        size = int.from_bytes(self.read(8), "little")
        if size > self.size:
            raise EOFError("it ends too early")
        data = bytearray(size)
        self.readinto(data)
        self.append(data)


_INSTRUCTIONS: dict[int, Any] = {
    **_Unpickler.dispatch,
    pickle.REDUCE[0]: _Reader.load_reduce,
    pickle.NEWOBJ[0]: _Reader.load_newobj,
    pickle.NEWOBJ_EX[0]: _Reader.load_newobj_ex,
    pickle.BUILD[0]: _Reader.load_build,
    pickle.APPEND[0]: _Reader.load_append,
    pickle.APPENDS[0]: _Reader.load_appends,
    pickle.SETITEM[0]: _Reader.load_setitem,
    pickle.SETITEMS[0]: _Reader.load_setitems,
    pickle.DICT[0]: _Reader.load_dict,
    pickle.ADDITEMS[0]: _Reader.load_additems,
    pickle.FROZENSET[0]: _Reader.load_frozenset,
    pickle.BYTEARRAY8[0]: _Reader.load_bytearray8,
}


class _Counted(dict[int, Any]):
    """The instructions, each counted when it is looked up."""

    def __init__(self, reader: _Reader) -> None:
        super().__init__(_INSTRUCTIONS)
        self.reader = reader

    def __getitem__(self, code: int) -> Any:
        self.reader.steps_left -= 1
        if self.reader.steps_left < 0:
            self.reader.check()
        return super().__getitem__(code)


class _Bounded:
    """A file whose reads are limited to its size, so that a length in a pickle cannot reserve memory.

    :param size: in bytes
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file = file
        self.left = size

    def _take(self, size: int) -> None:
        if not 0 <= size <= self.left:
            raise EOFError("it ends too early")
        self.left -= size

    def read(self, size: int) -> bytes:
        self._take(size)
        return self.file.read(size)

    def readinto(self, buffer: Any) -> int:
        self._take(len(buffer))
        return int(self.file.readinto(buffer))  # type: ignore[attr-defined]

    def readline(self) -> bytes:
        line = self.file.readline(min(self.left, 2**20))
        self._take(len(line))
        return line


def load(file: BinaryIO) -> Any:
    """The contents of a pickle, read as data.

    :param file: open for reading in binary, and seekable
    :raises UnsafePickleError: if it contains more than data
    :raises pickle.UnpicklingError: if it is not a pickle, is damaged, or would take more time or memory than any real one
    """
    start = file.tell()
    size = file.seek(0, os.SEEK_END) - start
    file.seek(start)
    reader = _Reader(file, size)
    try:
        root = reader.load()
        reader.bound(root)
    except pickle.UnpicklingError:
        if reader.foreign:
            raise UnsafePickleError(reader.foreign, reader.labels) from None
        raise
    except Exception as error:  # a damaged pickle can fail anywhere
        if reader.foreign:
            raise UnsafePickleError(reader.foreign, reader.labels) from error
        raise pickle.UnpicklingError(f"{type(error).__name__}: {error}") from error
    if not reader.foreign:
        return root
    schedule = understood(root)
    if schedule is None:
        raise UnsafePickleError(reader.foreign, reader.labels)
    return schedule


def loads(data: bytes) -> Any:
    """As :func:`load`.

    >>> loads(pickle.dumps({"gamma": np.float32(0.5)}))
    {'gamma': np.float32(0.5)}
    >>> loads(pickle.dumps(os.getcwd))
    Traceback (most recent call last):
    ...
    rlspo.common.safe_pickle.UnsafePickleError: it would run posix.getcwd
    """
    return load(io.BytesIO(data))
